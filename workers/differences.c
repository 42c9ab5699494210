#include "workers/differences.h"

#include "base/faults.h"
#include "base/json.h"

#include <stdio.h>

void differences_add(struct differences *d, struct span pointer)
{
    if (d->count >= DIFFERENCES_MAX)
        return;
    if (d->count++)
        buf_addc(d->out, ',');
    json_add_string(d->out, pointer);
}

static void walk(struct differences *d, struct buf *at, struct span one, struct span other);

/* What stands below `at` under that name. */
static void below(struct differences *d, struct buf *at, struct span name, struct span one, struct span other)
{
    size_t len = at->len;
    pointer_add(at, name);
    if (at->len > DIFFERENCE_BYTES) {
        at->len = len;
        if (!one.p || !other.p || !span_equal(one, other))
            differences_add(d, buf_span(at));
        return;
    }
    walk(d, at, one, other);
    at->len = len;
}

struct member {
    bool is_there;
    struct span name, value;
    struct buf plain; /* the name, if it has escapes */
};

static void next_member(struct json_iter *it, struct member *m)
{
    m->is_there = json_member(it, &m->name, &m->value);
    if (!m->is_there || !memchr(m->name.p, '\\', m->name.len))
        return;
    m->plain.len = 0;
    json_unescape(m->name, &m->plain);
    m->name = buf_span(&m->plain);
}

/* In the order of canonical JSON. What is not there comes after everything. */
static int order(const struct member *a, const struct member *b)
{
    if (!a->is_there || !b->is_there)
        return b->is_there - a->is_there;
    size_t n = a->name.len < b->name.len ? a->name.len : b->name.len;
    int by_bytes = n ? memcmp(a->name.p, b->name.p, n) : 0;
    return by_bytes ? by_bytes : (a->name.len > b->name.len) - (a->name.len < b->name.len);
}

static void walk_objects(struct differences *d, struct buf *at, struct span one, struct span other)
{
    static const struct span absent;
    struct json_iter left = json_iter(one), right = json_iter(other);
    struct member a = {0}, b = {0};
    next_member(&left, &a);
    next_member(&right, &b);
    while ((a.is_there || b.is_there) && d->count < DIFFERENCES_MAX) {
        int which = order(&a, &b);
        below(d, at, which <= 0 ? a.name : b.name, which <= 0 ? a.value : absent, which >= 0 ? b.value : absent);
        if (which <= 0)
            next_member(&left, &a);
        if (which >= 0)
            next_member(&right, &b);
    }
    buf_release(&a.plain);
    buf_release(&b.plain);
}

static int length(struct span array)
{
    struct json_iter it = json_iter(array);
    struct span item;
    int n = 0;
    while (json_element(&it, &item))
        n++;
    return n;
}

static void walk_arrays(struct differences *d, struct buf *at, struct span one, struct span other)
{
    struct json_iter left = json_iter(one), right = json_iter(other);
    struct span a, b;
    for (int i = 0; d->count < DIFFERENCES_MAX && json_element(&left, &a) && json_element(&right, &b); i++) {
        char name[16];
        int n = snprintf(name, sizeof name, "%d", i);
        below(d, at, (struct span){name, (size_t)n}, a, b);
    }
}

static void walk(struct differences *d, struct buf *at, struct span one, struct span other)
{
    if (one.p && other.p && span_equal(one, other))
        return;
    bool same_type = one.p && other.p && json_type(one) == json_type(other);
    if (same_type && json_type(one) == JSON_OBJECT)
        walk_objects(d, at, one, other);
    else if (same_type && json_type(one) == JSON_ARRAY && length(one) == length(other))
        walk_arrays(d, at, one, other);
    else
        differences_add(d, buf_span(at));
}

void differences_between(struct differences *d, const char *pointer, struct span one, struct span other)
{
    struct buf a = {0}, b = {0}, at = {0};
    json_add_canonical(&a, one, NULL);
    json_add_canonical(&b, other, NULL);
    buf_adds(&at, pointer);
    walk(d, &at, buf_span(&a), buf_span(&b));
    buf_release(&a);
    buf_release(&b);
    buf_release(&at);
}
