#include "workers/submission.h"

#include "base/clock.h"
#include "base/digest.h"
#include "base/id.h"
#include "base/json.h"
#include "base/nearest.h"
#include "workers/compose.h"
#include "workers/kinds/kind.h"
#include "workers/submission_after.h"

#include <stdlib.h>
#include "workers/particulars.h"

enum field {
    FIELD_TASK,
    FIELD_ARGS,
    FIELD_PRIORITY,
    FIELD_RUN_AT,
    FIELD_DELAY,
    FIELD_EXPIRES_IN,
    FIELD_DEADLINE,
    FIELD_TIMEOUT,
    FIELD_MAX_RETRIES,
    FIELD_RETENTION,
    FIELD_LABELS,
    FIELD_KEY,
    FIELD_HOLD,
    FIELD_RELEASE_BY,
    FIELD_AFTER,
    FIELD_AFTER_POLICY,
    FIELD_GROUP,
    FIELD_CALLBACK,
    FIELD_STEP, /* of a turn's alone, from here on */
    FIELD_DETACHED,
    FIELD_COUNT,
};

static const char *const names[FIELD_COUNT] = {
    [FIELD_TASK] = "task",
    [FIELD_ARGS] = "args",
    [FIELD_PRIORITY] = "priority",
    [FIELD_RUN_AT] = "run_at",
    [FIELD_DELAY] = "delay",
    [FIELD_EXPIRES_IN] = "expires_in",
    [FIELD_DEADLINE] = "deadline",
    [FIELD_TIMEOUT] = "timeout",
    [FIELD_MAX_RETRIES] = "max_retries",
    [FIELD_RETENTION] = "retention",
    [FIELD_LABELS] = "labels",
    [FIELD_KEY] = "key",
    [FIELD_HOLD] = "hold",
    [FIELD_RELEASE_BY] = "release_by",
    [FIELD_AFTER] = "after",
    [FIELD_AFTER_POLICY] = "after_policy",
    [FIELD_GROUP] = "group",
    [FIELD_CALLBACK] = "callback",
    [FIELD_STEP] = "step",
    [FIELD_DETACHED] = "detached",
};

/* Sorts the members into the table; what is not in it is a fault. */
static void sort_members(const struct submission_context *context, struct span body,
                         struct span values[FIELD_COUNT], struct faults *faults)
{
    struct json_iter it = json_iter(body);
    struct span key, value;
    int fields = context->parent ? FIELD_COUNT : FIELD_STEP;
    while (json_member(&it, &key, &value)) {
        int field = 0;
        if (context->beside && context->beside(context->of, key, value))
            continue;
        while (field < fields && !json_key_is(key, names[field]))
            field++;
        if (field < fields) {
            /* null stands for absent, but args may be null */
            if (field == FIELD_ARGS || json_type(value) != JSON_NULL)
                values[field] = value;
            continue;
        }
        struct nearest near = nearest_to(key);
        for (int i = 0; i < fields; i++)
            nearest_try(&near, names[i]);
        faults_add_member(faults, 0, "", key, "unknown field" NEAREST_FORMAT, NEAREST_ARGS(near));
    }
}

/* A string without its quotes; decoded into the scratch if it has escapes, and
 * then good until that is used again. */
static struct span plain_text(const struct submission_context *context, struct span string)
{
    struct span text = {string.p + 1, string.len - 2};
    if (!memchr(text.p, '\\', text.len))
        return text;
    context->scratch->len = 0;
    json_unescape(string, context->scratch);
    return buf_span(context->scratch);
}

static void read_int(struct span value, const char *pointer, int64_t max, int *out, struct faults *faults)
{
    int64_t n;
    if (!value.p)
        return;
    if (json_type(value) != JSON_NUMBER || !json_whole(value, &n) || n < 0 || n > max)
        faults_add(faults, 0, pointer, "must be a whole number from 0 to %lld", (long long)max);
    else
        *out = (int)n;
}

/* A duration, of so many milliseconds at least; what stands there with escapes
 * is decoded first. */
static void read_duration(const struct submission_context *context, struct span value, const char *pointer,
                          int64_t min_ms, int64_t *out, struct faults *faults)
{
    int64_t ms = 0;
    if (!value.p)
        return;
    enum err err = json_type(value) == JSON_STRING ? duration_read(plain_text(context, value), &ms) : ERR_INVALID;
    if (err == ERR_LIMIT)
        faults_add(faults, 0, pointer, "is too long; it is 36500d at most");
    else if (err != OK)
        faults_add(faults, 0, pointer, "must be a duration with its unit, such as \"30s\" or \"1h30m\"");
    else if (ms < min_ms)
        faults_add(faults, 0, pointer, "must not be zero; leave it out if none is meant");
    else
        *out = ms;
}

