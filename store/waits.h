/* Inside the store: to wait for the ends of others, in place or suspended. */
#pragma once

#include "store/tx.h"
#include "store/wait.h"

struct wait_target {
    int priority;
    int64_t id, rank;
    enum status status;
    bool is_group;
};

struct wait_for {
    const int64_t *ids; /* no one twice, at most WAIT_IDS_MAX */
    int count;
    bool any, timed; /* as of op_wait */
    /* out */
    bool met;
    int left;    /* of them, that have not ended: the first of `targets` */
    int64_t bad; /* the id that was refused */
    struct wait_target targets[WAIT_IDS_MAX];
};

/* What has ended already? ERR_NOT_FOUND, with `bad`. Writes nothing. */
MUST_USE enum err wait_look(struct tx *tx, struct wait_for *on);

/* Has the waiter, whose priority that is, woken by the ends of what is left.
 * ERR_INVALID, with `bad`: it would never come. */
MUST_USE enum err wait_register(struct tx *tx, int64_t waiter, struct wait_for *on, int64_t priority);

/* How many of them are to end before it goes on. */
static inline int wait_left(const struct wait_for *on)
{
    return on->any ? 1 : on->left;
}
