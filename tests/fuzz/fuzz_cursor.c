/* A cursor has one text, and a text that is none is refused. */
#include "server/http/query.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect_text(struct span text)
{
    int64_t id;
    if (!cursor_parse(text, &id))
        return;
    struct buf again = {0};
    cursor_add(&again, id);
    assert(id > 0 && again.len == text.len && memcmp(again.data, text.p, text.len) == 0);
    buf_release(&again);
}

static void expect_id(int64_t id)
{
    struct buf text = {0};
    int64_t again;
    cursor_add(&text, id);
    assert(cursor_parse(buf_span(&text), &again) == (id > 0));
    assert(id <= 0 || again == id);
    buf_release(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int64_t id;
    expect_text((struct span){size ? (const char *)data : "", size});
    if (size == sizeof id) {
        memcpy(&id, data, sizeof id);
        expect_id(id);
    }
    return 0;
}
