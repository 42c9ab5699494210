/* What a turn starts with that is not its invocation's first: the state that the
 * last one left, and what woke it. Put together when the turn is given out, from
 * what is on disk then. */
#pragma once

#include "base/buf.h"
#include "base/err.h"

struct reader;

/* Above so many bytes the results are left out, and `results_left_out` says so. */
enum { WOKEN_BYTES = 1 << 20 };

struct woken {
    struct buf state; /* JSON; empty: it left none */
    struct buf json;  /* {by, results, messages}; empty: nothing woke it */
    int64_t read;     /* the last message in it; 0: none */
};

enum woken_of {
    WOKEN_HERE,      /* of a turn of this process: all that is unread now */
    WOKEN_ELSEWHERE, /* what was unread when it was given out */
};

/* Of one that has suspended; one that has not has neither. `limit` is of the
 * results, 0 for no limit. Faults alone are not OK. */
MUST_USE enum err woken_read(struct reader *reader, int64_t id, enum woken_of of, size_t limit, struct woken *out);
void woken_release(struct woken *woken);
