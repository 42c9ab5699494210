/* The schedules of one configuration: names, and definitions as they stand on disk.
 *
 * Threads: never changed once made; the last reference frees it, on any thread. */
#pragma once

#include "base/yaml.h"
#include "workers/registry.h"

struct schedule_list;

struct schedule_entry {
    char *name;
    struct buf definition; /* JSON */
};

/* Reads the mapping `schedules` (NULL: there is none) against the tasks. Every fault is added, with its line; a
 * list comes back in any case, and is the caller's. */
struct schedule_list *schedule_list_parse(const struct yaml *doc, const cJSON *mapping,
                                          const struct registry *registry, struct faults *faults);
struct schedule_list *schedule_list_ref(struct schedule_list *list);
void schedule_list_unref(struct schedule_list *list); /* takes NULL */

int schedule_list_count(const struct schedule_list *list);
const struct schedule_entry *schedule_list_at(const struct schedule_list *list, int index);
