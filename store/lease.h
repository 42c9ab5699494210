/* Leases that outlive the server: of turns that a worker elsewhere holds.
 *
 * Claim sets them (turn.h, with a lease_until and its length); what is here
 * renews them, ends them when nobody renewed them, and finds them again. The
 * time in the row is for people and for who starts next: that a lease has run
 * out is decided by whoever minds it, on a clock that nobody sets. */
#pragma once

#include "store/turn.h"

struct reader;

/* "The holder is there still". ERR_CONFLICT: the lease was lost, or the turn
 * has ended. */
struct op_renew {
    struct turn_op turn;
    int64_t lease_until;
    bool cancelled; /* out: the invocation is; nothing was renewed, and nothing will be */
};
void op_renew_init(struct op_renew *op, const struct turn *turn);

/* Nobody was: the invocation is queued again, or `cancelled` if that was asked
 * for meanwhile, or `failed` as `lease_lost` if it pays and has no budget left.
 * ERR_CONFLICT: the lease was lost, the turn has ended, or it was renewed since. */
struct op_lose {
    struct turn_op turn;
    int64_t lease_until; /* that was believed when it ran out */
    bool pays;           /* from max_recoveries: */
    int max_recoveries;
    enum status became; /* out */
};
void op_lose_init(struct op_lose *op, const struct turn *turn);

/* A turn as its row has it. Spans live until the next call on the reader. */
struct turn_row {
    struct turn turn;
    enum status status;            /* running: the turn is under way; else it was its holder that ended it */
    bool elsewhere;                /* its lease has a time */
    bool cancelled;                /* that was asked for */
    int64_t lease_until, lease_ms; /* 0: it has none */
    int64_t started_at, timeout_ms, retention_ms;
    int failures, max_retries;
    struct span worker;
    bool suspended; /* it has ended so: the row is what came of it since */
};

/* ERR_CONFLICT: the lease is another's by now, or nobody's; ERR_NOT_FOUND. */
MUST_USE enum err reader_turn(struct reader *reader, int64_t id, int64_t lease, struct turn_row *out);

/* Every turn under way whose lease has a time and that this server gave out. */
MUST_USE enum err reader_leases(struct reader *reader, void (*row)(void *context, const struct turn_row *row),
                                void *context);
