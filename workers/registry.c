#include "workers/registry.h"

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
    struct policy callbacks;
};

static void definition_free(const struct kind *kind, void *definition)
{
    if (!definition)
        return;
    if (kind->release)
        kind->release(definition);
    keys_release(kind->keys, definition);
    free(definition);
}

static void registry_free(struct registry *registry)
{
    HASH_CLEAR(hh, registry->by_name);
    for (int i = 0; i < registry->count; i++) {
        struct task *task = &registry->entries[i].task;
        definition_free(task->kind, task->definition);
        task_release(task);
    }
    free(registry->entries);
    policy_release(&registry->callbacks);
    free(registry);
}

/* --- the key `kind`, made of the table ---------------------------------------------- */

/* What one reading of a configuration needs. */
struct reading {
    struct keys_input in;
    const struct kind *const *table;
    int kind_count;
    const char **words; /* the kinds' names, NULL-terminated */
    struct buf help;
    struct key kind_keys[2];
    struct task_options defaults;
};

static bool has_key(const struct kind *kind, const char *key)
{
    return !key || keys_find(kind->keys, key);
}

/* Appends "native, command or other": the kinds that have the key, or all of
 * them if it is NULL. */
static void add_names(struct buf *out, const struct reading *reading, const char *key)
{
    int last = reading->kind_count - 1;
    while (last > 0 && !has_key(reading->table[last], key))
        last--;
    const char *comma = "";
    for (int i = 0; i <= last; i++) {
        if (!has_key(reading->table[i], key))
            continue;
        buf_addf(out, "%s%s", *comma && i == last ? " or " : comma, reading->table[i]->name);
        comma = ", ";
    }
}

static void reading_init(struct reading *reading, const struct kind *const *table)
{
    *reading = (struct reading){.table = table};
    while (table[reading->kind_count])
        reading->kind_count++;
    reading->words = xcalloc((size_t)reading->kind_count + 1, sizeof(*reading->words));
    for (int i = 0; i < reading->kind_count; i++)
        reading->words[i] = table[i]->name;
    buf_addl(&reading->help, "how it runs: ");
    add_names(&reading->help, reading, NULL);
    reading->kind_keys[0] = (struct key){
        .name = "kind",
        .type = KEY_WORD,
        .words = reading->words,
        .required = true,
        .example = reading->words[reading->kind_count - 1],
        .help = buf_cstr(&reading->help),
    };
    task_options_init(&reading->defaults);
}

static void reading_release(struct reading *reading)
{
    free(reading->words);
    buf_release(&reading->help);
    task_options_release(&reading->defaults);
}

void registry_add_keys(struct buf *out, const struct kind *const *table, int indent)
{
    struct reading reading;
    reading_init(&reading, table);
    keys_add_yaml(out, reading.kind_keys, indent, true);
    keys_add_yaml(out, task_keys, indent, true);
    for (; *table; table++)
        keys_add_yaml(out, (*table)->keys, indent, true);
    reading_release(&reading);
}

/* --- one task ------------------------------------------------------------------------ */

/* The kind that a task names; NULL if that is missing or wrong. */
static const struct kind *kind_of(const struct reading *reading, const cJSON *item)
{
    const cJSON *word = cJSON_GetObjectItemCaseSensitive(item, "kind");
    for (int i = 0; i < reading->kind_count; i++)
        if (cJSON_IsString(word) && strcmp(word->valuestring, reading->words[i]) == 0)
            return reading->table[i];
    return NULL;
}

static void refuse(const char *name, const void *reading, struct reason *why)
{
    struct buf owners = {0};
    add_names(&owners, reading, name);
    reason_set(why, "only tasks of kind %s have it", buf_cstr(&owners));
    buf_release(&owners);
}

/* A kind's own keys come before those of the others, which may have some of the
 * same name and are refused otherwise. A kind that is missing or wrong is one
 * fault; then the keys of all kinds pass, into definitions that are dropped. */
static void read_keys(struct reading *reading, const cJSON *item, const char *pointer, struct task *task)
{
    enum { BEFORE = 3 };
    int word, count = BEFORE;
    struct key_section *sections = xcalloc(BEFORE + (size_t)reading->kind_count, sizeof(*sections));
    sections[0] = (struct key_section){.keys = reading->kind_keys, .target = &word};
    sections[1] = (struct key_section){.keys = task_keys, .target = task};
    sections[2] = (struct key_section){.keys = task_option_keys, .target = &task->options};
    if (task->kind)
        sections[count++] = (struct key_section){.keys = task->kind->keys, .target = task->definition};
    for (int i = 0; i < reading->kind_count; i++) {
        const struct kind *kind = reading->table[i];
        if (!task->kind)
            sections[count++] = (struct key_section){
                .keys = kind->keys, .target = xcalloc(1, kind->definition_bytes), .lenient = true};
        else if (kind != task->kind)
            sections[count++] = (struct key_section){.keys = kind->keys, .target = reading, .refuse = refuse};
    }
    keys_read(&reading->in, item, pointer, sections, count);
    for (int i = 0; i < reading->kind_count && !task->kind; i++)
        definition_free(reading->table[i], sections[BEFORE + i].target);
    free(sections);
}

