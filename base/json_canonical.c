#include "base/json.h"

#include <stdlib.h>

struct member {
    struct span name, value; /* the name is decoded */
};

static int compare(const void *a, const void *b)
{
    struct span one = ((const struct member *)a)->name, other = ((const struct member *)b)->name;
    size_t n = one.len < other.len ? one.len : other.len;
    int order = n ? memcmp(one.p, other.p, n) : 0;
    return order ? order : (one.len > other.len) - (one.len < other.len);
}

/* Names with escapes are decoded into `names`, which does not move. */
static struct member *members_of(struct span object, const char *without, struct buf *names, size_t *count)
{
    struct member *members = NULL;
    size_t cap = 0;
    struct json_iter it = json_iter(object);
    struct member next;
    *count = 0;
    while (json_member(&it, &next.name, &next.value)) {
        if (without && json_key_is(next.name, without))
            continue;
        if (memchr(next.name.p, '\\', next.name.len)) {
            size_t start = names->len;
            buf_reserve(names, names->len ? 0 : object.len);
            json_unescape(next.name, names);
            next.name = (struct span){names->data + start, names->len - start};
        }
        if (*count == cap) {
            cap = cap ? 2 * cap : 16;
            members = xrealloc(members, cap * sizeof *members);
        }
        members[(*count)++] = next;
    }
    return members;
}

static void add_object(struct buf *out, struct span object, const char *without)
{
    struct buf names = {0};
    size_t count;
    struct member *members = members_of(object, without, &names, &count);
    if (count)
        qsort(members, count, sizeof *members, compare);
    buf_addc(out, '{');
    for (size_t i = 0; i < count; i++) {
        if (i)
            buf_addc(out, ',');
        json_add_string(out, members[i].name);
        buf_addc(out, ':');
        json_add_canonical(out, members[i].value, NULL);
    }
    buf_addc(out, '}');
    free(members);
    buf_release(&names);
}

static void add_array(struct buf *out, struct span array)
{
    struct json_iter it = json_iter(array);
    struct span item;
    const char *comma = "";
    buf_addc(out, '[');
    for (; json_element(&it, &item); comma = ",") {
        buf_adds(out, comma);
        json_add_canonical(out, item, NULL);
    }
    buf_addc(out, ']');
}

static void add_text(struct buf *out, struct span string)
{
    struct buf plain = {0};
    if (!memchr(string.p, '\\', string.len)) {
        buf_add_span(out, string);
        return;
    }
    json_unescape(string, &plain);
    json_add_string(out, buf_span(&plain));
    buf_release(&plain);
}

void json_add_canonical(struct buf *out, struct span value, const char *without)
{
    switch (json_type(value)) {
    case JSON_OBJECT: add_object(out, value, without); break;
    case JSON_ARRAY: add_array(out, value); break;
    case JSON_STRING: add_text(out, value); break;
    default: buf_add_span(out, value); break;
    }
}