static void read_times(const struct submission_context *context, const struct span values[FIELD_COUNT],
                       const struct task_options *options, struct submission *out, struct faults *faults)
{
    struct span run_at = values[FIELD_RUN_AT];
    int64_t delay = 0, expires_in = options->expires_in_ms;
    if (run_at.p) {
        if (json_type(run_at) != JSON_STRING || !time_parse(plain_text(context, run_at), &out->run_at))
            faults_add(faults, 0, "/run_at", "must be a time such as \"2026-01-31T12:00:00Z\" (RFC 3339)");
    }
    read_duration(context, values[FIELD_DELAY], "/delay", 0, &delay, faults);
    if (run_at.p && values[FIELD_DELAY].p)
        faults_add(faults, 0, "/delay", "run_at and delay exclude each other");
    read_duration(context, values[FIELD_EXPIRES_IN], "/expires_in", 1, &expires_in, faults);
    if (out->hold || out->after_count || context->held) { /* they count from its release */
        out->delay_ms = delay;
        out->expires_ms = expires_in;
        return;
    }
    if (delay)
        out->run_at = context->now_ms + delay;
    if (expires_in)
        out->expires_at = context->now_ms + expires_in;
}

static bool read_bool(struct span value, const char *pointer, struct faults *faults)
{
    if (value.p && json_type(value) != JSON_TRUE && json_type(value) != JSON_FALSE)
        faults_add(faults, 0, pointer, "must be true or false");
    return value.p && json_type(value) == JSON_TRUE;
}

static void read_group(struct span value, struct submission *out, struct faults *faults)
{
    if (!value.p)
        return;
    struct span text = {value.p + 1, value.len - 2};
    if (json_type(value) != JSON_STRING || !id_parse(text, &out->group) || !out->group)
        faults_add(faults, 0, "/group", "must be the id of a group");
}

/* What holds it, and what it belongs to. */
static void read_holds(const struct submission_context *context, const struct span values[FIELD_COUNT],
                       struct submission *out, struct faults *faults)
{
    int64_t release_by = 0;
    out->hold = read_bool(values[FIELD_HOLD], "/hold", faults);
    read_duration(context, values[FIELD_RELEASE_BY], "/release_by", 1, &release_by, faults);
    if (values[FIELD_RELEASE_BY].p && !out->hold)
        faults_add(faults, 0, "/release_by", "needs hold: true, a promise to release");
    if (release_by)
        out->release_by = context->now_ms + release_by;
    submission_after_read(values[FIELD_AFTER], out, faults);
    out->after_policy = submission_after_policy(values[FIELD_AFTER_POLICY], faults);
    if (values[FIELD_AFTER_POLICY].p && !values[FIELD_AFTER].p && !context->beside)
        faults_add(faults, 0, "/after_policy", "needs `after`, those that it is about");
    read_group(values[FIELD_GROUP], out, faults);
}

/* A duration from now, or a time. */
static int64_t read_deadline(const struct submission_context *context, struct span value,
                             const struct task_options *options, struct faults *faults)
{
    int64_t ms = options->deadline_ms, at = 0;
    if (value.p && json_type(value) == JSON_STRING && time_parse(plain_text(context, value), &at))
        return at;
    enum err err = !value.p                          ? OK
                   : json_type(value) == JSON_STRING ? duration_read(plain_text(context, value), &ms)
                                                     : ERR_INVALID;
    if (err == ERR_LIMIT)
        faults_add(faults, 0, "/deadline", "is too long; it is 36500d at most");
    else if (err != OK)
        faults_add(faults, 0, "/deadline",
                   "must be a time such as \"2026-01-31T12:00:00Z\", or a duration such as \"1h30m\"");
    else if (value.p && !ms)
        faults_add(faults, 0, "/deadline", "must not be zero; leave it out if none is meant");
    return ms ? context->now_ms + ms : 0;
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
    if (out->key.p && !utf8_valid(out->key))
        faults_add(faults, 0, "/key", "a key must be UTF-8");
    else if (out->key.p &&
             (out->key.len == 0 || utf8_length(out->key) > KEY_MAX || memchr(out->key.p, '\0', out->key.len)))
        faults_add(faults, 0, "/key", "a key has 1 to %d characters, and no NUL", KEY_MAX);
}

