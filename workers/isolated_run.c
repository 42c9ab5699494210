#include "workers/isolated_internal.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/json.h"

#include <inttypes.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    LOG_BYTES = 1 << 20, /* of one message */
    PROGRESS_EVERY_US = 100 * 1000,
    RESULT_BYTES = 8 << 20, /* unless it is told */
};

/* --- what it says --------------------------------------------------------------------- */

static void say_log_of(struct isolated_run *run, enum stream stream, struct span bytes)
{
    while (bytes.len) {
        struct span part = bytes.len > LOG_BYTES ? utf8_cut(bytes, LOG_BYTES) : bytes;
        struct buf line = {0};
        wire_begin(&line, "log", run->number);
        if (stream == STREAM_STDOUT)
            buf_addl(&line, ",\"stream\":\"stdout\"");
        buf_addl(&line, ",\"text\":");
        json_add_lossy(&line, part);
        buf_addc(&line, '}');
        wire_say(run->wire, &line);
        bytes = (struct span){bytes.p + part.len, bytes.len - part.len};
    }
}

static void say_log(struct attempt *attempt, struct log_pending *pending)
{
    size_t at = 0;
    for (int i = 0; i < pending->count; i++) {
        struct log_piece piece = pending->pieces[i];
        say_log_of(isolated_run_of(attempt), piece.stream, (struct span){pending->bytes.data + at, piece.len});
        at += piece.len;
    }
}

/* A body may have set a locale in which there is a comma. */
static void add_number(struct buf *line, double value)
{
    locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    locale_t before = uselocale(plain);
    buf_addf(line, "%.17g", value);
    uselocale(before);
    freelocale(plain);
}

static void say_progress(struct isolated_run *run, double value, struct span note)
{
    struct buf line = {0};
    run->progress_is_held = false;
    run->progress_us = clock_mono_us();
    wire_begin(&line, "progress", run->number);
    buf_addl(&line, ",\"value\":");
    add_number(&line, value);
    if (note.p) {
        buf_addl(&line, ",\"note\":");
        json_add_string(&line, note);
    }
    buf_addc(&line, '}');
    wire_say(run->wire, &line);
}

static void say_held_progress(struct isolated_run *run)
{
    bool has_note = run->progress_note.data;
    say_progress(run, run->progress_value, has_note ? buf_span(&run->progress_note) : (struct span){NULL, 0});
}

/* At most ten a second, as the server writes them; the last of those that are held back is
 * said when it is time, or at the end. */
static void show_progress(struct attempt *attempt, double value, struct span note)
{
    struct isolated_run *run = isolated_run_of(attempt);
    if (clock_mono_us() - run->progress_us >= PROGRESS_EVERY_US) {
        say_progress(run, value, note);
        return;
    }
    run->progress_value = value;
    buf_release(&run->progress_note);
    if (note.p)
        buf_add_span(&run->progress_note, note);
    if (!run->progress_is_held)
        attempt_wake(attempt);
    run->progress_is_held = true;
}

int isolated_run_tick(struct isolated_run *run)
{
    int due_ms = -1;
    pthread_mutex_lock(&run->attempt.lock);
    if (run->progress_is_held) {
        int64_t left_us = run->progress_us + PROGRESS_EVERY_US - clock_mono_us();
        if (left_us > 0)
            due_ms = (int)((left_us + 999) / 1000);
        else
            say_held_progress(run);
    }
    pthread_mutex_unlock(&run->attempt.lock);
    return due_ms;
}

static const struct attempt_sink sink = {
    .log_at_once = true,
    .log = say_log,
    .progress = show_progress,
    .submit = isolated_submit,
    .wait = isolated_wait,
    .look = isolated_look,
    .step = isolated_step,
    .step_get = isolated_step_get,
    .message = isolated_message,
    .inbox = isolated_inbox,
    .suspend = isolated_suspend,
};

/* --- the end ------------------------------------------------------------------------- */

/* A line is nested as deeply as the result and once more: else the server would not believe it. */
static bool fits(struct isolated_run *run, struct span result, struct reason *why)
{
    struct json_fault fault;
    if (json_check(result.p, result.len, JSON_DEPTH_MAX - 1, &fault) != OK)
        reason_set(why, "the result is not valid JSON: %s, at byte %zu", fault.detail, fault.offset);
    else if (result.len + 100 > run->wire->line_bytes)
        reason_set(why, "the result has %zu bytes, which no line has room for", result.len);
    else
        return true;
    return false;
}

static void add_done(struct isolated_run *run, struct buf *line)
{
    const struct outcome *outcome = &run->outcome;
    wire_begin(line, "done", run->number);
    if (outcome->result.len && !run->has_suspended) {
        buf_addl(line, ",\"result\":");
        json_add_line(line, buf_span(&outcome->result));
    }
    buf_addc(line, '}');
}

/* The whole object as outcome_fail() made it, and what stands beside it. */
static void add_failed(struct isolated_run *run, struct buf *line)
{
    const struct outcome *outcome = &run->outcome;
    struct span error = buf_span(&outcome->error);
    wire_begin(line, "failed", run->number);
    buf_addl(line, ",\"error\":");
    buf_add(line, error.p, error.len - 1);
    if (!outcome->retry)
        buf_addl(line, ",\"retry\":false");
    if (outcome->retry_after_ms >= 0)
        buf_addf(line, ",\"retry_after\":\"%" PRId64 "ms\"", outcome->retry_after_ms);
    buf_addl(line, "}}");
}

