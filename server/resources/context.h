/* What the handlers share: every request has it as rq->context. */
#pragma once

#include "server/http/request.h"
#include "server/http/topics.h"
#include "workers/runner.h"

struct context {
    struct store *store;
    struct runner *runner;
    struct topics *topics;
    struct statistics *statistics;
    int64_t started_at;
    atomic_bool closing; /* submissions get 503 */
    /* Closes as POST /shutdown and signals do; a stronger policy replaces a
     * weaker one. The HTTP thread's. */
    void (*shutdown)(struct context *context, enum close_policy policy);
};
