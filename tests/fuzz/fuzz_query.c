/* Whatever stands in an address is decoded to UTF-8 without NUL, or refused. */
#include "base/utf8.h"
#include "server/http/query.h"
#include "server/http/range.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect_decoded(struct span text, const struct buf *arena)
{
    assert(text.p >= arena->data && text.p + text.len <= arena->data + arena->len);
    assert(utf8_valid(text) && !memchr(text.p, '\0', text.len));
}

static void expect_query(struct span raw)
{
    struct query_param params[QUERY_PARAMS_MAX];
    struct buf arena = {0};
    struct reason why = {""};
    int count;
    if (query_parse(raw, &arena, params, &count, &why) == OK) {
        assert(count >= 0 && count <= QUERY_PARAMS_MAX && arena.len <= raw.len);
        for (int i = 0; i < count; i++) {
            expect_decoded(params[i].name, &arena);
            expect_decoded(params[i].value, &arena);
            assert(params[i].name.len > 0);
        }
    } else {
        assert(why.text[0]);
    }
    buf_release(&arena);
}

static void expect_segment(struct span raw)
{
    struct buf text = {0};
    if (segment_decode(raw, &text)) {
        assert(text.len > 0 && text.len <= raw.len && !memchr(text.data, '/', text.len));
        expect_decoded(buf_span(&text), &text);
    }
    buf_release(&text);
}

static void expect_range(struct span raw)
{
    static const int64_t totals[] = {0, 1, 10, INT64_MAX};
    for (size_t i = 0; i < sizeof totals / sizeof *totals; i++) {
        int64_t from, to;
        if (range_parse(raw, totals[i], &from, &to) == RANGE_PART)
            assert(0 <= from && from <= to && to < totals[i]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span raw = {size ? (const char *)data : "", size};
    int64_t ms;
    expect_query(raw);
    expect_segment(raw);
    expect_range(raw);
    assert(!wait_parse(raw, &ms) || ms >= 0);
    return 0;
}
