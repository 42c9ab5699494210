#include "server/resources/selection.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/nearest.h"
#include "base/keys.h"
#include "server/resources/context.h"
#include "workers/particulars.h"
#include "workers/tasks/argument.h"

#include <stdlib.h>

enum { TEXT_MAX = 1024, ARGUMENT_VALUE_MAX = 4096 };

void selection_init(struct selection *selection, const struct request *rq)
{
    *selection = (struct selection){
        .registry = rq->config->registry,
        .store = rq->context->store,
        .key_owner = rq->token ? span_of(rq->token->name) : SPAN(""),
    };
}

/* --- one condition ----------------------------------------------------------------- */

static bool set_status(struct selection *selection, struct span value, struct reason *why)
{
    enum status status;
    if (status_parse(value, &status)) {
        selection->filter.statuses |= 1u << status;
        return true;
    }
    if (memchr(value.p, ',', value.len)) {
        reason_set(why, "is one status; give the parameter several times: status=queued&status=running");
        return false;
    }
    struct nearest near = nearest_to(value);
    for (int k = 0; (status = status_at(k)); k++)
        nearest_try(&near, status_name(status));
    reason_set(why,
               "must be held, scheduled, queued, running, waiting, succeeded, failed or cancelled" NEAREST_FORMAT,
               NEAREST_ARGS(near));
    return false;
}

/* -1: no invocation can be of it. */
static int find_gone(struct store *store, struct span name)
{
    int id = store_task_find(store, name);
    return id ? id : -1;
}

static bool set_text(struct span *out, struct span value, struct reason *why)
{
    if (value.len == 0 || utf8_length(value) > TEXT_MAX) {
        reason_set(why, "must have 1 to %d characters", TEXT_MAX);
        return false;
    }
    *out = value;
    return true;
}

static bool set_task(struct selection *selection, struct span value, struct reason *why)
{
    struct span name;
    if (!set_text(&name, value, why))
        return false;
    const struct task *task = registry_find(selection->registry, value);
    int id = task ? task->id : 0;
    selection->filter.task = id ? id : find_gone(selection->store, value);
    return true;
}

static bool set_worker(struct selection *selection, struct span value, struct reason *why)
{
    return set_text(&selection->filter.worker, value, why);
}

static bool set_error(struct selection *selection, struct span value, struct reason *why)
{
    return set_text(&selection->filter.error, value, why);
}

static bool set_key(struct selection *selection, struct span value, struct reason *why)
{
    selection->filter.key_owner = selection->key_owner;
    return set_text(&selection->filter.key, value, why);
}

/* One that is not there has no children. */
static bool set_parent(struct selection *selection, struct span value, struct reason *why)
{
    if (!id_parse(value, &selection->filter.parent)) {
        reason_set(why, "must be the id of an invocation");
        return false;
    }
    if (!selection->filter.parent)
        selection->filter.parent = -1; /* 0 is any */
    return true;
}

/* One that is not there has no members. */
static bool set_group(struct selection *selection, struct span value, struct reason *why)
{
    if (!id_parse(value, &selection->filter.group)) {
        reason_set(why, "must be the id of a group");
        return false;
    }
    if (!selection->filter.group)
        selection->filter.group = -1; /* 0 is any */
    return true;
}

/* By its id or its name. */
static bool set_loop(struct selection *selection, struct span value, struct reason *why)
{
    if (!id_parse(value, &selection->filter.loop.id))
        selection->filter.loop.id = 0;
    return set_text(&selection->filter.loop.name, value, why);
}

static bool set_time(int64_t *out, struct span value, struct reason *why)
{
    int64_t at_ms;
    if (!time_parse(value, &at_ms)) {
        reason_set(why, "must be a time such as 2026-01-31T12:00:00Z (RFC 3339)%s",
                   memchr(value.p, ' ', value.len) ? "; in a query the + of an offset is written %2B" : "");
        return false;
    }
    *out = at_ms > 0 ? at_ms : 1; /* 0 is any time */
    return true;
}

static bool set_after(struct selection *selection, struct span value, struct reason *why)
{
    return set_time(&selection->filter.created_after, value, why);
}

static bool set_before(struct selection *selection, struct span value, struct reason *why)
{
    return set_time(&selection->filter.created_before, value, why);
}

