/* What a configuration says of a pool: its keys, read and checked. They stand under
 * `pools:`, in a task, or in what a task says of its isolation. */
#include "workers/kinds/pool/internal.h"
#include "workers/kinds/pool/keys.h"

#include "base/clock.h"

const char *const pool_start_words[] = {[POOL_START_LAZY] = "lazy", [POOL_START_EAGER] = "eager", NULL};

static const struct key workers_keys[] = {
    {.name = "min",
     .type = KEY_INT,
     .default_text = "0",
     .max = POOL_WORKERS_MAX,
     .offset = offsetof(struct pool_settings, workers.min),
     .help = "so many stay"},
    {.name = "max",
     .type = KEY_INT,
     .min = 1,
     .max = POOL_WORKERS_MAX,
     .required = true,
     .example = "4",
     .offset = offsetof(struct pool_settings, workers.max),
     .help = "never more"},
    {.name = "idle",
     .type = KEY_DURATION,
     .default_text = "1m",
     .none = true,
     .max = DURATION_MAX_MS,
     .offset = offsetof(struct pool_settings, workers.idle_ms),
     .help = "one above min that had nothing to do for so long ends"},
    {0},
};

/* A number, or a mapping. */
void pool_read_workers(const struct keys_input *in, const cJSON *item, const char *pointer, void *target)
{
    static const struct key number = {
        .name = "workers", .type = KEY_INT, .min = 1, .max = POOL_WORKERS_MAX, .offset = 0};
    struct pool_settings *is = target;
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
                   POOL_WORKERS_MAX);
    }
}

const struct key pool_keys[] = {POOL_PROGRAM_KEYS("", true), POOL_TUNING_KEYS(""), {0}};
const struct key pool_tuning_keys[] = {POOL_TUNING_KEYS(""), {0}};

void pool_settings_check(const struct keys_input *in, const cJSON *item, const char *pointer,
                         struct pool_settings *is)
{
    if (!cJSON_GetObjectItemCaseSensitive(item, "workers"))
        is->workers.max = is->workers.first = 1;
    program_settle(in, item, &is->program);
    if (is->program.run && is->program.cwd)
        program_check(in, item, pointer, &is->program, is->program.run[0]);
}

void pool_settings_release(struct pool_settings *is)
{
    program_release(&is->program);
    keys_release(pool_keys, is);
    *is = (struct pool_settings){0};
}
