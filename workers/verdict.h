/* What becomes of an invocation when a turn of it has failed. Pure: time and
 * randomness are arguments. */
#pragma once

#include "store/turn.h"
#include "workers/kinds/failure.h"
#include "workers/tasks/task.h"

struct failure {
    struct span type, error; /* the type, and the whole object as JSON */
    struct span types;       /* the class and its bases, a JSON array of strings; absent: none */
    enum again again;
    int64_t retry_after_ms; /* -1: the backoff decides */
    int failures, max_retries;
};

/* A number in [0, 1) from a turn's lease: that is random, and spent when the turn has ended. */
static inline double verdict_random(const struct turn *turn)
{
    return (double)((uint64_t)turn->lease >> 11) / (double)(UINT64_C(1) << 53);
}

/* Fills what the end of the turn says of it, finished_at included. `task` NULL:
 * it left the configuration, and is not tried again. `random` in [0, 1). */
void verdict_on_failure(struct op_finish *finish, const struct task *task, const struct failure *failure,
                        int64_t now_ms, double random);
