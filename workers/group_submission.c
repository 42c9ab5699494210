/* Read in three passes, each a slice at a time: the group's own fields; its members,
 * each with the reader of a single submission; and, where members name each other,
 * who comes after whom (group_graph.c). */
#include "workers/group_reading.h"

#include "base/clock.h"
#include "base/digest.h"
#include "base/json.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    CLOCK_EVERY = 32,
    FAULTS_ENOUGH = 10 * FAULTS_MAX, /* what comes after so many is not read */
    FIRST_CAP = 64,
    DETAIL_BYTES = 500,
};

#define RETENTION_OF_NOBODY (INT64_C(7) * 86400 * 1000)

/* --- life ------------------------------------------------------------------------------- */

struct group_read *group_read_new(const struct submission_context *context, struct span body, bool lines,
                                  int64_t member_bytes)
{
    struct group_read *read = xcalloc(1, sizeof *read);
    struct group_reading *reading = xcalloc(1, sizeof *reading);
    read->reading = reading;
    *reading = (struct group_reading){
        .read = read, .context = *context, .body = body, .lines = lines, .member_bytes = member_bytes};
    reading->context.scratch = &reading->scratch;
    reading->context.of = reading;
    reading->context.held = reading->context.no_digest = true;
    return read;
}

void group_read_free(struct group_read *read)
{
    if (!read)
        return;
    struct group_reading *reading = read->reading;
    submission_release(&reading->common);
    group_graph_release(reading);
    buf_release(&reading->key);
    buf_release(&reading->texts);
    buf_release(&reading->names);
    buf_release(&reading->common_args);
    buf_release(&reading->scratch);
    buf_release(&reading->pointer);
    free(reading->members);
    free(reading);
    for (int i = 0; i < read->group.total && read->items; i++)
        particulars_free(read->items[i].particulars);
    free(read->items);
    free(read->group.ids);
    faults_release(&read->faults);
    free(read);
}

/* --- faults ------------------------------------------------------------------------------- */

static const char *member_pointer(struct group_reading *reading, int index, const char *pointer)
{
    struct buf *text = &reading->pointer;
    text->len = 0;
    buf_adds(text, reading->task ? "/args/" : "/invocations/");
    buf_add_int(text, index);
    /* The arguments of a member are all that it has where the task is everybody's. */
    buf_adds(text, reading->task && strncmp(pointer, "/args", 5) == 0 ? pointer + 5 : pointer);
    return buf_cstr(text);
}

