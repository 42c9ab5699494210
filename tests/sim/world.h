/* A server in a world of chance: the real queue, timers, deadlines and verdicts, between rows
 * (model.h), a committer that gathers what is asked of it, bodies, workers elsewhere, and another
 * server on the same rows. One step is one event; the clock is the world's own.
 *
 *     world.c   a world, its committer and its clock
 *     server.c  what this server does with its queue, as workers/ does
 *     bodies.c  what bodies and workers elsewhere do
 *     events.c  what happens next
 *     audit.c   what must hold after each step
 *
 * Threads: none. */
#pragma once

#include "base/deadlines.h"
#include "store/groups.h"
#include "tests/sim/model.h"
#include "workers/queue/queue.h"
#include "workers/queue/timers.h"

enum { TASKS_MAX = 12, ROOMS = 2, OTHERS_MAX = 4, MAX_RECOVERIES = 3, LEASE_MS = 2000, UPKEEP_AGAIN_MS = 1000 };

/* What kind of world it is. */
struct shape {
    int tasks, rows_max, slots;
    struct window_limits limits;
    bool usual_limits; /* of the window */
    bool alone;        /* no other server */
    bool rough;        /* crashes, failing commits, clocks that are set */
    bool ties;         /* waits, dependencies, groups */
    int urge;          /* how much more is submitted than is run, 1 .. 4 */
    int priorities;
};

/* A body on this machine, until its end is on disk. */
struct run {
    struct grant grant;
    struct deed *asked; /* one request of it that is under way */
    int64_t failures;
    bool pooled;  /* a child is still to take it */
    bool claims;  /* its claim is on its way, or was */
    bool claimed; /* and is answered: */
    enum err claim_err;
    bool ended; /* the body has */
    bool finish_queued;
    bool stopped;   /* it was told to */
    bool suspended; /* its turn has */
    int moves;      /* of its task's lane, when it was taken */
    bool waits, woken;
    bool tires; /* of waiting, after a time */
    bool slot;
    struct run *prev, *next;
};

/* A turn elsewhere, of which this server minds the lease. */
struct lease {
    struct turn turn;
    struct deadline deadline;
    int64_t lease_until;
    int failures, max_retries;
    bool waits, woken, tires, cancelled;
    struct deed *asked;
    struct lease *prev, *next;
};

enum { TIMER_REFILL = UPKEEPS, WORLD_TIMERS };

struct server {
    struct queue queue;
    struct timers timers;
    struct deadlines deadlines;
    struct run *runs; /* whose bodies run, or whose end is on its way */
    struct lease *leases;
    int slots_free;
    bool paused, healthy;
};

struct task_now {
    struct task task;
    bool configured, paused;
    enum place place;
    int limit;           /* of its own room */
    int room;            /* that it shares; -1: none */
    int room_now, moves; /* the one that its lane is in, and how often that changed */
};

struct other {
    struct turn turn;
};

struct world {
    struct chance chance;
    struct shape shape;
    struct model disk;
    struct server server;
    struct task_now tasks[TASKS_MAX + 1]; /* by number, from 1 */
    int room_limits[ROOMS];
    int64_t wall_ms, mono_us;
    struct deed *queued, **queued_tail; /* for the next batch */
    struct deed *spare;
    struct other others[OTHERS_MAX];
    int other_count;
    bool ending; /* nothing new comes: all that is there must come to its end */
    long step, crash_step;

    /* In place of the model alone, where it is compared; NULL: it is not. Set after world_open(). */
    void (*commit)(void *context, struct deed *first);
    void (*recover)(void *context, const struct casualty *casualties, int count);
    void *context;

    /* How much of each happened, so that nobody believes in what never does. */
    struct tally {
        long taken, refused, came_back, refills, crashes, suspects, failed_commits, suspended, waited, lost,
            expired, handed_over, others, gave_way, reloads, circles;
    } tally;
    uint32_t mark; /* the audit's */
    bool traced;   /* what changes is printed */
};

void world_open(struct world *world, uint64_t seed);
void world_step(struct world *world);

/* Nothing new comes; all that is there must end. Faults if it does not. */
void world_end(struct world *world);
void world_close(struct world *world);

/* --- world.c --- */

/* A new one, all zeros, for world_queue(); freed after its done(). */
struct deed *deed_new(struct world *world, enum deed_kind kind);
void world_queue(struct world *world, struct deed *deed);
void world_commit(struct world *world, bool fails);
void world_crash(struct world *world);

/* --- server.c --- */

void server_start(struct world *world);
void server_release(struct world *world);
void server_hears(struct world *world, const struct change *changes, int count);
void server_health(struct world *world, bool healthy);
void server_gate(struct world *world);
void server_load_tasks(struct world *world);
void server_look(struct world *world, int task);
bool server_start_one(struct world *world);       /* a body that takes a slot */
bool server_start_in_flight(struct world *world); /* one that takes none */
bool server_lend(struct world *world);            /* one elsewhere */
void server_act(struct world *world);             /* what time asks */
bool server_expire_lease(struct world *world);
void server_clock_set(struct world *world);
void run_begins(struct world *world, struct run *run);
void run_claim(struct world *world, struct run *run);

/* --- bodies.c --- */

/* Something happens to one of them; false: nothing could. */
bool bodies_act(struct world *world);
bool workers_act(struct world *world);
void lease_free(struct world *world, struct lease *lease);
struct lease *lease_add(struct world *world, const struct turn *turn);

/* --- events.c --- */

void events_happen(struct world *world);
bool events_submit(struct world *world);

/* --- audit.c --- */

void audit(struct world *world);
void audit_taken(struct world *world, const struct grant *grant, const struct job *best, const char *by);
const struct job *audit_best(struct world *world, unsigned places, const int *tasks, int count);
