/* Spans (borrowed bytes) and buffers (owned bytes that grow).
 *
 * Threads: none of this locks; a buffer belongs to one thread at a time.
 * Memory: allocation failure aborts; whatever a client sizes is bounded by
 * the caller before it is added here.
 *
 * Invariant of a buf: data is NULL with cap 0, or cap bytes of which len are
 * used. It is not NUL-terminated unless buf_cstr() was called since the last
 * change. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct span {
    const char *p; /* NULL means absent; an empty span has a pointer */
    size_t len;
};

#define SPAN(literal) ((struct span){(literal), sizeof(literal) - 1})

static inline struct span span_of(const char *text)
{
    return (struct span){text, text ? strlen(text) : 0};
}

static inline bool span_is(struct span s, const char *text)
{
    size_t n = strlen(text);
    return s.p && s.len == n && memcmp(s.p, text, n) == 0;
}

/* The same bytes? Absent and empty ones are equal. */
static inline bool span_equal(struct span a, struct span b)
{
    return a.len == b.len && (!a.len || memcmp(a.p, b.p, a.len) == 0);
}

/* A NUL-terminated copy, the caller's to free(). NULL for an absent span. */
char *span_dup(struct span s);

struct buf {
    char *data;
    size_t len;
    size_t cap;
};

/* Frees the bytes and leaves an empty, usable buffer. */
void buf_release(struct buf *b);

/* Makes room for `extra` bytes past len. */
void buf_grow(struct buf *b, size_t extra);

static inline void buf_reserve(struct buf *b, size_t extra)
{
    if (b->cap - b->len < extra)
        buf_grow(b, extra);
}

static inline void buf_add(struct buf *b, const void *p, size_t n)
{
    buf_reserve(b, n);
    if (n)
        memcpy(b->data + b->len, p, n);
    b->len += n;
}

static inline void buf_addc(struct buf *b, char c)
{
    buf_reserve(b, 1);
    b->data[b->len++] = c;
}

static inline void buf_adds(struct buf *b, const char *text)
{
    buf_add(b, text, strlen(text));
}

/* For literals: the length is known when it is compiled. */
#define buf_addl(b, literal) buf_add((b), (literal), sizeof(literal) - 1)

static inline void buf_add_span(struct buf *b, struct span s)
{
    buf_add(b, s.p, s.len);
}

void buf_addf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Decimal digits, without printf: this is on the path of every answer. */
void buf_add_int(struct buf *b, int64_t value);

/* NUL-terminates (len does not count it) and returns data. */
const char *buf_cstr(struct buf *b);

static inline struct span buf_span(const struct buf *b)
{
    return (struct span){b->data ? b->data : "", b->len};
}

/* Gives the bytes away, NUL-terminated, the caller's to free(); b is empty. */
/* Gives back what it does not need. */
void buf_shrink(struct buf *b);

char *buf_take(struct buf *b);

/* malloc, calloc, realloc, strdup that abort when memory is gone. */
void *xmalloc(size_t n) __attribute__((malloc, returns_nonnull));
void *xcalloc(size_t count, size_t n) __attribute__((malloc, returns_nonnull));
void *xrealloc(void *p, size_t n) __attribute__((returns_nonnull));
char *xstrdup(const char *text) __attribute__((malloc, returns_nonnull));
