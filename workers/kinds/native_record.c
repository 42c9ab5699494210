/* What a body puts on record, and finds there: steps, and messages out and in.
 * Everything it says is checked here: what leaves through the sink is sound. */
#include "workers/kinds/native_call.h"

#include "base/clock.h"
#include "base/json.h"

#include <inttypes.h>

enum {
    NAME_BYTES = 100,
    VALUE_BYTES = 1024 * 1024, /* of one step, and of all together */
    MESSAGE_BYTES = 64 * 1024,
    SUSPENSION_BYTES = 1024 * 1024 + 64 * 1024, /* a state, and what it waits for */
};

#define NO_SERVER "there is no server"

/* The name of a step; an absent span with the reason. */
static struct span check_name(struct native_call *native, const char *name)
{
    size_t length = name ? strnlen(name, NAME_BYTES + 1) : 0;
    struct span none = {NULL, 0}, text = {name, length};
    if (!length || length > NAME_BYTES)
        native_call_refuse(native, "a step's name has 1 to 100 bytes");
    else if (!utf8_valid(text))
        native_call_refuse(native, "a step's name is no UTF-8");
    else
        return text;
    return none;
}

/* JSON that it says; an absent span with the reason. */
static struct span check_json(struct native_call *native, const char *what, const char *json, size_t length,
                              size_t limit)
{
    struct json_fault fault;
    struct span none = {NULL, 0}, text = {json, length};
    if (!json)
        reason_set(&native->why, "the %s is a null pointer", what);
    else if (length > limit)
        reason_set(&native->why, "the %s has %zu bytes, the limit is %zu", what, length, limit);
    else if (json_check(json, length, JSON_DEPTH_MAX, &fault) != OK)
        reason_set(&native->why, "the %s is not valid JSON: %s, at byte %zu", what, fault.detail, fault.offset);
    else
        return json_trim(text);
    return none;
}

static int answer(struct native_call *native, enum said said)
{
    switch (said) {
    case SAID: return 0;
    case SAID_BEFORE: return ERRAND_FOUND;
    case SAID_NOTHING: return ERRAND_NONE;
    case SAID_STOPPED: return native_call_stopped(native);
    case SAID_REFUSED: break;
    }
    return ERRAND_REFUSED;
}

/* --- steps ---------------------------------------------------------------------- */

int native_record_step(struct errand_call *call, const char *name, const char *json, size_t length,
                       const char **kept, size_t *kept_length)
{
    struct native_call *native = native_call(call);
    const struct attempt_sink *sink = native->attempt->sink;
    struct buf scratch = {0}, *stands = kept ? native_call_text(native) : &scratch;
    struct span step = check_name(native, name), value;
    if (!step.p)
        return ERRAND_REFUSED;
    value = check_json(native, "value", json, length, VALUE_BYTES);
    if (!value.p)
        return ERRAND_REFUSED;
    if (!sink->step)
        return native_call_refuse(native, NO_SERVER);
    enum said said = sink->step(native->attempt, step, value, stands, &native->why);
    if (kept && (said == SAID || said == SAID_BEFORE))
        native_call_give(stands, kept, kept_length);
    buf_release(&scratch);
    return answer(native, said);
}

int native_record_step_get(struct errand_call *call, const char *name, const char **value, size_t *length)
{
    struct native_call *native = native_call(call);
    const struct attempt_sink *sink = native->attempt->sink;
    struct span step = check_name(native, name);
    if (!step.p)
        return ERRAND_REFUSED;
    if (!sink->step_get)
        return native_call_refuse(native, NO_SERVER);
    struct buf found = {0};
    enum said said = sink->step_get(native->attempt, step, &found, &native->why);
    if (said == SAID) {
        struct buf *text = native_call_text(native);
        *text = found;
        native_call_give(text, value, length);
    } else {
        buf_release(&found);
    }
    return answer(native, said);
}

/* --- messages -------------------------------------------------------------------- */

int native_record_message(struct errand_call *call, const char *json, size_t length)
{
    struct native_call *native = native_call(call);
    const struct attempt_sink *sink = native->attempt->sink;
    struct span body = check_json(native, "message", json, length, MESSAGE_BYTES);
    if (!body.p)
        return ERRAND_REFUSED;
    if (!sink->message)
        return native_call_refuse(native, NO_SERVER);
    return answer(native, sink->message(native->attempt, body, &native->why));
}

int native_record_inbox(struct errand_call *call, int64_t after_seq, int64_t timeout_ms, const char **body,
                        size_t *length, int64_t *seq)
{
    struct native_call *native = native_call(call);
    const struct attempt_sink *sink = native->attempt->sink;
    struct inbox_message *message = &native->message;
    if (!sink->inbox)
        return native_call_refuse(native, NO_SERVER);
    message->body.len = 0;
    enum said said =
        sink->inbox(native->attempt, after_seq < 0 ? 0 : after_seq,
                    timeout_ms > DURATION_MAX_MS ? DURATION_MAX_MS : timeout_ms, message, &native->why);
    if (said == SAID) {
        native_call_give(&message->body, body, length);
        if (seq)
            *seq = message->seq;
    }
    return answer(native, said);
}

/* --- suspension ------------------------------------------------------------------ */

int native_record_suspend(struct errand_call *call, const char *json, size_t length)
{
    struct native_call *native = native_call(call);
    const struct attempt_sink *sink = native->attempt->sink;
    struct span suspension = check_json(native, "suspension", json, length, SUSPENSION_BYTES);
    if (!suspension.p)
        return ERRAND_REFUSED;
    if (!sink->suspend)
        return native_call_refuse(native, NO_SERVER);
    return answer(native, sink->suspend(native->attempt, suspension, &native->why));
}

static const char *give(struct span text, size_t *length)
{
    if (length)
        *length = text.len;
    return text.p;
}

const char *native_record_state(struct errand_call *call, size_t *length)
{
    return give(native_call(call)->attempt->state, length);
}

const char *native_record_woken(struct errand_call *call, size_t *length)
{
    return give(native_call(call)->attempt->woken, length);
}
