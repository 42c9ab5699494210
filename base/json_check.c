/* json_check(): one pass over the text with a stack of the containers that are
 * open. The keys of the open objects lie on a second stack; those of the
 * innermost object are on its top and are dropped when it closes. A key is
 * compared with each one before it in a small object and looked up in a hash
 * table in a large one. */
#include "base/json.h"

#include "base/digest.h"
#include "base/faults.h"
#include "base/json_scan.h"
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    KEYS_ON_STACK = 64,
    KEYS_COMPARED = 32, /* objects with more keys than that get a table */
    TABLE_SLOTS_MIN = 128,
};

struct key {
    const char *p; /* unescaped: in the text, or a copy if it had escapes */
    size_t len;
    uint64_t hash; /* once its object has a table */
};

struct container {
    bool is_object;
    char close;
    size_t first_key;
    size_t index;    /* of an array's current element */
    uint32_t *slots; /* an object's table: 0, or a key's place after first_key, plus 1 */
    size_t slot_count;
};

struct checker {
    const char *text;
    const char *end;
    struct json_fault *fault;
    int depth;
    int depth_max;
    size_t key_count;
    size_t key_cap;
    size_t copy_count; /* of keys that had escapes */
    struct key *keys;
    struct key stack_keys[KEYS_ON_STACK];
    struct container containers[JSON_DEPTH_MAX];
};

/* --- faults ------------------------------------------------------------- */

__attribute__((cold, noinline, format(printf, 3, 4))) static const char *fail(struct checker *c, const char *at,
                                                                              const char *format, ...)
{
    if (!c->fault)
        return NULL;
    c->fault->offset = (size_t)(at - c->text);
    c->fault->pointer[0] = '\0';
    va_list args;
    va_start(args, format);
    vsnprintf(c->fault->detail, sizeof c->fault->detail, format, args);
    va_end(args);
    return NULL;
}

__attribute__((cold, noinline)) static const char *unexpected(struct checker *c, const char *at,
                                                              const char *wanted)
{
    if (at == c->end)
        return fail(c, at, "the text ends where %s is expected", wanted);
    if (*at > ' ' && *at < 0x7F)
        return fail(c, at, "'%c' stands where %s is expected", *at, wanted);
    return fail(c, at, "byte 0x%02X stands where %s is expected", (unsigned char)*at, wanted);
}

/* The place of the innermost object's last key. */
static void set_pointer(struct checker *c)
{
    struct buf pointer = {0};
    for (int i = 0; i < c->depth; i++) {
        const struct container *container = &c->containers[i];
        if (container->is_object) {
            size_t end = i + 1 < c->depth ? container[1].first_key : c->key_count;
            pointer_add(&pointer, (struct span){c->keys[end - 1].p, c->keys[end - 1].len});
        } else {
            buf_addc(&pointer, '/');
            buf_add_int(&pointer, (int64_t)container->index);
        }
    }
    struct span cut = utf8_cut(buf_span(&pointer), sizeof c->fault->pointer - 1);
    memcpy(c->fault->pointer, cut.p, cut.len);
    c->fault->pointer[cut.len] = '\0';
    buf_release(&pointer);
}

__attribute__((cold, noinline)) static const char *fail_duplicate(struct checker *c, const char *at)
{
    const struct key *key = &c->keys[c->key_count - 1];
    struct span shown = utf8_cut((struct span){key->p, key->len}, 100);
    fail(c, at, "the key \"%.*s\" comes twice in one object", (int)shown.len, shown.p);
    if (c->fault)
        set_pointer(c);
    return NULL;
}

/* --- keys --------------------------------------------------------------- */

/* Polynomial hashing modulo the prime 2^61 - 1 at a random point: nobody who
 * does not know the point can choose keys that collide. */
#define HASH_PRIME ((UINT64_C(1) << 61) - 1)

static uint64_t hash_point;

static void choose_hash_point(void)
{
    random_bytes(&hash_point, sizeof hash_point);
    hash_point = hash_point % (HASH_PRIME - 2) + 2;
}

