/* What becomes of a delivery after a try.
 *
 * Threads: no shared state. Pure. */
#pragma once

#include "store/deliveries.h"
#include "workers/callbacks/policy.h"
#include "workers/transfers/post.h"

struct judgement {
    enum delivery_status status;
    bool counts;      /* it was a try, */
    bool silent;      /* and there was no answer */
    int64_t delay_ms; /* of a pending one: until the next */
};

/* `attempts`: tries before this one; `random` is in [0, 1). The error is appended as JSON;
 * nothing of a success. */
struct judgement judge_answer(const struct policy *policy, int attempts, const struct post_answer *answer,
                              double random, struct buf *error);

/* Before the n-th further try (from 1), with a tenth more or less; -1: there is none. */
int64_t judge_delay_ms(const struct policy *policy, int n, double random);

/* Appends {"type": ..., "message": ...}. */
void judge_add_error(struct buf *out, const char *type, const char *message);
