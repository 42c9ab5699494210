/* What a body asks: each is a question to the server, and its thread sleeps until that is
 * answered. When the body is to end, the server answers `stopped` at once. */
#include "workers/isolated_internal.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/json.h"
#include "store/status.h"
#include "workers/suspension.h"

#include <inttypes.h>

/* --- asking ----------------------------------------------------------------------------- */

static void begin(struct buf *line, const char *type, struct attempt *attempt)
{
    wire_begin(line, type, isolated_run_of(attempt)->number);
}

static bool text_is(struct span value, const char *text)
{
    return value.p && json_type(value) == JSON_STRING && span_is((struct span){value.p + 1, value.len - 2}, text);
}

static void tell_why(struct span error, struct reason *why)
{
    struct span message = json_get(error, "message");
    struct buf text = {0};
    if (message.p && json_type(message) == JSON_STRING)
        json_unescape(message, &text);
    reason_set(why, "%s", buf_cstr(&text));
    buf_release(&text);
}

/* SAID with the answer, the caller's to release; SAID_STOPPED; or SAID_REFUSED, with the reason. */
static enum said ask(struct attempt *attempt, struct buf *line, struct buf *answer, struct reason *why)
{
    struct wire *wire = isolated_run_of(attempt)->wire;
    if (wire_is_too_long(wire, line)) {
        reason_set(why, "it has %zu bytes, which no line has room for", line->len);
        buf_release(line);
        return SAID_REFUSED;
    }
    wire_ask(wire, line, answer);
    struct span error = json_get(buf_span(answer), "error");
    if (!error.p || json_type(error) != JSON_OBJECT)
        return SAID;
    enum said said = text_is(json_get(error, "type"), "stopped") ? SAID_STOPPED : SAID_REFUSED;
    tell_why(error, why);
    return said;
}

/* JSON that is a member of a line, which is nested once more. */
static bool fits(struct span json, struct reason *why)
{
    struct json_fault fault;
    if (json_check(json.p, json.len, JSON_DEPTH_MAX - 1, &fault) == OK)
        return true;
    reason_set(why, "not valid JSON: %s, at byte %zu", fault.detail, fault.offset);
    return false;
}

static void add_json(struct buf *line, const char *name, struct span json)
{
    buf_addf(line, ",\"%s\":", name);
    json_add_line(line, json_trim(json));
}

static void add_number(struct buf *line, const char *name, int64_t number)
{
    buf_addf(line, ",\"%s\":%" PRId64, name, number);
}

static bool is_true(struct span value)
{
    return value.p && json_type(value) == JSON_TRUE;
}

/* --- children ----------------------------------------------------------------------------- */

bool isolated_submit(struct attempt *attempt, struct span submission, int64_t *id, struct reason *why)
{
    struct buf line = {0}, answer = {0};
    if (!fits(submission, why))
        return false;
    begin(&line, "submit", attempt);
    add_json(&line, "submission", submission);
    bool made = ask(attempt, &line, &answer, why) == SAID;
    struct span text = made ? json_get(buf_span(&answer), "id") : (struct span){NULL, 0};
    if (made && !(text.p && text.len > 2 && id_parse((struct span){text.p + 1, text.len - 2}, id))) {
        reason_set(why, "the server gave no id");
        made = false;
    }
    buf_release(&answer);
    return made;
}

static void add_ids(struct buf *line, const int64_t *ids, int count)
{
    buf_addl(line, ",\"ids\":[");
    for (int i = 0; i < count; i++) {
        buf_adds(line, i ? ",\"" : "\"");
        id_add(line, ids[i]);
        buf_addc(line, '"');
    }
    buf_addc(line, ']');
}

/* Its timeout stands still meanwhile. */
static enum said ask_resting(struct attempt *attempt, struct buf *line, struct buf *answer, struct reason *why)
{
    int64_t began_us = clock_mono_us();
    enum said said = ask(attempt, line, answer, why);
    if (attempt->told_end_us)
        attempt->told_end_us += clock_mono_us() - began_us;
    return said;
}

enum waited isolated_wait(struct attempt *attempt, const int64_t *ids, int count, bool any, int64_t timeout_ms,
                          struct reason *why)
{
    struct buf line = {0}, answer = {0};
    begin(&line, "wait", attempt);
    add_ids(&line, ids, count);
    if (any)
        buf_addl(&line, ",\"mode\":\"any\"");
    if (timeout_ms >= 0)
        add_number(&line, "timeout_ms", timeout_ms);
    enum said said = ask_resting(attempt, &line, &answer, why);
    bool timed_out = said == SAID && is_true(json_get(buf_span(&answer), "timed_out"));
    buf_release(&answer);
    if (said == SAID)
        return timed_out ? WAITED_TIMED_OUT : WAITED_MET;
    return said == SAID_STOPPED ? WAITED_STOPPED : WAITED_REFUSED;
}

static void take_value(struct span result, const char *name, struct buf *out)
{
    struct span value = json_get(result, name);
    if (value.p && json_type(value) != JSON_NULL)
        buf_add_span(out, value);
}

