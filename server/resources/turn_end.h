/* How a turn ended, as whoever ran it elsewhere reports it: {result} or {error}.
 * Pure.
 *
 *     struct thing { struct turn_end end; ... };     first: the readers fill it
 *     keys: {.name = "result", .type = KEY_OTHER, .read_json = turn_end_read_result}, ...
 *     turn_end_decide(&thing.end, ...);
 *     store_queue(store, &thing.end.finish.turn.op); */
#pragma once

#include "base/keys.h"
#include "store/lease.h"
#include "workers/tasks/task.h"
#include "workers/verdict.h"

struct turn_end {
    bool failed;
    struct span result; /* of what succeeded: JSON; absent: null */

    struct failure_told told; /* of what failed */

    struct buf error_type, error; /* as they are written */
    struct op_finish finish;
};

/* For `read_json` of a body's keys. */
void turn_end_read_result(const struct keys_json *in, const struct keys_place *at, struct span value,
                          void *target);
void turn_end_read_error(const struct keys_json *in, const struct keys_place *at, struct span value, void *target);

/* Fills `finish`. `task` NULL: it left the configuration. A result of more than
 * `result_bytes` is a failure, `bad_result`. `random` in [0, 1). */
void turn_end_decide(struct turn_end *end, const struct turn_row *row, const struct task *task,
                     int64_t result_bytes, int64_t now_ms, double random);

void turn_end_release(struct turn_end *end);
