#include "base/keys_internal.h"
#include "base/clock.h"
#include "base/nearest.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* Decimal digits with an optional minus. */
static bool whole_number(struct span text, int64_t *value)
{
    bool negative = text.len > 0 && text.p[0] == '-';
    size_t i = negative;
    if (i == text.len || text.len - i > 19)
        return false;
    int64_t n = 0;
    for (; i < text.len; i++) {
        if (text.p[i] < '0' || text.p[i] > '9')
            return false;
        if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, text.p[i] - '0', &n))
            return false;
    }
    *value = negative ? -n : n;
    return true;
}

static const struct {
    const char *unit;
    int shift;
} size_units[] = {{"GiB", 30}, {"MiB", 20}, {"KiB", 10}};

static bool size_parse(struct span text, int64_t *bytes)
{
    int shift = 0;
    for (size_t i = 0; i < sizeof(size_units) / sizeof(size_units[0]); i++)
        if (text.len > 3 && memcmp(text.p + text.len - 3, size_units[i].unit, 3) == 0) {
            shift = size_units[i].shift;
            text.len -= 3;
        }
    return whole_number(text, bytes) && !__builtin_mul_overflow(*bytes, INT64_C(1) << shift, bytes);
}

static void size_add(struct buf *out, int64_t bytes)
{
    for (size_t i = 0; i < sizeof(size_units) / sizeof(size_units[0]); i++)
        if (bytes > 0 && bytes % (INT64_C(1) << size_units[i].shift) == 0) {
            buf_add_int(out, bytes >> size_units[i].shift);
            buf_adds(out, size_units[i].unit);
            return;
        }
    buf_add_int(out, bytes);
}

void keys_add_limit(struct buf *out, const struct key *key, int64_t value)
{
    if (key->type == KEY_DURATION)
        duration_add(out, value);
    else if (key->type == KEY_SIZE)
        size_add(out, value);
    else
        buf_add_int(out, value);
}

static bool refuse_range(const struct key *key, struct span text, struct reason *why)
{
    struct buf low = {0}, high = {0};
    keys_add_limit(&low, key, key->min);
    keys_add_limit(&high, key, key->max);
    reason_set(why, "%.*s is out of range: %s to %s%s", (int)text.len, text.p, buf_cstr(&low), buf_cstr(&high),
               key->none ? ", or none" : "");
    buf_release(&low);
    buf_release(&high);
    return false;
}

static bool in_range(const struct key *key, int64_t value)
{
    return (key->min == 0 && key->max == 0) || (value >= key->min && value <= key->max);
}

static bool set_integer(const struct key *key, struct span text, void *target, struct reason *why)
{
    static const char *const forms[] = {
        [KEY_INT] = "a whole number",
        [KEY_COUNT] = "a whole number",
        [KEY_SIZE] = "a size in bytes or with its unit, such as 4096, 64KiB or 1MiB",
        [KEY_DURATION] = "a duration with its unit, such as 250ms, 30s or 1h30m",
    };
    int64_t value = 0;
    bool is_none = key->none && span_is(text, "none");
    bool too_long = !is_none && key->type == KEY_DURATION && duration_read(text, &value) == ERR_LIMIT;
    bool good = is_none || (key->type == KEY_SIZE       ? size_parse(text, &value)
                            : key->type == KEY_DURATION ? duration_parse(text, &value)
                                                        : whole_number(text, &value));
    if (too_long)
        return refuse_range(key, text, why);
    if (!good) {
        reason_set(why, "`%.*s` is not %s%s", (int)text.len, text.p, forms[key->type],
                   key->none ? ", or none" : "");
        return false;
    }
    if (!is_none && !in_range(key, value))
        return refuse_range(key, text, why);
    if (key->type == KEY_INT)
        *(int *)keys_field(target, key) = (int)value;
    else
        *(int64_t *)keys_field(target, key) = value;
    return true;
}

