#include "workers/tasks/reference.h"

#include "base/json.h"

#define WORD "$result"

bool reference_maybe(struct span value)
{
    return value.len > sizeof WORD &&
           (memmem(value.p, value.len, WORD, sizeof WORD - 1) || memchr(value.p, '\\', value.len));
}

bool reference_is(struct span value)
{
    return value.len && *value.p == '{' && json_get(value, WORD).p;
}

bool reference_within(struct span value)
{
    struct json_iter it = json_iter(value);
    struct span key, item;
    if (!reference_maybe(value))
        return false;
    if (*value.p == '{') {
        while (json_member(&it, &key, &item))
            if (json_key_is(key, WORD) || reference_within(item))
                return true;
    } else {
        while (json_element(&it, &item))
            if (reference_within(item))
                return true;
    }
    return false;
}

/* --- reading one ------------------------------------------------------------------------ */

struct reading {
    const char *pointer;
    struct buf *scratch;
    struct faults *faults;
    bool bad;
};

static void refuse(struct reading *r, struct span key, const char *detail)
{
    r->bad = true;
    faults_add_member(r->faults, 0, r->pointer, key, "%s", detail);
}

/* Its length in the scratch; -1 and a fault: it is too long, empty, or no string. */
static int read_text(struct reading *r, struct span key, struct span value, size_t max, const char *detail)
{
    size_t start = r->scratch->len;
    if (json_type(value) == JSON_STRING)
        json_unescape(value, r->scratch);
    size_t len = r->scratch->len - start;
    if (len > 0 && len <= max)
        return (int)len;
    r->scratch->len = start;
    refuse(r, key, detail);
    return -1;
}

static int count_dots(struct span path)
{
    int dots = 0;
    for (size_t i = 0; i < path.len; i++)
        dots += path.p[i] == '.';
    return dots;
}

bool reference_read(struct span value, const char *pointer, struct buf *scratch, struct reference *out,
                    struct faults *faults)
{
    struct reading r = {.pointer = pointer, .scratch = scratch, .faults = faults};
    struct json_iter it = json_iter(value);
    struct span key, item;
    int whose = -1, path = -1;
    size_t whose_at = 0, path_at = 0;
    while (json_member(&it, &key, &item)) {
        if (json_key_is(key, WORD)) {
            whose_at = scratch->len;
            if (json_type(item) != JSON_TRUE)
                whose = read_text(&r, key, item, REFERENCE_NAME_MAX,
                                  "must be true, the name of a member, or the id of an invocation");
        } else if (json_key_is(key, "path")) {
            path_at = scratch->len;
            path = read_text(&r, key, item, REFERENCE_PATH_MAX,
                             "must be a path such as \"user.ids.0\", of 1 to 255 bytes");
        } else {
            refuse(&r, key, "beside `$result` there is room for `path` alone");
        }
    }
    *out = (struct reference){.text = value, .pointer = pointer};
    if (whose >= 0)
        out->whose = (struct span){scratch->data + whose_at, (size_t)whose};
    if (path >= 0)
        out->path = (struct span){scratch->data + path_at, (size_t)path};
    if (path >= 0 && count_dots(out->path) >= REFERENCE_PARTS_MAX)
        refuse(&r, SPAN("path"), "has more than 64 parts: nothing is nested so deep");
    return !r.bad;
}

/* --- where a path leads -------------------------------------------------------------------- */

static struct span after_dot(struct span path, size_t dot)
{
    return (struct span){path.p + dot + 1, path.len - dot - 1};
}

static struct span element_at(struct span array, struct span path)
{
    const char *dot = memchr(path.p, '.', path.len);
    size_t digits = dot ? (size_t)(dot - path.p) : path.len;
    struct span item, number = {path.p, digits};
    struct json_iter it = json_iter(array);
    int64_t index;
    if (!digits || (digits > 1 && *path.p == '0') || !json_int64(number, &index) || index < 0 || *path.p == '-')
        return (struct span){NULL, 0};
    for (int64_t i = 0; json_element(&it, &item); i++)
        if (i == index)
            return dot ? reference_at(item, after_dot(path, digits)) : item;
    return (struct span){NULL, 0};
}

/* The path begins with this name, and goes on after a dot or not at all? */
static bool begins_with(struct span path, struct span name)
{
    return name.len <= path.len && memcmp(path.p, name.p, name.len) == 0 &&
           (name.len == path.len || path.p[name.len] == '.');
}

static bool key_begins(struct span path, struct span key, size_t *len)
{
    struct buf plain = {0};
    bool begins;
    if (!memchr(key.p, '\\', key.len)) {
        *len = key.len;
        return begins_with(path, key);
    }
    json_unescape(key, &plain);
    *len = plain.len;
    begins = begins_with(path, buf_span(&plain));
    buf_release(&plain);
    return begins;
}

static struct span member_at(struct span object, struct span path)
{
    struct span found[REFERENCE_PARTS_MAX] = {{NULL, 0}}; /* by the dots in the name */
    struct span key, item, at = {NULL, 0};
    struct json_iter it = json_iter(object);
    size_t len;
    while (json_member(&it, &key, &item)) {
        if (!key_begins(path, key, &len))
            continue;
        if (len == path.len)
            return item;
        int dots = count_dots((struct span){path.p, len});
        if (dots < REFERENCE_PARTS_MAX)
            found[dots] = item;
    }
    for (size_t i = 0, dots = 0; i < path.len && dots < REFERENCE_PARTS_MAX && !at.p; i++) {
        if (path.p[i] != '.')
            continue;
        if (found[dots].p)
            at = reference_at(found[dots], after_dot(path, i));
        dots++;
    }
    return at;
}

struct span reference_at(struct span value, struct span path)
{
    if (value.len && *value.p == '{')
        return member_at(value, path);
    if (value.len && *value.p == '[')
        return element_at(value, path);
    return (struct span){NULL, 0};
}