static const struct condition {
    const char *name; /* NULL ends the table */
    bool (*set)(struct selection *selection, struct span value, struct reason *why);
} conditions[] = {
    {"status", set_status},         {"task", set_task}, {"worker", set_worker},
    {"error", set_error},           {"key", set_key},   {"parent", set_parent},
    {"group", set_group},           {"loop", set_loop}, {"created_after", set_after},
    {"created_before", set_before}, {NULL, NULL},
};

static bool set_label(struct selection *selection, struct span name, struct span value, struct reason *why)
{
    struct filter *filter = &selection->filter;
    if (filter->label_count == LABELS_MAX) {
        reason_set(why, "more than %d labels", LABELS_MAX);
        return false;
    }
    filter->label_names[filter->label_count] = name;
    filter->label_values[filter->label_count++] = value;
    return true;
}

static bool has_args(const struct filter *filter, int task, struct span args)
{
    return particulars_match(filter->args_context, filter, task, args);
}

static bool set_argument(struct selection *selection, struct span path, struct span value, struct reason *why)
{
    struct filter *filter = &selection->filter;
    if (filter->arg_count == FILTER_ARGUMENTS_MAX) {
        reason_set(why, "more than %d arguments", FILTER_ARGUMENTS_MAX);
        return false;
    }
    if (!argument_path_is_good(path)) {
        reason_set(why, "the name of an argument has 1 to %d characters, and no NUL", ARGUMENT_PATH_MAX);
        return false;
    }
    filter->args_match = has_args;
    filter->args_context = selection->registry;
    filter->arg_paths[filter->arg_count] = path;
    filter->arg_values[filter->arg_count++] = value.p ? value : SPAN("");
    return true;
}

static bool has_index(const struct task *task, struct span path)
{
    for (char **each = task->options.index; each && *each; each++)
        if (span_is(path, *each))
            return true;
    return false;
}

void selection_settle(struct selection *selection)
{
    struct filter *filter = &selection->filter;
    for (int t = 0; filter->arg_count && filter->task > 0 && t < registry_count(selection->registry); t++) {
        const struct task *task = registry_at(selection->registry, t);
        for (int i = 0; task->id == filter->task && i < filter->arg_count && !filter->arg_indexed; i++)
            if (has_index(task, filter->arg_paths[i]))
                filter->arg_indexed = i + 1;
    }
}

/* NAME:VALUE, for a query that has one name for all labels. */
static bool set_pair(struct selection *selection, struct span pair, struct reason *why)
{
    const char *colon = memchr(pair.p, ':', pair.len);
    if (!colon || colon == pair.p) {
        reason_set(why, "must be NAME:VALUE, such as label=order:1017");
        return false;
    }
    struct span name = {pair.p, (size_t)(colon - pair.p)};
    return set_label(selection, name, (struct span){colon + 1, pair.len - name.len - 1}, why);
}

/* --- from a body ---------------------------------------------------------------------- */

static void read_one(const struct keys_json *in, const struct keys_place *at, const struct condition *condition,
                     struct span value, struct selection *selection)
{
    struct span text;
    struct reason why;
    if (keys_json_text(in, at, value, 0, TEXT_MAX, &text) && !condition->set(selection, text, &why))
        keys_fault(in, at, "%s", why.text);
}

static void read_condition(const struct keys_json *in, const struct keys_place *at, struct span value,
                           void *target)
{
    for (const struct condition *c = conditions; c->name; c++)
        if (json_key_is(at->key, c->name))
            read_one(in, at, c, value, target);
}

static void read_statuses(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    struct keys_place place = {at, {NULL, 0}, 0};
    struct span item;
    if (json_type(value) != JSON_ARRAY) {
        read_one(in, at, &conditions[0], value, target);
        return;
    }
    struct json_iter it = json_iter(value);
    for (; json_element(&it, &item); place.index++)
        read_one(in, &place, &conditions[0], item, target);
    if (place.index == 0)
        keys_fault(in, at, "must name a status; leave it out for any");
}

