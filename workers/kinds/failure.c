#include "workers/kinds/failure.h"

#include "base/json.h"
#include "workers/kinds/attempt.h"

enum {
    TYPE_CHARACTERS = 100,
    TYPES_MAX = 50,
    TRACEBACK_BYTES = 16 * 1024, /* the end of it is kept */
    STDERR_BYTES = 4 * 1024,     /* as of a command */
};

/* --- what is said --------------------------------------------------------------- */

static void read_message(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    ((struct failure_told *)target)->message = keys_json_string(in, at, value);
}

static void read_traceback(const struct keys_json *in, const struct keys_place *at, struct span value,
                           void *target)
{
    ((struct failure_told *)target)->traceback = keys_json_string(in, at, value);
}

static void read_stderr(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    ((struct failure_told *)target)->stderr_end = keys_json_string(in, at, value);
}

static void read_retry(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    enum json_type type = json_type(value);
    if (type != JSON_TRUE && type != JSON_FALSE)
        keys_fault(in, at, "must be true or false");
    else
        ((struct failure_told *)target)->again = type == JSON_TRUE ? AGAIN_ALWAYS : AGAIN_NEVER;
}

static void read_types(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    struct keys_place place = {at, {NULL, 0}, 0};
    struct span item, text;
    if (json_type(value) != JSON_ARRAY) {
        keys_fault(in, at, "must be an array of strings");
        return;
    }
    struct json_iter it = json_iter(value);
    for (; json_element(&it, &item); place.index++)
        if (place.index < TYPES_MAX)
            keys_json_text(in, &place, item, 1, TYPE_CHARACTERS, &text);
    if (place.index > TYPES_MAX)
        keys_fault(in, at, "has %d types, the limit is %d", place.index, TYPES_MAX);
    ((struct failure_told *)target)->types = value;
}

enum { ERROR_EXIT_CODE = 1 << 0 };

static const struct key error_fields[] = {
    {.name = "exit_code",
     .type = KEY_INT,
     .offset = offsetof(struct failure_told, exit_code),
     .min = INT32_MIN,
     .max = INT32_MAX},
    {.name = "type",
     .type = KEY_SPAN,
     .offset = offsetof(struct failure_told, type),
     .min = 1,
     .max = TYPE_CHARACTERS,
     .required = true},
    {.name = "message", .type = KEY_OTHER, .read_json = read_message},
    {.name = "retry", .type = KEY_OTHER, .read_json = read_retry},
    {.name = "retry_after", .type = KEY_DURATION, .offset = offsetof(struct failure_told, retry_after_ms)},
    {.name = "traceback", .type = KEY_OTHER, .read_json = read_traceback},
    {.name = "stderr", .type = KEY_OTHER, .read_json = read_stderr},
    {.name = "types", .type = KEY_OTHER, .read_json = read_types},
    {0},
};

void failure_read(const struct keys_json *in, const struct keys_place *at, struct span value,
                  struct failure_told *out)
{
    *out = (struct failure_told){.again = AGAIN_AS_CONFIGURED, .retry_after_ms = -1};
    out->has_exit_code = keys_read_json(in, at, value, error_fields, out) & ERROR_EXIT_CODE;
}

/* --- what it makes -------------------------------------------------------------- */

/* The last of it, at most so many bytes, from the start of a character. */
static struct span end_of(struct span text, size_t max)
{
    if (text.len <= max)
        return text;
    text = (struct span){text.p + text.len - max, max};
    while (text.len && ((unsigned char)*text.p & 0xC0) == 0x80)
        text = (struct span){text.p + 1, text.len - 1};
    return text;
}

static void add_name(struct buf *out, const char *name)
{
    buf_addf(out, "%s\"%s\":", out->len ? "," : "", name);
}

static void add_text(struct buf *out, const char *name, struct span text)
{
    if (!text.p)
        return;
    add_name(out, name);
    json_add_string(out, text);
}

void failure_settle(const struct failure_told *told, struct outcome *outcome)
{
    struct buf detail = {0};
    if (told->has_exit_code) {
        add_name(&detail, "exit_code");
        buf_add_int(&detail, told->exit_code);
    }
    add_text(&detail, "stderr", end_of(told->stderr_end, STDERR_BYTES));
    add_text(&detail, "traceback", end_of(told->traceback, TRACEBACK_BYTES));
    if (told->types.p) {
        add_name(&detail, "types");
        buf_add_span(&detail, told->types);
    }
    outcome_fail(outcome, told->type, told->message.p ? told->message : SPAN(""), buf_span(&detail));
    outcome->retry = told->again != AGAIN_NEVER;
    outcome->insists = told->again == AGAIN_ALWAYS;
    outcome->retry_after_ms = told->retry_after_ms;
    buf_add_span(&outcome->types, told->types);
    buf_release(&detail);
}
