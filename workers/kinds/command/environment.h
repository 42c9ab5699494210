/* A child's environment: the server's, the task's over it, and what Errand
 * says about the invocation over that.
 *
 * Threads: any, as long as nobody changes the server's environment. */
#pragma once

#include "base/buf.h"
#include "workers/kinds/attempt.h"

struct environment {
    char **vars; /* NULL-terminated "NAME=value", borrowed but for the texts below */
    char id[32], number[32], deadline[64], name[TASK_NAME_MAX + 16];
    struct buf lease_url, state, woken; /* empty: there is none */
};

/* What a turn resumes with, where it is too long for a variable: files in memory,
 * -1 where there is none. They are the caller's to close, when the child has ended. */
struct environment_files {
    int state, woken;
};

/* 0, or why a file could not be made; the environment is to be released in any case. */
MUST_USE int environment_init(struct environment *environment, struct attempt *attempt,
                              struct environment_files *files);
void environment_release(struct environment *environment);

/* The value of a variable, NULL if it has none. */
const char *environment_get(const struct environment *environment, const char *name);
