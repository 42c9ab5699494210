#include "server/submission.h"

#include "base/clock.h"
#include "base/digest.h"
#include "base/id.h"
#include "base/json.h"
#include "base/nearest.h"
#include "workers/kinds/kind.h"

enum field {
    FIELD_TASK,
    FIELD_ARGS,
    FIELD_PRIORITY,
    FIELD_RUN_AT,
    FIELD_DELAY,
    FIELD_EXPIRES_IN,
    FIELD_TIMEOUT,
    FIELD_MAX_RETRIES,
    FIELD_RETENTION,
    FIELD_LABELS,
    FIELD_KEY,
    FIELD_COUNT,
};

static const char *const names[FIELD_COUNT] = {
    [FIELD_TASK] = "task",
    [FIELD_ARGS] = "args",
    [FIELD_PRIORITY] = "priority",
    [FIELD_RUN_AT] = "run_at",
    [FIELD_DELAY] = "delay",
    [FIELD_EXPIRES_IN] = "expires_in",
    [FIELD_TIMEOUT] = "timeout",
    [FIELD_MAX_RETRIES] = "max_retries",
    [FIELD_RETENTION] = "retention",
    [FIELD_LABELS] = "labels",
    [FIELD_KEY] = "key",
};

/* Sorts the members into the table; what is not in it is a fault. */
static void sort_members(struct span body, struct span values[FIELD_COUNT], struct faults *faults)
{
    struct json_iter it = json_iter(body);
    struct span key, value;
    while (json_member(&it, &key, &value)) {
        int field = 0;
        while (field < FIELD_COUNT && !json_key_is(key, names[field]))
            field++;
        if (field < FIELD_COUNT) {
            /* null stands for absent, but args may be null */
            if (field == FIELD_ARGS || json_type(value) != JSON_NULL)
                values[field] = value;
            continue;
        }
        struct nearest near = nearest_to(key);
        for (int i = 0; i < FIELD_COUNT; i++)
            nearest_try(&near, names[i]);
        faults_add_member(faults, 0, "", key, "unknown field" NEAREST_FORMAT, NEAREST_ARGS(near));
    }
}

static void read_int(struct span value, const char *pointer, int64_t max, int *out, struct faults *faults)
{
    int64_t n;
    if (!value.p)
        return;
    if (json_type(value) != JSON_NUMBER || !json_int64(value, &n) || n < 0 || n > max)
        faults_add(faults, 0, pointer, "must be a whole number from 0 to %lld", (long long)max);
    else
        *out = (int)n;
}

static void read_duration(struct span value, const char *pointer, int64_t *out, struct faults *faults)
{
    if (!value.p)
        return;
    struct span text = {value.p + 1, value.len - 2};
    if (json_type(value) != JSON_STRING || !duration_parse(text, out))
        faults_add(faults, 0, pointer, "must be a duration with its unit, such as \"30s\" or \"1h30m\"");
}

static void read_times(const struct submission_context *context, const struct span values[FIELD_COUNT],
                       const struct task_options *options, struct submission *out, struct faults *faults)
{
    struct span run_at = values[FIELD_RUN_AT];
    int64_t delay = 0, expires_in = options->expires_in_ms;
    if (run_at.p) {
        struct span text = {run_at.p + 1, run_at.len - 2};
        if (json_type(run_at) != JSON_STRING || !time_parse(text, &out->run_at))
            faults_add(faults, 0, "/run_at", "must be a time such as \"2026-01-31T12:00:00Z\" (RFC 3339)");
    }
    read_duration(values[FIELD_DELAY], "/delay", &delay, faults);
    if (run_at.p && values[FIELD_DELAY].p)
        faults_add(faults, 0, "/delay", "run_at and delay exclude each other");
    if (delay)
        out->run_at = context->now_ms + delay;
    read_duration(values[FIELD_EXPIRES_IN], "/expires_in", &expires_in, faults);
    if (expires_in)
        out->expires_at = context->now_ms + expires_in;
}

/* Faults for a key, an owned copy of which is only made where it has escapes. */
static void read_key(const struct submission_context *context, struct span value, struct submission *out,
                     struct buf *scratch, struct faults *faults)
{
    out->key = context->key;
    if (value.p && json_type(value) != JSON_STRING) {
        faults_add(faults, 0, "/key", "must be a string");
        return;
    }
    if (value.p) {
        struct span text = {value.p + 1, value.len - 2};
        if (memchr(text.p, '\\', text.len)) {
            scratch->len = 0;
            json_unescape(value, scratch);
            text = buf_span(scratch);
        }
        if (context->key.p && (context->key.len != text.len || memcmp(context->key.p, text.p, text.len) != 0))
            faults_add(faults, 0, "/key", "is not the key of the Idempotency-Key header");
        out->key = text;
    }
    if (out->key.p && (out->key.len == 0 || out->key.len > KEY_MAX || memchr(out->key.p, '\0', out->key.len)))
        faults_add(faults, 0, "/key", "a key has 1 to %d bytes, and no NUL", KEY_MAX);
    if (out->key.p && !utf8_valid(out->key))
        faults_add(faults, 0, "/key", "a key must be UTF-8");
}

static size_t text_length(struct span string, struct buf *scratch)
{
    scratch->len = 0;
    json_unescape(string, scratch);
    return scratch->len;
}

