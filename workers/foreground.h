/* `errand run TASK [ARGS]`: one invocation in the foreground, with no server
 * and no database.
 *
 * Threads: the calling one, which should be the main thread; it takes over
 * SIGINT and SIGTERM while it runs. Blocks until the end. */
#pragma once

#include "workers/kinds/attempt.h"

enum { FOREGROUND_OK = 0, FOREGROUND_FAILED = 1, FOREGROUND_INVALID = 2, FOREGROUND_CANCELLED = 130 };

/* Runs the task (loaded by registry_load()) with these arguments,
 * JSON (absent: null, or the defaults of its params), and retries as its
 * options say. The result goes to stdout with a line break; the log, progress,
 * faults of the arguments and the error object go to stderr. The first SIGINT
 * or SIGTERM cancels, a second one of the same ends the process. Returns the
 * exit status: one of the above. */
int foreground_run(const struct task *task, struct span args, const struct attempt_limits *limits);
