#include "workers/schedule_definition.h"

#include "base/clock.h"
#include "base/json.h"
#include "workers/submission.h"
#include "workers/zone_file.h"

#define DAY_MS INT64_C(86400000)

static const char *const catch_up_words[] = {"one", "none", "all", NULL};
static const char *const overlap_words[] = {"skip", "allow", "queue", "cancel", NULL};
const char *const schedule_gap_words[] = {"shift", "skip", NULL};
const char *const schedule_fold_words[] = {"first", "last", "both", NULL};

/* What it says, before it is looked at. */
struct fields {
    struct span cron, timezone;
    int catch_up, overlap, gap, fold;
    int64_t jitter_ms;
    struct span task, args, labels, priority, expires_in, timeout, max_retries, retention;
};

static const struct key dst_keys[] = {
    {.name = "gap",
     .nullable = true,
     .type = KEY_WORD,
     .default_text = "shift",
     .words = schedule_gap_words,
     .offset = offsetof(struct fields, gap),
     .help = "a time that the clock skips: the first moment after it, or skip"},
    {.name = "fold",
     .nullable = true,
     .type = KEY_WORD,
     .default_text = "first",
     .words = schedule_fold_words,
     .offset = offsetof(struct fields, fold),
     .help = "a time that comes twice: first, last or both"},
    {0},
};

const struct key schedule_keys[] = {
    {.name = "cron",
     .type = KEY_SPAN,
     .required = true,
     .max = CRON_TEXT_MAX,
     .example = "30 2 * * *",
     .offset = offsetof(struct fields, cron),
     .help = "minute, hour, day of the month, month, day of the week; or @hourly, @daily, ..."},
    {.name = "timezone",
     .nullable = true,
     .type = KEY_SPAN,
     .default_text = "UTC",
     .max = ZONE_NAME_MAX,
     .offset = offsetof(struct fields, timezone),
     .help = "such as Europe/Berlin"},
    {.name = "task",
     .type = KEY_VALUE,
     .required = true,
     .offset = offsetof(struct fields, task),
     .example = "NAME",
     .help = "what is submitted,"},
    {.name = "args",
     .type = KEY_VALUE,
     .offset = offsetof(struct fields, args),
     .example = "{day: today}",
     .help = "with these arguments"},
    {.name = "catch_up",
     .nullable = true,
     .type = KEY_WORD,
     .default_text = "one",
     .words = catch_up_words,
     .offset = offsetof(struct fields, catch_up),
     .help = "of the times that were missed: none, one (the last) or all (the last 1000)"},
    {.name = "overlap",
     .nullable = true,
     .type = KEY_WORD,
     .default_text = "skip",
     .words = overlap_words,
     .offset = offsetof(struct fields, overlap),
     .help = "while the last one is unfinished: allow, skip, queue (one waits) or cancel (it is)"},
    {.name = "jitter",
     .nullable = true,
     .type = KEY_DURATION,
     .default_text = "0s",
     .max = DAY_MS,
     .offset = offsetof(struct fields, jitter_ms),
     .help = "up to so much later, at random"},
    {.name = "dst", .nullable = true, .type = KEY_MAP, .members = dst_keys, .help = "when clocks change"},
    {.name = "labels",
     .type = KEY_VALUE,
     .offset = offsetof(struct fields, labels),
     .example = "{team: ops}",
     .help = "of its invocations, besides schedule and scheduled_for"},
    {.name = "priority",
     .type = KEY_VALUE,
     .offset = offsetof(struct fields, priority),
     .example = "1",
     .help = "this and the next four: as of a submission; the task's unless given"},
    {.name = "expires_in",
     .type = KEY_VALUE,
     .offset = offsetof(struct fields, expires_in),
     .example = "1h",
     .help = "fails as `expired` if it has not started by then"},
    {.name = "timeout",
     .type = KEY_VALUE,
     .offset = offsetof(struct fields, timeout),
     .example = "10m",
     .help = "of an attempt"},
    {.name = "max_retries",
     .type = KEY_VALUE,
     .offset = offsetof(struct fields, max_retries),
     .example = "3",
     .help = "after failures"},
    {.name = "retention",
     .type = KEY_VALUE,
     .offset = offsetof(struct fields, retention),
     .example = "7d",
     .help = "how long a final one is kept"},
    {0},
};

