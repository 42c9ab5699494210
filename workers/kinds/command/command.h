/* Inside the command kind: one process an attempt, and no shell.
 *
 * Threads: as kind.h says. */
#pragma once

#include "workers/kinds/attempt.h"
#include "workers/kinds/kind.h"
#include "workers/kinds/program/program.h"

struct command_task {
    struct program program; /* with {name} in its words */
    bool result_json;       /* stdout must be JSON */
};

extern const struct kind command_kind;

static inline const struct command_task *command_task(const struct task *task)
{
    return task->definition;
}

/* definition.c */
extern const struct key command_keys[];
void command_advise(const struct task *task, struct faults *advice);
void command_check(const struct keys_input *in, const cJSON *item, const char *pointer, struct task *task);
void command_release(void *definition);
