/* UTF-8: checking, mending, cutting. Overlong forms, surrogates and what is
 * above U+10FFFF are not UTF-8.
 *
 * Threads: any. */
#pragma once

#include "base/buf.h"

/* What stands for bytes that are not UTF-8: U+FFFD. */
#define UTF8_REPLACEMENT "\xEF\xBF\xBD"

/* The length of the valid sequence at p (1..4), 0 if there is none. p < end. */
size_t utf8_sequence(const char *p, const char *end);

bool utf8_valid(struct span bytes);

/* How many characters (code points) valid UTF-8 has. */
size_t utf8_length(struct span text);

/* Appends the bytes with each invalid sequence replaced by U+FFFD. */
void utf8_add_lossy(struct buf *out, struct span bytes);

/* Appends the code point, which is not a surrogate. */
void utf8_add_code(struct buf *out, uint32_t code);

/* The longest start of the text, at most `max` bytes, that splits no sequence
 * and does not end inside one. */
struct span utf8_cut(struct span text, size_t max);
