/* What a configuration says of a pool: read and checked. */
#include "workers/kinds/process/process.h"

#include "base/clock.h"

#include <stdio.h>

static const char *const start_words[] = {[START_LAZY] = "lazy", [START_EAGER] = "eager", NULL};

static const struct key workers_keys[] = {
    {.name = "min",
     .type = KEY_INT,
     .default_text = "0",
     .max = WORKERS_MAX,
     .offset = offsetof(struct process_task, workers.min),
     .help = "so many stay"},
    {.name = "max",
     .type = KEY_INT,
     .min = 1,
     .max = WORKERS_MAX,
     .required = true,
     .example = "4",
     .offset = offsetof(struct process_task, workers.max),
     .help = "never more"},
    {.name = "idle",
     .type = KEY_DURATION,
     .default_text = "1m",
     .none = true,
     .max = DURATION_MAX_MS,
     .offset = offsetof(struct process_task, workers.idle_ms),
     .help = "one above min that had nothing to do for so long ends"},
    {0},
};

/* A number, or a mapping. */
static void read_workers(const struct keys_input *in, const cJSON *item, const char *pointer, void *target)
{
    static const struct key number = {
        .name = "workers", .type = KEY_INT, .min = 1, .max = WORKERS_MAX, .offset = 0};
    struct process_task *process = target;
    struct reason why;
    int count;
    if (cJSON_IsObject(item)) {
        process->workers.min = 0;
        process->workers.idle_ms = 60000;
        keys_read(in, item, pointer, (struct key_section[]){{.keys = workers_keys, .target = process}}, 1);
        process->workers.first = process->workers.min;
        if (process->workers.max && process->workers.min > process->workers.max)
            faults_add(in->faults, yaml_line(in->doc, item), pointer, "`min` is above `max`");
    } else if (keys_text(item).p && keys_set_text(&number, keys_text(item), in->folder, &count, &why)) {
        process->workers.max = process->workers.first = count;
    } else {
        faults_add(in->faults, yaml_line(in->doc, item), pointer, "must be a number, 1 to %d, or {min, max, idle}",
                   WORKERS_MAX);
    }
}

const struct key process_keys[] = {
    {.name = "run",
     .type = KEY_OTHER,
     .read = program_read_run,
     .required = true,
     .example = "[python3, worker.py]",
     .help = "process: the program of the pool's children, and its arguments"},
    {.name = "cwd",
     .type = KEY_PATH,
     .path = PATH_FOLDER,
     .example = ".",
     .offset = offsetof(struct process_task, program.cwd),
     .help = "process: where they run; default: this file's folder"},
    {.name = "env",
     .type = KEY_OTHER,
     .read = program_read_env,
     .example = "{LANG: C.UTF-8}",
     .help = "process: added to the server's environment"},
    {.name = "workers",
     .type = KEY_OTHER,
     .read = read_workers,
     .example = "4",
     .help = "process: how many children, or {min, max, idle}; default: 1"},
    {.name = "capacity",
     .type = KEY_INT,
     .default_text = "1",
     .min = 1,
     .max = CAPACITY_MAX,
     .offset = offsetof(struct process_task, capacity),
     .help = "process: bodies that run at once in one child"},
    {.name = "start",
     .type = KEY_WORD,
     .words = start_words,
     .default_text = "lazy",
     .offset = offsetof(struct process_task, start),
     .help = "process: when children are started: lazy (there is work) or eager"},
    {.name = "start_timeout",
     .type = KEY_DURATION,
     .default_text = "30s",
     .min = 1,
     .max = DURATION_MAX_MS,
     .offset = offsetof(struct process_task, start_timeout_ms),
     .help = "process: within it a child must be ready"},
    {.name = "max_invocations",
     .type = KEY_COUNT,
     .default_text = "none",
     .none = true,
     .min = 1,
     .max = INT64_C(1000000000000),
     .offset = offsetof(struct process_task, max_invocations),
     .help = "process: a child is replaced after so many"},
    {.name = "max_memory",
     .type = KEY_SIZE,
     .default_text = "none",
     .none = true,
     .min = 1 << 20,
     .max = INT64_C(1) << 50,
     .offset = offsetof(struct process_task, max_memory),
     .help = "process: a child that has more in memory is replaced"},
    {0},
};

void process_check(const struct keys_input *in, const cJSON *item, const char *pointer, struct task *task)
{
    struct process_task *process = task->definition;
    int before = in->faults->total;
    if (!cJSON_GetObjectItemCaseSensitive(item, "workers"))
        process->workers.max = process->workers.first = 1;
    program_settle(in, item, &process->program);
    if (!process->program.run || in->faults->total > before || !process->program.cwd)
        return;
    program_check(in, item, pointer, &process->program, process->program.run[0]);
}
