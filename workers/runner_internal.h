/* Inside the runner: what its threads share.
 *
 *     runner.c      life, what the store reports, closing
 *     recovery.c    what the last process left
 *     threads.c     slots (permits) and the threads that run bodies
 *     starter.c     what takes no slot
 *     run.c         one turn: its arguments, what it says, how it ended
 *     in_place.c    what its body asks of the service: children, waiting for them
 *     on_record.c   what its body records: steps, messages
 *     patient.c     such words, said again while the disk takes none
 *     asked.c       the same of bodies in children that have no thread here
 *     waits.c       waiting of all that have none
 *     report.c      its claim and its finish on their way to disk
 *     shortage.c    what cannot start for want of processes, descriptors or memory
 *     lending.c     what is run elsewhere, given out
 *     leases.c      the leases that are out
 *     roster.c      who asks for it
 *     deliver.c     callbacks on their way
 *     scheduling.c  schedules: what is due, read and handed over
 *     dispatcher.c  what time asks */
#pragma once

#include "base/deadlines.h"
#include "workers/cgroup.h"
#include "workers/journal.h"
#include "workers/orphans.h"
#include "workers/kinds/attempt.h"
#include "workers/kinds/kind.h"
#include "workers/failures.h"
#include "workers/histogram.h"
#include "workers/ops.h"
#include "workers/queue/queue.h"
#include "workers/turn_log.h"
#include "workers/queue/timers.h"
#include "workers/runner.h"
#include "workers/woken.h"

/* Output on its way to disk. */
struct log_write {
    struct op_log op;
    struct log_pending pending;
    struct log_chunk *chunks;
    struct log_write *prev, *next; /* in run->held_logs */
};

/* One turn on its way: from taking the job until its end is on disk. */
struct run {
    struct grant grant;
    struct op_claim claim;
    struct op_finish finish;
    struct runner *runner;
    const struct task *task;
    struct registry *registry; /* keeps the task alive */
    int slot;                  /* the permit's number; -1: it has none, as it waits in place or never takes one */
    struct thread *thread;     /* that started it */
    int64_t began_us;
    struct attempt_limits limits; /* a reload must not change them under the body */
    struct attempt attempt;
    struct buf bound;                /* the arguments as the body gets them */
    struct buf steps;                /* recorded so far, for a body in a child that is told */
    char worker[TASK_NAME_MAX + 16]; /* which that is; empty: there is none yet, and the claim waits */
    bool claims;                     /* the claim is on its way, or was */
    struct woken resumption;         /* what it resumes with */
    int64_t inbox_given;             /* the last message that the body was given; its thread's, as is: */
    int inbox_unnoted;               /* how many of them the disk has not heard of */
    struct outcome outcome;
    struct log_pending log; /* what was not flushed before the end */
    struct log_chunk *chunks;

    /* Guarded by the attempt's lock: */
    int64_t pieces;      /* of its output, numbered so far */
    int64_t progress_us; /* when progress was last sent to disk */
    bool progress_held;  /* some is held back, in these: */
    double progress_value;
    struct buf progress_note;

    /* Guarded by the runner's lock: */
    int64_t given;                           /* the last message of the inbox in what it resumes with; 0: none */
    struct run *prev, *next;                 /* in runner->runs, while the body runs */
    struct op_resume resume;                 /* the last one */
    bool waits, woken;                       /* in place: what it waits for is there */
    bool hears;                              /* a message ends its wait, too */
    struct asked_call *waiter;               /* the one request of its body that waits; NULL: none does */
    struct wait *wait;                       /* over HTTP; NULL: it does not */
    int64_t timeout_left_us;                 /* which stands still meanwhile; 0: it has none */
    pthread_cond_t resumes;                  /* woken, stopped, or a slot is free */
    struct run *resumes_prev, *resumes_next; /* in runner->resumes */
    bool ended;                              /* the body has, and `finish` is filled */
    atomic_bool finish_queued;               /* and with the committer */
    bool claim_faulted;                      /* the claim met a fault: nothing is known of the turn on disk */
    int claim_faults;                        /* how often it did */
    int faults;                              /* that its reports met, one after the other */
    struct log_write *held_logs;             /* that were refused because of that */
    int64_t rewrite_us;                      /* when it is tried again, on the monotonic clock */
    struct run *rewrite_next;                /* in runner->rewrites */
};

