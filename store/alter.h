/* What a client asks of invocations that are there. */
#pragma once

#include "store/op.h"
#include "store/status.h"

/* What a client asks of invocations that are there. Each id on its own; the
 * outcome of each stands in `errs` (may be NULL). */
enum alter {
    ALTER_CANCEL, /* final ones stay as they are: OK */
    ALTER_RETRY,  /* failed and cancelled ones, else ERR_CONFLICT, as for one that comes after what did not
                   * succeed; ERR_BUSY: another has its unique place */
    ALTER_PATCH,  /* held, scheduled and queued ones, else ERR_CONFLICT */
    ALTER_DELETE, /* final ones, else ERR_CONFLICT, as for members of a group */
};

/* What a client has seen of one that does not run: if it is not so any more,
 * the alteration is ERR_MISMATCH. */
struct alter_belief {
    bool given;
    enum status status;
    int priority, attempt;
    int64_t run_at, finished_at;
};

struct op_alter {
    struct op op;
    enum alter what;
    const int64_t *ids;
    int count;
    enum err *errs;
    int changed;        /* out: how many changed */
    enum status status; /* out: of the last id, before the change */
    bool fresh;         /* RETRY: without what its turns recorded and left, children by their steps included */
    bool of_loop;       /* out, RETRY: refused, because it is an iteration */
    bool set_priority;  /* PATCH */
    int priority;
    bool set_run_at;
    int64_t run_at; /* 0: now */
    struct alter_belief belief;
    struct span who; /* asks for it: a token's name, borrowed until done(); absent: nobody is known */
};
void op_alter_init(struct op_alter *op, enum alter what, const int64_t *ids, int count);