static void read_task(struct reading *reading, const cJSON *item, const char *pointer, struct task *task)
{
    const struct keys_input *in = &reading->in;
    *task = (struct task){
        .name = xstrdup(item->string),
        .line = yaml_line(in->doc, item),
        .log_level = LOG_LEVEL_INFO,
        .log_arguments = LOG_ARGUMENTS_HIDDEN,
    };
    task_options_copy(&task->options, &reading->defaults);

    if (!task_name_is_good(item->string))
        faults_add(in->faults, yaml_line(in->doc, item), pointer,
                   "`%s` is no task name: 1 to %d of A-Z a-z 0-9 . _ -, a letter or digit first", item->string,
                   TASK_NAME_MAX);
    if (!cJSON_IsObject(item)) {
        faults_add(in->faults, yaml_line(in->doc, item), pointer, "must be a mapping with at least a `kind`");
        return;
    }
    task->kind = kind_of(reading, item);
    if (task->kind) {
        task->definition = xcalloc(1, task->kind->definition_bytes);
        keys_set_defaults(task->kind->keys, task->definition, in->folder);
    }
    read_keys(reading, item, pointer, task);
    task_options_settle(in, item, pointer, &task->options);
    if (task->kind && task->kind->check)
        task->kind->check(in, item, pointer, task);
}

/* --- all of them --------------------------------------------------------------------- */

static void read_tasks(struct reading *reading, const cJSON *tasks, struct registry *registry)
{
    registry->entries = xcalloc((size_t)cJSON_GetArraySize(tasks) + 1, sizeof(*registry->entries));
    for (const cJSON *item = tasks->child; item; item = item->next) {
        struct entry *entry = &registry->entries[registry->count++];
        char *pointer = keys_pointer("/tasks", item->string);
        read_task(reading, item, pointer, &entry->task);
        free(pointer);
        HASH_ADD_KEYPTR(hh, registry->by_name, entry->task.name, strlen(entry->task.name), entry);
    }
}

/* Each kind is given its own, and what they may share. */
static void share_pools(const struct reading *reading, const cJSON *pools, const struct registry *registry)
{
    struct task **own = xcalloc((size_t)registry->count + 1, sizeof *own);
    for (int k = 0; k < reading->kind_count; k++) {
        const struct kind *kind = reading->table[k];
        int count = 0;
        for (int i = 0; i < registry->count && kind->share; i++)
            if (registry->entries[i].task.kind == kind)
                own[count++] = &registry->entries[i].task;
        if (kind->share)
            kind->share(&reading->in, pools, own, count);
    }
    free(own);
}

struct registry *registry_parse(const struct kind *const *table, const struct registry_source *source,
                                struct faults *faults)
{
    const cJSON *tasks = source->tasks;
    int before = faults->total;
    struct reading reading;
    struct registry *registry = xcalloc(1, sizeof(*registry));
    atomic_init(&registry->references, 1);

    reading_init(&reading, table);
    reading.in = (struct keys_input){source->doc, source->folder, faults};
    if (source->defaults)
        task_options_read(&reading.in, source->defaults, "/defaults", &reading.defaults);
    if (cJSON_IsObject(tasks))
        read_tasks(&reading, tasks, registry);
    else if (tasks && !cJSON_IsNull(tasks))
        faults_add(faults, yaml_line(source->doc, tasks), "/tasks", "must be a mapping of names to tasks");
    share_pools(&reading, source->pools, registry);
    policy_read(&reading.in, source->callbacks, &registry->callbacks);
    reading_release(&reading);

    if (faults->total == before)
        return registry;
    registry_free(registry);
    return NULL;
}

void registry_load(const struct registry *registry, struct faults *faults)
{
    for (int i = 0; i < registry->count; i++) {
        struct task *task = &registry->entries[i].task;
        if (task->kind->load)
            task->kind->load(task, faults);
    }
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

const struct policy *registry_callbacks(const struct registry *registry)
{
    return &registry->callbacks;
}

int registry_count(const struct registry *registry)
{
    return registry->count;
}

struct task *registry_at(const struct registry *registry, int index)
{
    return &registry->entries[index].task;
}
