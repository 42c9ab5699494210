#include "base/keys.h"

#include "base/clock.h"
#include "base/nearest.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

enum { DETAIL_BYTES = 512 };

/* --- faults -------------------------------------------------------------------- */

static void add_pointer(struct buf *out, const struct keys_place *at)
{
    struct buf key = {0};
    if (!at)
        return;
    add_pointer(out, at->parent);
    if (at->key.p)
        json_unescape(at->key, &key);
    else
        buf_add_int(&key, at->index);
    pointer_add(out, buf_span(&key));
    buf_release(&key);
}

void keys_fault(const struct keys_json *in, const struct keys_place *at, const char *format, ...)
{
    char detail[DETAIL_BYTES];
    struct buf pointer = {0};
    va_list args;
    va_start(args, format);
    if (vsnprintf(detail, sizeof detail, format, args) < 0)
        detail[0] = '\0';
    va_end(args);
    add_pointer(&pointer, at);
    faults_add(in->faults, 0, buf_cstr(&pointer), "%s", detail);
    buf_release(&pointer);
}

static void unknown_key(const struct keys_json *in, const struct keys_place *at, const struct key *keys)
{
    struct buf key = {0};
    json_unescape(at->key, &key);
    struct nearest near = nearest_to(buf_span(&key));
    for (; keys->name; keys++)
        nearest_try(&near, keys->name);
    keys_fault(in, at, "unknown field" NEAREST_FORMAT, NEAREST_ARGS(near));
    buf_release(&key);
}

/* --- values -------------------------------------------------------------------- */

struct span keys_json_string(const struct keys_json *in, const struct keys_place *at, struct span value)
{
    if (json_type(value) != JSON_STRING) {
        keys_fault(in, at, "must be a string, not %s", json_type_name(json_type(value)));
        return (struct span){NULL, 0};
    }
    struct span text = {value.p + 1, value.len - 2};
    if (!memchr(text.p, '\\', text.len))
        return text;
    size_t start = in->arena->len;
    json_unescape(value, in->arena);
    return (struct span){in->arena->data + start, in->arena->len - start};
}

bool keys_json_text(const struct keys_json *in, const struct keys_place *at, struct span value, int64_t min,
                    int64_t max, struct span *out)
{
    struct span text = keys_json_string(in, at, value);
    if (!text.p)
        return false;
    int64_t length = (int64_t)utf8_length(text);
    if (length < min || length > max || memchr(text.p, '\0', text.len)) {
        keys_fault(in, at, "must have %" PRId64 " to %" PRId64 " characters, none of them NUL", min, max);
        return false;
    }
    *out = text;
    return true;
}

static bool read_whole(const struct keys_json *in, const struct keys_place *at, struct span value,
                       const struct key *key, int64_t *out)
{
    int64_t number;
    bool good =
        json_type(value) == JSON_NUMBER && json_whole(value, &number) && number >= key->min && number <= key->max;
    if (good)
        *out = number;
    else
        keys_fault(in, at, "must be a whole number from %" PRId64 " to %" PRId64, key->min, key->max);
    return good;
}

static void read_int(const struct keys_json *in, const struct keys_place *at, struct span value,
                     const struct key *key, int *out)
{
    int64_t number;
    if (read_whole(in, at, value, key, &number))
        *out = (int)number;
}

static void read_bool(const struct keys_json *in, const struct keys_place *at, struct span value, bool *out)
{
    enum json_type type = json_type(value);
    if (type != JSON_TRUE && type != JSON_FALSE)
        keys_fault(in, at, "must be true or false");
    else
        *out = type == JSON_TRUE;
}

static void read_time(const struct keys_json *in, const struct keys_place *at, struct span value, int64_t *out)
{
    struct span text;
    if (json_type(value) != JSON_STRING)
        keys_fault(in, at, "must be a time such as \"2026-01-31T12:00:00Z\" (RFC 3339)");
    else if (keys_json_text(in, at, value, 0, INT64_MAX, &text) && !time_parse(text, out))
        keys_fault(in, at, "is not a time; write one such as \"2026-01-31T12:00:00Z\" (RFC 3339)");
}

