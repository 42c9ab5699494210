/* Inside the store: who is to be told of an end. What becomes of that is in
 * deliveries.h.
 *
 * A callback belongs to an owner: an invocation, or whatever else has an id of its
 * own and ends. Each end of the owner makes one delivery due, in the transaction of
 * the end. */
#pragma once

#include "store/deliveries.h"
#include "store/submit.h"
#include "store/tx.h"

struct callback {
    int64_t owner;
    enum callback_kind kind;
    struct span url;
    struct span place; /* "HOST:PORT" of the URL: what goes there waits in one line */
};

/* Registers one for an owner that is new. */
MUST_USE enum err callback_note(struct tx *tx, const struct callback *callback);

/* The same for an invocation: its end is to look for it. */
MUST_USE enum err callback_note_invocation(struct tx *tx, const struct submission *s);

/* The owner has ended, as `event`. */
struct callback_end {
    int64_t owner;
    int event;   /* the status that it has now, as its kind numbers them */
    int attempt; /* 0: it has none */
    int64_t at;
};

/* A delivery is due, if the owner has a callback; of its deliveries only the last
 * DELIVERIES_MAX stay. The listeners hear of it. */
MUST_USE enum err callback_due(struct tx *tx, const struct callback_end *end);

/* The same for an invocation that has just become final. */
MUST_USE enum err callback_due_invocation(struct tx *tx, int64_t id, enum status status);

/* Is one still to be delivered? Then its owner is not pruned. */
MUST_USE enum err callback_is_pending(struct tx *tx, int64_t owner, bool *pending);

/* The owner is gone. Its deliveries, at most DELIVERIES_MAX, are an invocation's to remove with
 * what else it has left (follow_up.c). */
MUST_USE enum err callback_remove(struct tx *tx, int64_t owner);