bool schedule_name_is_good(struct span name)
{
    char text[SCHEDULE_NAME_MAX + 1];
    if (!name.len || name.len > SCHEDULE_NAME_MAX || memchr(name.p, '\0', name.len))
        return false;
    memcpy(text, name.p, name.len);
    text[name.len] = '\0';
    return task_name_is_good(text) && strcmp(text, "preview") != 0;
}

/* --- times ------------------------------------------------------------------------- */

static void read_cron(struct span text, const char *pointer, struct schedule_definition *out,
                      struct faults *faults)
{
    struct reason why;
    if (text.p && cron_parse(text, &out->cron, &why) != OK)
        faults_add(faults, 0, pointer, "%s", why.text);
}

static void read_zone(struct span name, const char *pointer, struct schedule_definition *out,
                      struct faults *faults)
{
    struct reason why;
    if (zone_open(name, &out->zone, &why) != OK)
        faults_add(faults, 0, pointer, "%s", why.text);
}

/* A time that each summer skips, and that is to be skipped then. */
static void check_comes(const struct schedule_definition *definition, struct faults *faults)
{
    struct cron_clock clock = schedule_clock(definition);
    int64_t next;
    if (!cron_next(&clock, clock_now_ms(), &next))
        faults_add(faults, 0, "/cron", "never comes in that time zone");
}

enum err schedule_read_times(struct span cron, struct span timezone, struct cron_dst dst,
                             struct schedule_definition *out, struct faults *faults)
{
    int before = faults->total;
    *out = (struct schedule_definition){.dst = dst};
    read_cron(cron, "cron", out, faults);
    read_zone(timezone.p ? timezone : SPAN("UTC"), "timezone", out, faults);
    return faults->total == before ? OK : ERR_INVALID;
}

/* --- what is submitted ---------------------------------------------------------------- */

static void add_member(struct buf *out, const char *name, struct span value)
{
    if (!value.p)
        return;
    if (out->data[out->len - 1] != '{')
        buf_addc(out, ',');
    buf_addf(out, "\"%s\":", name);
    buf_add_span(out, value);
}

/* Without its labels. */
static void add_submission(struct buf *out, const struct fields *fields)
{
    add_member(out, "task", fields->task);
    add_member(out, "args", fields->args);
    add_member(out, "priority", fields->priority);
    add_member(out, "expires_in", fields->expires_in);
    add_member(out, "timeout", fields->timeout);
    add_member(out, "max_retries", fields->max_retries);
    add_member(out, "retention", fields->retention);
}

static enum err read_submission(const struct registry *registry, struct span body, int64_t now_ms,
                                struct submission *out, struct faults *faults)
{
    struct buf scratch = {0}, key = {0};
    struct submission_context context = {.registry = registry, .now_ms = now_ms, .scratch = &scratch};
    enum err err = submission_read(&context, body, out, &key, faults);
    buf_release(&scratch);
    buf_release(&key);
    return err;
}

/* Two of the names are its schedule's own. */
static void check_labels(struct span labels, struct faults *faults)
{
    struct json_iter it = json_iter(labels);
    struct span name, value;
    int count = 0;
    while (json_member(&it, &name, &value)) {
        count++;
        if (json_key_is(name, LABEL_SCHEDULE) || json_key_is(name, LABEL_DUE))
            faults_add_member(faults, 0, "/labels", name, "is the schedule's own label");
    }
    if (count <= LABELS_MAX && count > LABELS_MAX - SCHEDULE_LABELS)
        faults_add(faults, 0, "/labels", "there are %d labels, the limit is %d: two are the schedule's own", count,
                   LABELS_MAX - SCHEDULE_LABELS);
}

/* Once with the labels, for their faults. */
static void check_submission(const struct registry *registry, const struct fields *fields, struct faults *faults)
{
    struct buf body = {0};
    struct submission s;
    buf_addc(&body, '{');
    add_submission(&body, fields);
    add_member(&body, "labels", fields->labels);
    buf_addc(&body, '}');
    read_submission(registry, buf_span(&body), clock_now_ms(), &s, faults);
    if (fields->labels.p && json_type(fields->labels) == JSON_OBJECT)
        check_labels(fields->labels, faults);
    buf_release(&body);
}

enum err schedule_submission(const struct schedule_definition *definition, const struct registry *registry,
                             int64_t now_ms, struct submission *out, struct faults *faults)
{
    return read_submission(registry, buf_span(&definition->submission), now_ms, out, faults);
}

