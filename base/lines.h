/* Lines out of what a socket gives, piece by piece, none longer than a limit. Pure.
 *
 *     lines_add(&lines, bytes);
 *     while (lines_next(&lines, &line)) ...      a line lives until the next lines_add()
 *     if (lines_are_too_long(&lines)) ...        its sender is not to be believed
 *
 * All zeros at first. */
#pragma once

#include "base/buf.h"

enum { LINE_BYTES_MAX = 16 << 20 /* with its line break */ };

struct lines {
    struct buf bytes;
    size_t start;   /* of the first line that was not given */
    size_t scanned; /* no line break stands between the two */
};

void lines_add(struct lines *lines, struct span bytes);

/* Without its line break, and without a carriage return before that. */
bool lines_next(struct lines *lines, struct span *line);

/* Nothing of it is needed any more: an empty one that was large gives its room back. */
void lines_rest(struct lines *lines);

/* What there is of the next one is more than any may have. */
bool lines_are_too_long(const struct lines *lines);
void lines_release(struct lines *lines);
