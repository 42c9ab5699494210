#include "server/http/fields.h"

#include "base/clock.h"
#include "base/nearest.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

enum { DETAIL_BYTES = 512 };

/* --- faults -------------------------------------------------------------------- */

static void add_pointer(struct buf *out, const struct fields_place *at)
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

void fields_fault(const struct fields *in, const struct fields_place *at, const char *format, ...)
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

static void unknown_field(const struct fields *in, const struct fields_place *at, const struct field *table)
{
    struct buf key = {0};
    json_unescape(at->key, &key);
    struct nearest near = nearest_to(buf_span(&key));
    for (; table->name; table++)
        nearest_try(&near, table->name);
    fields_fault(in, at, "unknown field" NEAREST_FORMAT, NEAREST_ARGS(near));
    buf_release(&key);
}

/* --- values -------------------------------------------------------------------- */

bool fields_text(const struct fields *in, const struct fields_place *at, struct span value, int64_t min,
                 int64_t max, struct span *out)
{
    if (json_type(value) != JSON_STRING) {
        fields_fault(in, at, "must be a string, not %s", json_type_name(json_type(value)));
        return false;
    }
    struct span text = {value.p + 1, value.len - 2};
    if (memchr(text.p, '\\', text.len)) {
        size_t start = in->arena->len;
        json_unescape(value, in->arena);
        text = (struct span){in->arena->data + start, in->arena->len - start};
    }
    if ((int64_t)text.len < min || (int64_t)text.len > max || memchr(text.p, '\0', text.len)) {
        fields_fault(in, at, "must have %" PRId64 " to %" PRId64 " bytes, none of them NUL", min, max);
        return false;
    }
    *out = text;
    return true;
}

static void read_int(const struct fields *in, const struct fields_place *at, struct span value,
                     const struct field *field, int *out)
{
    int64_t number;
    if (json_type(value) != JSON_NUMBER || !json_int64(value, &number) || number < field->min ||
        number > field->max)
        fields_fault(in, at, "must be a whole number from %" PRId64 " to %" PRId64, field->min, field->max);
    else
        *out = (int)number;
}

static void read_bool(const struct fields *in, const struct fields_place *at, struct span value, bool *out)
{
    enum json_type type = json_type(value);
    if (type != JSON_TRUE && type != JSON_FALSE)
        fields_fault(in, at, "must be true or false");
    else
        *out = type == JSON_TRUE;
}

static void read_time(const struct fields *in, const struct fields_place *at, struct span value, int64_t *out)
{
    struct span text;
    if (json_type(value) != JSON_STRING)
        fields_fault(in, at, "must be a time such as \"2026-01-31T12:00:00Z\" (RFC 3339)");
    else if (fields_text(in, at, value, 0, INT64_MAX, &text) && !time_parse(text, out))
        fields_fault(in, at, "is not a time; write one such as \"2026-01-31T12:00:00Z\" (RFC 3339)");
}

static void read_duration(const struct fields *in, const struct fields_place *at, struct span value,
                          const struct field *field, int64_t *out)
{
    struct span text;
    int64_t ms;
    if (json_type(value) != JSON_STRING)
        fields_fault(in, at, "must be a duration with its unit, such as \"30s\" or \"1h30m\"");
    else if (!fields_text(in, at, value, 0, INT64_MAX, &text))
        return;
    else if (!duration_parse(text, &ms) || ms < field->min)
        fields_fault(in, at, "is not a duration; write one with its unit, such as \"30s\" or \"1h30m\"");
    else
        *out = ms;
}

static void read_field(const struct fields *in, const struct fields_place *at, struct span value,
                       const struct field *field, void *target)
{
    void *place = (char *)target + field->offset;
    if (field->nullable && json_type(value) == JSON_NULL)
        return;
    switch (field->type) {
    case FIELD_TEXT: fields_text(in, at, value, field->min, field->max, place); break;
    case FIELD_INT: read_int(in, at, value, field, place); break;
    case FIELD_BOOL: read_bool(in, at, value, place); break;
    case FIELD_TIME: read_time(in, at, value, place); break;
    case FIELD_DURATION: read_duration(in, at, value, field, place); break;
    case FIELD_VALUE: *(struct span *)place = value; break;
    case FIELD_OTHER: field->read(in, at, value, target); break;
    }
}

/* --- an object ------------------------------------------------------------------- */

static int find(const struct field *table, struct span key)
{
    for (int i = 0; table[i].name; i++)
        if (json_key_is(key, table[i].name))
            return i;
    return -1;
}

uint64_t fields_read(const struct fields *in, const struct fields_place *at, struct span value,
                     const struct field *table, void *target)
{
    uint64_t given = 0;
    struct span key, item;
    value = json_trim(value);
    if (json_type(value) != JSON_OBJECT) {
        fields_fault(in, at, "must be an object, not %s", json_type_name(json_type(value)));
        return 0;
    }
    if (!at && memchr(value.p, '\\', value.len))
        buf_reserve(in->arena, value.len); /* no text is longer decoded: from here on the arena does not move */
    struct json_iter it = json_iter(value);
    while (json_member(&it, &key, &item)) {
        struct fields_place place = {at, key, 0};
        int index = find(table, key);
        if (index < 0) {
            unknown_field(in, &place, table);
            continue;
        }
        given |= UINT64_C(1) << index;
        read_field(in, &place, item, &table[index], target);
    }
    for (int i = 0; table[i].name; i++)
        if (table[i].required && !(given & UINT64_C(1) << i))
            fields_fault(in, &(struct fields_place){at, span_of(table[i].name), 0}, "is missing");
    return given;
}
