/* The group's own fields. What it shares with a submission, the reader of that reads. */
#include "base/json.h"
#include "base/nearest.h"
#include "workers/compose.h"
#include "workers/group_reading.h"

#include <stdio.h>

enum own { OWN_ARGS, OWN_INVOCATIONS, OWN_COMMON_ARGS, OWN_MODE, OWN_OPEN, OWN_FAIL_FAST, OWN_COUNT };

static const char *const own_names[OWN_COUNT] = {
    [OWN_ARGS] = "args", [OWN_INVOCATIONS] = "invocations", [OWN_COMMON_ARGS] = "common_args", [OWN_MODE] = "mode",
    [OWN_OPEN] = "open", [OWN_FAIL_FAST] = "fail_fast",
};

/* Of a submission's fields those that a group without a task has, too. */
static const char *const shared_names[] = {"labels",   "retention", "key",        "step",
                                           "detached", "hold",      "release_by", "callback"};
enum { SHARED_COUNT = sizeof shared_names / sizeof *shared_names };

struct head {
    struct group_reading *reading;
    struct span own[OWN_COUNT];
    bool has_task;
};

static bool is_shared(struct span key)
{
    for (int i = 0; i < SHARED_COUNT; i++)
        if (json_key_is(key, shared_names[i]))
            return true;
    return false;
}

static void refuse_field(struct head *head, struct span key)
{
    struct nearest near = nearest_to(key);
    for (int i = 0; i < OWN_COUNT; i++)
        nearest_try(&near, own_names[i]);
    for (int i = 0; i < SHARED_COUNT; i++)
        nearest_try(&near, shared_names[i]);
    nearest_try(&near, "task");
    faults_add_member(&head->reading->read->faults, 0, "", key, "unknown field" NEAREST_FORMAT,
                      NEAREST_ARGS(near));
}

static bool take_own(void *of, struct span key, struct span value)
{
    struct head *head = of;
    for (int i = 0; i < OWN_COUNT; i++)
        if (json_key_is(key, own_names[i])) {
            if (json_type(value) != JSON_NULL)
                head->own[i] = value;
            return true;
        }
    if (json_key_is(key, "group") || (!head->has_task && !json_key_is(key, "task") && !is_shared(key))) {
        refuse_field(head, key);
        return true;
    }
    return false;
}

static bool read_truth(struct head *head, enum own field)
{
    struct span value = head->own[field];
    char pointer[32];
    if (!value.p || json_type(value) == JSON_FALSE)
        return false;
    if (json_type(value) == JSON_TRUE)
        return true;
    snprintf(pointer, sizeof pointer, "/%s", own_names[field]);
    faults_add(&head->reading->read->faults, 0, pointer, "must be true or false");
    return false;
}

static void read_mode(struct head *head, struct group_submission *group)
{
    struct span value = head->own[OWN_MODE];
    group->mode = GROUP_PARALLEL;
    if (!value.p)
        return;
    head->reading->mode_given = true;
    struct span text = {value.p + 1, value.len - 2};
    struct nearest near = nearest_to(text);
    for (enum group_mode mode = GROUP_PARALLEL; mode <= GROUP_GRAPH; mode++) {
        if (json_type(value) == JSON_STRING && span_is(text, group_mode_name(mode))) {
            group->mode = mode;
            return;
        }
        nearest_try(&near, group_mode_name(mode));
    }
    faults_add(&head->reading->read->faults, 0, "/mode", "must be parallel, chain or graph" NEAREST_FORMAT,
               NEAREST_ARGS(near));
}

static void read_common_args(struct head *head)
{
    struct group_reading *reading = head->reading;
    struct group_read *read = reading->read;
    struct span common = head->own[OWN_COMMON_ARGS];
    if (!common.p || compose_check_common(common, "/common_args", &read->faults) != OK)
        return;
    read->group.common_args = common;
    compose_add_sketch(&reading->common_args, common);
    reading->context.common_args = buf_span(&reading->common_args);
    group_shared_read(reading, common);
    if (reading->task)
        group_shared_check_task(reading, reading->task);
}

