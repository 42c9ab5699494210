/* What may start next, and what was given out.
 *
 * The queue orders and gates; who executes takes from it. A commit that makes
 * work ready reports it here (queue_offer); a consumer that can hold a job takes
 * the first there is (queue_take) and gets a grant: the right to claim it. Until
 * the claim is written or refused (queue_settle), what the store reports of that
 * invocation is held back: if the claim is written it was the same job, if it is
 * refused the job comes back.
 *
 * Suspects are jobs that ran in this process when it died unexplained, twice: from then
 * on they run in children of their own, whatever their task says, and without a slot. One of
 * a task is given out at a time, until a child has it: the others can be paused, or withdrawn.
 *
 * Pure: no clock, no lock, no I/O. The owner's lock guards it. */
#pragma once

#include "store/turn.h"
#include "workers/queue/window.h"

/* A job that was given out: embedded in what its holder keeps of it. */
struct grant {
    struct turn turn;
    struct job *job; /* freed by the holder */
    bool in_process; /* the body runs inside this process */
    bool suspect;    /* it is to run in a child of its own (kind->apart()) */
    bool in_flight;  /* it has no slot: its task says how many there may be */

    /* The queue's: */
    bool runs;     /* the body does */
    bool gave_way; /* it is in flight, and not counted as out */
    int stay;      /* of its lane in the room that it is out of */
    bool unbegun;  /* a suspect that no child has */
    bool claiming; /* the claim is neither written nor refused; or it was refused, and the body has still to end */
    struct grant *prev, *next;
    bool refused;
    bool suspended;   /* the turn has, and the body has still to end */
    struct job *anew; /* it came again into the queue meanwhile */
};

/* Where a task's bodies run, and so who takes its jobs. */
enum place {
    IN_PROCESS,
    APART,     /* in children of this process */
    IN_FLIGHT, /* in what its kind drives without a slot: as many of a task as that says */
    ELSEWHERE,
    PLACES
};

struct queue {
    struct window window;
    struct consumer consumers[PLACES];
    struct grant *claiming;
    struct job **suspects;
    int suspect_count;
    int64_t refilled_us; /* clock_mono_us of the refill that is being taken */
    bool closed;         /* nothing starts: paused, closing, or commits fail */
};

void queue_init(struct queue *queue);
void queue_release(struct queue *queue);

/* --- the tasks that may run ------------------------------------------------- */

/* Begin: all lanes are nobody's. Then each configured task, with where its
 * bodies run; then end: suspects that may not run any more wait like any other. */
void queue_tasks_begin(struct queue *queue);
void queue_task_set(struct queue *queue, const struct task *task, enum place place, bool paused);
void queue_tasks_end(struct queue *queue);
void queue_task_pause(struct queue *queue, int task, bool paused);

/* At most so many of its jobs are out at once; 0: any number, -1: none. Counted are those
 * that queue_take_in_flight() gave. */
void queue_task_limit(struct queue *queue, int task, int limit);

/* Its jobs are out of a room from now on, which has a name (NULL: it has one for itself), and
 * perhaps other tasks: all of them together have that limit, none at first. What is out of the
 * room that it has left is counted nowhere. */
void queue_task_room(struct queue *queue, int task, const void *room);
void queue_room_limit(struct queue *queue, const void *of, int limit);

/* How many jobs in memory wait for nothing but place in that room. */
int queue_held_up(const struct queue *queue, const void *of);

/* NULL if it is not configured. */
const struct task *queue_task(struct queue *queue, int task);

/* --- what the store reports, in its place among the changes ------------------- */

void queue_offer(struct queue *queue, const struct change *change, int64_t now_us);
void queue_withdraw(struct queue *queue, const struct change *change);
void queue_refilled(struct queue *queue, const struct op_refill *refill, struct window_now now);

/* --- giving out ------------------------------------------------------------------ */

/* Is there any for slots? */
bool queue_has_work(const struct queue *queue);

bool queue_has_work_in_flight(const struct queue *queue);

bool queue_has_work_elsewhere(const struct queue *queue);

/* Gives out the job that comes first: fills the grant, with `lease` as the
 * turn's. False if there is none. Suspects that it comes across are put aside, for those
 * who take what needs no slot. */
bool queue_take(struct queue *queue, int64_t lease, struct grant *grant);

/* The same of what takes no slot: suspects first. */
bool queue_take_in_flight(struct queue *queue, int64_t lease, struct grant *grant);

/* A child has the suspect. (Of others it says nothing.) */
void queue_begins(struct queue *queue, struct grant *grant);

/* The same of what is run elsewhere: of these tasks, or of all (NULL). Nothing
 * of it runs here: what is refused or given back comes back at once. */
bool queue_take_elsewhere(struct queue *queue, const int *tasks, int count, int64_t lease, struct grant *grant);

/* What was taken could not be claimed, for a fault: it is as if it had not been. */
void queue_put_back(struct queue *queue, struct grant *grant);

/* Its body starts, and its claim is on its way. */
void queue_claiming(struct queue *queue, struct grant *grant);

/* The claim was written, or refused with ERR_CONFLICT. True if a job came back.
 * Nothing is done for one that is settled already. Where the body of a refused
 * claim runs in a process of its own, its invocation waits for that to end. */
bool queue_settle(struct queue *queue, struct grant *grant, enum err err);

/* One that is in flight waits in place, and holds up no other: it is not out. Or it is again. */
void queue_gives_way(struct queue *queue, struct grant *grant, bool gives);

/* The turn has suspended, and the body has still to end: until that is settled its
 * invocation, which may be queued again by now, is not given out. */
void queue_suspended(struct queue *queue, struct grant *grant);

/* The body has ended, or was never started. True if a job came back. */
bool queue_left(struct queue *queue, struct grant *grant);

/* --- refills ------------------------------------------------------------------------ */

/* Does the task's lane want a refill? Then the request is filled in, and no
 * other is made until queue_refill_done(). */
bool queue_wants_refill(struct queue *queue, int task, struct op_refill *refill);
void queue_refill_done(struct queue *queue, int task);
bool queue_is_low(struct queue *queue, int task);

/* Nothing in memory and nothing on disk that this process or its children may run? */
bool queue_is_drained(const struct queue *queue);

/* Has a task that is run elsewhere something queued? */
bool queue_waits_elsewhere(const struct queue *queue, int task);

/* Of these tasks, or all (NULL): is there one that is run elsewhere, has nothing
 * in memory, and perhaps something on disk that a refill will bring? */
bool queue_fills_elsewhere(const struct queue *queue, const int *tasks, int count);