static bool set_number(const struct key *key, struct span text, void *target, struct reason *why)
{
    char copy[64] = "", *end = copy;
    double value = 0;
    if (text.len < sizeof(copy)) {
        memcpy(copy, text.p, text.len);
        if (strspn(copy, "0123456789.eE+-") == text.len)
            value = strtod(copy, &end);
    }
    if (end == copy || *end) {
        reason_set(why, "`%.*s` is not a number", (int)text.len, text.p);
        return false;
    }
    if ((key->min || key->max) && !(value >= (double)key->min && value <= (double)key->max))
        return refuse_range(key, text, why);
    *(double *)keys_field(target, key) = value;
    return true;
}

static bool set_word(const struct key *key, struct span text, void *target, struct reason *why)
{
    struct nearest near = nearest_to(text);
    struct buf all = {0};
    for (int i = 0; key->words[i]; i++) {
        if (span_is(text, key->words[i])) {
            memcpy(keys_field(target, key), &i, sizeof(i));
            buf_release(&all);
            return true;
        }
        nearest_try(&near, key->words[i]);
        buf_addf(&all, "%s%s", i == 0 ? "" : key->words[i + 1] ? ", " : " or ", key->words[i]);
    }
    reason_set(why, "`%.*s` is not %s" NEAREST_FORMAT, (int)text.len, text.p, buf_cstr(&all), NEAREST_ARGS(near));
    buf_release(&all);
    return false;
}

void keys_replace(char **place, char *text)
{
    free(*place);
    *place = text;
}

static bool set_plain(const struct key *key, struct span text, void *target, struct reason *why)
{
    if (key->max && (text.len < (size_t)key->min || text.len > (size_t)key->max)) {
        reason_set(why, "must be %" PRId64 " to %" PRId64 " bytes long, not %zu", key->min, key->max, text.len);
        return false;
    }
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.p[i] < 0x20 && text.p[i] != '\n' && text.p[i] != '\t') {
            reason_set(why, "must not have control characters");
            return false;
        }
    char *copy = span_dup(text);
    if (key->check && !key->check(copy, why)) {
        free(copy);
        return false;
    }
    keys_replace(keys_field(target, key), copy);
    return true;
}

static bool path_is_good(const struct key *key, const char *path, struct reason *why)
{
    struct stat st;
    if (key->path == PATH_ANY)
        return true;
    if (stat(path, &st) != 0)
        reason_set(why, "there is no %s %s", key->path == PATH_FOLDER ? "folder" : "file", path);
    else if (key->path == PATH_FOLDER && !S_ISDIR(st.st_mode))
        reason_set(why, "%s is not a folder", path);
    else if (key->path == PATH_FILE && S_ISDIR(st.st_mode))
        reason_set(why, "%s is a folder, not a file", path);
    else if (access(path, key->path == PATH_FOLDER ? X_OK : R_OK) != 0)
        reason_set(why, "%s cannot be read: no permission", path);
    else
        return true;
    return false;
}

static bool set_path(const struct key *key, struct span text, const char *folder, void *target, struct reason *why)
{
    if (text.len == 0) {
        reason_set(why, "must not be empty");
        return false;
    }
    struct buf path = {0};
    if (text.p[0] != '/') {
        buf_adds(&path, folder);
        if (path.len == 0 || path.data[path.len - 1] != '/')
            buf_addc(&path, '/');
    }
    buf_add_span(&path, text);
    bool good = path_is_good(key, buf_cstr(&path), why);
    if (good)
        keys_replace(keys_field(target, key), buf_take(&path));
    buf_release(&path);
    return good;
}

bool keys_set_text(const struct key *key, struct span text, const char *folder, void *target, struct reason *why)
{
    switch (key->type) {
    case KEY_TEXT: return set_plain(key, text, target, why);
    case KEY_PATH: return set_path(key, text, folder, target, why);
    case KEY_INT:
    case KEY_COUNT:
    case KEY_SIZE:
    case KEY_DURATION: return set_integer(key, text, target, why);
    case KEY_NUMBER: return set_number(key, text, target, why);
    case KEY_WORD: return set_word(key, text, target, why);
    case KEY_PARSED: return key->parse(text, folder, target, why);
    case KEY_LIST:
    case KEY_MAP:
    case KEY_OTHER:
    case KEY_SPAN:
    case KEY_BOOL:
    case KEY_TIME:
    case KEY_VALUE: break;
    }
    reason_set(why, "cannot be set from a text");
    return false;
}
