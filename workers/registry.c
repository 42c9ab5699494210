#include "workers/tasks/task.h"
#include "workers/tasks/task_keys.h"

#include <stdatomic.h>
#include <stdlib.h>

#define uthash_malloc(size) xmalloc(size)
#include <uthash.h>

struct entry {
    struct task task;
    UT_hash_handle hh;
};

struct registry {
    atomic_int references;
    int count;
    struct entry *by_name;
    struct entry *entries; /* in the order of the configuration */
};

static void registry_free(struct registry *registry)
{
    HASH_CLEAR(hh, registry->by_name);
    for (int i = 0; i < registry->count; i++)
        task_release(&registry->entries[i].task);
    free(registry->entries);
    free(registry);
}

static void read_tasks(const struct keys_input *in, const cJSON *tasks, const struct task_options *defaults,
                       struct registry *registry)
{
    registry->entries = xcalloc((size_t)cJSON_GetArraySize(tasks) + 1, sizeof(*registry->entries));
    for (const cJSON *item = tasks->child; item; item = item->next) {
        struct entry *entry = &registry->entries[registry->count++];
        char *pointer = keys_pointer("/tasks", item->string);
        task_read(in, item, pointer, defaults, &entry->task);
        free(pointer);
        HASH_ADD_KEYPTR(hh, registry->by_name, entry->task.name, strlen(entry->task.name), entry);
    }
}

struct registry *registry_parse(const struct yaml *doc, const cJSON *tasks, const cJSON *defaults,
                                const char *folder, struct faults *faults)
{
    struct keys_input in = {doc, folder, faults};
    int before = faults->total;
    struct task_options options;
    struct registry *registry = xcalloc(1, sizeof(*registry));
    atomic_init(&registry->references, 1);

    task_options_init(&options);
    if (defaults)
        task_options_read(&in, defaults, "/defaults", &options);
    if (cJSON_IsObject(tasks))
        read_tasks(&in, tasks, &options, registry);
    else if (tasks && !cJSON_IsNull(tasks))
        faults_add(faults, yaml_line(doc, tasks), "/tasks", "must be a mapping of names to tasks");
    task_options_release(&options);

    if (faults->total == before)
        return registry;
    registry_free(registry);
    return NULL;
}

struct registry *registry_ref(struct registry *registry)
{
    atomic_fetch_add_explicit(&registry->references, 1, memory_order_relaxed);
    return registry;
}

void registry_unref(struct registry *registry)
{
    if (registry && atomic_fetch_sub_explicit(&registry->references, 1, memory_order_acq_rel) == 1)
        registry_free(registry);
}

struct task *registry_find(const struct registry *registry, struct span name)
{
    struct entry *entry = NULL;
    if (name.len > 0 && name.len <= TASK_NAME_MAX)
        HASH_FIND(hh, registry->by_name, name.p, name.len, entry);
    return entry ? &entry->task : NULL;
}

int registry_count(const struct registry *registry)
{
    return registry->count;
}

struct task *registry_at(const struct registry *registry, int index)
{
    return &registry->entries[index].task;
}

void task_add_options(struct buf *out, const struct task *task)
{
    buf_addc(out, '{');
    keys_add_json(out, task_option_keys, &task->options);
    buf_addc(out, '}');
}
