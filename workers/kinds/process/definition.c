/* Whose a pool is: a task's own, or one under `pools:` for all tasks that name it. */
#include "workers/kinds/process/process.h"

#include <stdlib.h>

void process_release(void *definition)
{
    struct process_task *process = definition;
    pool_task_release(&process->in);
}

/* --- a task's own --------------------------------------------------------------------- */

static bool is_there(const cJSON *item, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(item, name);
}

static void refuse_own_settings(const struct keys_input *in, const cJSON *item, const char *pointer)
{
    for (const struct key *key = pool_keys; key->name; key++)
        if (is_there(item, key->name))
            faults_add_member(in->faults, yaml_line(in->doc, item), pointer, span_of(key->name),
                              "belongs to the pool: the task names one");
}

void process_check(const struct keys_input *in, const cJSON *item, const char *pointer, struct task *task)
{
    struct process_task *process = task->definition;
    int before = in->faults->total;
    if (process->pool) {
        refuse_own_settings(in, item, pointer);
        return;
    }
    if (!is_there(item, "run") && !is_there(item, "pool"))
        faults_add(in->faults, yaml_line(in->doc, item), pointer, "`run` is missing, or `pool`");
    pool_settings_check(in, item, pointer, &process->in.own);
    if (in->faults->total > before)
        return;
    process->in.of = pool_definition_new(task->name, &process->in.own);
}

/* --- those that are shared -------------------------------------------------------------- */

static struct pool_definition *read_pool(const struct keys_input *in, const cJSON *item, const char *pointer)
{
    struct pool_definition *of = pool_definition_new(item->string, &(struct pool_settings){0});
    if (!task_name_is_good(item->string))
        faults_add(in->faults, yaml_line(in->doc, item), pointer,
                   "`%s` is no name of a pool: 1 to %d of A-Z a-z 0-9 . _ -, a letter or digit first",
                   item->string, TASK_NAME_MAX);
    if (!cJSON_IsObject(item)) {
        faults_add(in->faults, yaml_line(in->doc, item), pointer, "must be a mapping with at least a `run`");
        return of;
    }
    keys_set_defaults(pool_keys, &of->is, in->folder);
    keys_read(in, item, pointer, (struct key_section[]){{.keys = pool_keys, .target = &of->is}}, 1);
    pool_settings_check(in, item, pointer, &of->is);
    return of;
}

/* Its children would have the names of that task's. */
static void refuse_names_of_tasks(const struct keys_input *in, const cJSON *item, const char *pointer,
                                  struct task *const *tasks, int count)
{
    for (int i = 0; i < count; i++)
        if (!process_task(tasks[i])->pool && strcmp(tasks[i]->name, item->string) == 0)
            faults_add(in->faults, yaml_line(in->doc, item), pointer, "a task of that name has a pool of its own");
}

static void give_to_tasks(struct pool_definition *of, struct task *const *tasks, int count)
{
    for (int i = 0; i < count; i++) {
        struct process_task *process = tasks[i]->definition;
        if (!process->pool || strcmp(process->pool, of->name) != 0)
            continue;
        process->in.of = of;
        atomic_fetch_add(&of->tasks, 1);
    }
}

static void share_pool(const struct keys_input *in, const cJSON *item, struct task *const *tasks, int count)
{
    char *pointer = keys_pointer("/pools", item->string);
    struct pool_definition *of = read_pool(in, item, pointer);
    refuse_names_of_tasks(in, item, pointer, tasks, count);
    give_to_tasks(of, tasks, count);
    pool_definition_give_up(of); /* who reads it is no task */
    free(pointer);
}

void process_share(const struct keys_input *in, const cJSON *pools, struct task *const *tasks, int count)
{
    if (cJSON_IsObject(pools))
        for (const cJSON *item = pools->child; item; item = item->next)
            share_pool(in, item, tasks, count);
    else if (pools && !cJSON_IsNull(pools))
        faults_add(in->faults, yaml_line(in->doc, pools), "/pools", "must be a mapping of names to pools");
    for (int i = 0; i < count; i++) {
        const struct process_task *process = process_task(tasks[i]);
        if (!process->pool || process->in.of)
            continue;
        char *pointer = keys_pointer("/tasks", tasks[i]->name);
        faults_add_member(in->faults, tasks[i]->line, pointer, SPAN("pool"), "there is no pool `%s` under `pools`",
                          process->pool);
        free(pointer);
    }
}
