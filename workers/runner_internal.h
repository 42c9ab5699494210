/* Inside the runner: what scheduler, slots and dispatcher share. */
#pragma once

#include "workers/histogram.h"
#include "workers/runner.h"
#include "workers/window.h"

/* One attempt on its way: from taking the job until its finish is on disk. */
struct run {
    struct op_run op;
    struct runner *runner;
    struct job *job;
    struct registry *registry; /* keeps the task alive */
    struct outcome outcome;
    struct log_pending log; /* what was not flushed before the end */
    struct log_chunk *chunks;
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
    struct attempt attempt; /* valid while run is set */
    int64_t progress_us;    /* when progress was last sent to disk */
    bool progress_held;     /* some is held back, in these: */
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

enum { TIMERS = 3 };

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

    struct upkeep_timer timers[TIMERS]; /* by enum upkeep */
    int64_t flush_at; /* wall clock: when native bodies' output is looked at; INT64_MAX: none runs */
    bool refill_wanted; /* some lane may be low: the dispatcher looks at all */
    pthread_t dispatcher;
    bool dispatcher_started;
    struct histogram wait, run;
};

/* slot.c */
void *slot_thread(void *arg);

/* Sends what a native body logged and reported a while ago; false if none runs there. */
bool slot_flush_locked(struct slot *slot);

/* scheduler.c. `_locked`: the runner's lock is the caller's. */
struct job *schedule_take_locked(struct runner *runner, bool *alone);
bool schedule_has_work_locked(const struct runner *runner);
void schedule_wake_locked(struct runner *runner); /* a slot, if one is idle and there is work */
void schedule_refill_locked(struct runner *runner, int task, struct op_refill **out);
void schedule_refill_all(struct runner *runner);

/* The lane changed otherwise than by a slot's taking: if it is low now, the
 * dispatcher refills it. */
void schedule_look_locked(struct runner *runner, int task);

/* dispatcher.c */
void *dispatcher_thread(void *arg);
void dispatcher_flush_locked(struct runner *runner); /* a native body has started */
void dispatcher_due_locked(struct runner *runner, enum upkeep what, int64_t at);
