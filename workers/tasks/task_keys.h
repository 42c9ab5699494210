/* A task's keys: the tables, and the reading of one task. task_run.c has a
 * command's argv and environment.
 *
 * Threads: no shared state. */
#pragma once

#include "base/keys.h"
#include "workers/tasks/task.h"

/* What every task has, and what the kinds have; they fill a struct task. */
extern const struct key task_common_keys[];
extern const struct key task_native_keys[];
extern const struct key task_command_keys[];

/* The keys `run` and `env` of a struct task. */
void task_run_read(const struct keys_input *in, const cJSON *item, const char *pointer, void *target);
void task_run_read_env(const struct keys_input *in, const cJSON *item, const char *pointer, void *target);

/* Checks the argv of a task that was read: the braces, that placeholders are
 * among the params, that the program is there (unless `cwd` was faulty: NULL). */
void task_run_check(const struct keys_input *in, const cJSON *item, const char *pointer, const struct task *task);

/* Reads one task, named by the item, over `defaults`. False with faults added if
 * anything is wrong; the task is to be released either way. */
bool task_read(const struct keys_input *in, const cJSON *item, const char *pointer,
               const struct task_options *defaults, struct task *task);
void task_release(struct task *task);
