/* One batch on its way to disk: its transaction, what it changed, and the
 * counters that follow from that. Belongs to whoever holds the role. */
#pragma once

#include "store/change.h"
#include "store/db.h"
#include "store/turn.h"

struct store;
struct tx_block;

struct tx_counts {
    int64_t delta[STATUS_SLOTS];   /* of the changes counted so far */
    int64_t on_disk[STATUS_SLOTS]; /* before the batch; valid if `known` */
    bool touched, known;
};

struct tx {
    struct store *store;
    struct db *db;
    int64_t now;    /* when the batch began */
    int64_t id_now; /* for ids: the same, unless the clock is far ahead of where it was */
    struct change *changes;
    int count, cap;
    struct tx_counts *counts; /* by task; of changes[0..counted) */
    int counts_cap, counted;
    int64_t highest_removed; /* id; 0: none was */
    int grouped;             /* changes[0..grouped) are counted in their groups */
    int wakes;               /* waits that ends of this batch have ended */
    int64_t first_bytes;     /* copied of those whose unique place was asked for */
    int64_t cached_bytes;    /* of kept results that answered */
    struct span who;         /* asks for what is being done: a token's name; absent: nobody is known */
    struct tx_block *blocks; /* bytes that changes point to */
};

/* Notes what an operation did; the listeners hear of it after the commit. */
struct change *tx_change(struct tx *tx, int64_t id, int task, enum status from, enum status to);

/* A copy that lives until the listeners have returned. */
struct span tx_copy(struct tx *tx, struct span bytes);

/* Takes back the changes after the first `count`: their savepoint was rolled back. */
void tx_undo_to(struct tx *tx, int count);

/* How many invocations of a task have one of the statuses (STATUS_BIT), this
 * batch's included: what is on disk counts, because another server may have
 * changed it. Task 0: of all tasks. */
MUST_USE enum err tx_count_of(struct tx *tx, int task, unsigned statuses, int64_t *n);

/* When the dispatcher is to prune after one became final: at its own time, or
 * at once if there seem to be more than retain_max. */
int64_t tx_prune_at(struct tx *tx, int64_t prune_at);

/* Writes the counters' deltas and the highest id that was removed; after the
 * commit, the copy in memory follows. */
MUST_USE enum err tx_write_counts(struct tx *tx);
void tx_counts_committed(struct tx *tx);

void tx_clear(struct tx *tx);
void tx_release(struct tx *tx);
