/* The keys of a pool, for the tables that have them: each fills a target that begins with a struct
 * pool_settings. `of` stands before what each is for. */
#pragma once

#include "base/clock.h"
#include "workers/kinds/pool/pool.h"

enum { POOL_WORKERS_MAX = 1000, POOL_CAPACITY_MAX = 1000 };

extern const char *const pool_start_words[];
void pool_read_workers(const struct keys_input *in, const cJSON *item, const char *pointer, void *target);

#define POOL_PROGRAM_KEYS(of, is_required)                                                        \
    {.name = "run",                                                                               \
     .type = KEY_OTHER,                                                                           \
     .read = program_read_run,                                                                    \
     .required = is_required,                                                                     \
     .example = "[python3, worker.py]",                                                           \
     .help = of "the program of the pool's children, and its arguments"},                         \
        {.name = "cwd",                                                                           \
         .type = KEY_PATH,                                                                        \
         .path = PATH_FOLDER,                                                                     \
         .example = ".",                                                                          \
         .offset = offsetof(struct pool_settings, program.cwd),                                   \
         .help = of "where they run; default: this file's folder"},                               \
    {                                                                                             \
        .name = "env", .type = KEY_OTHER, .read = program_read_env, .example = "{LANG: C.UTF-8}", \
        .help = of "added to the server's environment"                                            \
    }

#define POOL_TUNING_KEYS(of)                                                                          \
    {.name = "workers",                                                                               \
     .type = KEY_OTHER,                                                                               \
     .read = pool_read_workers,                                                                       \
     .example = "4",                                                                                  \
     .help = of "how many children, or {min, max, idle}; default: 1"},                                \
        {.name = "capacity",                                                                          \
         .type = KEY_INT,                                                                             \
         .default_text = "1",                                                                         \
         .min = 1,                                                                                    \
         .max = POOL_CAPACITY_MAX,                                                                    \
         .offset = offsetof(struct pool_settings, capacity),                                          \
         .help = of "bodies that run at once in one child"},                                          \
        {.name = "start",                                                                             \
         .type = KEY_WORD,                                                                            \
         .words = pool_start_words,                                                                   \
         .default_text = "lazy",                                                                      \
         .offset = offsetof(struct pool_settings, start),                                             \
         .help = of "when children are started: lazy (there is work) or eager"},                      \
        {.name = "start_timeout",                                                                     \
         .type = KEY_DURATION,                                                                        \
         .default_text = "30s",                                                                       \
         .min = 1,                                                                                    \
         .max = DURATION_MAX_MS,                                                                      \
         .offset = offsetof(struct pool_settings, start_timeout_ms),                                  \
         .help = of "within it a child must be ready"},                                               \
        {.name = "max_invocations",                                                                   \
         .type = KEY_COUNT,                                                                           \
         .default_text = "none",                                                                      \
         .none = true,                                                                                \
         .min = 1,                                                                                    \
         .max = INT64_C(1000000000000),                                                               \
         .offset = offsetof(struct pool_settings, max_invocations),                                   \
         .help = of "a child is replaced after so many"},                                             \
    {                                                                                                 \
        .name = "max_memory", .type = KEY_SIZE, .default_text = "none", .none = true, .min = 1 << 20, \
        .max = INT64_C(1) << 50, .offset = offsetof(struct pool_settings, max_memory),                \
        .help = of "a child that has more in memory is replaced"                                      \
    }