static uint64_t hash_step(uint64_t hash, uint64_t chunk)
{
    unsigned __int128 product = (unsigned __int128)hash * hash_point + chunk;
    uint64_t sum = ((uint64_t)product & HASH_PRIME) + (uint64_t)(product >> 61);
    return sum >= HASH_PRIME ? sum - HASH_PRIME : sum;
}

static uint64_t hash_key(const struct key *key)
{
    enum { CHUNK_BYTES = 7 };
    uint64_t hash = key->len + 1;
    for (size_t i = 0; i < key->len; i += CHUNK_BYTES) {
        uint64_t chunk = 0;
        memcpy(&chunk, key->p + i, key->len - i < CHUNK_BYTES ? key->len - i : CHUNK_BYTES);
        hash = hash_step(hash, chunk);
    }
    /* The table uses the low bits; similar keys differ regularly in them. */
    hash ^= hash >> 29;
    hash *= UINT64_C(0xBF58476D1CE4E5B9);
    return hash ^ hash >> 32;
}

static bool same_key(const struct key *a, const struct key *b)
{
    return a->len == b->len && (a->len == 0 || *a->p == *b->p) && memcmp(a->p, b->p, a->len) == 0;
}

/* The slot that has the key, or the free one where it belongs. */
static uint32_t *find_slot(const struct checker *c, const struct container *object, const struct key *key)
{
    size_t mask = object->slot_count - 1;
    for (size_t i = key->hash & mask;; i = (i + 1) & mask) {
        uint32_t *slot = &object->slots[i];
        if (!*slot)
            return slot;
        const struct key *other = &c->keys[object->first_key + *slot - 1];
        if (other->hash == key->hash && same_key(other, key))
            return slot;
    }
}

/* Puts the object's first `count` keys into a table of the given size. */
static void make_table(struct checker *c, struct container *object, size_t count, size_t slot_count)
{
    free(object->slots);
    object->slots = xcalloc(slot_count, sizeof *object->slots);
    object->slot_count = slot_count;
    for (size_t i = 0; i < count; i++)
        *find_slot(c, object, &c->keys[object->first_key + i]) = (uint32_t)(i + 1);
}

/* Was the last key there before? Adds it to the table if not. */
static bool is_in_table(struct checker *c, struct container *object)
{
    size_t before = c->key_count - 1 - object->first_key;
    struct key *last = &c->keys[c->key_count - 1];
    if (!object->slots) {
        static pthread_once_t once = PTHREAD_ONCE_INIT;
        pthread_once(&once, choose_hash_point);
        for (size_t i = 0; i < before; i++)
            c->keys[object->first_key + i].hash = hash_key(&c->keys[object->first_key + i]);
        make_table(c, object, before, TABLE_SLOTS_MIN);
    } else if (before * 2 >= object->slot_count) {
        make_table(c, object, before, object->slot_count * 2);
    }
    last->hash = hash_key(last);
    uint32_t *slot = find_slot(c, object, last);
    if (*slot)
        return true;
    *slot = (uint32_t)(before + 1);
    return false;
}

static bool last_key_is_duplicate(struct checker *c, struct container *object)
{
    const struct key *last = &c->keys[c->key_count - 1];
    const struct key *first = &c->keys[object->first_key];
    if (last - first >= KEYS_COMPARED)
        return is_in_table(c, object);
    for (const struct key *other = first; other < last; other++)
        if (same_key(other, last))
            return true;
    return false;
}

static void grow_keys(struct checker *c)
{
    size_t cap = c->key_cap * 2;
    if (c->keys == c->stack_keys) {
        c->keys = xmalloc(cap * sizeof *c->keys);
        memcpy(c->keys, c->stack_keys, sizeof c->stack_keys);
    } else {
        c->keys = xrealloc(c->keys, cap * sizeof *c->keys);
    }
    c->key_cap = cap;
}

static void push_key(struct checker *c, struct span raw, bool escaped)
{
    if (c->key_count == c->key_cap)
        grow_keys(c);
    struct key *key = &c->keys[c->key_count++];
    key->p = raw.p;
    key->len = raw.len;
    if (escaped) {
        struct buf text = {0};
        json_unescape(raw, &text);
        key->len = text.len;
        key->p = buf_take(&text);
        c->copy_count++;
    }
}