/* A permit to run one body. */
struct slot {
    char name[16];   /* what is shown as the worker */
    struct run *run; /* NULL: free */
};

/* A thread that runs bodies. */
struct thread {
    struct runner *runner;
    pthread_t id;
    pthread_cond_t wake;
    bool woken;
    int wake_fd;                /* an eventfd, for kinds that mind the body on this thread */
    struct reader *reader;      /* opened when first needed */
    struct thread *prev, *next; /* in runner->idle or runner->ended_threads */
};

/* The thread that starts what takes no slot. */
struct starter {
    struct thread thread; /* its reader is for the arguments */
    bool started;
    bool sleeps;                           /* and nobody has woken it */
    bool held;                             /* by a shortage (shortage.c) */
    struct asked_call *asked, *asked_last; /* what bodies ask that is to be read from disk (asked.c) */
    struct asked_call *later, *later_last; /* or to be said again: the first first */
    struct task **with_room;               /* the tasks whose kind has room, or not, */
    int with_room_count;
    const struct registry *served; /* of this configuration */
};

/* What the dispatcher minds, after the upkeeps: the first on the wall clock, too. */
enum {
    TIMER_CALLBACKS = UPKEEPS,
    TIMER_FLUSH,
    TIMER_REFILL,
    TIMER_REWRITE,
    TIMER_SHORTAGE,
    TIMER_SPARE,
    TIMER_LEASES,
    TIMER_WAITS,
    TIMERS
};
_Static_assert((int)TIMERS <= (int)TIMERS_MAX, "each has its place");

/* One kind of upkeep on its way. */
struct upkeep_call {
    struct op_upkeep op;
    struct runner *runner;
};

enum { FAILED_AGAIN_MS = 1000, RUN_FLUSH_US = 200000 };

struct runner {
    struct store *store;
    struct journal *journal;
    struct cgroup *cgroup; /* its own; NULL: it has none */
    struct orphans *orphans;
    struct journal_left left;    /* of the last process; the casualties point into it */
    struct casualty *casualties; /* of the last process, for the recovery */
    int casualty_count;
    int wake_fd, clock_fd; /* of the dispatcher: an eventfd, and a timer that notices when the clock is set */

    pthread_condattr_t monotonic; /* of conditions that are waited for with a time */
    pthread_mutex_t lock;         /* guards everything below */
    pthread_cond_t quiet;         /* nothing runs, or closing went on */
    struct registry *registry;
    struct attempt_limits limits;
    char *url; /* NULL: it has none */
    struct queue queue;

    struct slot *slots;
    int *free_slots; /* the last was freed last */
    int slot_count, slots_free;
    struct run *spares; /* to be taken again; and, without the lock: */
    _Atomic(struct run *) given_back;
    atomic_int given_back_count;
    int slots_held;      /* of the free ones, those that a shortage takes away (shortage.c) */
    int waiting;         /* bodies that wait in place: threads without a slot */
    struct run *resumes; /* those that are to go on, the first first */
    int resuming;        /* of those, the ones that are to go on and want a slot before anything new starts */
    int64_t shortage_us,
        shortage_delay_us;        /* when it was met last, and how long it is waited for; 0: there is none */
    struct run *runs;             /* whose bodies run */
    struct thread *idle;          /* the last to become so first */
    struct thread *ended_threads; /* to be joined */
    int thread_count, idle_count;
    bool waking;        /* an idle one was woken and has not come yet */
    bool spare_missing; /* the last one that was wanted could not be made */
    struct {            /* a body that waits was stopped, so that its thread runs another */
        int64_t next_us, delay_us;
        bool progress; /* one has ended since */
    } thread_stop;

    struct starter starter;

    struct runner_callbacks callbacks;
    struct sending *sendings; /* deliveries that are under way, */
    int sending_count;
    struct sending *unmade;     /* of these, those whose body is still to be made */
    struct receiver *receivers; /* and where they go */

    int unfinished; /* turns whose end is not on disk yet */
    bool paused, healthy, closing;
    bool serves; /* kinds are told of its tasks */
    enum close_policy policy;
    bool ended; /* threads are to end */

