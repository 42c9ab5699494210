/* What the server's log says of turns: at `debug` that one starts and how it ended, at
 * `warn` that it failed. Each task has a level of its own for that, and what of the arguments
 * is shown (log.kinds, log.arguments).
 *
 * Threads: any, with no lock held: a line is written. */
#pragma once

#include "store/turn.h"
#include "workers/tasks/task.h"

/* A turn as it is spoken of. */
struct turn_said {
    const char *task; /* its name */
    enum log_level level;
    enum turn_log_arguments arguments;
    const struct turn *turn;
    struct span worker; /* absent: it is not known */
    struct span args;   /* JSON; absent: they are not at hand */
};

bool turn_log_wants(const struct turn_said *said, enum log_level level);
void turn_log_started(const struct turn_said *said);

/* So, or (NULL) it has suspended; so long after its start. */
void turn_log_ended(const struct turn_said *said, const struct op_finish *finish, int64_t ms);

/* So many failures of the task were not told of before this one. */
void turn_log_failed(const struct turn_said *said, const struct op_finish *finish, int left_out);
