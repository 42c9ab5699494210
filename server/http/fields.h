/* The members of a JSON body, read against a table: one static table says what
 * an object may hold, and everything that is wrong with it is named at once.
 *
 *     static const struct field patch_fields[] = {
 *         {.name = "priority", .type = FIELD_INT, .max = 127, .offset = offsetof(struct patch, priority)},
 *         {0},
 *     };
 *     struct fields in = {&faults, &arena};
 *     uint64_t given = fields_read(&in, NULL, body, patch_fields, &patch);
 *
 * Threads: no shared state. The text was checked by json_check(). */
#pragma once

#include "base/faults.h"
#include "base/json.h"

struct fields {
    struct faults *faults;
    struct buf *arena; /* decoded texts: the caller keeps it as long as what was read */
};

/* Where a value stands, for its pointer: a chain up to the whole (NULL). */
struct fields_place {
    const struct fields_place *parent;
    struct span key; /* still escaped; absent: an element of an array */
    int index;
};

enum field_type {
    FIELD_TEXT,     /* struct span, decoded, min..max bytes without NUL; points into the body or the arena */
    FIELD_INT,      /* int, min..max */
    FIELD_BOOL,     /* bool */
    FIELD_TIME,     /* int64_t, RFC 3339 */
    FIELD_DURATION, /* int64_t milliseconds, at least min */
    FIELD_VALUE,    /* struct span, any JSON */
    FIELD_OTHER,    /* what `read` reads; given the whole target */
};

struct field {
    const char *name; /* NULL ends the table; at most 64 of them */
    enum field_type type;
    size_t offset; /* where it goes in the target */
    int64_t min, max;
    bool nullable; /* null is allowed: it is given, and the target stays as it was */
    bool required;
    void (*read)(const struct fields *in, const struct fields_place *at, struct span value, void *target);
};

/* Reads an object. Returns the bits (1 << index in the table) of the fields
 * that were there, right or wrong. `at` is NULL for the whole body, and only
 * then room is made in the arena: texts read before with the same arena move. */
uint64_t fields_read(const struct fields *in, const struct fields_place *at, struct span value,
                     const struct field *table, void *target);

/* Adds a fault at that place. */
void fields_fault(const struct fields *in, const struct fields_place *at, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* For `read`: a string's text as FIELD_TEXT reads it, or a fault and false. */
bool fields_text(const struct fields *in, const struct fields_place *at, struct span value, int64_t min,
                 int64_t max, struct span *out);
