#include "workers/schedule_list.h"

#include "workers/schedule_definition.h"

#include <stdatomic.h>
#include <stdlib.h>

struct schedule_list {
    atomic_int references;
    struct schedule_entry *items;
    int count, cap;
};

static void add(struct schedule_list *list, const char *name, struct buf *definition)
{
    if (list->count == list->cap) {
        list->cap = list->cap ? 2 * list->cap : 16;
        list->items = xrealloc(list->items, (size_t)list->cap * sizeof *list->items);
    }
    list->items[list->count++] = (struct schedule_entry){xstrdup(name), *definition};
    *definition = (struct buf){0};
}

/* The line of the member that a pointer begins with; of the whole, if there is none. */
static int line_of(const struct yaml *doc, const cJSON *item, const char *pointer)
{
    for (const cJSON *member = item->child; member; member = member->next) {
        struct buf begins = {0};
        pointer_add(&begins, span_of(member->string ? member->string : ""));
        bool is = strncmp(pointer, buf_cstr(&begins), begins.len) == 0 &&
                  (pointer[begins.len] == '\0' || pointer[begins.len] == '/');
        buf_release(&begins);
        if (is)
            return yaml_line(doc, member);
    }
    return yaml_line(doc, item);
}

static void add_faults(const struct yaml *doc, const cJSON *item, const struct faults *found,
                       struct faults *faults)
{
    for (int i = 0; i < found->count; i++) {
        struct buf pointer = {0};
        buf_adds(&pointer, "/schedules");
        pointer_add(&pointer, span_of(item->string));
        buf_adds(&pointer, found->items[i].pointer);
        faults_add(faults, line_of(doc, item, found->items[i].pointer), buf_cstr(&pointer), "%s",
                   found->items[i].detail);
        buf_release(&pointer);
    }
}

static void read_one(struct schedule_list *list, const struct yaml *doc, const cJSON *item,
                     const struct registry *registry, struct faults *faults)
{
    struct faults found = {0};
    struct buf text = {0};
    struct schedule_definition definition = {0};
    yaml_add_json(&text, item);
    if (!schedule_name_is_good(span_of(item->string)))
        faults_add(
            &found, 0, "",
            "a schedule's name has 1 to %d of A-Z a-z 0-9 . _ -, a letter or digit first, and is not `preview`",
            SCHEDULE_NAME_MAX);
    else if (schedule_read(registry, buf_span(&text), &definition, &found) == OK)
        add(list, item->string, &definition.text);
    add_faults(doc, item, &found, faults);
    schedule_release(&definition);
    faults_release(&found);
    buf_release(&text);
}

struct schedule_list *schedule_list_parse(const struct yaml *doc, const cJSON *mapping,
                                          const struct registry *registry, struct faults *faults)
{
    struct schedule_list *list = xcalloc(1, sizeof *list);
    atomic_init(&list->references, 1);
    if (!mapping || cJSON_IsNull(mapping))
        return list;
    if (!cJSON_IsObject(mapping)) {
        faults_add(faults, yaml_line(doc, mapping), "/schedules",
                   "must be a mapping: NAME: {cron: ..., task: ...}");
        return list;
    }
    if (cJSON_GetArraySize(mapping) > SCHEDULES_MAX) {
        faults_add(faults, yaml_line(doc, mapping), "/schedules", "there are more than %d", SCHEDULES_MAX);
        return list;
    }
    for (const cJSON *item = mapping->child; item; item = item->next)
        read_one(list, doc, item, registry, faults);
    return list;
}

struct schedule_list *schedule_list_ref(struct schedule_list *list)
{
    atomic_fetch_add(&list->references, 1);
    return list;
}

void schedule_list_unref(struct schedule_list *list)
{
    if (!list || atomic_fetch_sub(&list->references, 1) > 1)
        return;
    for (int i = 0; i < list->count; i++) {
        free(list->items[i].name);
        buf_release(&list->items[i].definition);
    }
    free(list->items);
    free(list);
}

int schedule_list_count(const struct schedule_list *list)
{
    return list->count;
}

const struct schedule_entry *schedule_list_at(const struct schedule_list *list, int index)
{
    return &list->items[index];
}