/* What excludes each other. */
static void check_own(struct head *head)
{
    struct group_read *read = head->reading->read;
    const struct group_submission *group = &read->group;
    if (group->open && group->mode != GROUP_PARALLEL)
        faults_add(&read->faults, 0, "/open", "only a parallel group can be open");
    if (head->has_task && head->own[OWN_INVOCATIONS].p)
        faults_add(&read->faults, 0, "/invocations", "task and invocations exclude each other");
    if (!head->has_task && head->own[OWN_ARGS].p)
        faults_add(&read->faults, 0, "/args", "needs a task, whose arguments they are");
}

/* What a submission's reader has found there is the group's, or all members'. */
static void settle_common(struct group_reading *reading)
{
    struct group_submission *group = &reading->read->group;
    struct submission *common = &reading->common;
    group->hold = common->hold;
    group->release_by = common->release_by;
    group->retention_ms = common->retention_ms;
    group->labels = common->labels;
    group->parent = common->parent;
    group->parent_lease = common->parent_lease;
    group->step = common->step;
    group->detached = common->detached;
    group->key_owner = common->key_owner;
    group->key = common->key;
    group->callback = common->callback;
    group->callback_place = common->callback_place;
    common->hold = common->detached = false;
    common->release_by = 0;
    common->parent = common->parent_lease = 0;
    common->step = common->key = common->callback = common->callback_place = (struct span){NULL, 0};
}

const struct task *group_reading_task(struct group_reading *reading, struct span name)
{
    if (!name.p || json_type(name) != JSON_STRING)
        return NULL;
    reading->scratch.len = 0;
    json_unescape(name, &reading->scratch);
    return registry_find(reading->context.registry, buf_span(&reading->scratch));
}

/* Of a document, where its members stand. */
static void find_members(struct head *head)
{
    struct group_reading *reading = head->reading;
    struct group_read *read = reading->read;
    enum own field = head->has_task ? OWN_ARGS : OWN_INVOCATIONS;
    struct span members = head->own[field];
    reading->it = (struct json_iter){NULL, NULL};
    if (reading->lines && members.p)
        faults_add(&read->faults, 0, head->has_task ? "/args" : "/invocations",
                   "stand in the lines after this one");
    if (reading->lines)
        return;
    if (members.p && json_type(members) == JSON_ARRAY)
        reading->it = json_iter(members);
    else if (members.p)
        faults_add(&read->faults, 0, head->has_task ? "/args" : "/invocations",
                   head->has_task ? "must be an array, the arguments of each member" : "must be an array");
    else if (head->has_task && !read->group.open)
        faults_add(&read->faults, 0, "/args", "is missing: an array, the arguments of each member");
    else if (!head->has_task && !read->group.open)
        faults_add(&read->faults, 0, "", "needs a task and args, or invocations");
}

void group_head_read(struct group_reading *reading, struct span text)
{
    struct group_read *read = reading->read;
    struct head head = {.reading = reading};
    struct submission_context *context = &reading->context;
    text = json_trim(text);
    if (json_type(text) != JSON_OBJECT) {
        faults_add(&read->faults, 0, "", "a group is an object: {\"task\": NAME, \"args\": [...]}");
        return;
    }
    struct span name = json_get(text, "task");
    head.has_task = name.p && json_type(name) != JSON_NULL;
    if (head.has_task)
        reading->task = group_reading_task(reading, name);
    reading->read->one_task = head.has_task;
    context->beside = take_own;
    context->of = &head;
    context->no_args = true;
    context->no_task = !head.has_task;
    if (submission_read(context, text, &reading->common, &reading->key, &read->faults) == OK)
        settle_common(reading);
    context->no_task = false;
    context->key = (struct span){NULL, 0};
    read_mode(&head, &read->group);
    read->group.open = read_truth(&head, OWN_OPEN);
    read->group.fail_fast = read_truth(&head, OWN_FAIL_FAST);
    read_common_args(&head);
    check_own(&head);
    find_members(&head);
    if (head.has_task && !reading->task) { /* nobody knows what its members are */
        reading->it = (struct json_iter){NULL, NULL};
        reading->at = reading->body.p + reading->body.len;
    }
}