void schedule_add_labels(const struct schedule_definition *definition, struct span name, int64_t due_ms,
                         struct buf *out)
{
    buf_addc(out, '{');
    buf_add_span(out, buf_span(&definition->labels));
    if (definition->labels.len)
        buf_addc(out, ',');
    buf_addl(out, "\"" LABEL_SCHEDULE "\":");
    json_add_string(out, name);
    buf_addl(out, ",\"" LABEL_DUE "\":\"");
    time_add(out, due_ms);
    buf_addl(out, "\"}");
}

/* --- the whole ---------------------------------------------------------------------------- */

static void add_text(struct buf *out, const struct fields *fields)
{
    buf_addl(out, "{\"cron\":");
    json_add_string(out, fields->cron);
    buf_addl(out, ",\"timezone\":");
    json_add_string(out, fields->timezone);
    add_submission(out, fields);
    add_member(out, "labels", fields->labels);
    buf_addf(out, ",\"catch_up\":\"%s\",\"overlap\":\"%s\",\"jitter\":\"", catch_up_words[fields->catch_up],
             overlap_words[fields->overlap]);
    duration_add(out, fields->jitter_ms);
    buf_addf(out, "\",\"dst\":{\"gap\":\"%s\",\"fold\":\"%s\"}}", schedule_gap_words[fields->gap],
             schedule_fold_words[fields->fold]);
}

static void keep_labels(struct schedule_definition *out, struct span labels)
{
    struct json_iter it = json_iter(labels);
    struct span name, value;
    while (json_member(&it, &name, &value)) {
        if (out->labels.len)
            buf_addc(&out->labels, ',');
        buf_addc(&out->labels, '"');
        buf_add_span(&out->labels, name);
        buf_addl(&out->labels, "\":");
        buf_add_span(&out->labels, value);
    }
}

static void keep(struct schedule_definition *out, const struct fields *fields, struct faults *faults)
{
    add_text(&out->text, fields);
    if (out->text.len > DEFINITION_BYTES_MAX)
        faults_add(faults, 0, "", "is longer than %d KiB", DEFINITION_BYTES_MAX >> 10);
    buf_addc(&out->submission, '{');
    add_submission(&out->submission, fields);
    buf_addc(&out->submission, '}');
    if (fields->labels.p && json_type(fields->labels) == JSON_OBJECT)
        keep_labels(out, fields->labels);
}

/* null stands for absent, but args may be null. */
static void leave_out_nulls(struct fields *fields)
{
    struct span *optional[] = {&fields->labels,  &fields->priority,    &fields->expires_in,
                               &fields->timeout, &fields->max_retries, &fields->retention};
    for (size_t i = 0; i < sizeof optional / sizeof *optional; i++)
        if (optional[i]->p && json_type(*optional[i]) == JSON_NULL)
            *optional[i] = (struct span){NULL, 0};
}

enum err schedule_read(const struct registry *registry, struct span body, struct schedule_definition *out,
                       struct faults *faults)
{
    int before = faults->total;
    struct buf arena = {0};
    struct fields fields = {.timezone = SPAN("UTC")};
    *out = (struct schedule_definition){0};
    keys_read_json(&(struct keys_json){faults, &arena}, NULL, body, schedule_keys, &fields);
    leave_out_nulls(&fields);
    read_cron(fields.cron, "/cron", out, faults);
    read_zone(fields.timezone, "/timezone", out, faults);
    out->dst = (struct cron_dst){(enum cron_gap)fields.gap, (enum cron_fold)fields.fold};
    out->catch_up = (enum catch_up)fields.catch_up;
    out->overlap = (enum schedule_overlap)fields.overlap;
    out->jitter_ms = fields.jitter_ms;
    if (faults->total == before)
        check_comes(out, faults);
    if (fields.task.p)
        check_submission(registry, &fields, faults);
    if (faults->total == before)
        keep(out, &fields, faults);
    buf_release(&arena);
    return faults->total == before ? OK : ERR_INVALID;
}

void schedule_release(struct schedule_definition *definition)
{
    zone_free(definition->zone);
    buf_release(&definition->text);
    buf_release(&definition->submission);
    buf_release(&definition->labels);
    *definition = (struct schedule_definition){0};
}