static void drop_keys(struct checker *c, size_t first)
{
    for (; c->copy_count && c->key_count > first; c->key_count--) {
        const char *p = c->keys[c->key_count - 1].p;
        if (p >= c->text && p < c->end)
            continue;
        free((char *)p);
        c->copy_count--;
    }
    c->key_count = first;
}

/* --- scalars ------------------------------------------------------------ */

static inline bool is_digit(char c)
{
    return (unsigned char)(c - '0') <= 9;
}

static int hex_value(char c)
{
    if (is_digit(c))
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Reads "uXXXX" at p. */
static bool read_unit(const char *p, const char *end, unsigned *unit)
{
    if (end - p < 5 || *p != 'u')
        return false;
    *unit = 0;
    for (int i = 1; i <= 4; i++) {
        int digit = hex_value(p[i]);
        if (digit < 0)
            return false;
        *unit = *unit << 4 | (unsigned)digit;
    }
    return true;
}

/* p is after the backslash. */
static const char *check_escape(struct checker *c, const char *p)
{
    if (p == c->end)
        return fail(c, p, "the text ends inside a string");
    if (*p != 'u')
        return memchr("\"\\/bfnrt", *p, 8) ? p + 1 : fail(c, p - 1, "a string has an unknown escape");
    unsigned unit;
    if (!read_unit(p, c->end, &unit))
        return fail(c, p - 1, "\\u needs four hexadecimal digits");
    if (unit < 0xD800 || unit > 0xDFFF)
        return p + 5;
    unsigned low;
    if (unit < 0xDC00 && c->end - p > 5 && p[5] == '\\' && read_unit(p + 6, c->end, &low) && low >= 0xDC00 &&
        low <= 0xDFFF)
        return p + 11;
    return fail(c, p - 1, "a string has half of a surrogate pair");
}

/* p is where a string's first plain bytes end, and they do not end it. */
__attribute__((noinline)) static const char *check_string_rest(struct checker *c, const char *p, bool *escaped)
{
    const char *end = c->end;
    for (;; p = json_skip_plain(p, end)) {
        if (p == end)
            return fail(c, p, "the text ends inside a string");
        unsigned char byte = (unsigned char)*p;
        if (byte == '"')
            return p + 1;
        if (byte == '\\') {
            *escaped = true;
            p = check_escape(c, p + 1);
            if (!p)
                return NULL;
        } else if (byte < ' ') {
            return fail(c, p, "a string has the control character 0x%02X unescaped", byte);
        } else {
            size_t n = utf8_sequence(p, end);
            if (!n)
                return fail(c, p, "byte 0x%02X is not UTF-8", byte);
            p += n;
        }
    }
}

/* p is after the opening quote; returns what is after the closing one. */
static inline const char *check_string(struct checker *c, const char *p, bool *escaped)
{
    p = json_skip_plain(p, c->end);
    return p < c->end && *p == '"' ? p + 1 : check_string_rest(c, p, escaped);
}

static const char *check_digits(struct checker *c, const char *p)
{
    if (p == c->end || !is_digit(*p))
        return unexpected(c, p, "a digit");
    while (p < c->end && is_digit(*p))
        p++;
    return p;
}

static const char *check_number(struct checker *c, const char *p)
{
    const char *end = c->end;
    if (*p == '-')
        p++;
    if (p < end && *p == '0') {
        p++;
        if (p < end && is_digit(*p))
            return fail(c, p - 1, "a number has a leading zero");
    } else if (!(p = check_digits(c, p))) {
        return NULL;
    }
    if (p < end && *p == '.' && !(p = check_digits(c, p + 1)))
        return NULL;
    if (p < end && (*p == 'e' || *p == 'E')) {
        p++;
        if (p < end && (*p == '+' || *p == '-'))
            p++;
        p = check_digits(c, p);
    }
    return p;
}

static const char *check_word(struct checker *c, const char *p, struct span word)
{
    if ((size_t)(c->end - p) < word.len || memcmp(p, word.p, word.len) != 0)
        return unexpected(c, p, "a value");
    return p + word.len;
}

static inline const char *check_scalar(struct checker *c, const char *p)
{
    if (p == c->end)
        return unexpected(c, p, "a value");
    bool escaped;
    switch (*p) {
    case '"': return check_string(c, p + 1, &escaped);
    case 't': return check_word(c, p, SPAN("true"));
    case 'f': return check_word(c, p, SPAN("false"));
    case 'n': return check_word(c, p, SPAN("null"));
    case '-': return check_number(c, p);
    default: return is_digit(*p) ? check_number(c, p) : unexpected(c, p, "a value");
    }
}

/* --- containers --------------------------------------------------------- */

static inline struct container *innermost(struct checker *c)
{
    return c->depth ? &c->containers[c->depth - 1] : NULL;
}

static inline const char *open_container(struct checker *c, const char *p)
{
    if (c->depth == c->depth_max)
        return fail(c, p, "values are nested more than %d deep", c->depth_max);
    struct container *container = &c->containers[c->depth++];
    container->is_object = *p == '{';
    container->close = container->is_object ? '}' : ']';
    container->first_key = c->key_count;
    container->index = 0;
    container->slots = NULL;
    return json_skip_space(p + 1, c->end);
}

static inline void close_container(struct checker *c)
{
    struct container *container = &c->containers[--c->depth];
    drop_keys(c, container->first_key);
    free(container->slots);
}

static inline bool at_close(const struct checker *c, const char *p, const struct container *container)
{
    return p < c->end && *p == container->close;
}

/* Reads a key and its colon. */
static inline const char *check_key(struct checker *c, const char *p, struct container *object)
{
    if (p == c->end || *p != '"')
        return unexpected(c, p, "a key in quotes");
    bool escaped = false;
    const char *after = check_string(c, p + 1, &escaped);
    if (!after)
        return NULL;
    push_key(c, (struct span){p + 1, (size_t)(after - p) - 2}, escaped);
    if (last_key_is_duplicate(c, object))
        return fail_duplicate(c, p);
    p = json_skip_space(after, c->end);
    if (p == c->end || *p != ':')
        return unexpected(c, p, "':'");
    return json_skip_space(p + 1, c->end);
}

/* One turn reads a value, or opens a container that is not empty, and then
 * closes what ends there. Returns what is after the outermost value. */
static const char *check_value(struct checker *c, const char *p)
{
    for (;;) {
        struct container *container = innermost(c);
        if (container && container->is_object && !(p = check_key(c, p, container)))
            return NULL;
        if (p < c->end && (*p == '{' || *p == '[')) {
            p = open_container(c, p);
            if (!p)
                return NULL;
            if (!at_close(c, p, innermost(c)))
                continue;
        } else {
            p = check_scalar(c, p);
            if (!p)
                return NULL;
            p = json_skip_space(p, c->end);
        }
        while ((container = innermost(c)) && at_close(c, p, container)) {
            close_container(c);
            p = json_skip_space(p + 1, c->end);
        }
        if (!container)
            return p;
        if (p == c->end || *p != ',')
            return unexpected(c, p, container->is_object ? "',' or '}'" : "',' or ']'");
        container->index++;
        p = json_skip_space(p + 1, c->end);
    }
}

enum err json_check(const char *text, size_t len, int depth_max, struct json_fault *fault)
{
    struct checker c;
    c.text = text;
    c.end = text + len;
    c.fault = fault;
    c.depth = 0;
    c.depth_max = depth_max < JSON_DEPTH_MAX ? depth_max : JSON_DEPTH_MAX;
    c.key_count = 0;
    c.key_cap = KEYS_ON_STACK;
    c.copy_count = 0;
    c.keys = c.stack_keys;

    const char *p;
    if (len >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0)
        p = fail(&c, text, "the text starts with a byte order mark");
    else
        p = check_value(&c, json_skip_space(text, c.end));
    if (p && p < c.end)
        p = unexpected(&c, p, "the end of the text");

    while (c.depth)
        close_container(&c);
    if (c.keys != c.stack_keys)
        free(c.keys);
    return p ? OK : ERR_INVALID;
}
