#include "server/resources/turn_end.h"

#include "base/json.h"
#include "server/resources/resource.h"
#include "workers/kinds/attempt.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    TYPE_CHARACTERS = 100,
    TYPES_MAX = 50,
    TRACEBACK_BYTES = 16 * 1024, /* the end of it is kept */
    STDERR_BYTES = 4 * 1024,     /* as of a command */
};

/* --- what is said --------------------------------------------------------------- */

void turn_end_read_result(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    (void)in, (void)at;
    ((struct turn_end *)target)->result = value;
}

static void read_message(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    ((struct turn_end *)target)->message = resource_text(in, at, value);
}

static void read_traceback(const struct keys_json *in, const struct keys_place *at, struct span value,
                           void *target)
{
    ((struct turn_end *)target)->traceback = resource_text(in, at, value);
}

static void read_stderr(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    ((struct turn_end *)target)->stderr_end = resource_text(in, at, value);
}

static void read_retry(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    enum json_type type = json_type(value);
    if (type != JSON_TRUE && type != JSON_FALSE)
        keys_fault(in, at, "must be true or false");
    else
        ((struct turn_end *)target)->again = type == JSON_TRUE ? AGAIN_ALWAYS : AGAIN_NEVER;
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
    ((struct turn_end *)target)->types = value;
}

enum { ERROR_EXIT_CODE = 1 << 0 };

static const struct key error_fields[] = {
    {.name = "exit_code",
     .type = KEY_INT,
     .offset = offsetof(struct turn_end, exit_code),
     .min = INT32_MIN,
     .max = INT32_MAX},
    {.name = "type",
     .type = KEY_SPAN,
     .offset = offsetof(struct turn_end, type),
     .min = 1,
     .max = TYPE_CHARACTERS,
     .required = true},
    {.name = "message", .type = KEY_OTHER, .read_json = read_message},
    {.name = "retry", .type = KEY_OTHER, .read_json = read_retry},
    {.name = "retry_after", .type = KEY_DURATION, .offset = offsetof(struct turn_end, retry_after_ms)},
    {.name = "traceback", .type = KEY_OTHER, .read_json = read_traceback},
    {.name = "stderr", .type = KEY_OTHER, .read_json = read_stderr},
    {.name = "types", .type = KEY_OTHER, .read_json = read_types},
    {0},
};

void turn_end_read_error(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    struct turn_end *end = target;
    end->failed = true;
    end->again = AGAIN_AS_CONFIGURED;
    end->retry_after_ms = -1;
    end->has_exit_code = keys_read_json(in, at, value, error_fields, end) & ERROR_EXIT_CODE;
}

/* --- what becomes of it --------------------------------------------------------- */

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

static void make_error(struct turn_end *end)
{
    struct outcome outcome = {0};
    struct buf detail = {0};
    if (end->has_exit_code) {
        add_name(&detail, "exit_code");
        buf_add_int(&detail, end->exit_code);
    }
    add_text(&detail, "stderr", end_of(end->stderr_end, STDERR_BYTES));
    add_text(&detail, "traceback", end_of(end->traceback, TRACEBACK_BYTES));
    if (end->types.p) {
        add_name(&detail, "types");
        buf_add_span(&detail, end->types);
    }
    outcome_fail(&outcome, end->type, end->message.p ? end->message : SPAN(""), buf_span(&detail));
    end->error_type = outcome.type;
    end->error = outcome.error;
    buf_release(&detail);
}

static void refuse_result(struct turn_end *end, int64_t limit)
{
    char message[100];
    struct outcome outcome = {0};
    snprintf(message, sizeof message, "the result has %zu bytes, the limit is %" PRId64, end->result.len, limit);
    outcome_fail(&outcome, SPAN("bad_result"), span_of(message), (struct span){0});
    end->error_type = outcome.type;
    end->error = outcome.error;
    end->again = AGAIN_AS_CONFIGURED;
    end->retry_after_ms = -1;
}

void turn_end_decide(struct turn_end *end, const struct turn_row *row, const struct task *task,
                     int64_t result_bytes, int64_t now_ms, double random)
{
    struct op_finish *finish = &end->finish;
    bool too_large = !end->failed && (int64_t)end->result.len > result_bytes;
    op_finish_init_once(finish, &row->turn);
    finish->retention_ms = row->retention_ms;
    if (!end->failed && !too_large) {
        finish->next = FINISH_FINAL;
        finish->status = STATUS_SUCCEEDED;
        finish->result = end->result;
        finish->finished_at = now_ms;
        return;
    }
    if (too_large)
        refuse_result(end, result_bytes);
    else
        make_error(end);
    struct failure failure = {
        .type = buf_span(&end->error_type),
        .error = buf_span(&end->error),
        .types = end->types,
        .again = end->again,
        .retry_after_ms = end->retry_after_ms,
        .failures = row->failures,
        .max_retries = row->max_retries,
    };
    verdict_on_failure(finish, task, &failure, now_ms, random);
}

void turn_end_release(struct turn_end *end)
{
    buf_release(&end->error_type);
    buf_release(&end->error);
}