static void read_labels(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    struct selection *selection = target;
    struct span key, item;
    if (json_type(value) != JSON_OBJECT) {
        keys_fault(in, at, "must be an object of strings");
        return;
    }
    struct json_iter it = json_iter(value);
    while (json_member(&it, &key, &item)) {
        struct keys_place place = {at, key, 0};
        struct span text, name = key;
        struct reason why;
        if (memchr(key.p, '\\', key.len)) {
            size_t start = in->arena->len;
            json_unescape(key, in->arena);
            name = (struct span){in->arena->data + start, in->arena->len - start};
        }
        if (name.len == 0 || utf8_length(name) > LABEL_NAME_MAX || memchr(name.p, '\0', name.len))
            keys_fault(in, &place, "a label's name has 1 to %d characters, and no NUL", LABEL_NAME_MAX);
        else if (keys_json_text(in, &place, item, 0, LABEL_VALUE_MAX, &text) &&
                 !set_label(selection, name, text, &why)) {
            keys_fault(in, at, "%s", why.text);
            return;
        }
    }
}

/* A scalar's JSON, a string without its quotes. */
static bool read_scalar(const struct keys_json *in, const struct keys_place *at, struct span item,
                        struct span *out)
{
    *out = item;
    if (json_type(item) == JSON_STRING)
        return keys_json_text(in, at, item, 0, ARGUMENT_VALUE_MAX, out);
    if (json_type(item) != JSON_OBJECT && json_type(item) != JSON_ARRAY)
        return true;
    keys_fault(in, at, "must be a string, a number, true, false or null");
    return false;
}

static void read_args(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    struct span key, item, text;
    struct reason why;
    if (json_type(value) != JSON_OBJECT) {
        keys_fault(in, at, "must be an object of scalars");
        return;
    }
    struct json_iter it = json_iter(value);
    while (json_member(&it, &key, &item)) {
        struct keys_place place = {at, key, 0};
        struct span name = key;
        if (memchr(key.p, '\\', key.len)) {
            size_t start = in->arena->len;
            json_unescape(key, in->arena);
            name = (struct span){in->arena->data + start, in->arena->len - start};
        }
        if (read_scalar(in, &place, item, &text) && !set_argument(target, name, text, &why)) {
            keys_fault(in, &place, "%s", why.text);
            return;
        }
    }
}

void selection_read(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    static const struct key filter_fields[] = {
        {.name = "status", .type = KEY_OTHER, .read_json = read_statuses},
        {.name = "task", .type = KEY_OTHER, .read_json = read_condition},
        {.name = "worker", .type = KEY_OTHER, .read_json = read_condition},
        {.name = "error", .type = KEY_OTHER, .read_json = read_condition},
        {.name = "key", .type = KEY_OTHER, .read_json = read_condition},
        {.name = "parent", .type = KEY_OTHER, .read_json = read_condition},
        {.name = "loop", .type = KEY_OTHER, .read_json = read_condition},
        {.name = "created_after", .type = KEY_OTHER, .read_json = read_condition},
        {.name = "created_before", .type = KEY_OTHER, .read_json = read_condition},
        {.name = "labels", .type = KEY_OTHER, .read_json = read_labels},
        {.name = "args", .type = KEY_OTHER, .read_json = read_args},
        {0},
    };
    keys_read_json(in, at, value, filter_fields, target);
    selection_settle(target);
}

/* --- from a query ----------------------------------------------------------------------- */

static bool read_param(struct selection *selection, struct span name, struct span value, struct reason *why)
{
    static const struct span prefix = {"label.", 6};
    if (name.len > prefix.len && memcmp(name.p, prefix.p, prefix.len) == 0)
        return set_label(selection, (struct span){name.p + prefix.len, name.len - prefix.len}, value, why);
    if (name.len > 4 && memcmp(name.p, "arg.", 4) == 0)
        return set_argument(selection, (struct span){name.p + 4, name.len - 4}, value, why);
    if (span_is(name, "label"))
        return set_pair(selection, value, why);
    for (const struct condition *c = conditions; c->name; c++)
        if (span_is(name, c->name))
            return c->set(selection, value, why);
    return true;
}

void selection_read_query(struct selection *selection, const struct request *rq, struct faults *faults)
{
    for (int i = 0; i < rq->query_count; i++) {
        struct reason why;
        if (read_param(selection, rq->query[i].name, rq->query[i].value, &why))
            continue;
        char *pointer = span_dup(rq->query[i].name);
        faults_add(faults, 0, pointer, "%s", why.text);
        free(pointer);
    }
    selection_settle(selection);
}
