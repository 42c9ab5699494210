/* Times by which something is to be looked at, the earliest first: a heap whose
 * members know their places, so that any of them can leave.
 *
 * Threads: no shared state. */
#pragma once

#include "base/buf.h"

/* Embedded; all zeros at first. */
struct deadline {
    int64_t at_us; /* clock_mono_us */
    size_t place;  /* in the heap, counted from 1; 0: it is not there */
};

struct deadlines {
    struct deadline **heap;
    size_t count, cap;
};

/* It must not be there yet, and stay where it is until it is taken off. */
void deadlines_add(struct deadlines *deadlines, struct deadline *deadline, int64_t at_us);
void deadlines_remove(struct deadlines *deadlines, struct deadline *deadline); /* nothing if it is not there */
struct deadline *deadlines_first(const struct deadlines *deadlines);           /* NULL: there are none */
void deadlines_release(struct deadlines *deadlines);