/* The characters of a string, or of a key; false if a NUL is among them. */
static bool count_characters(struct span string, struct buf *scratch, size_t *count)
{
    scratch->len = 0;
    json_unescape(string, scratch);
    *count = utf8_length(buf_span(scratch));
    return scratch->len == 0 || !memchr(scratch->data, '\0', scratch->len);
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
        size_t length;
        count++;
        if (!count_characters(key, context->scratch, &length) || length == 0 || length > LABEL_NAME_MAX)
            faults_add_member(faults, 0, "/labels", key, "a label's name has 1 to %d characters, and no NUL",
                              LABEL_NAME_MAX);
        if (json_type(item) != JSON_STRING) {
            faults_add_member(faults, 0, "/labels", key, "a label's value must be a string");
            continue;
        }
        if (!count_characters(item, context->scratch, &length) || length > LABEL_VALUE_MAX)
            faults_add_member(faults, 0, "/labels", key, "a label's value has at most %d characters, and no NUL",
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
    struct span name = plain_text(context, value);
    const struct registry *registry = context->registry;
    const struct task *task = registry_find(registry, name);
    if (!task) {
        struct nearest near = nearest_to(name);
        for (int i = 0; i < registry_count(registry); i++)
            nearest_try(&near, registry_at(registry, i)->name);
        faults_add(faults, 0, "/task", "there is no task of that name" NEAREST_FORMAT, NEAREST_ARGS(near));
    }
    return task;
}

struct referring {
    const struct submission *submission;
    struct faults *faults;
};

/* Those results alone that it comes after: compose_find()'s. */
static bool comes_after(void *of, const struct reference *reference)
{
    struct referring *referring = of;
    submission_after_refer(referring->submission, reference, referring->faults);
    return true;
}

/* What its options make of it. What a result is still to give tells nothing apart. */
static enum err take_particulars(const struct task *task, struct span bound, bool has_references,
                                 struct submission *out, struct faults *faults)
{
    const struct unique_rule *unique = &task->options.unique;
    int64_t deadline_at = out->particulars ? out->particulars->deadline_at : 0;
    if (has_references && unique->lasts && unique->per.by != ARGS_KEY_TASK) {
        faults_add(faults, 0, "/args",
                   "the task is unique by its arguments: a $result cannot be told from others");
        return ERR_INVALID;
    }
    particulars_free(out->particulars);
    out->particulars = particulars_of(task, bound);
    if (deadline_at && !out->particulars)
        out->particulars = particulars_new();
    if (out->particulars)
        out->particulars->deadline_at = deadline_at;
    return OK;
}

enum err submission_read_args(const struct submission_context *context, const struct task *task, struct span args,
                              struct submission *out, struct faults *faults)
{
    struct span bound = args;
    int references = 0, faulty = faults->total;
    out->args = args;
    if (context->refers)
        references = compose_find(args, "/args", NULL, NULL, faults);
    else if (out->after_count)
        references = compose_find(args, "/args", comes_after, &(struct referring){out, faults}, faults);
    if (faults->total > faulty)
        return ERR_INVALID;
    out->composed = references || context->common_args.p;
    context->scratch->len = 0;
    if (out->composed) {
        enum err err = compose_check(task, context->common_args, args, context->refers || out->after_count,
                                     context->scratch, faults);
        bound = context->scratch->len ? buf_span(context->scratch) : args;
        return err == OK ? take_particulars(task, bound, references, out, faults) : err;
    }
    if (task->params) {
        if (params_bind(task->params, args, "/args", context->scratch, faults) != OK)
            return ERR_INVALID;
        bound = buf_span(context->scratch);
    }
    enum err err = kind_check_args(task, bound, faults);
    return err == OK && faults->total == faulty ? take_particulars(task, bound, false, out, faults) : err;
}

/* What it is to the turn that submits it. */
static void read_child(const struct submission_context *context, const struct span values[FIELD_COUNT],
                       struct submission *out, struct buf *scratch, struct faults *faults)
{
    struct span step = values[FIELD_STEP], detached = values[FIELD_DETACHED];
    out->parent = context->parent;
    out->parent_lease = context->parent_lease;
    out->detached = read_bool(detached, "/detached", faults);
    if (!step.p)
        return;
    if (out->key.p)
        faults_add(faults, 0, "/step", "step and key exclude each other");
    if (json_type(step) != JSON_STRING) {
        faults_add(faults, 0, "/step", "must be a string");
        return;
    }
    scratch->len = 0;
    json_unescape(step, scratch);
    out->step = buf_span(scratch);
    if (!step_name_is_good(out->step))
        faults_add(faults, 0, "/step", "a step's name has 1 to %d characters, and no NUL", STEP_NAME_MAX);
}

/* Behind what stands in the texts, which move. */
static void keep_callback(struct span url, struct span place, struct submission *out, struct buf *texts)
{
    bool has_key = texts->data && out->key.p == texts->data, has_step = texts->data && out->step.p == texts->data;
    texts->len = has_key || has_step ? texts->len : 0;
    size_t at = texts->len;
    buf_add_span(texts, url);
    buf_add_span(texts, place);
    out->callback = (struct span){texts->data + at, url.len};
    out->callback_place = (struct span){texts->data + at + url.len, place.len};
    out->key.p = has_key ? texts->data : out->key.p;
    out->step.p = has_step ? texts->data : out->step.p;
}

/* After the key and the step. */
static void read_callback(const struct submission_context *context, struct span value, struct submission *out,
                          struct buf *texts, struct faults *faults)
{
    struct reason why = {"must be a string: an http or https URL"};
    struct buf place = {0};
    if (!value.p)
        return;
    bool is_text = json_type(value) == JSON_STRING;
    context->scratch->len = 0;
    if (is_text)
        json_unescape(value, context->scratch);
    const char *url = buf_cstr(context->scratch);
    if (is_text && strlen(url) < context->scratch->len)
        reason_set(&why, "must not have a NUL in it");
    else if (is_text && policy_allows(registry_callbacks(context->registry), url, &place, &why))
        keep_callback(buf_span(context->scratch), buf_span(&place), out, texts);
    if (!out->callback.p)
        faults_add(faults, 0, "/callback", "%s", why.text);
    buf_release(&place);
}

/* White space, the order of members and the key's place make no other body. */
static void digest_body(const struct submission_context *context, struct span body, struct submission *out)
{
    context->scratch->len = 0;
    json_add_canonical(context->scratch, body, names[FIELD_KEY]);
    sha256(buf_span(context->scratch), out->key_digest);
    sha256(body, out->key_digest_sent);
}

bool step_name_is_good(struct span name)
{
    return name.len > 0 && utf8_valid(name) && utf8_length(name) <= STEP_NAME_MAX &&
           !memchr(name.p, '\0', name.len);
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
    sort_members(context, body, values, faults);
    const struct task *task = context->no_task ? NULL : find_task(context, values[FIELD_TASK], faults);
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
    read_duration(context, values[FIELD_TIMEOUT], "/timeout", 1, &out->timeout_ms, faults);
    read_duration(context, values[FIELD_RETENTION], "/retention", 1, &out->retention_ms, faults);
    read_holds(context, values, out, faults);
    read_times(context, values, options, out, faults);
    int64_t deadline_at = read_deadline(context, values[FIELD_DEADLINE], options, faults);
    read_key(context, values[FIELD_KEY], out, scratch_key, faults);
    read_labels(context, values[FIELD_LABELS], out, faults);
    read_child(context, values, out, scratch_key, faults);
    read_callback(context, values[FIELD_CALLBACK], out, scratch_key, faults);
    enum err err = OK;
    if (task && !context->no_args)
        err = submission_read_args(context, task, values[FIELD_ARGS], out, faults);
    if (err != OK || faults->total) {
        submission_release(out);
        return ERR_INVALID;
    }
    if (deadline_at && !out->particulars)
        out->particulars = particulars_new();
    if (out->particulars) {
        out->particulars->times_given = values[FIELD_RUN_AT].p;
        out->particulars->deadline_at = deadline_at;
    }
    if (out->key.p && !context->no_digest)
        digest_body(context, body, out);
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
        .deadline = s->particulars ? s->particulars->deadline_at : 0,
        .args = s->args,
        .labels = s->labels,
        .key = s->key,
    };
}

