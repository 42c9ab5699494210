/* The window: the part of the ready queue that is held in memory.
 *
 * A lane a task, each a heap by (priority, rank). A lane holds every queued
 * invocation up to its limit; what lies beyond the limit is on disk only and
 * comes by refills, so that a backlog of millions costs no memory. Lanes that
 * may run stand in their consumer's heap of lanes, by their first job.
 *
 * Invariant of a lane with `more`: each queued row with a key up to
 * (limit_priority, limit_rank) is in the heap or was taken; none beyond is.
 * Without `more` all queued rows are in the heap or were taken.
 *
 * Pure: no clock, no lock, no I/O. The owner's lock guards it. */
#pragma once

#include "store/store.h"
#include "workers/tasks/task.h"

struct job {
    struct ready ready; /* args point into `args` */
    int64_t offered_us; /* clock_mono_us since when it is eligible, as far as is known */
    char args[];        /* NUL-terminated */
};

/* A copy that owns its bytes; free() it. */
struct job *job_new(const struct ready *ready, int64_t offered_us);

struct entry {
    int64_t id, rank;
    int priority;
    struct job *job;
};

/* Who takes from lanes: local slots, polls for leases, transfers, later a pool's
 * children. A lane belongs to one, by its task's kind. */
struct consumer {
    int *order; /* heap of task ids */
    int order_count, order_cap;
};

/* How many jobs may be out at once, of a lane or of several together. */
struct room {
    const void *of;     /* a name; NULL: the one lane's own */
    int limit;          /* 0: any number, -1: none */
    int out;            /* those that window_count_out() was told of */
    struct lane *lanes; /* by `roommate` */
    struct room *next;
};

struct lane {
    int id;                    /* of the task */
    const struct task *task;   /* NULL: it is not configured (any more) */
    struct consumer *consumer; /* NULL: nobody's, like every lane without a task */
    bool paused;
    struct room *room; /* never NULL: its own, or one that it shares */
    struct lane *roommate;
    int stay; /* how often it has changed its room */
    int out;  /* of its room, since then */
    struct room own_room;
    struct entry *heap;
    int count, cap;
    bool more;
    int limit_priority;
    int64_t limit_rank;
    bool refilling;
    int64_t asked_us; /* clock_mono_us when somebody elsewhere last asked for it; 0: never */
    int place;        /* in the consumer's heap of lanes; -1: not there */

    bool has_suspect_out; /* the queue's: one that was given out and has not begun */
};

/* How much is held in memory. */
struct window_limits {
    int lane_max; /* jobs that a lane holds after a trim */
    int lane_min; /* however many lanes there are; at least 4 */
    int all_max;  /* jobs of all lanes, roughly */
};
extern const struct window_limits window_limits;

struct window {
    struct lane **lanes; /* by task id; NULL where there is none */
    int lane_count;
    int loaded;                         /* lanes with jobs */
    struct room *rooms;                 /* that have a name */
    const struct window_limits *limits; /* NULL: window_limits. A simulation has smaller ones */
};

void window_release(struct window *window);

/* The lane of a task, made if need be: empty, with everything on disk. */
struct lane *window_lane(struct window *window, int task);

/* Sets what decides whether the lane's jobs may run, and who takes them. */
void window_set(struct window *window, struct lane *lane, const struct task *task, struct consumer *consumer,
                bool paused);

/* The lane's jobs are out of that room from now on, which it shares with all who name it the
 * same; one that is new has nothing out, and place for none. */
void window_enter(struct window *window, struct lane *lane, const void *of);

/* NULL if no lane is in it. */
struct room *window_room(const struct window *window, const void *of);

/* How many jobs may be out of a room at once (0: any number, -1: none), and how many more or
 * fewer are. Lanes wait while it is full. */
void window_limit(struct window *window, struct room *room, int limit);
void window_count_out(struct window *window, struct lane *lane, int more);
bool window_is_full(const struct lane *lane);

/* A queued invocation: copied in, or left on disk if it lies beyond. */
void window_offer(struct window *window, const struct ready *ready, int64_t offered_us);

/* It left the queue otherwise than by being taken. */
void window_withdraw(struct window *window, int task, int priority, int64_t rank, int64_t id);

/* Is there a job that the consumer may run? */
static inline bool consumer_has_work(const struct consumer *consumer)
{
    return consumer->order_count > 0;
}

/* Takes the job that comes first: lowest priority number, then lowest rank, over
 * all lanes of the consumer that may run. NULL if there is none. The caller
 * frees it. */
struct job *window_take(struct window *window, struct consumer *consumer);

/* The same over the lanes of these tasks, those that are not the consumer's left out. */
struct job *window_take_of(struct window *window, struct consumer *consumer, const int *tasks, int count);

/* Both have work: does the first job of `a` come before that of `b`? */
bool window_comes_first(const struct window *window, const struct consumer *a, const struct consumer *b);
void consumer_release(struct consumer *consumer);

/* Does the lane want a refill? How many jobs it may hold. */
bool lane_is_low(const struct window *window, const struct lane *lane);
int lane_room(const struct window *window);

/* The same moment on both clocks. */
struct window_now {
    int64_t mono_us, wall_ms;
};

/* What a refill found, in its place among the changes. `skip` says of a job
 * whether it was taken already (may be NULL). One that asked beyond a limit
 * that a trim has taken back since is left out: the lane is as low as before. */
void window_refilled(struct window *window, const struct op_refill *refill, struct window_now now,
                     bool (*skip)(void *context, const struct ready *ready), void *context);

/* Nothing in memory and nothing on disk that the consumer may run? */
bool window_is_drained(const struct window *window, const struct consumer *consumer);