void group_reading_fault(struct group_reading *reading, int index, const char *pointer, const char *format, ...)
{
    char detail[DETAIL_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(detail, sizeof detail, format, args);
    va_end(args);
    faults_add(&reading->read->faults, 0, member_pointer(reading, index, pointer), "%s", detail);
}

void group_reading_faults(struct group_reading *reading, int index, struct faults *faults)
{
    for (int i = 0; i < faults->count; i++)
        group_reading_fault(reading, index, faults->items[i].pointer, "%s", faults->items[i].detail);
    reading->read->faults.total += faults->total - faults->count;
    faults_release(faults);
}

static void refuse_text(struct group_reading *reading, struct span text, const struct json_fault *fault)
{
    struct group_read *read = reading->read;
    struct json_place place = json_place(text, fault->offset);
    faults_release(&read->faults);
    faults_add(&read->faults, 0, fault->pointer, "line %d, column %d: %s",
               reading->lines ? reading->line : place.line, place.column, fault->detail);
    read->no_json = true;
}

static bool check_text(struct group_reading *reading, struct span text)
{
    struct json_fault fault;
    if (json_check(text.p, text.len, JSON_DEPTH_MAX, &fault) == OK)
        return true;
    refuse_text(reading, text, &fault);
    return false;
}

/* --- members ------------------------------------------------------------------------------------ */

static bool take_of_member(void *of, struct span key, struct span value)
{
    static const char *const of_groups[] = {"key",        "step",  "detached", "hold",
                                            "release_by", "group", "callback", NULL};
    struct group_reading *reading = of;
    bool is_name = json_key_is(key, "name");
    if (is_name || json_key_is(key, "after")) {
        if (json_type(value) != JSON_NULL && is_name)
            reading->saying->name = value;
        else if (json_type(value) != JSON_NULL)
            reading->saying->after = value;
        return true;
    }
    for (int i = 0; of_groups[i]; i++)
        if (json_key_is(key, of_groups[i])) {
            group_reading_fault(reading, reading->read->group.total, "", "`%s` is for the whole group",
                                of_groups[i]);
            return true;
        }
    return false;
}

static struct submission *add_member(struct group_reading *reading)
{
    struct group_read *read = reading->read;
    if (read->group.total == reading->cap) {
        reading->cap = reading->cap ? reading->cap * 2 : FIRST_CAP;
        read->items = xrealloc(read->items, (size_t)reading->cap * sizeof *read->items);
        if (!reading->task)
            reading->members = xrealloc(reading->members, (size_t)reading->cap * sizeof *reading->members);
    }
    if (!reading->task) {
        reading->saying = &reading->members[read->group.total];
        *reading->saying = (struct group_member){{NULL, 0}, {NULL, 0}};
    }
    struct submission *item = &read->items[read->group.total];
    *item = (struct submission){0};
    return item;
}

/* The single argument of a task that has parameters: in an array of its own. */
static struct span wrapped(struct group_reading *reading, struct span value)
{
    struct buf *texts = &reading->texts;
    if (!texts->cap) /* never moved: each value has a byte beside it that it needs no more */
        buf_reserve(texts, 2 * reading->body.len + 2);
    size_t start = texts->len;
    buf_addc(texts, '[');
    buf_add_span(texts, value);
    buf_addc(texts, ']');
    return (struct span){texts->data + start, texts->len - start};
}

static bool is_link(const struct group_reading *reading)
{
    return reading->read->group.mode == GROUP_CHAIN;
}

static void read_args(struct group_reading *reading, struct submission *item, struct span args,
                      struct faults *faults)
{
    struct submission_context *context = &reading->context;
    enum json_type type = json_type(args);
    *item = reading->common;
    item->particulars = NULL;
    if (reading->common.particulars) { /* a deadline */
        item->particulars = particulars_new();
        item->particulars->deadline_at = reading->common.particulars->deadline_at;
    }
    context->refers = is_link(reading);
    if (reading->task->params && type != JSON_ARRAY && type != JSON_OBJECT)
        args = wrapped(reading, args);
    if (submission_read_args(context, reading->task, args, item, faults) == OK)
        return;
}

static bool says_something(const struct group_reading *reading)
{
    return reading->saying->name.p || reading->saying->after.p;
}

static void read_submission(struct group_reading *reading, struct submission *item, struct span text,
                            struct faults *faults)
{
    struct submission_context *context = &reading->context;
    context->beside = take_of_member;
    context->of = reading;
    context->no_args = true;
    if (submission_read(context, text, item, &reading->scratch, faults) != OK)
        return;
    const struct task *task = group_reading_task(reading, json_get(text, "task"));
    item->parent = item->parent_lease = 0;
    context->refers = is_link(reading) || says_something(reading);
    if (task)
        group_shared_check_task(reading, task);
    if (task && submission_read_args(context, task, item->args, item, faults) != OK)
        return;
}

static void read_member(struct group_reading *reading, struct span text)
{
    struct group_read *read = reading->read;
    struct faults faults = {0};
    struct submission *item = add_member(reading);
    if ((int64_t)text.len > reading->member_bytes)
        faults_add(&faults, 0, "", "has %zu bytes; a member has %lld at most", text.len,
                   (long long)reading->member_bytes);
    else if (reading->task)
        read_args(reading, item, text, &faults);
    else
        read_submission(reading, item, text, &faults);
    if (faults.total)
        group_reading_faults(reading, read->group.total, &faults);
    read->group.total++;
}

/* --- where they stand ------------------------------------------------------------------------------ */

static bool is_blank(struct span line)
{
    for (size_t i = 0; i < line.len; i++)
        if (line.p[i] != ' ' && line.p[i] != '\t' && line.p[i] != '\r')
            return false;
    return true;
}

/* The next one that is not blank; false: there is none. */
static bool next_line(struct group_reading *reading, struct span *line)
{
    const char *end = reading->body.p + reading->body.len;
    while (reading->at < end) {
        const char *newline = memchr(reading->at, '\n', (size_t)(end - reading->at));
        *line = (struct span){reading->at, (size_t)((newline ? newline : end) - reading->at)};
        reading->at = newline ? newline + 1 : end;
        reading->line++;
        if (!is_blank(*line))
            return true;
    }
    return false;
}

static bool next_member(struct group_reading *reading, struct span *text)
{
    if (!reading->lines)
        return reading->it.p && json_element(&reading->it, text);
    if (!next_line(reading, text) || !check_text(reading, *text))
        return false;
    *text = json_trim(*text);
    return true;
}

/* Returns with true if the time is over and there are more. */
static bool read_members(struct group_reading *reading, int64_t until_us)
{
    struct group_read *read = reading->read;
    struct span text;
    for (int n = 1; next_member(reading, &text); n++) {
        if (read->group.total >= GROUP_MEMBERS_MAX) {
            faults_add(&read->faults, 0, reading->task ? "/args" : "/invocations",
                       "a group has %d members at most", (int)GROUP_MEMBERS_MAX);
            return false;
        }
        read_member(reading, text);
        if (read->faults.total > FAULTS_ENOUGH)
            return false;
        if (n % CLOCK_EVERY == 0 && clock_mono_us() > until_us)
            return true;
    }
    return false;
}

static void begin(struct group_reading *reading)
{
    struct span text = reading->body;
    struct group_read *read = reading->read;
    reading->at = text.p;
    if (reading->lines && !next_line(reading, &text))
        faults_add(&read->faults, 0, "", "there is no line; the first one has the group's own fields");
    else if (check_text(reading, text))
        group_head_read(reading, text);
}

/* --- the end ------------------------------------------------------------------------------------------ */

static void add_digest(struct buf *sums, struct span text, struct buf *scratch)
{
    uint8_t sum[SHA256_BYTES];
    scratch->len = 0;
    json_add_canonical(scratch, json_trim(text), sums->len ? NULL : "key");
    sha256(buf_span(scratch), sum);
    buf_add(sums, sum, sizeof sum);
}

/* White space, the order of fields and the key's place make no other group. */
static void digest(struct group_reading *reading)
{
    struct buf sums = {0};
    struct span text = reading->body;
    reading->at = text.p;
    if (!reading->lines)
        add_digest(&sums, text, &reading->scratch);
    while (reading->lines && next_line(reading, &text))
        add_digest(&sums, text, &reading->scratch);
    sha256(buf_span(&sums), reading->read->group.key_digest);
    buf_release(&sums);
    buf_release(&reading->scratch);
}

/* What counts from a release was read for all; some are not held. */
static void settle_times(const struct group_reading *reading, struct submission *item, int index)
{
    const struct group_submission *group = &reading->read->group;
    bool is_held = group->hold || item->after_count || item->after_member_count || (is_link(reading) && index > 0);
    if (is_held)
        return;
    if (item->delay_ms)
        item->run_at = reading->context.now_ms + item->delay_ms;
    if (item->expires_ms)
        item->expires_at = reading->context.now_ms + item->expires_ms;
    item->delay_ms = item->expires_ms = 0;
}

static void settle(struct group_reading *reading)
{
    struct group_submission *group = &reading->read->group;
    int64_t longest = 0;
    for (int i = 0; i < group->total; i++) {
        struct submission *item = &reading->read->items[i];
        settle_times(reading, item, i);
        if (item->retention_ms > longest)
            longest = item->retention_ms;
    }
    if (!group->retention_ms)
        group->retention_ms = longest ? longest : RETENTION_OF_NOBODY;
    group->ids = xcalloc((size_t)group->total + 1, sizeof *group->ids);
    if (group->key.p)
        digest(reading);
}

static bool finish(struct group_reading *reading)
{
    struct group_read *read = reading->read;
    read->err = read->faults.total ? ERR_INVALID : OK;
    if (read->err == OK)
        settle(reading);
    reading->stage = READING_OVER;
    return false;
}

static bool check_references(struct group_reading *reading, int64_t until_us)
{
    const struct group_read *read = reading->read;
    for (int n = 1; reading->next < read->group.total; n++) {
        group_graph_check_references(reading, reading->next++);
        if (read->faults.total > FAULTS_ENOUGH)
            return false;
        if (n % CLOCK_EVERY == 0 && clock_mono_us() > until_us)
            return true;
    }
    return false;
}

bool group_read_go_on(struct group_read *read, int64_t until_us)
{
    struct group_reading *reading = read->reading;
    switch (reading->stage) {
    case READING_HEAD: begin(reading); break;
    case READING_MEMBERS:
        if (read_members(reading, until_us))
            return true;
        if (read->faults.total)
            return finish(reading);
        break;
    case READING_GRAPH:
        group_graph_resolve(reading);
        if (read->faults.total)
            return finish(reading);
        break;
    case READING_REFERENCES:
        if (check_references(reading, until_us))
            return true;
        return finish(reading);
    case READING_OVER: return false;
    }
    if (read->no_json)
        return finish(reading);
    reading->stage++;
    return true;
}