void submission_add_detail(struct buf *out, const struct submission *s, const struct refusal *refusal)
{
    buf_adds(out, refusal->detail);
    if (s->err != ERR_NOT_FOUND || !s->missing)
        return;
    buf_addl(out, ": ");
    id_add(out, s->missing);
}

bool submission_has_task(struct submission *s)
{
    s->err = s->task ? OK : ERR_UNAVAILABLE;
    return s->task;
}

struct refusal submission_refusal(const struct submission *s, enum err err)
{
    if (err == OK)
        err = s->err;
    switch (err) {
    case ERR_MISMATCH: return (struct refusal){422, "key-reused", "the key was used before with another body"};
    case ERR_LIMIT:
        return (struct refusal){429, "queue-full", "the task has as many waiting invocations as its max_queued"};
    case ERR_NOT_FOUND:
        return (struct refusal){422, "invalid-request", "its group, or one that it comes after, is not there"};
    case ERR_BUSY:
        if (s->not_unique)
            return (struct refusal){409, "not-unique", "another invocation has its unique place"};
        return (struct refusal){409, "conflict", "the step's name is that of a recorded value"};
    case ERR_CONFLICT:
        if (s->parent_cancelled)
            return (struct refusal){409, "cancelled", "its parent is cancelled: only a detached child is taken"};
        if (s->group_closed)
            return (struct refusal){409, "conflict",
                                    "the group takes no more members: it was not made open, or is closed"};
        return (struct refusal){409, "stale-lease", "the turn that submits it has ended, or lost its lease"};
    case ERR_UNAVAILABLE:
        return (struct refusal){503, "unavailable",
                                "it is not known to be on disk; try again (an idempotency key makes that safe)"};
    default: return (struct refusal){500, "internal", "the database failed; the log has more"};
    }
}
