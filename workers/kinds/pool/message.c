#include "workers/kinds/pool/message.h"

#include "base/json.h"

#include <math.h>

#define SEQ_MAX INT64_C(9007199254740991)

/* --- members ----------------------------------------------------------------------- */

static void read_value(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    double number = json_type(value) == JSON_NUMBER ? json_double(value) : NAN;
    if (!isfinite(number))
        keys_fault(in, at, "must be a number");
    else
        ((struct message *)target)->value = number;
}

static void read_text(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    struct message *message = target;
    if (json_type(value) != JSON_STRING) {
        keys_fault(in, at, "must be a string");
        return;
    }
    size_t start = in->arena->len;
    json_unescape(value, in->arena);
    bool is_empty = in->arena->len == start;
    message->text = is_empty ? SPAN("") : (struct span){in->arena->data + start, in->arena->len - start};
}

static void read_note(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    if (json_type(value) != JSON_NULL)
        read_text(in, at, value, target);
}

static void read_stream(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    bool is_out = span_equal(value, SPAN("\"stdout\""));
    if (!is_out && !span_equal(value, SPAN("\"stderr\"")))
        keys_fault(in, at, "must be \"stdout\" or \"stderr\"");
    ((struct message *)target)->stream = is_out ? STREAM_STDOUT : STREAM_STDERR;
}

static void read_error(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    failure_read(in, at, value, &((struct message *)target)->error);
}

static void read_whole(const struct keys_json *in, const struct keys_place *at, struct span value, int64_t *out)
{
    if (json_type(value) != JSON_NUMBER || !json_int64(value, out) || *out < 1 || *out > SEQ_MAX)
        keys_fault(in, at, "must be a whole number from 1 to 9007199254740991");
}

static void read_run(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    read_whole(in, at, value, &((struct message *)target)->run);
}

static void read_seq(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    read_whole(in, at, value, &((struct message *)target)->seq);
}

static void ignore(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    (void)in, (void)at, (void)value, (void)target;
}

/* --- the messages ------------------------------------------------------------------ */

#define TYPE                                                   \
    {                                                          \
        .name = "type", .type = KEY_OTHER, .read_json = ignore \
    }
#define RUN                                                                       \
    {                                                                             \
        .name = "run", .type = KEY_OTHER, .read_json = read_run, .required = true \
    }

static const struct key ready_fields[] = {
    TYPE,
    {.name = "protocol",
     .type = KEY_INT,
     .min = 1,
     .max = INT32_MAX,
     .offset = offsetof(struct message, protocol),
     .required = true},
    {.name = "client",
     .type = KEY_SPAN,
     .min = 0,
     .max = CLIENT_CHARACTERS,
     .offset = offsetof(struct message, client)},
    {0},
};

static const struct key done_fields[] = {
    TYPE,
    RUN,
    {.name = "result", .type = KEY_VALUE, .offset = offsetof(struct message, result)},
    {0},
};

static const struct key failed_fields[] = {
    TYPE,
    RUN,
    {.name = "error", .type = KEY_OTHER, .read_json = read_error, .required = true},
    {0},
};

static const struct key progress_fields[] = {
    TYPE,
    RUN,
    {.name = "value", .type = KEY_OTHER, .read_json = read_value, .required = true},
    {.name = "note", .type = KEY_OTHER, .read_json = read_note},
    {0},
};

static const struct key log_fields[] = {
    TYPE,
    {.name = "run", .type = KEY_OTHER, .read_json = read_run},
    {.name = "text", .type = KEY_OTHER, .read_json = read_text, .required = true},
    {.name = "stream", .type = KEY_OTHER, .read_json = read_stream},
    {0},
};

static const struct known {
    const char *name;
    enum message_type type;
    enum asked asked;
    const struct key *fields; /* NULL: what it asks is looked at later */
} known[] = {
    {"ready", MESSAGE_READY, 0, ready_fields},     {"done", MESSAGE_DONE, 0, done_fields},
    {"failed", MESSAGE_FAILED, 0, failed_fields},  {"progress", MESSAGE_PROGRESS, 0, progress_fields},
    {"log", MESSAGE_LOG, 0, log_fields},           {"submit", MESSAGE_REQUEST, ASKED_SUBMIT, NULL},
    {"group", MESSAGE_REQUEST, ASKED_GROUP, NULL}, {"wait", MESSAGE_REQUEST, ASKED_WAIT, NULL},
    {"look", MESSAGE_REQUEST, ASKED_LOOK, NULL},   {"step", MESSAGE_REQUEST, ASKED_STEP, NULL},
    {"steps", MESSAGE_REQUEST, ASKED_STEPS, NULL}, {"message", MESSAGE_REQUEST, ASKED_MESSAGE, NULL},
    {"inbox", MESSAGE_REQUEST, ASKED_INBOX, NULL}, {"suspend", MESSAGE_REQUEST, ASKED_SUSPEND, NULL},
};

static const struct known *find(struct span type)
{
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (json_type(type) == JSON_STRING && type.len == strlen(known[i].name) + 2 &&
            memcmp(type.p + 1, known[i].name, type.len - 2) == 0)
            return &known[i];
    return NULL;
}

static void read_request(const struct keys_json *in, struct span line, struct message *out)
{
    static const char *const names[] = {"run", "seq"};
    static void (*const readers[])(const struct keys_json *, const struct keys_place *, struct span,
                                   void *) = {read_run, read_seq};
    for (size_t i = 0; i < 2; i++) {
        struct keys_place at = {NULL, span_of(names[i]), 0};
        struct span value = json_get(line, names[i]);
        if (value.p)
            readers[i](in, &at, value, out);
        else
            keys_fault(in, &at, "is missing");
    }
}

static bool read_members(struct span line, const struct known *as, struct message *out, struct buf *arena,
                         struct reason *why)
{
    struct faults faults = {0};
    struct keys_json in = {&faults, arena};
    if (as->fields)
        keys_read_json(&in, NULL, line, as->fields, out);
    else
        read_request(&in, line, out);
    bool fine = !faults.total;
    if (!fine)
        reason_set(why, "its `%s` is wrong: %s %s", as->name, faults.items[0].pointer, faults.items[0].detail);
    faults_release(&faults);
    return fine;
}

bool message_read(struct span line, struct message *out, struct buf *arena, struct reason *why)
{
    struct json_fault fault;
    *out = (struct message){.stream = STREAM_STDERR};
    if (!line.len)
        return true;
    if (json_check(line.p, line.len, JSON_DEPTH_MAX, &fault) != OK) {
        reason_set(why, "a line is not valid JSON: %s, at byte %zu", fault.detail, fault.offset);
        return false;
    }
    line = json_trim(line);
    struct span type = json_type(line) == JSON_OBJECT ? json_get(line, "type") : (struct span){NULL, 0};
    if (!type.p) {
        reason_set(why, "a line is no object with a `type`");
        return false;
    }
    const struct known *as = find(type);
    if (!as) {
        type = utf8_cut(type, 60);
        reason_set(why, "there is no message of the type %.*s", (int)type.len, type.p);
        return false;
    }
    out->type = as->type;
    out->asked = as->asked;
    return read_members(line, as, out, arena, why);
}
