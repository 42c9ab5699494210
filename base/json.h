/* JSON, read in place and written to buffers (RFC 8259).
 *
 * What a client sends is checked once by json_check() and from then on walked
 * as spans of its own bytes: numbers keep their digits, keys their order.
 * cJSON is used elsewhere to build rare answers; it never sees a number that
 * came in and must go out again, because its numbers are doubles.
 *
 * Calling sequence: json_check() first; every other reader here trusts text
 * that passed it, and only such text.
 *
 * Threads: no shared state (the key hash has a random seed set once). */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "base/utf8.h"

enum { JSON_DEPTH_MAX = 64 };

struct json_fault {
    size_t offset;     /* in bytes from the start of the text */
    char detail[160];  /* a sentence */
    char pointer[256]; /* of a duplicate key, else "" */
};

/* Is this one JSON value (white space around it allowed), in valid UTF-8,
 * without duplicate keys in any object (compared after unescaping), nested at
 * most `depth_max` deep, without lone surrogates in \u escapes, without a BOM?
 * ERR_INVALID with the fault filled in otherwise; `fault` may be NULL.
 * A scalar has depth 0, "[]" has 1; depth_max is at most JSON_DEPTH_MAX.
 * Linear in len. Memory: proportional to the keys of the objects open at once. */
MUST_USE enum err json_check(const char *text, size_t len, int depth_max, struct json_fault *fault);

/* Where that is, for a person: both from 1, columns in characters. */
struct json_place {
    int line, column;
};
struct json_place json_place(struct span text, size_t offset);

enum json_type {
    JSON_NULL,
    JSON_FALSE,
    JSON_TRUE,
    JSON_NUMBER,
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT,
};

/* "null", "boolean", "number", ...: for sentences. */
const char *json_type_name(enum json_type type);

/* The value without the white space around it. */
struct span json_trim(struct span text);

/* The type of a checked, trimmed value: looks at its first byte. */
static inline enum json_type json_type(struct span value)
{
    switch (value.p[0]) {
    case '{': return JSON_OBJECT;
    case '[': return JSON_ARRAY;
    case '"': return JSON_STRING;
    case 't': return JSON_TRUE;
    case 'f': return JSON_FALSE;
    case 'n': return JSON_NULL;
    default: return JSON_NUMBER;
    }
}

/* Walks the members of an object or the elements of an array.
 *     struct json_iter it = json_iter(value);
 *     while (json_member(&it, &key, &item)) ...
 * Keys come without quotes and still escaped; items are trimmed. */
struct json_iter {
    const char *p;
    const char *end;
};

struct json_iter json_iter(struct span value);
bool json_member(struct json_iter *it, struct span *key, struct span *value);
bool json_element(struct json_iter *it, struct span *value);

/* Does the (still escaped) key say this plain ASCII name? */
bool json_key_is(struct span key, const char *name);

/* The member of that name, or an absent span. */
struct span json_get(struct span object, const char *name);

/* The text of a string value (with its quotes) or of a key (without), with
 * its escapes resolved, appended to `out`. */
void json_unescape(struct span string, struct buf *out);

/* A whole number without fraction and exponent that fits; false otherwise. */
bool json_int64(struct span value, int64_t *out);

/* A whole number however it is written (1.0 and 1e2 are what they are in JSON
 * Schema), of at most 2^53 unless it has neither fraction nor exponent. */
bool json_whole(struct span value, int64_t *out);

/* A number without fraction and exponent, of any size? ("-0" is one.) */
bool json_is_integer(struct span value);

/* Any number as a double (may be infinite when it does not fit). */
double json_double(struct span value);

/* Appends text as a JSON string with quotes. The text must be valid UTF-8. */
void json_add_string(struct buf *out, struct span text);

/* Appends any bytes as a JSON string: invalid UTF-8 becomes U+FFFD. */
void json_add_lossy(struct buf *out, struct span bytes);

/* Appends checked, trimmed JSON in the one form that all texts of the same value
 * share, numbers apart, whose digits stay: no white space, members in the order
 * of their names, nothing escaped that need not be. `without` (may be NULL) is a
 * member of the outermost object that is left out. */
void json_add_canonical(struct buf *out, struct span value, const char *without);

/* Appends checked JSON with line breaks outside strings as spaces, for NDJSON
 * and event streams (inside strings JSON has none). */
void json_add_line(struct buf *out, struct span value);
