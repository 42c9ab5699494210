/* A failure as a body says it, in JSON: `{type, message, retry, retry_after,
 * traceback, stderr, types, exit_code}`; over HTTP, or on a child's socket. Pure. */
#pragma once

#include "base/keys.h"

struct outcome;

enum again { AGAIN_AS_CONFIGURED, AGAIN_NEVER /* the body said so */, AGAIN_ALWAYS /* whatever retry_for says */ };

/* Spans are in the body or the reader's arena. */
struct failure_told {
    struct span type, message, traceback, stderr_end, types; /* the last is JSON; absent: it has none */
    int exit_code;
    bool has_exit_code;
    enum again again;
    int64_t retry_after_ms; /* -1: not said */
};

/* Reads it, with a fault for all that is wrong. For a key's `read_json`. */
void failure_read(const struct keys_json *in, const struct keys_place *at, struct span value,
                  struct failure_told *out);

/* Fills the outcome of what failed so. */
void failure_settle(const struct failure_told *told, struct outcome *outcome);
