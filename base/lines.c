#include "base/lines.h"

enum { KEPT_BYTES = 256 << 10 /* of room, when nothing is in it */ };

void lines_add(struct lines *lines, struct span bytes)
{
    struct buf *buf = &lines->bytes;
    if (lines->start) {
        memmove(buf->data, buf->data + lines->start, buf->len - lines->start);
        buf->len -= lines->start;
        lines->scanned -= lines->start;
        lines->start = 0;
    }
    buf_add_span(buf, bytes);
}

void lines_rest(struct lines *lines)
{
    if (lines->start == lines->bytes.len && lines->bytes.cap > KEPT_BYTES)
        lines_release(lines);
}

bool lines_next(struct lines *lines, struct span *line)
{
    const struct buf *buf = &lines->bytes;
    const char *from = buf->data + lines->scanned;
    const char *end = lines->scanned < buf->len ? memchr(from, '\n', buf->len - lines->scanned) : NULL;
    if (!end || (size_t)(end - buf->data) - lines->start >= LINE_BYTES_MAX) {
        lines->scanned = end ? lines->scanned : buf->len;
        return false;
    }
    *line = (struct span){buf->data + lines->start, (size_t)(end - buf->data) - lines->start};
    if (line->len && line->p[line->len - 1] == '\r')
        line->len--;
    lines->start = lines->scanned = (size_t)(end - buf->data) + 1;
    return true;
}

bool lines_are_too_long(const struct lines *lines)
{
    return lines->bytes.len - lines->start >= LINE_BYTES_MAX;
}

void lines_release(struct lines *lines)
{
    buf_release(&lines->bytes);
    *lines = (struct lines){0};
}