    struct timers timers;
    struct upkeep_call upkeeps[UPKEEPS];
    struct scheduling *scheduling; /* its own fields are said there */
    struct run *rewrites;
    int claims_faulted; /* runs whose claim met a fault: nothing more starts while they are as many as slots */
    pthread_t dispatcher;
    bool dispatcher_started;
    struct histogram wait, run;
    struct failures failures;

    struct lease *leases; /* out, by their invocation (a hash) */
    struct deadlines lease_deadlines;
    struct lease_ask *asks;      /* that wait, the first first */
    struct lending *lendings;    /* claims for asks, on their way to disk */
    struct roster_entry *roster; /* who asks, by name (a hash) */
    struct wait *waits;          /* over HTTP, by their invocation (a hash) */
    struct deadlines wait_deadlines;
    int64_t roster_swept_us; /* when it was looked through last */
    int64_t asked_all_us;    /* when somebody last asked for any task; 0: never */
};

/* runner.c. What decides whether anything starts has changed. */
void runner_gate_locked(struct runner *runner);

/* Gives the tasks their numbers and, if they are the runner's, their lanes;
 * who calls it has the committer's role. After a fault new tasks have neither. */
MUST_USE enum err runner_number_tasks(struct runner *runner, struct registry *registry);

/* The lane changed otherwise than by taking: if it is low, it is refilled. */
void runner_look_locked(struct runner *runner, int task);

/* Fills a request if the lane wants one: to be queued without the lock. NULL: it does not. */
struct op_refill *runner_refill_locked(struct runner *runner, int task);

/* May one more line tell of a failure of that task (failures.h)? Without the lock. */
bool runner_may_log(struct runner *runner, int task, int *left_out);
void runner_log_failure(struct runner *runner, const struct turn_said *said, const struct op_finish *finish);

/* How many bodies may start now. */
static inline int runner_room_locked(const struct runner *runner)
{
    return runner->slots_free - runner->slots_held - runner->resuming;
}

/* --- scheduling.c ------------------------------------------------------------------- */

struct scheduling *scheduling_new(void);
void scheduling_free(struct scheduling *scheduling); /* takes NULL */

/* The dispatcher's, when UPKEEP_SCHEDULE is due; and when the clock was set. */
void schedules_act(struct runner *runner);
void schedules_clock_was_set(struct runner *runner);

/* --- recovery.c -------------------------------------------------------------------- */

/* Opens the journal, enters a cgroup of its own if one can be had, numbers the
 * tasks and queues again what the last process was running, or has these two
 * done as soon as the disk takes writes. */
MUST_USE enum err recovery_begin(struct runner *runner, const struct runner_options *options, struct reason *why);
void recovery_release(struct runner *runner);

/* --- threads.c ------------------------------------------------------------------- */

MUST_USE enum err threads_start(struct runner *runner, struct reason *why);
void threads_end(struct runner *runner); /* runner->ended is set */

/* Joins those that ended because they were idle. */
void threads_reap(struct runner *runner);

/* Wakes an idle thread if there is work and a free slot, and who starts what needs none. */
void threads_wake_locked(struct runner *runner);

/* The calling thread will block without a slot: another takes its place. The lock
 * is given up and taken again. */
void threads_replace_locked(struct runner *runner);

/* The same of a thread that minds what waits: the one that takes its place is made
 * by the dispatcher. */
void threads_replace_later_locked(struct runner *runner);

/* A thread could not be made a while ago: is one wanted still? */
void threads_try_spare(struct runner *runner);

/* A slot is free again: the same, unless the caller takes the next job itself. */
void threads_freed_locked(struct runner *runner);

/* --- starter.c ------------------------------------------------------------------- */

MUST_USE enum err starter_start(struct runner *runner, struct reason *why);
void starter_end(struct runner *runner); /* runner->ended is set */

/* Wakes it if there is something to start, or tells a kind that work waits for its room.
 * threads_wake_locked() does so, too. */
void starter_wake_locked(struct runner *runner);
void starter_ring_locked(struct runner *runner); /* asked.c has something for it */

/* The registry is another one. */
void starter_tasks_locked(struct runner *runner);

/* --- deliver.c ------------------------------------------------------------------------- */

/* TIMER_CALLBACKS: asks the disk what is due, if there is room for it. */
void deliver_due(struct runner *runner);