/* It was told to end, and the server knows why. */
static void add_stopped(struct isolated_run *run, struct buf *line)
{
    wire_begin(line, "failed", run->number);
    buf_addl(line, ",\"error\":{\"type\":\"stopped\",\"message\":\"it was stopped\"}}");
}

/* Nothing else may be said of it after that. */
static void say_rest(struct isolated_run *run)
{
    pthread_mutex_lock(&run->attempt.lock);
    if (run->progress_is_held)
        say_held_progress(run);
    pthread_mutex_unlock(&run->attempt.lock);
    /* Not all streams: another body may hold one, and wait for what it reads there. */
    fflush(stdout);
    fflush(stderr);
}

void isolated_run_say_end(struct isolated_run *run)
{
    struct outcome *outcome = &run->outcome;
    struct buf line = {0};
    struct reason why;
    say_rest(run);
    if (outcome->end == OUTCOME_SUCCEEDED && outcome->result.len && !fits(run, buf_span(&outcome->result), &why))
        outcome_fail(outcome, SPAN("bad_result"), span_of(why.text), (struct span){NULL, 0});
    if (outcome->end == OUTCOME_SUCCEEDED || run->has_suspended)
        add_done(run, &line);
    else if (outcome->end == OUTCOME_FAILED)
        add_failed(run, &line);
    else
        add_stopped(run, &line);
    outcome_release(outcome);
    wire_say(run->wire, &line);
}

void isolated_run_body(struct isolated_run *run)
{
    attempt_run(&run->attempt, &run->outcome);
}

/* --- the beginning ---------------------------------------------------------------------- */

/* The text of a string; empty if it is none. */
static void read_text(struct span line, const char *name, struct buf *out)
{
    struct span value = json_get(line, name);
    if (value.p && json_type(value) == JSON_STRING)
        json_unescape(value, out);
}

/* A value with a NUL behind it; an absent span. */
static struct span read_json(struct span line, const char *name, struct buf *out)
{
    struct span value = json_get(line, name);
    if (!value.p)
        return value;
    buf_add_span(out, value);
    return (struct span){buf_cstr(out), out->len};
}

static int64_t read_number(struct span line, const char *name, int64_t otherwise)
{
    struct span value = json_get(line, name);
    int64_t number;
    return value.p && json_type(value) == JSON_NUMBER && json_int64(value, &number) ? number : otherwise;
}

static void read_steps(struct span line, struct step_list *steps)
{
    struct span all = json_get(line, "steps"), key, value;
    struct buf name = {0};
    if (!all.p || json_type(all) != JSON_OBJECT)
        return;
    struct json_iter it = json_iter(all);
    while (json_member(&it, &key, &value)) {
        name.len = 0;
        json_unescape(key, &name);
        step_list_add(steps, buf_span(&name), value);
    }
    buf_release(&name);
}

static void read_times(struct span line, struct attempt *attempt)
{
    struct buf text = {0};
    int64_t timeout_ms = read_number(line, "timeout_ms", 0);
    attempt->told_end_us = timeout_ms > 0 ? clock_mono_us() + timeout_ms * 1000 : 0;
    read_text(line, "deadline", &text);
    if (!text.len || !time_parse(buf_span(&text), &attempt->deadline_at))
        attempt->deadline_at = 0;
    buf_release(&text);
}

static void read_run(struct isolated_run *run, struct span line)
{
    struct attempt *attempt = &run->attempt;
    attempt->number = (int)read_number(line, "attempt", 1);
    attempt->args = read_json(line, "args", &run->args);
    if (!attempt->args.p)
        attempt->args = SPAN("null");
    attempt->state = read_json(line, "state", &run->state);
    attempt->woken = read_json(line, "woken", &run->woken);
    read_steps(line, &run->steps);
    read_times(line, attempt);
    read_text(line, "task", &run->name);
    run->limits.result_bytes = read_number(line, "result_bytes", RESULT_BYTES);
}

struct isolated_run *isolated_run_new(struct wire *wire, const struct task *task, struct span line, int wake_fd)
{
    struct buf id = {0};
    int64_t number = read_number(line, "run", 0), parsed = 0;
    read_text(line, "id", &id);
    bool has_id = id_parse(buf_span(&id), &parsed);
    buf_release(&id);
    if (number <= 0 || !has_id)
        return NULL;
    struct isolated_run *run = xcalloc(1, sizeof *run);
    run->wire = wire;
    run->number = number;
    run->task = *task;
    run->limits.log_bytes = INT64_MAX; /* the server's to cut */
    run->progress_us = -PROGRESS_EVERY_US;
    /* No timeout: the server has the clock, and says when it is over. */
    run->attempt = (struct attempt){
        .task = &run->task, .id = parsed, .limits = &run->limits, .sink = &sink, .wake_fd = wake_fd};
    read_run(run, line);
    run->task.name = (char *)buf_cstr(&run->name);
    attempt_init(&run->attempt);
    return run;
}

void isolated_run_free(struct isolated_run *run)
{
    attempt_release(&run->attempt);
    outcome_release(&run->outcome);
    step_list_release(&run->steps);
    buf_release(&run->name);
    buf_release(&run->args);
    buf_release(&run->state);
    buf_release(&run->woken);
    buf_release(&run->progress_note);
    free(run);
}
