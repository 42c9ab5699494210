/* The registry: the tasks of one configuration, by name.
 *
 * It stands above tasks/ and kinds/: what a task says is partly its kind's to
 * read, and a kind may look at the file system to check it.
 *
 * Threads: a registry is immutable once loaded; a reload makes another one.
 * Whoever keeps a task beyond a call holds a reference to its registry. */
#pragma once

#include "base/faults.h"
#include "base/yaml.h"
#include "workers/callbacks/policy.h"
#include "workers/kinds/kinds.h"
#include "workers/tasks/task.h"

struct registry;

/* Where the tasks of a configuration stand. */
struct registry_source {
    const struct yaml *doc;
    const cJSON *tasks, *pools, *defaults, *callbacks; /* the mappings of those names; NULL: there is none */
    const char *folder;                                /* absolute: where relative paths start */
};

/* Reads the tasks, which are of these kinds (NULL-terminated; kinds.h has those
 * there are). Every fault is added; the registry comes back only if there are
 * none. One reference is the caller's. */
struct registry *registry_parse(const struct kind *const *table, const struct registry_source *source,
                                struct faults *faults);
struct registry *registry_ref(struct registry *registry);
void registry_unref(struct registry *registry); /* takes NULL */

/* Makes all tasks ready to be run; blocks. Faults are added under
 * /tasks/NAME. Before the first of them is run, and once. */
void registry_load(const struct registry *registry, struct faults *faults);

/* By name; NULL if there is none. Constant time. */
struct task *registry_find(const struct registry *registry, struct span name);

/* What is said of callbacks, beside the tasks. Lives as long as the registry. */
const struct policy *registry_callbacks(const struct registry *registry);

/* In the order of the configuration. */
int registry_count(const struct registry *registry);
struct task *registry_at(const struct registry *registry, int index);

/* Appends the keys that a task of these kinds may have, options left out, as
 * YAML with comments, each line commented out and indented. */
void registry_add_keys(struct buf *out, const struct kind *const *table, int indent);
