#include "base/json.h"

#include "base/json_scan.h"
#include <math.h>
#include <stdlib.h>

const char *json_type_name(enum json_type type)
{
    static const char *const names[] = {"null", "boolean", "boolean", "number", "string", "array", "object"};
    return names[type];
}

struct json_place json_place(struct span text, size_t offset)
{
    struct json_place place = {1, 1};
    for (size_t i = 0; i < offset && i < text.len; i++) {
        if (text.p[i] == '\n')
            place = (struct json_place){place.line + 1, 1};
        else
            place.column += ((unsigned char)text.p[i] & 0xC0) != 0x80;
    }
    return place;
}

struct span json_trim(struct span text)
{
    const char *end = text.p + text.len;
    const char *p = json_skip_space(text.p, end);
    while (end > p && json_is_space(end[-1]))
        end--;
    return (struct span){p, (size_t)(end - p)};
}

/* --- walking ------------------------------------------------------------ */

/* p is after the opening quote; returns what is after the closing one. */
static inline const char *skip_string(const char *p, const char *end)
{
    while ((p = json_skip_plain(p, end)) < end && *p != '"')
        p += *p == '\\' ? 2 : 1;
    return p < end ? p + 1 : end;
}

static const char *skip_container(const char *p, const char *end)
{
    int depth = 0;
    do {
        switch (*p++) {
        case '"': p = skip_string(p, end); break;
        case '{':
        case '[': depth++; break;
        case '}':
        case ']': depth--; break;
        }
    } while (depth > 0 && p < end);
    return p;
}

static inline const char *skip_value(const char *p, const char *end)
{
    if (*p == '"')
        return skip_string(p + 1, end);
    if (*p == '{' || *p == '[')
        return skip_container(p, end);
    while (p < end && *p != ',' && *p != '}' && *p != ']' && !json_is_space(*p))
        p++;
    return p;
}

struct json_iter json_iter(struct span value)
{
    if (value.len < 2 || (*value.p != '{' && *value.p != '['))
        return (struct json_iter){value.p, value.p};
    const char *end = value.p + value.len - 1;
    return (struct json_iter){json_skip_space(value.p + 1, end), end};
}

bool json_element(struct json_iter *it, struct span *value)
{
    const char *p = it->p;
    if (p >= it->end)
        return false;
    const char *after = skip_value(p, it->end);
    *value = (struct span){p, (size_t)(after - p)};
    after = json_skip_space(after, it->end);
    if (after < it->end)
        after = json_skip_space(after + 1, it->end); /* the comma */
    it->p = after;
    return true;
}

bool json_member(struct json_iter *it, struct span *key, struct span *value)
{
    const char *p = it->p;
    if (p >= it->end)
        return false;
    const char *after = skip_string(p + 1, it->end);
    *key = (struct span){p + 1, (size_t)(after - p) - 2};
    p = json_skip_space(after, it->end);
    it->p = json_skip_space(p + 1, it->end); /* the colon */
    return json_element(it, value);
}

bool json_key_is(struct span key, const char *name)
{
    if (span_is(key, name))
        return strchr(name, '\\') == NULL;
    if (key.len <= strlen(name) || !memchr(key.p, '\\', key.len))
        return false; /* escapes only make it longer */
    struct buf plain = {0};
    json_unescape(key, &plain);
    bool same = span_is(buf_span(&plain), name);
    buf_release(&plain);
    return same;
}

struct span json_get(struct span object, const char *name)
{
    struct json_iter it = json_iter(object);
    struct span key, value;
    if (object.p && *object.p == '{')
        while (json_member(&it, &key, &value))
            if (json_key_is(key, name))
                return value;
    return (struct span){NULL, 0};
}

/* --- scalars ------------------------------------------------------------ */

static unsigned hex_unit(const char *p)
{
    unsigned unit = 0;
    for (int i = 0; i < 4; i++)
        unit = unit << 4 | (unsigned)(p[i] <= '9' ? p[i] - '0' : (p[i] | 0x20) - 'a' + 10);
    return unit;
}

