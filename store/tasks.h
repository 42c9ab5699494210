/* Tasks as the store knows them: a number for each name, counts, pauses. */
#pragma once

#include "store/op.h"
#include "store/status.h"

struct store_task {
    int id;
    char *name;
    bool paused;
    int64_t counts[STATUS_SLOTS]; /* by enum status */
};

/* The number of a task's name, given on first use (a synchronous write: call
 * it while starting or reloading, not on a hot path). */
MUST_USE enum err store_task_id(struct store *store, struct span name, int *id);

/* The same for who has the committer's role: before store_start, and in the
 * callback of store_recover_first. */
MUST_USE enum err store_task_id_with_role(struct store *store, struct span name, int *id);

/* 0 if it was never given one. Any thread; no database access. */
int store_task_find(struct store *store, struct span name);

/* A copy of all tasks ever seen with their counts; the caller frees with
 * store_tasks_free. Any thread; no database access. */
struct store_task *store_tasks(struct store *store, int *count);
void store_tasks_free(struct store_task *tasks, int count);

/* One task's, without names; false if there is none of that number. */
bool store_task_counts(struct store *store, int id, bool *paused, int64_t counts[STATUS_SLOTS]);

/* "" if the number is none. The string lives as long as the store. */
const char *store_task_name(struct store *store, int id);

/* Pause or resume one task (its id), or the whole service (id 0). */
struct op_pause {
    struct op op;
    int task;
    bool paused;
};
void op_pause_init(struct op_pause *op, int task, bool paused);

/* Is the whole service paused, on disk? */
bool store_paused(const struct store *store);
