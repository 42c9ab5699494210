/* A task: what a configuration says under its name.
 *
 * Threads: immutable once its configuration was read and loaded, but for the
 * number. */
#pragma once

#include "base/keys.h"
#include "base/log.h"
#include "workers/tasks/params.h"
#include "workers/tasks/task_options.h"

#include <stdatomic.h>

enum { TASK_NAME_MAX = 100 };

struct kind;

/* What the log says of the arguments of a turn. */
enum turn_log_arguments { LOG_ARGUMENTS_FULL, LOG_ARGUMENTS_KEYS, LOG_ARGUMENTS_TRUNCATED, LOG_ARGUMENTS_HIDDEN };

struct task {
    char *name;
    char *description; /* NULL if none */
    struct task_options options;
    struct params *params; /* NULL: any JSON is accepted */
    int line;              /* of the configuration, for faults that loading finds */
    atomic_int id;         /* the store's number for the name, set by the runner; 0: not on disk yet */

    enum log_level log_level;              /* of what is said of its turns (workers/turn_log.h) */
    enum turn_log_arguments log_arguments; /* and of their arguments */

    const struct kind *kind; /* how it runs: workers/kinds/kind.h */
    void *definition;        /* what the kind's own keys say: the kind's alone to look into */
};

/* What every task has besides its kind and its options; they fill a struct
 * task. */
extern const struct key task_keys[];

/* 1 to TASK_NAME_MAX of A-Z a-z 0-9 . _ -, a letter or digit first. */
bool task_name_is_good(const char *name);

/* Frees all but the definition, which is the kind's. */
void task_release(struct task *task);

/* Appends the options as one JSON object, durations with units, only those
 * that are set or have a default: what GET /tasks/{name} shows. */
void task_add_options(struct buf *out, const struct task *task);
