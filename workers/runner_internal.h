/* Inside the runner: what scheduler, slots and dispatcher share. */
#pragma once

#include "workers/histogram.h"
#include "workers/journal.h"
#include "workers/runner.h"
#include "workers/window.h"

/* One turn on its way: from taking the job until its end is on disk. */
struct run {
    struct turn turn;
    struct op_claim claim;
    struct op_finish finish;
    struct runner *runner;
    struct job *job;
    struct registry *registry; /* keeps the task alive */
    struct outcome outcome;
    struct log_pending log; /* what was not flushed before the end */
    struct log_chunk *chunks;
    int64_t pieces; /* of its output, numbered so far */

    /* Guarded by the runner's lock. Until its claim is written or refused: */
    bool claiming;
    struct run *claim_previous, *claim_next;
    struct job *again; /* it came anew into the queue meanwhile; goes to the window if the claim is refused */
    /* Its reports on their way (report.c): */
    bool ended;               /* the body has, and `finish` is filled */
    bool finish_queued;       /* and with the committer */
    bool claim_faulted;       /* the claim met a fault: nothing is known of the turn on disk */
    int faults;               /* that its reports met */
    struct run *rewrite_next; /* in runner->rewrites */
};

struct slot {
    struct runner *runner;
    int index;
    char name[16];
    pthread_t thread;
    bool started;
    struct reader *reader; /* opened when first needed */
    uint64_t random;
    struct buf bound; /* bound arguments, reused */

    struct run *run; /* NULL: idle. Guarded by the runner's lock, as is `since` */
    int64_t since;
    struct attempt_limits limits; /* of the attempt */
    struct attempt attempt;       /* valid while run is set */
    int64_t progress_us;          /* when progress was last sent to disk */
    bool progress_held;           /* some is held back, in these: */
    double progress_value;
    struct buf progress_note;
};

/* One kind of upkeep and when it is due. */
struct upkeep_timer {
    struct op_upkeep op;
    struct runner *runner;
    bool in_flight;
    int64_t next_at; /* wall clock; INT64_MAX: nothing is known to come */
};

enum { FAILED_AGAIN_MS = 1000 };

struct runner {
    struct store *store;
    struct journal *journal;

    pthread_mutex_t lock; /* guards everything below, but for what is the slots' own */
    pthread_cond_t work;  /* a slot has something to do */
    pthread_cond_t tick;  /* the dispatcher has */
    pthread_cond_t quiet; /* nothing runs, or closing went on */
    struct registry *registry;
    struct attempt_limits limits;
    struct window window;
    struct slot *slots;
    int slot_count;
    int idle;      /* slots that wait for work */
    bool waking;   /* one of them was signalled and has not come yet */
    int running;   /* bodies */
    int finishing; /* runs whose finish is not on disk yet, running ones included */
    bool paused;
    bool healthy;
    bool closing;
    enum close_policy policy;
    bool ended; /* threads are to end */

    /* Jobs that run with nothing beside them, before anything else does. */
    struct job **alone;
    int alone_count;
    bool alone_runs; /* one of them does */

    struct run *claiming; /* what was taken and whose claim is neither written nor refused */

    struct upkeep_timer timers[UPKEEPS]; /* by enum upkeep */
    int64_t flush_at;   /* wall clock: when native bodies' output is looked at; INT64_MAX: none runs */
    int64_t refill_at;  /* wall clock: when the dispatcher looks for lanes that are low; INT64_MAX: none may be */
    int64_t rewrite_at; /* wall clock: when reports that met a fault are tried again; INT64_MAX: none did */
    struct run *rewrites;
    pthread_t dispatcher;
    bool dispatcher_started;
    struct histogram wait, run;
};

/* slot.c */
void *slot_thread(void *arg);

/* Sends what a native body logged and reported a while ago; false if none runs there. */
bool slot_flush_locked(struct slot *slot);

/* report.c: claims and finishes on their way to disk. */
void report_init(struct run *run);
void report_claim(struct run *run); /* without the runner's lock */

/* The body has ended and `finish` is filled: true if report_finish() is to
 * follow, without the lock. The run is no longer the caller's after that. */
bool report_end_locked(struct run *run);
void report_finish(struct run *run);

/* Takes those whose time has come: they are to be queued, without the lock. */
struct run *report_rewrites_locked(struct runner *runner);
void report_rewrite(struct run *runs);

void run_free(struct run *run);
struct log_chunk *log_chunks(const struct log_pending *pending); /* the caller frees */
void log_pending_release(struct log_pending *pending);

/* scheduler.c. `_locked`: the runner's lock is the caller's. */
struct job *schedule_take_locked(struct runner *runner, bool *alone);
bool schedule_has_work_locked(const struct runner *runner);
void schedule_wake_locked(struct runner *runner); /* a slot, if one is idle and there is work */

/* A claim is on its way: until it is settled, what the store reports of the
 * invocation as still queued is not offered to another slot. */
void schedule_claim_locked(struct runner *runner, struct run *run);
void schedule_settle_locked(struct runner *runner, struct run *run, enum err err);

/* What the store reports, in its place among the changes. */
void schedule_offer_locked(struct runner *runner, const struct change *change, int64_t now_us);
void schedule_withdraw_locked(struct runner *runner, const struct change *change);
void schedule_refilled_locked(struct runner *runner, const struct op_refill *refill, int64_t now_us);

/* Those that were to run alone and may not run at all now wait like any other. */
void schedule_release_alone_locked(struct runner *runner);

void schedule_refill_locked(struct runner *runner, int task, struct op_refill **out);
void schedule_refill_all(struct runner *runner);

/* The lane changed otherwise than by a slot's taking: if it is low now, the
 * dispatcher refills it. */
void schedule_look_locked(struct runner *runner, int task);

/* dispatcher.c */
void *dispatcher_thread(void *arg);
void dispatcher_flush_locked(struct runner *runner); /* a native body has started */
void dispatcher_due_locked(struct runner *runner, enum upkeep what, int64_t at);
