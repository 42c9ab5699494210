/* Where two JSON values differ, as JSON Pointers.
 *
 * Pure. Threads: no shared state. */
#pragma once

#include "base/buf.h"

enum { DIFFERENCES_MAX = 100, DIFFERENCE_BYTES = 1000 };

/* A list that is being written: ["/args/x",...]. */
struct differences {
    struct buf *out;
    int count;
};

/* Adds a pointer to it, unless there are DIFFERENCES_MAX. */
void differences_add(struct differences *d, struct span pointer);

/* Adds where they differ, below that pointer. Both are checked JSON. The order of members is no
 * difference. A list of another length differs as a whole, and so does what a pointer of more
 * than DIFFERENCE_BYTES would name. Linear in both but for the sorting of members. */
void differences_between(struct differences *d, const char *pointer, struct span one, struct span other);
