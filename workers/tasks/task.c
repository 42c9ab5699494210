#include "workers/tasks/task.h"

#include <stdlib.h>

static void read_params(const struct keys_input *in, const cJSON *item, const char *pointer, void *target)
{
    struct task *task = target;
    task->params = params_parse(in->doc, item, pointer, in->faults);
}

const struct key task_keys[] = {
    {.name = "description",
     .type = KEY_TEXT,
     .max = 1000,
     .example = "what it does",
     .offset = offsetof(struct task, description),
     .help = "for people"},
    {.name = "params",
     .type = KEY_OTHER,
     .read = read_params,
     .example = "{x: integer, y: {type: integer, default: 1}}",
     .help = "the arguments; without it any JSON is accepted"},
    {0},
};

bool task_name_is_good(const char *name)
{
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");
    return n > 0 && n <= TASK_NAME_MAX && name[n] == '\0' && !strchr("._-", name[0]);
}

void task_release(struct task *task)
{
    task_options_release(&task->options);
    keys_release(task_keys, task);
    params_free(task->params);
    free(task->name);
}

void task_add_options(struct buf *out, const struct task *task)
{
    buf_addc(out, '{');
    task_options_add_json(out, &task->options);
    buf_addc(out, '}');
}
