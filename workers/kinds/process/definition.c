/* What a configuration says of a pool: its keys, read and checked. They stand in a
 * task, or under `pools:`. */
#include "workers/kinds/process/process.h"

#include "base/clock.h"

static const char *const start_words[] = {[START_LAZY] = "lazy", [START_EAGER] = "eager", NULL};

static const struct key workers_keys[] = {
    {.name = "min",
     .type = KEY_INT,
     .default_text = "0",
     .max = WORKERS_MAX,
     .offset = offsetof(struct settings, workers.min),
     .help = "so many stay"},
    {.name = "max",
     .type = KEY_INT,
     .min = 1,
     .max = WORKERS_MAX,
     .required = true,
     .example = "4",
     .offset = offsetof(struct settings, workers.max),
     .help = "never more"},
    {.name = "idle",
     .type = KEY_DURATION,
     .default_text = "1m",
     .none = true,
     .max = DURATION_MAX_MS,
     .offset = offsetof(struct settings, workers.idle_ms),
     .help = "one above min that had nothing to do for so long ends"},
    {0},
};

/* A number, or a mapping. */
static void read_workers(const struct keys_input *in, const cJSON *item, const char *pointer, void *target)
{
    static const struct key number = {
        .name = "workers", .type = KEY_INT, .min = 1, .max = WORKERS_MAX, .offset = 0};
    struct settings *is = target;
    struct reason why;
    int count;
    if (cJSON_IsObject(item)) {
        is->workers.min = 0;
        is->workers.idle_ms = 60000;
        keys_read(in, item, pointer, (struct key_section[]){{.keys = workers_keys, .target = is}}, 1);
        is->workers.first = is->workers.min;
        if (is->workers.max && is->workers.min > is->workers.max)
            faults_add(in->faults, yaml_line(in->doc, item), pointer, "`min` is above `max`");
    } else if (keys_text(item).p && keys_set_text(&number, keys_text(item), in->folder, &count, &why)) {
        is->workers.max = is->workers.first = count;
    } else {
        faults_add(in->faults, yaml_line(in->doc, item), pointer, "must be a number, 1 to %d, or {min, max, idle}",
                   WORKERS_MAX);
    }
}

/* In a task `run` may be missing: then it names its pool. */
#define SETTINGS(of, is_required)                                                \
    {.name = "run",                                                              \
     .type = KEY_OTHER,                                                          \
     .read = program_read_run,                                                   \
     .required = is_required,                                                    \
     .example = "[python3, worker.py]",                                          \
     .help = of "the program of the pool's children, and its arguments"},        \
        {.name = "cwd",                                                          \
         .type = KEY_PATH,                                                       \
         .path = PATH_FOLDER,                                                    \
         .example = ".",                                                         \
         .offset = offsetof(struct settings, program.cwd),                       \
         .help = of "where they run; default: this file's folder"},              \
        {.name = "env",                                                          \
         .type = KEY_OTHER,                                                      \
         .read = program_read_env,                                               \
         .example = "{LANG: C.UTF-8}",                                           \
         .help = of "added to the server's environment"},                        \
        {.name = "workers",                                                      \
         .type = KEY_OTHER,                                                      \
         .read = read_workers,                                                   \
         .example = "4",                                                         \
         .help = of "how many children, or {min, max, idle}; default: 1"},       \
        {.name = "capacity",                                                     \
         .type = KEY_INT,                                                        \
         .default_text = "1",                                                    \
         .min = 1,                                                               \
         .max = CAPACITY_MAX,                                                    \
         .offset = offsetof(struct settings, capacity),                          \
         .help = of "bodies that run at once in one child"},                     \
        {.name = "start",                                                        \
         .type = KEY_WORD,                                                       \
         .words = start_words,                                                   \
         .default_text = "lazy",                                                 \
         .offset = offsetof(struct settings, start),                             \
         .help = of "when children are started: lazy (there is work) or eager"}, \
        {.name = "start_timeout",                                                \
         .type = KEY_DURATION,                                                   \
         .default_text = "30s",                                                  \
         .min = 1,                                                               \
         .max = DURATION_MAX_MS,                                                 \
         .offset = offsetof(struct settings, start_timeout_ms),                  \
         .help = of "within it a child must be ready"},                          \
        {.name = "max_invocations",                                              \
         .type = KEY_COUNT,                                                      \
         .default_text = "none",                                                 \
         .none = true,                                                           \
         .min = 1,                                                               \
         .max = INT64_C(1000000000000),                                          \
         .offset = offsetof(struct settings, max_invocations),                   \
         .help = of "a child is replaced after so many"},                        \
        {.name = "max_memory",                                                   \
         .type = KEY_SIZE,                                                       \
         .default_text = "none",                                                 \
         .none = true,                                                           \
         .min = 1 << 20,                                                         \
         .max = INT64_C(1) << 50,                                                \
         .offset = offsetof(struct settings, max_memory),                        \
         .help = of "a child that has more in memory is replaced"},              \
    {                                                                            \
        0                                                                        \
    }

const struct key pool_keys[] = {SETTINGS("", true)};

const struct key process_keys[] = {
    {.name = "pool",
     .type = KEY_TEXT,
     .min = 1,
     .max = TASK_NAME_MAX,
     .example = "NAME",
     .offset = offsetof(struct process_task, pool),
     .help = "process: the one of `pools` that runs it, in place of `run` and what follows"},
    SETTINGS("process: ", false)};

void settings_check(const struct keys_input *in, const cJSON *item, const char *pointer, struct settings *is)
{
    if (!cJSON_GetObjectItemCaseSensitive(item, "workers"))
        is->workers.max = is->workers.first = 1;
    program_settle(in, item, &is->program);
    if (is->program.run && is->program.cwd)
        program_check(in, item, pointer, &is->program, is->program.run[0]);
}

void settings_release(struct settings *is)
{
    program_release(&is->program);
    keys_release(pool_keys, is);
    *is = (struct settings){0};
}
