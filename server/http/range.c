#include "server/http/range.h"

#include <strings.h>

/* Digits as a number, what is too large as INT64_MAX. False if there are none. */
static bool take_number(struct span *text, int64_t *number)
{
    size_t n = 0;
    *number = 0;
    for (; n < text->len && text->p[n] >= '0' && text->p[n] <= '9'; n++)
        if (__builtin_mul_overflow(*number, 10, number) ||
            __builtin_add_overflow(*number, text->p[n] - '0', number))
            *number = INT64_MAX;
    text->p += n;
    text->len -= n;
    return n > 0;
}

static bool take_dash(struct span *text)
{
    if (text->len == 0 || *text->p != '-')
        return false;
    text->p++;
    text->len--;
    return true;
}

enum range range_parse(struct span header, int64_t total, int64_t *from, int64_t *to)
{
    static const struct span unit = {"bytes=", 6};
    int64_t first, last;
    if (!header.p || header.len <= unit.len || strncasecmp(header.p, unit.p, unit.len) != 0)
        return RANGE_ALL;
    struct span rest = {header.p + unit.len, header.len - unit.len};
    bool has_first = take_number(&rest, &first);
    if (!take_dash(&rest))
        return RANGE_ALL;
    bool has_last = take_number(&rest, &last);
    if (rest.len || (!has_first && !has_last) || (has_first && has_last && last < first))
        return RANGE_ALL;
    if (!has_first) { /* the last so many */
        first = last < total ? total - last : 0;
        last = last > 0 ? total - 1 : -1;
    } else if (!has_last || last >= total) {
        last = total - 1;
    }
    *from = first;
    *to = last;
    return first > last ? RANGE_UNSATISFIABLE : RANGE_PART;
}
