/* A turn: one run of a body, from its claim to its end, under a lease.
 *
 * The lease is a random token in the invocation's row. Claim sets it; every
 * later write of the turn carries it and changes nothing if the row has
 * another. Whoever has the token has the turn; the attempt's number is for
 * people. Claim and finish are two records, and both are answered; what the
 * committer makes of two that reach it together is its own affair.
 *
 * Safe to apply twice: a claim or an end that was written already (a commit
 * whose outcome was not known) is found by its lease and answered OK. */
#pragma once

#include "store/op.h"
#include "store/status.h"

struct turn {
    int64_t id;    /* of the invocation */
    int64_t lease; /* never 0 */
    int task;
    int attempt;   /* the number of this start */
    int64_t group; /* that the invocation is a member of, which never changes; 0: of none */
};

/* A new random token. Any thread. */
int64_t lease_new(void);

/* Every record of a turn begins so. */
struct turn_op {
    struct op op;
    struct turn turn;
};

/* The start: queued becomes running. It believes that the row is queued, was
 * started attempt - 1 times and failed `failures` times. ERR_CONFLICT: it is
 * not so, and there is no turn: stop the body and forget it. (A row that is
 * queued otherwise than believed is reported to the listeners again.) */
struct op_claim {
    struct turn_op turn;
    int failures;
    unsigned flags;      /* as of struct ready: other arguments than believed, and there is no turn */
    bool resumes;        /* as of struct ready */
    int64_t lease_until; /* 0: as long as this server lives */
    int64_t lease_ms;    /* the length of one that has a time */
    struct span worker;
    int64_t started_at;
    struct op_finish *end; /* the committer's: one that it may be written together with */
};
void op_claim_init(struct op_claim *op, const struct turn *turn);
void op_claim_init_awaited(struct op_claim *op, const struct turn *turn); /* the body starts only after it */

/* What becomes of the invocation. */
enum finish_next {
    FINISH_FINAL,     /* `status` is final */
    FINISH_RETRY,     /* failed; scheduled at run_at (0: queued at once) */
    FINISH_REQUEUE,   /* interrupted by closing; queued, no budget pays */
    FINISH_LOST,      /* the body died with its process; queued, or failed if it pays and has no budget left */
    FINISH_HAND_OVER, /* it goes on, running, under a lease with a time: nothing has ended but who ran it here */
    FINISH_UNSTARTED, /* the body never began; queued as if there had been no turn */
};

/* A piece of the turn's output. Who holds the turn numbers its pieces, from 0,
 * so that a piece that is written twice is there once. */
struct log_chunk {
    int stream; /* 1 stdout, 2 stderr */
    struct span data;
};

/* The end. ERR_CONFLICT: the lease was lost, nothing is changed. After a
 * cancellation that is on disk, a failure or an interruption ends it as
 * cancelled. */
struct op_finish {
    struct turn_op turn;
    int64_t retention_ms;
    enum finish_next next;
    enum status status;
    int64_t finished_at;
    int64_t run_at;
    int64_t lease_until, lease_ms; /* of what is handed over */
    struct span result;            /* JSON; absent: null */
    struct span error;             /* JSON object; absent if none */
    struct span error_type;
    const struct log_chunk *log;
    int log_count;
    int64_t log_from;   /* the number of the first of them */
    bool drop_stdout;   /* delete what was already logged of its stdout, */
    int64_t drop_from;  /* from that number on: a turn before it has its own */
    int64_t inbox_read; /* of its inbox, what the turn was given up to that one is read; 0: nothing */
    bool pays;          /* of a lost one: from max_recoveries: */
    int max_recoveries;
    bool may_have_suspended; /* the turn; then OK, and only its output is new */
    bool written;            /* the committer's: together with its claim */
};
void op_finish_init(struct op_finish *op, const struct turn *turn);

/* The same where somebody waits for the answer and can say it again: when its
 * batch fails it is ERR_UNAVAILABLE at once, and not kept until the disk is well. */
void op_finish_init_once(struct op_finish *op, const struct turn *turn);

/* Output of a turn. ERR_CONFLICT: the lease was lost. */
struct op_log {
    struct turn_op turn;
    const struct log_chunk *chunks;
    int count;
    int64_t from; /* the number of the first of them */
};
void op_log_init(struct op_log *op, const struct turn *turn);

/* Output of a turn whose holder numbers nothing: a piece has as its number how much
 * there is before it. What goes over the limit of an attempt is cut, and the notice
 * stands after it, in stderr. ERR_CONFLICT: the lease was lost, or the turn has
 * ended. Not safe to apply twice: then it is there twice. */
struct op_append {
    struct turn_op turn;
    struct log_chunk chunk;
    int64_t limit_bytes;
    struct span notice;
};
void op_append_init(struct op_append *op, const struct turn *turn);

/* ERR_CONFLICT: the lease was lost, or the turn has ended. */
struct op_progress {
    struct turn_op turn;
    double value;
    struct span note; /* absent: none */
};
void op_progress_init(struct op_progress *op, const struct turn *turn);