static enum err read_view(struct span answer, struct child_view *out)
{
    struct span result = json_get(answer, "result"), text;
    enum status status;
    if (!result.p || json_type(result) != JSON_OBJECT)
        return ERR_UNAVAILABLE;
    text = json_get(result, "status");
    if (!text.p || text.len < 2 || !status_parse((struct span){text.p + 1, text.len - 2}, &status))
        return ERR_UNAVAILABLE;
    out->status = status_name(status);
    take_value(result, "result", &out->result);
    take_value(result, "error", &out->error);
    return OK;
}

/* A look is refused where there is nothing to look at. */
enum err isolated_look(struct attempt *attempt, int64_t id, struct child_view *out)
{
    struct buf line = {0}, answer = {0};
    *out = (struct child_view){0};
    begin(&line, "look", attempt);
    buf_addl(&line, ",\"id\":\"");
    id_add(&line, id);
    buf_addc(&line, '"');
    enum said said = ask(attempt, &line, &answer, NULL);
    enum err err = said == SAID           ? read_view(buf_span(&answer), out)
                   : said == SAID_REFUSED ? ERR_NOT_FOUND
                                          : ERR_UNAVAILABLE;
    buf_release(&answer);
    return err;
}

/* --- steps -------------------------------------------------------------------------------- */

enum said isolated_step(struct attempt *attempt, struct span name, struct span value, struct buf *kept,
                        struct reason *why)
{
    struct step_list *steps = &isolated_run_of(attempt)->steps;
    struct buf line = {0}, answer = {0};
    if (!fits(value, why))
        return SAID_REFUSED;
    begin(&line, "step", attempt);
    buf_addl(&line, ",\"name\":");
    json_add_string(&line, name);
    add_json(&line, "value", value);
    enum said said = ask(attempt, &line, &answer, why);
    if (said == SAID) {
        struct span stands = json_get(buf_span(&answer), "value");
        if (!stands.p)
            stands = value;
        if (!step_list_find(steps, name))
            step_list_add(steps, name, stands);
        buf_add_span(kept, stands);
        said = is_true(json_get(buf_span(&answer), "found")) ? SAID_BEFORE : SAID;
    }
    buf_release(&answer);
    return said;
}

/* Nobody else records steps of this turn, and those of earlier ones came with it. */
enum said isolated_step_get(struct attempt *attempt, struct span name, struct buf *value, struct reason *why)
{
    const struct listed_step *step = step_list_find(&isolated_run_of(attempt)->steps, name);
    (void)why;
    if (step)
        buf_add_span(value, buf_span(&step->value));
    return step ? SAID : SAID_NOTHING;
}

/* --- messages ------------------------------------------------------------------------------- */

enum said isolated_message(struct attempt *attempt, struct span body, struct reason *why)
{
    struct buf line = {0}, answer = {0};
    if (!fits(body, why))
        return SAID_REFUSED;
    begin(&line, "message", attempt);
    add_json(&line, "body", body);
    enum said said = ask(attempt, &line, &answer, why);
    buf_release(&answer);
    return said;
}

static enum said take_message(struct span message, struct inbox_message *out)
{
    struct span seq, body;
    if (!message.p || json_type(message) != JSON_OBJECT)
        return SAID_NOTHING;
    seq = json_get(message, "seq");
    body = json_get(message, "body");
    if (!seq.p || !body.p || !json_int64(seq, &out->seq))
        return SAID_NOTHING;
    buf_add_span(&out->body, body);
    return SAID;
}

enum said isolated_inbox(struct attempt *attempt, int64_t after_seq, int64_t timeout_ms, struct inbox_message *out,
                         struct reason *why)
{
    struct buf line = {0}, answer = {0};
    begin(&line, "inbox", attempt);
    add_number(&line, "after", after_seq);
    if (timeout_ms >= 0)
        add_number(&line, "timeout_ms", timeout_ms);
    enum said said = ask_resting(attempt, &line, &answer, why);
    if (said == SAID)
        said = take_message(json_get(buf_span(&answer), "message"), out);
    buf_release(&answer);
    return said;
}

/* --- suspension ------------------------------------------------------------------------------- */

/* What else it has would be the line's. So it is read here as the server reads it. */
static bool is_sound(struct span suspension, struct reason *why)
{
    struct suspension_read read = {.now_ms = clock_now_ms()};
    struct faults faults = {0};
    struct buf arena = {0};
    suspension_read(&(struct keys_json){&faults, &arena}, NULL, suspension, &read);
    bool sound = !faults.total;
    if (!sound)
        reason_set(why, "%s%s%s", faults.items[0].pointer, *faults.items[0].pointer ? ": " : "",
                   faults.items[0].detail);
    suspension_release(&read);
    faults_release(&faults);
    buf_release(&arena);
    return sound;
}

enum said isolated_suspend(struct attempt *attempt, struct span suspension, struct reason *why)
{
    static const char *const members[] = {"on", "state"};
    struct buf line = {0}, answer = {0};
    if (!is_sound(suspension, why))
        return SAID_REFUSED;
    begin(&line, "suspend", attempt);
    for (int i = 0; i < 2; i++) {
        struct span value = json_get(suspension, members[i]);
        if (value.p)
            add_json(&line, members[i], value);
    }
    enum said said = ask(attempt, &line, &answer, why);
    buf_release(&answer);
    isolated_run_of(attempt)->has_suspended |= said == SAID;
    return said;
}
