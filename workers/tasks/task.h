/* Task definitions, as the configuration names them, and the registry that
 * holds them.
 *
 * Threads: a registry is immutable; a reload makes another one. Whoever keeps
 * a task beyond a call holds a reference to its registry. */
#pragma once

#include "base/faults.h"
#include "base/yaml.h"
#include "workers/tasks/params.h"
#include "workers/tasks/task_options.h"

enum task_kind { TASK_NATIVE, TASK_COMMAND };

enum { TASK_NAME_MAX = 100 };

struct task {
    char *name;
    char *description; /* NULL if none */
    enum task_kind kind;
    struct task_options options;
    struct params *params; /* NULL: any JSON is accepted */
    int id;                /* the store's number for the name, set by the runner */

    /* native */
    char *module;   /* absolute path of the shared object */
    char *function; /* the symbol */
    void *entry;    /* errand_task_fn, resolved by native_load() */

    /* command */
    char **run;       /* argv as configured, NULL-terminated, with {name} in it */
    char *cwd;        /* absolute */
    char **env;       /* NULL-terminated "NAME=value", added to the server's environment */
    bool result_json; /* stdout must be JSON */
};

struct registry;

/* Reads the `tasks:` mapping. `defaults` (may be NULL) is the `defaults:`
 * mapping; relative paths start at `folder` (absolute). Every fault is added;
 * the registry comes back only if there are none. One reference is the
 * caller's. */
struct registry *registry_parse(const struct yaml *doc, const cJSON *tasks, const cJSON *defaults,
                                const char *folder, struct faults *faults);
struct registry *registry_ref(struct registry *registry);
void registry_unref(struct registry *registry); /* takes NULL */

/* By name; NULL if there is none. Constant time. */
struct task *registry_find(const struct registry *registry, struct span name);

/* In the order of the configuration. */
int registry_count(const struct registry *registry);
struct task *registry_at(const struct registry *registry, int index);

/* "native", "command". */
const char *task_kind_name(enum task_kind kind);

/* Appends the options as one JSON object, durations with units, only those
 * that are set or have a default: what GET /tasks/{name} shows. */
void task_add_options(struct buf *out, const struct task *task);