/* The starter's: makes one body and sends it; the lock is given up and taken again. False: there
 * is none to be made. */
bool deliver_work_locked(struct runner *runner, struct thread *thread);

/* Gives up what is under way, which stays due. When nothing is begun any more. */
void deliver_end(struct runner *runner);

/* --- asked.c --------------------------------------------------------------------------- */

/* Of struct attempt_sink. */
void asked_ask(struct question *question);
void asked_goes_on(struct attempt *attempt);
void asked_wait_no_more(struct attempt *attempt);

/* The starter's: what is to be read, and what is due again; the lock is given up and taken
 * again. When the next of them is due; INT64_MAX: none is. */
int64_t asked_work_locked(struct runner *runner, struct thread *thread);

/* --- run.c ------------------------------------------------------------------------- */

struct run *run_of(struct attempt *attempt);

/* A reader for the body's thread, opened when first needed. */
MUST_USE enum err run_open_reader(struct run *run);

/* Takes a job and a free slot, of which there is one; NULL if there is no job. */
struct run *run_take_locked(struct runner *runner);

/* The same of what takes no slot. */
struct run *run_take_in_flight_locked(struct runner *runner);

/* Runs the body; it ends in run_ended(), perhaps on another thread and later. */
void run_body(struct run *run, struct thread *thread);

/* Sends what a body logged and reported a while ago, if it is of those that want it. */
bool run_wants_flush(const struct run *run);
void run_flush_locked(struct run *run);
void run_free(struct run *run);
void run_free_spares(struct runner *runner); /* at the end: none is left */

/* A slot, which is free, for a run that has none; and back. */
void run_take_slot_locked(struct run *run);
void run_leave_slot_locked(struct run *run);

/* --- in_place.c ------------------------------------------------------------------------- */

/* What a body asks of the service; of struct attempt_sink. */
bool in_place_submit(struct attempt *attempt, struct span submission, int64_t *id, struct reason *why);
enum waited in_place_wait(struct attempt *attempt, const int64_t *ids, int count, bool any, int64_t timeout_ms,
                          struct reason *why);
enum err in_place_look(struct attempt *attempt, int64_t id, struct child_view *out);

/* Waits for what the op says. */
enum waited in_place_await(struct run *run, struct op_wait *op, int64_t timeout_ms, struct reason *why);

/* A slot is free: whoever is to go on takes it. */
void in_place_freed_locked(struct runner *runner);

/* It gives its slot back; wants one, before anything new; takes one that is free,
 * when it is the first of those who do; or ends without. */
void in_place_give_slot_locked(struct run *run);
void in_place_want_slot_locked(struct run *run);
void in_place_take_slot_locked(struct run *run);
void in_place_forget_slot_locked(struct run *run, bool wanted);

/* Its row says that it goes on. Under the lock or without. */
void in_place_resume_row(struct run *run);

/* Of a body that waits: it is looked at whether it is to stop, or has been woken. */
void in_place_notify_locked(struct run *run);

/* No further thread can be had, bodies wait on those there are, and what may start
 * has none: one that waits is stopped, at no cost, and runs again after what it
 * waits for. `unused`: even if other bodies run. Its id; 0: none was. */
int64_t in_place_free_thread_locked(struct runner *runner, bool unused);

/* Bodies that wait for what will not come, as the service closes, are stopped, at no cost. */
void in_place_closing_locked(struct runner *runner);

/* --- on_record.c ------------------------------------------------------------------------- */

/* Of struct attempt_sink. */
enum said on_record_step(struct attempt *attempt, struct span name, struct span value, struct buf *kept,
                         struct reason *why);
enum said on_record_step_get(struct attempt *attempt, struct span name, struct buf *value, struct reason *why);
enum said on_record_message(struct attempt *attempt, struct span body, struct reason *why);
enum said on_record_inbox(struct attempt *attempt, int64_t after_seq, int64_t timeout_ms,
                          struct inbox_message *out, struct reason *why);
enum said on_record_suspend(struct attempt *attempt, struct span suspension, struct reason *why);

/* --- patient.c --------------------------------------------------------------------------- */

/* Queues an op of the turn, on the body's thread, and waits for it; again and again as
 * long as commits fail or the claim, which met a fault, is not on disk. Then the op must
 * be fit to be applied twice; *again: that may have happened. ERR_UNAVAILABLE: the
 * body is to end. */