/* p is after the backslash; returns what is after the escape. */
static const char *add_escape(struct buf *out, const char *p)
{
    switch (*p) {
    case 'b': buf_addc(out, '\b'); return p + 1;
    case 'f': buf_addc(out, '\f'); return p + 1;
    case 'n': buf_addc(out, '\n'); return p + 1;
    case 'r': buf_addc(out, '\r'); return p + 1;
    case 't': buf_addc(out, '\t'); return p + 1;
    default: buf_addc(out, *p); return p + 1;
    case 'u': break;
    }
    uint32_t code = hex_unit(p + 1);
    p += 5;
    if (code >= 0xD800 && code <= 0xDBFF) {
        code = 0x10000 + ((code - 0xD800) << 10) + (hex_unit(p + 2) - 0xDC00);
        p += 6;
    }
    utf8_add_code(out, code);
    return p;
}

void json_unescape(struct span string, struct buf *out)
{
    if (string.len == 0)
        return;
    const char *p = string.p;
    const char *end = p + string.len;
    if (*p == '"') { /* a key without its quotes cannot start with one */
        p++;
        end--;
    }
    buf_reserve(out, (size_t)(end - p));
    while (p < end) {
        const char *escape = memchr(p, '\\', (size_t)(end - p));
        buf_add(out, p, (size_t)((escape ? escape : end) - p));
        p = escape ? add_escape(out, escape + 1) : end;
    }
}

bool json_whole(struct span value, int64_t *out)
{
    if (json_int64(value, out))
        return true;
    double number = json_is_integer(value) ? INFINITY : json_double(value);
    if (!(fabs(number) <= 0x1p53) || number != floor(number))
        return false;
    *out = (int64_t)number;
    return true;
}

bool json_is_integer(struct span value)
{
    size_t digits = value.len && *value.p == '-';
    if (digits == value.len)
        return false;
    for (size_t i = digits; i < value.len; i++)
        if (value.p[i] < '0' || value.p[i] > '9')
            return false;
    return true;
}

bool json_int64(struct span value, int64_t *out)
{
    if (!json_is_integer(value))
        return false;
    bool negative = *value.p == '-';
    int64_t sum = 0; /* kept below zero, where there is one number more */
    for (size_t i = negative; i < value.len; i++)
        if (__builtin_mul_overflow(sum, 10, &sum) || __builtin_sub_overflow(sum, value.p[i] - '0', &sum))
            return false;
    if (!negative && sum == INT64_MIN)
        return false;
    *out = negative ? sum : -sum;
    return true;
}

double json_double(struct span value)
{
    char small[64];
    char *text = value.len < sizeof small ? small : xmalloc(value.len + 1);
    memcpy(text, value.p, value.len);
    text[value.len] = '\0';
    double number = strtod(text, NULL);
    if (text != small)
        free(text);
    return number;
}

/* --- writing ------------------------------------------------------------ */

static void add_control(struct buf *out, unsigned char byte)
{
    static const char hex[] = "0123456789abcdef";
    switch (byte) {
    case '"': buf_addl(out, "\\\""); return;
    case '\\': buf_addl(out, "\\\\"); return;
    case '\b': buf_addl(out, "\\b"); return;
    case '\f': buf_addl(out, "\\f"); return;
    case '\n': buf_addl(out, "\\n"); return;
    case '\r': buf_addl(out, "\\r"); return;
    case '\t': buf_addl(out, "\\t"); return;
    }
    buf_addl(out, "\\u00");
    buf_addc(out, hex[byte >> 4]);
    buf_addc(out, hex[byte & 15]);
}

void json_add_string(struct buf *out, struct span text)
{
    buf_reserve(out, text.len + 2);
    buf_addc(out, '"');
    size_t start = 0;
    for (size_t i = 0; i < text.len; i++) {
        unsigned char byte = (unsigned char)text.p[i];
        if (byte >= ' ' && byte != '"' && byte != '\\')
            continue;
        buf_add(out, text.p + start, i - start);
        add_control(out, byte);
        start = i + 1;
    }
    buf_add(out, text.p + start, text.len - start);
    buf_addc(out, '"');
}

void json_add_lossy(struct buf *out, struct span bytes)
{
    if (utf8_valid(bytes)) {
        json_add_string(out, bytes);
        return;
    }
    struct buf mended = {0};
    utf8_add_lossy(&mended, bytes);
    json_add_string(out, buf_span(&mended));
    buf_release(&mended);
}

void json_add_line(struct buf *out, struct span value)
{
    size_t start = out->len;
    buf_add_span(out, value);
    for (size_t i = start; i < out->len; i++)
        if (out->data[i] == '\n' || out->data[i] == '\r')
            out->data[i] = ' ';
}
