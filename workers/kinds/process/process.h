/* Inside the process kind: process.c, which is the kind, and definition.c, which reads whose pool
 * a task has: its own, or one under `pools:`. */
#pragma once

#include "workers/kinds/pool/pool.h"

struct process_task {
    struct pool_task in; /* first */
    char *pool;          /* the name of the one that it shares; NULL: it has its own */
};

static inline const struct process_task *process_task(const struct task *task)
{
    return task->definition;
}

void process_check(const struct keys_input *in, const cJSON *item, const char *pointer, struct task *task);
void process_share(const struct keys_input *in, const cJSON *pools, struct task *const *tasks, int count);
void process_release(void *definition);
