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
/* Appends how invocations stand: `{id, step, status, result, error}`, nulls for what is not
 * there (any more); `whole`: with result and error. ERR_NOT_FOUND, with the object. And a
 * list of them without its brackets, whole unless that makes more than `limit` bytes. */
MUST_USE enum err woken_add_result(struct reader *reader, int64_t id, bool whole, struct buf *out);
MUST_USE enum err woken_add_results(struct reader *reader, const int64_t *ids, int count, size_t limit,
                                    struct buf *out, bool *left_out);
void woken_release(struct woken *woken);