MUST_USE enum err patient_do(struct run *run, struct op *op, bool *again);

/* Was an op since the mark refused only because the claim, which met a fault, was not on disk? */
int patient_mark(struct run *run);
bool patient_was_unclaimed(struct run *run, int mark);

void patient_well_locked(struct runner *runner); /* commits work again */

/* For who tries again by itself: waits a second, or until the disk is well. False: the body is to end. */
bool patient_rest(struct run *run);
/* --- waits.c ------------------------------------------------------------------------- */

/* A slot is free for the first in runner->resumes, which is this one. */
void waits_resume_locked(struct run *run);
void waits_left_locked(struct run *run);      /* its body has ended */
void waits_end_ask_locked(struct run *run);   /* who asks for its wait is told that it is cancelled */
void waits_take_over_locked(struct run *run); /* its turn goes on elsewhere, and waits there */

/* What the store reports: it may go on, its turn is cancelled, its turn is over. */
void waits_woken_locked(struct runner *runner, int64_t id);
void waits_heard_locked(struct runner *runner, int64_t id); /* a message came */
void waits_cancelled_locked(struct runner *runner, int64_t id);
void waits_ended_locked(struct runner *runner, int64_t id);

void waits_expire(struct runner *runner); /* TIMER_WAITS */

/* The last server registered it, for a turn that is run elsewhere. */
void waits_load_locked(struct runner *runner, const struct turn *turn);
void waits_release(struct runner *runner);

/* --- report.c ------------------------------------------------------------------------ */

void report_init(struct run *run);
void report_claim(struct run *run); /* without the runner's lock */

/* The body has ended and `finish` is filled: true if report_finish() is to
 * follow, without the lock. The run is no longer the caller's after that. */
bool report_end_locked(struct run *run);
void report_finish(struct run *run);

/* Adds the reports that are to be tried again by now: they are to be queued,
 * without the lock. */
void report_rewrites_locked(struct runner *runner, int64_t now_us, struct ops *ops);

/* All of them at once: the server closes. */
void report_hurry_locked(struct runner *runner);

/* --- shortage.c -------------------------------------------------------------------------- */

/* A body could not begin for want of what the message says; its slot is free again. */
void shortage_note_locked(struct runner *runner, struct span message);

/* TIMER_SHORTAGE: tries whether there is enough again. */
void shortage_try(struct runner *runner);

/* --- lending.c, leases.c ------------------------------------------------------------------ */

/* There may be work for who asks: gives it. The ops are to be queued without the lock. */
void leases_serve_locked(struct runner *runner, struct ops *ops);
void leases_serve(struct runner *runner); /* the same, and queues them */

/* True if somebody has news of it: leases_end_asks() is to follow, without the lock. */
bool leases_take_change_locked(struct runner *runner, const struct change *change);

/* Ends the asks of those who have news, of those who do not wait and for whom
 * nothing is to come from disk, or of all. */
void leases_end_asks(struct runner *runner, bool all);
void leases_expire(struct runner *runner); /* TIMER_LEASES */

/* Commits failed for a while, and so did renewals: nobody pays for that. */
void leases_begin_anew_locked(struct runner *runner);

/* A run that was handed over (FINISH_HAND_OVER): its lease is known, with what befalls
 * it; and when that is on disk (`written`), it is minded. Or it came to nothing. */
void leases_take_over_locked(struct runner *runner, struct run *run, bool written);
void leases_not_taken_over_locked(struct runner *runner, const struct run *run);
bool leases_is_promised_locked(struct runner *runner, int64_t id, int64_t lease); /* on its way to disk */

/* What the last server gave out is minded from now on. */
MUST_USE enum err leases_load(struct runner *runner, struct reason *why);
void leases_release(struct runner *runner);

/* --- dispatcher.c ------------------------------------------------------------------------ */

MUST_USE enum err dispatcher_start(struct runner *runner, struct reason *why);
void dispatcher_end(struct runner *runner); /* runner->ended is set */
void dispatcher_set_locked(struct runner *runner, int timer, int64_t at);
void dispatcher_wake_locked(struct runner *runner); /* a timer is under way no more */