static void read_duration(const struct keys_json *in, const struct keys_place *at, struct span value,
                          const struct key *key, int64_t *out)
{
    struct span text;
    int64_t ms = 0;
    if (json_type(value) != JSON_STRING) {
        keys_fault(in, at, "must be a duration with its unit, such as \"30s\" or \"1h30m\"");
        return;
    }
    if (!keys_json_text(in, at, value, 0, INT64_MAX, &text))
        return;
    enum err err = duration_read(text, &ms);
    int64_t max = key->max ? key->max : DURATION_MAX_MS;
    if (err == ERR_INVALID) {
        keys_fault(in, at, "is not a duration; write one with its unit, such as \"30s\" or \"1h30m\"");
    } else if (err != OK || ms < key->min || ms > max) {
        struct buf bound = {0};
        duration_add(&bound, err == OK && ms < key->min ? key->min : max);
        keys_fault(in, at,
                   err == OK && ms < key->min ? "is too short; it is %s at least"
                                              : "is too long; it is %s at most",
                   buf_cstr(&bound));
        buf_release(&bound);
    } else {
        *out = ms;
    }
}

/* What has no form of its own in a body is written as in a configuration. */
static void read_scalar(const struct keys_json *in, const struct keys_place *at, struct span value,
                        const struct key *key, void *target)
{
    struct reason why;
    struct span text = value;
    if (json_type(value) != JSON_NUMBER && !keys_json_text(in, at, value, 0, INT64_MAX, &text))
        return;
    if (!keys_set_text(key, text, "/", target, &why))
        keys_fault(in, at, "%s", why.text);
}

static void read_key(const struct keys_json *in, const struct keys_place *at, struct span value,
                     const struct key *key, void *target)
{
    void *place = (char *)target + key->offset;
    if (key->nullable && json_type(value) == JSON_NULL)
        return;
    switch (key->type) {
    case KEY_SPAN: keys_json_text(in, at, value, key->min, key->max, place); break;
    case KEY_INT: read_int(in, at, value, key, place); break;
    case KEY_COUNT: read_whole(in, at, value, key, place); break;
    case KEY_BOOL: read_bool(in, at, value, place); break;
    case KEY_TIME: read_time(in, at, value, place); break;
    case KEY_DURATION: read_duration(in, at, value, key, place); break;
    case KEY_VALUE: *(struct span *)place = value; break;
    case KEY_OTHER: key->read_json(in, at, value, target); break;
    case KEY_MAP: keys_read_json(in, at, value, key->members, target); break;
    default: read_scalar(in, at, value, key, target); break;
    }
}

/* --- an object ------------------------------------------------------------------- */

static int find(const struct key *keys, struct span key)
{
    for (int i = 0; keys[i].name; i++)
        if (json_key_is(key, keys[i].name))
            return i;
    return -1;
}

uint64_t keys_read_json(const struct keys_json *in, const struct keys_place *at, struct span value,
                        const struct key *keys, void *target)
{
    uint64_t given = 0;
    struct span key, item;
    value = json_trim(value);
    if (json_type(value) != JSON_OBJECT) {
        keys_fault(in, at, "must be an object, not %s", json_type_name(json_type(value)));
        return 0;
    }
    if (!at && memchr(value.p, '\\', value.len))
        buf_reserve(in->arena, value.len); /* no text is longer decoded: from here on the arena does not move */
    struct json_iter it = json_iter(value);
    while (json_member(&it, &key, &item)) {
        struct keys_place place = {at, key, 0};
        int index = find(keys, key);
        if (index < 0) {
            unknown_key(in, &place, keys);
            continue;
        }
        given |= UINT64_C(1) << index;
        read_key(in, &place, item, &keys[index], target);
    }
    for (int i = 0; keys[i].name; i++)
        if (keys[i].required && !(given & UINT64_C(1) << i))
            keys_fault(in, &(struct keys_place){at, span_of(keys[i].name), 0}, "is missing");
    return given;
}
