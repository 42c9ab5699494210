#include "base/faults.h"

#include "base/utf8.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* A fault repeats its parent's pointer, so a client could multiply a long key. */
enum { DETAIL_BYTES = 500, POINTER_BYTES = 1000 };

static char *showable(const char *text, size_t max)
{
    struct buf mended = {0};
    utf8_add_lossy(&mended, utf8_cut(span_of(text), max));
    for (size_t i = 0; i < mended.len; i++)
        if ((unsigned char)mended.data[i] < 0x20 || mended.data[i] == 0x7F)
            mended.data[i] = ' ';
    mended.len = utf8_cut(buf_span(&mended), max).len;
    return buf_take(&mended);
}

static void add(struct faults *f, int line, const char *pointer, const char *format, va_list args)
{
    f->total++;
    if (f->count == FAULTS_MAX)
        return;
    /* A little more than is kept, so that utf8_cut sees what was cut. */
    char detail[DETAIL_BYTES + 8];
    if (vsnprintf(detail, sizeof detail, format, args) < 0)
        detail[0] = '\0';
    f->items = xrealloc(f->items, (size_t)(f->count + 1) * sizeof *f->items);
    f->items[f->count++] = (struct fault){
        .pointer = span_dup(utf8_cut(span_of(pointer), POINTER_BYTES)),
        .detail = showable(detail, DETAIL_BYTES),
        .line = line,
    };
}

void faults_add(struct faults *f, int line, const char *pointer, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    add(f, line, pointer, format, args);
    va_end(args);
}

void faults_add_member(struct faults *f, int line, const char *parent, struct span key, const char *format, ...)
{
    struct buf pointer = {0};
    buf_adds(&pointer, parent);
    pointer_add(&pointer, key);
    va_list args;
    va_start(args, format);
    add(f, line, buf_cstr(&pointer), format, args);
    va_end(args);
    buf_release(&pointer);
}

void faults_release(struct faults *f)
{
    for (int i = 0; i < f->count; i++) {
        free(f->items[i].pointer);
        free(f->items[i].detail);
    }
    free(f->items);
    *f = (struct faults){0};
}

void pointer_add(struct buf *out, struct span key)
{
    buf_addc(out, '/');
    for (size_t i = 0; i < key.len; i++) {
        if (key.p[i] == '~')
            buf_addl(out, "~0");
        else if (key.p[i] == '/')
            buf_addl(out, "~1");
        else
            buf_addc(out, key.p[i]);
    }
}