static void read_labels(const struct submission_context *context, struct span value, struct submission *out,
                        struct faults *faults)
{
    int count = 0;
    struct span key, item;
    if (!value.p)
        return;
    if (json_type(value) != JSON_OBJECT) {
        faults_add(faults, 0, "/labels", "must be an object of strings");
        return;
    }
    struct json_iter it = json_iter(value);
    while (json_member(&it, &key, &item)) {
        size_t length = text_length(key, context->scratch);
        count++;
        if (length == 0 || length > LABEL_NAME_MAX || memchr(context->scratch->data, '\0', length))
            faults_add_member(faults, 0, "/labels", key, "a label's name has 1 to %d bytes", LABEL_NAME_MAX);
        if (json_type(item) != JSON_STRING) {
            faults_add_member(faults, 0, "/labels", key, "a label's value must be a string");
            continue;
        }
        length = text_length(item, context->scratch);
        if (length > LABEL_VALUE_MAX || (length && memchr(context->scratch->data, '\0', length)))
            faults_add_member(faults, 0, "/labels", key, "a label's value has at most %d bytes, and no NUL",
                              LABEL_VALUE_MAX);
    }
    if (count > LABELS_MAX)
        faults_add(faults, 0, "/labels", "there are %d labels, the limit is %d", count, LABELS_MAX);
    if (count)
        out->labels = value;
}

static const struct task *find_task(const struct submission_context *context, struct span value,
                                    struct faults *faults)
{
    if (!value.p) {
        faults_add(faults, 0, "/task", "is missing: the name of a task");
        return NULL;
    }
    if (json_type(value) != JSON_STRING) {
        faults_add(faults, 0, "/task", "must be a string, the name of a task");
        return NULL;
    }
    struct span name = {value.p + 1, value.len - 2};
    if (memchr(name.p, '\\', name.len)) {
        context->scratch->len = 0;
        json_unescape(value, context->scratch);
        name = buf_span(context->scratch);
    }
    const struct registry *registry = context->config->registry;
    const struct task *task = registry_find(registry, name);
    if (!task) {
        struct nearest near = nearest_to(name);
        for (int i = 0; i < registry_count(registry); i++)
            nearest_try(&near, registry_at(registry, i)->name);
        faults_add(faults, 0, "/task", "there is no task of that name" NEAREST_FORMAT, NEAREST_ARGS(near));
    }
    return task;
}

static void check_args(const struct submission_context *context, const struct task *task, struct span args,
                       struct faults *faults)
{
    struct span bound = args;
    context->scratch->len = 0;
    if (task->params) {
        if (params_bind(task->params, args, "/args", context->scratch, faults) != OK)
            return;
        bound = buf_span(context->scratch);
    }
    if (kind_check_args(task, bound, faults) != OK)
        return;
}

enum err submission_read(const struct submission_context *context, struct span body, struct submission *out,
                         struct buf *scratch_key, struct faults *faults)
{
    static const struct task_options none = {0};
    struct span values[FIELD_COUNT] = {{NULL, 0}};
    body = json_trim(body);
    if (json_type(body) != JSON_OBJECT) {
        faults_add(faults, 0, "", "a submission is an object: {\"task\": NAME, \"args\": ...}");
        return ERR_INVALID;
    }
    sort_members(body, values, faults);
    const struct task *task = find_task(context, values[FIELD_TASK], faults);
    const struct task_options *options = task ? &task->options : &none;
    *out = (struct submission){
        .task = task ? task->id : 0,
        .priority = options->priority,
        .max_retries = options->max_retries,
        .timeout_ms = options->timeout_ms,
        .retention_ms = options->retention_ms,
        .max_queued = options->max_queued,
        .args = values[FIELD_ARGS],
        .key_owner = context->owner,
    };
    read_int(values[FIELD_PRIORITY], "/priority", PRIORITY_MAX, &out->priority, faults);
    read_int(values[FIELD_MAX_RETRIES], "/max_retries", RETRIES_MAX, &out->max_retries, faults);
    read_duration(values[FIELD_TIMEOUT], "/timeout", &out->timeout_ms, faults);
    read_duration(values[FIELD_RETENTION], "/retention", &out->retention_ms, faults);
    read_times(context, values, options, out, faults);
    read_key(context, values[FIELD_KEY], out, scratch_key, faults);
    read_labels(context, values[FIELD_LABELS], out, faults);
    if (task)
        check_args(context, task, values[FIELD_ARGS], faults);
    if (faults->total)
        return ERR_INVALID;
    if (out->key.p)
        sha256(body, out->key_digest);
    return OK;
}

void submission_row(const struct submission *s, struct invocation *row)
{
    *row = (struct invocation){
        .id = s->id,
        .task = s->task,
        .status = s->status,
        .priority = s->priority,
        .max_retries = s->max_retries,
        .timeout_ms = s->timeout_ms,
        .retention_ms = s->retention_ms,
        .run_at = s->run_at,
        .expires_at = s->expires_at,
        .args = s->args,
        .labels = s->labels,
        .key = s->key,
    };
}

struct refusal submission_refusal(const struct submission *s, enum err err)
{
    if (err == OK)
        err = s->err;
    switch (err) {
    case ERR_MISMATCH: return (struct refusal){422, "key-reused", "the key was used before with another body"};
    case ERR_LIMIT:
        return (struct refusal){429, "queue-full", "the task has as many waiting invocations as its max_queued"};
    case ERR_UNAVAILABLE:
        return (struct refusal){503, "unavailable",
                                "it is not known to be on disk; try again (an idempotency key makes that safe)"};
    default: return (struct refusal){500, "internal", "the database failed; the log has more"};
    }
}
