/* Turns that are run elsewhere: given out to workers that ask over HTTP, under
 * leases that have a time.
 *
 * A worker asks; what the queue has for it is claimed, and only when the claims
 * are committed does it hear of them. An ask that finds nothing may wait, and
 * writes nothing. Who asked first is served first.
 *
 * A lease that is not renewed in time ends, on the monotonic clock. It ends when
 * its end is written: a report or a renewal that reaches the committer first
 * counts. Leases outlive the server: those that the last one gave out begin anew
 * when this one starts.
 *
 * Reports are ops of the store (turn.h, lease.h), conditional on the lease, and
 * pass by here: the end of a turn is heard of from the commit. Only a renewal is
 * told, by leases_renewed().
 *
 * Threads: any, unless it says otherwise. */
#pragma once

#include "store/lease.h"
#include "workers/tasks/task.h"

struct lending;
struct runner;

enum { WORKER_NAME_MAX = 100, LEASES_AT_ONCE = 100 };

enum worker_state {
    WORKER_ACTIVE,
    WORKER_QUIET, /* finishes what it holds, and is given nothing more */
    WORKER_STOP,  /* and is to end then */
};

/* One who asks. Embedded in what its caller keeps of the request; the names it
 * points to stay as they are until it is over. */
struct lease_ask {
    const char *worker; /* 1 to WORKER_NAME_MAX bytes */
    const int *tasks;   /* numbers of tasks; NULL: all that are run elsewhere */
    int task_count;
    int max; /* 1 to LEASES_AT_ONCE */
    int64_t lease_ms;

    /* Called once if leases_ask() said that it waits: something was given, the
     * state is another, or a turn of this worker is to be cancelled. Any thread,
     * no locks are held; the ask is over then. */
    void (*over)(struct lease_ask *ask);
    void *owner; /* for over() */

    /* What was given: claimed, and on disk. */
    struct turn given[LEASES_AT_ONCE];
    int given_count;

    /* leases.c's own, under the runner's lock. All zeros at first. */
    struct lease_ask *prev, *next; /* of those that wait, while it is `listed` */
    struct lending *lendings;      /* claims that are not committed yet */
    bool waits, listed, ended;
};

/* Takes what there is for it, if the worker is active. False: nothing, and it
 * does not wait (`wait` is false and all that is queued was looked at, the worker
 * has news to be told, or the service is closing): the ask is over. True: over()
 * will be called, perhaps before this returns. */
MUST_USE bool leases_ask(struct runner *runner, struct lease_ask *ask, bool wait);

/* It waits no longer. True: over() was not called and will not be; what it was
 * given so far stays given, what was on its way goes back. False: over() was
 * called or will be, at once. */
bool leases_leave(struct runner *runner, struct lease_ask *ask);

/* What was given could not be handed over: queued again, and nobody pays. */
void leases_return(struct runner *runner, const struct turn *turns, int count);

/* op_renew was committed: the lease counts anew from now. */
void leases_renewed(struct runner *runner, const struct turn *turn, int64_t lease_ms, int64_t lease_until);

/* Somebody asks for it, for so long: until all who do have let it go it runs out no
 * sooner, whatever renews it meanwhile. `lease_until` is what the row says now. False:
 * there is no such lease, and nothing to let go. */
bool leases_hold(struct runner *runner, const struct turn *turn, int64_t for_ms, int64_t lease_until);

/* It counts anew from now, unless somebody else holds it. */
void leases_let_go(struct runner *runner, const struct turn *turn);

/* The leases of a worker whose invocations are cancelled: fills in at most `max`. */
int leases_cancelled(struct runner *runner, const char *worker, struct turn *turns, int max);

/* --- who asks ------------------------------------------------------------------ */

/* Asks and renewals tell of a worker; it is forgotten an hour after the last,
 * when it holds nothing. `host`, `version`: absent, or what it said of itself. */
void workers_seen(struct runner *runner, const char *name, struct span host, struct span version, int64_t pid);
enum worker_state workers_state(struct runner *runner, const char *name);

/* False: there is none of that name. Whoever asks for it hears of it at once. */
bool workers_set_state(struct runner *runner, const char *name, enum worker_state state);

struct worker_view {
    char *name, *host, *version; /* host and version: NULL if it did not say */
    int64_t pid;                 /* 0: it did not say */
    enum worker_state state;
    int64_t started_at, last_seen_at; /* since when it is known here; ms since the epoch */
    int capacity;                     /* how many it asked for last, and holds */
    int64_t *running;                 /* ids */
    int running_count;
};
/* By name; workers_free() them. */
struct worker_view *workers_list(struct runner *runner, int *count);
void workers_free(struct worker_view *views, int count);

/* Work that nobody asks for: tasks that are run elsewhere, have something
 * queued, and were not asked for in the last minute (nor since the start). */
struct unserved {
    int task;
    int64_t last_asked_at; /* ms since the epoch; 0: never, as far as is known */
};
/* The caller frees. */
struct unserved *leases_unserved(struct runner *runner, int *count);
