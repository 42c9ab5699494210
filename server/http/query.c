#include "server/http/query.h"

#include "base/clock.h"
#include "base/digest.h"
#include "base/utf8.h"

#include <endian.h>

/* --- escapes -------------------------------------------------------------------- */

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

enum decoded { DECODED, BAD_ESCAPE, BAD_NUL, BAD_UTF8 };

/* Appends the text with its %XX resolved; `plus` reads as a blank in a query. */
static enum decoded decode(struct span raw, bool query, struct buf *out)
{
    size_t start = out->len;
    for (size_t i = 0; i < raw.len; i++) {
        char c = raw.p[i];
        if (c == '%') {
            int high = i + 2 < raw.len ? hex_value(raw.p[i + 1]) : -1;
            int low = i + 2 < raw.len ? hex_value(raw.p[i + 2]) : -1;
            if (high < 0 || low < 0)
                return BAD_ESCAPE;
            c = (char)(high << 4 | low);
            i += 2;
        } else if (c == '+' && query) {
            c = ' ';
        }
        if (c == '\0')
            return BAD_NUL;
        buf_addc(out, c);
    }
    return utf8_valid((struct span){out->data ? out->data + start : "", out->len - start}) ? DECODED : BAD_UTF8;
}

bool segment_decode(struct span raw, struct buf *out)
{
    size_t start = out->len;
    return segment_decode_name(raw, out) && !memchr(out->data + start, '/', out->len - start);
}

bool segment_decode_name(struct span raw, struct buf *out)
{
    return raw.len > 0 && decode(raw, false, out) == DECODED;
}

/* --- the query ------------------------------------------------------------------- */

static enum decoded decode_part(struct span raw, struct buf *arena, struct span *out)
{
    size_t start = arena->len;
    enum decoded result = decode(raw, true, arena);
    *out = (struct span){arena->data + start, arena->len - start};
    return result;
}

static enum err bad_part(enum decoded result, struct span raw, struct reason *why)
{
    static const char *const words[] = {
        [BAD_ESCAPE] = "a % needs two hex digits after it",
        [BAD_NUL] = "a NUL is not allowed",
        [BAD_UTF8] = "it is not UTF-8",
    };
    int shown = raw.len < 60 ? (int)raw.len : 60;
    reason_set(why, "the query parameter `%.*s`: %s", shown, raw.p, words[result]);
    return ERR_INVALID;
}

static enum err parse_one(struct span raw, struct buf *arena, struct query_param *out, struct reason *why)
{
    const char *equals = memchr(raw.p, '=', raw.len);
    size_t name_len = equals ? (size_t)(equals - raw.p) : raw.len;
    struct span value = {raw.p + name_len, 0};
    if (equals)
        value = (struct span){equals + 1, raw.len - name_len - 1};
    enum decoded result = decode_part((struct span){raw.p, name_len}, arena, &out->name);
    if (result == DECODED)
        result = decode_part(value, arena, &out->value);
    if (result != DECODED)
        return bad_part(result, raw, why);
    if (out->name.len == 0) {
        reason_set(why, "a query parameter has no name");
        return ERR_INVALID;
    }
    return OK;
}

enum err query_parse(struct span raw, struct buf *arena, struct query_param *out, int *count, struct reason *why)
{
    const char *p = raw.p, *end = raw.p + raw.len;
    *count = 0;
    buf_reserve(arena, raw.len + 1); /* nothing grows by decoding: the spans stay where they are */
    while (p < end) {
        const char *amp = memchr(p, '&', (size_t)(end - p));
        struct span part = {p, (size_t)((amp ? amp : end) - p)};
        p = amp ? amp + 1 : end;
        if (part.len == 0)
            continue;
        if (*count == QUERY_PARAMS_MAX) {
            reason_set(why, "there are more than %d query parameters", QUERY_PARAMS_MAX);
            return ERR_INVALID;
        }
        enum err err = parse_one(part, arena, &out[*count], why);
        if (err != OK)
            return err;
        (*count)++;
    }
    return OK;
}

/* --- cursors ---------------------------------------------------------------------- */

void cursor_add(struct buf *out, int64_t id)
{
    uint64_t big = htobe64((uint64_t)id);
    base64url_add(out, (const uint8_t *)&big, sizeof big);
}

bool cursor_parse(struct span text, int64_t *id)
{
    uint64_t big;
    if (!base64url_parse(text, (uint8_t *)&big, sizeof big))
        return false;
    *id = (int64_t)be64toh(big);
    return *id > 0;
}

/* --- waits ------------------------------------------------------------------------- */

/* "30", "0.5": digits, and perhaps a fraction. */
static bool is_bare_number(struct span text)
{
    bool digit = false, point = false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.p[i] >= '0' && text.p[i] <= '9')
            digit = true;
        else if (text.p[i] == '.' && digit && !point && i + 1 < text.len)
            point = true;
        else
            return false;
    }
    return digit;
}

bool wait_parse(struct span text, int64_t *ms)
{
    char seconds[64];
    if (!is_bare_number(text))
        return duration_parse(text, ms);
    if (text.len >= sizeof seconds)
        return false;
    memcpy(seconds, text.p, text.len);
    seconds[text.len] = 's';
    return duration_parse((struct span){seconds, text.len + 1}, ms);
}
