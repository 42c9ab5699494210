/* The inner loops that json.c and json_check.c share; not for others. */
#pragma once

#include "base/buf.h"

static inline bool json_is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static inline const char *json_skip_space(const char *p, const char *end)
{
    /* Most texts have none, which the first comparison tells. */
    while (p < end && (unsigned char)*p <= ' ' && json_is_space(*p))
        p++;
    return p;
}

static inline bool json_is_plain(char c)
{
    return c >= ' ' && c != '"' && c != '\\' && (unsigned char)c < 0x80;
}

/* Skips what needs no look inside a string: ASCII but controls, '"' and '\\'.
 * Eight bytes at a time, with the high bit of each that is not plain; a bit may
 * be wrong only above a right one, and the lowest is taken. */
static inline const char *json_skip_plain(const char *p, const char *end)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    const uint64_t ones = UINT64_C(0x0101010101010101);
    for (uint64_t word; end - p >= 8; p += 8) {
        memcpy(&word, p, 8);
        uint64_t quote = word ^ ones * '"';
        uint64_t backslash = word ^ ones * '\\';
        uint64_t special = ((quote - ones) | (backslash - ones) | (word - ones * ' ') | word) & ones * 0x80;
        if (special)
            return p + __builtin_ctzll(special) / 8;
    }
#endif
    while (p < end && json_is_plain(*p))
        p++;
    return p;
}
