#include "base/deadlines.h"

#include <assert.h>
#include <stdlib.h>

static void put(struct deadlines *d, size_t place, struct deadline *deadline)
{
    d->heap[place - 1] = deadline;
    deadline->place = place;
}

static struct deadline *at(const struct deadlines *d, size_t place)
{
    return d->heap[place - 1];
}

static void rise(struct deadlines *d, struct deadline *deadline)
{
    size_t place = deadline->place;
    for (; place > 1 && deadline->at_us < at(d, place / 2)->at_us; place /= 2)
        put(d, place, at(d, place / 2));
    put(d, place, deadline);
}

static void sink(struct deadlines *d, struct deadline *deadline)
{
    size_t place = deadline->place;
    for (size_t child; (child = place * 2) <= d->count; place = child) {
        if (child < d->count && at(d, child + 1)->at_us < at(d, child)->at_us)
            child++;
        if (deadline->at_us <= at(d, child)->at_us)
            break;
        put(d, place, at(d, child));
    }
    put(d, place, deadline);
}

void deadlines_add(struct deadlines *d, struct deadline *deadline, int64_t at_us)
{
    assert(!deadline->place);
    if (d->count == d->cap) {
        d->cap = d->cap ? d->cap * 2 : 64;
        d->heap = xrealloc(d->heap, d->cap * sizeof *d->heap);
    }
    deadline->at_us = at_us;
    put(d, ++d->count, deadline);
    rise(d, deadline);
}

void deadlines_remove(struct deadlines *d, struct deadline *deadline)
{
    size_t place = deadline->place;
    if (!place)
        return;
    struct deadline *last = at(d, d->count--);
    deadline->place = 0;
    if (last == deadline)
        return;
    put(d, place, last);
    rise(d, last);
    sink(d, last);
}

struct deadline *deadlines_first(const struct deadlines *d)
{
    return d->count ? d->heap[0] : NULL;
}

void deadlines_release(struct deadlines *d)
{
    free(d->heap);
    *d = (struct deadlines){0};
}
