/* Inside leases.c, lending.c and roster.c: what is given out, who asks. All of it under
 * the runner's lock. */
#pragma once

#include "workers/leases.h"
#include "workers/runner_internal.h"

#define uthash_malloc(size) xmalloc(size)
#include <uthash.h>

/* A turn that is run elsewhere. */
struct lease {
    struct deadline deadline; /* not in the heap while its end is on its way */
    struct turn turn;         /* found by turn.id */
    struct roster_entry *holder;
    int64_t began_us;    /* when the turn did, or was given out; 0: before this server */
    int64_t lease_until; /* as it stands in the row */
    int64_t lease_ms;    /* its length */
    int64_t until_us;    /* it is to be renewed by then, */
    int64_t held_us;     /* or then, as long as there are */
    int holds;           /* so many who ask */
    int64_t ends_us;     /* the timeout of its turn; 0: none, or it stands still: */
    int64_t ends_left_us;
    bool pays; /* if it is lost: it was handed over, or renewed, by this server */
    bool cancelled;
    bool promised; /* the turn was handed over, and that is on its way to disk */
    int failures, max_retries;
    int64_t retention_ms;
    UT_hash_handle hh;
};

struct roster_entry {
    char *name, *host, *version;
    int64_t pid;
    enum worker_state state;
    int64_t started_at, last_seen_at, last_seen_us;
    int asked;     /* for how many, last */
    int held;      /* leases */
    int cancelled; /* of those */
    int view;      /* its place in the list that is being made */
    bool news;     /* of them, or of its state, that it was not told */
    UT_hash_handle hh;
};

/* The lease of an invocation, if it is out (token 0: whatever it is). A new one, in
 * the place of any that was there; when it is due, and to be looked at again; its
 * holder is to hear of the cancellation. */
struct lease *lease_find_locked(struct runner *runner, int64_t id, int64_t token);
struct lease *lease_add_locked(struct runner *runner, const struct turn *turn, const char *worker);
int64_t lease_due_us(const struct lease *lease);
void lease_watch_locked(struct runner *runner, struct lease *lease, int64_t at_us);
void lease_cancel_locked(struct lease *lease);

/* lending.c. An invocation was cancelled while its claim is on its way. */
void lending_cancelled_locked(struct runner *runner, int64_t id);

/* Of a turn that waits in place: its timeout stands still, and goes on. */
void leases_stand_still_locked(struct runner *runner, const struct turn *turn);
void leases_go_on_locked(struct runner *runner, const struct turn *turn);
bool leases_is_cancelled_locked(struct runner *runner, const struct turn *turn);

/* The entry of that name, made if need be; it is seen now. */
struct roster_entry *roster_entry_locked(struct runner *runner, const char *name);
struct roster_entry *roster_find_locked(struct runner *runner, const char *name); /* NULL: there is none */
void roster_seen_locked(struct roster_entry *entry);
void roster_release(struct runner *runner);
