/* Those whose end is still to be told to a stream, in the order of their ids. A
 * pass looks at each from first to last; what is added behind it meanwhile is met
 * by the same pass. No more than UNENDED_MAX are kept. Pure.
 *
 * Threads: the one that has the request. */
#pragma once

#include "base/buf.h"

enum { UNENDED_MAX = 65536 };
#define UNENDED_CHILDLESS INT64_MAX

struct unended_item {
    int64_t id;
    int64_t last_child; /* those up to it were added; UNENDED_CHILDLESS: none are looked for */
    bool silent;        /* if it is final when it is looked at first, its end was told before */
    bool removed;       /* goes with the end of the pass */
};

struct unended {
    struct unended_item *items;
    int count, cap;
    int at; /* where the pass stands; 0: between two */
};

void unended_release(struct unended *unended);

bool unended_has_room(const struct unended *unended);

/* Unless it is there, or there is no room; one that was removed is there anew. */
void unended_add(struct unended *unended, struct unended_item item);

void unended_remove(struct unended *unended, int index);
void unended_end_pass(struct unended *unended);
