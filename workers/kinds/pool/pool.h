/* Pools of long-lived children, for the kinds whose bodies run in them: what a definition
 * says of one, and what a kind hands on to it. The children speak
 * workers/sdk/PROTOCOL.md.
 *
 * A definition belongs to the tasks that are run by it, and goes with the last of them; its
 * children end when nothing runs in them any more.
 *
 * Threads: as kind.h says of the functions of the same names. */
#pragma once

#include "workers/kinds/attempt.h"
#include "workers/kinds/kind.h"
#include "workers/kinds/program/program.h"

enum pool_start { POOL_START_LAZY, POOL_START_EAGER };

struct pool_settings {
    struct program program; /* first: its readers fill it */
    struct {
        int min, max;
        int first;       /* if they are started eagerly */
        int64_t idle_ms; /* above min they end after that; 0: never */
    } workers;
    int capacity;
    enum pool_start start;
    int64_t start_timeout_ms;
    int64_t max_invocations; /* of one child; 0: any number */
    int64_t max_memory;      /* bytes resident; 0: any */
};

/* All but the program. (With it: pool_keys, which kind.h has, and keys.h for other tables.) */
extern const struct key pool_tuning_keys[];

/* Fills in what follows from others, and looks for the program. */
void pool_settings_check(const struct keys_input *in, const cJSON *item, const char *pointer,
                         struct pool_settings *is);
void pool_settings_release(struct pool_settings *is);

struct pool_definition {
    struct pool_settings is;
    char *name;        /* its children are NAME-1, NAME-2, ... */
    atomic_int tasks;  /* that are run by it; the last to go gives it up */
    struct pool *pool; /* its own */
};

/* For one task. Takes over what the settings own, and leaves them empty. */
struct pool_definition *pool_definition_new(const char *name, struct pool_settings *is);
void pool_definition_give_up(struct pool_definition *of); /* takes NULL */

/* What the definitions of tasks that are run in a pool begin with. */
struct pool_task {
    struct pool_settings own;   /* first; until they are handed on: */
    struct pool_definition *of; /* NULL: it is not run in one */
};
void pool_task_release(struct pool_task *in);

static inline struct pool_definition *pool_of(const struct task *task)
{
    return ((const struct pool_task *)task->definition)->of;
}

/* Of the kinds of such tasks: struct kind's. */
int pool_in_flight(const struct task *task);
const void *pool_room_of(const struct task *task);
int pool_descriptors(const struct task *task);
void pool_serve(struct task *task, bool serves);
void pool_wanted(const struct task *task, int count);
void pool_start(struct attempt *attempt);
void pool_stop(struct attempt *attempt);

/* Of all pools: struct kind's, but for the kind. */
void pool_host(const struct kind_host *host);
void pool_show_workers(void (*each)(void *context, const struct kind_worker *worker), void *context);
void pool_show_failing(void (*each)(void *context, const char *name), void *context);
void pool_end(void); /* all children are asked to end, and made to: nothing runs any more */
