/* A list of ops that is made under a lock and queued without it. All zeros at
 * first.
 *
 * Threads: no shared state. */
#pragma once

#include "store/op.h"

struct ops {
    struct op *first, *last;
    int count;
};

static inline void ops_add(struct ops *ops, struct op *op)
{
    op->next = NULL;
    if (ops->last)
        ops->last->next = op;
    else
        ops->first = op;
    ops->last = op;
    ops->count++;
}

static inline void ops_queue(struct store *store, const struct ops *ops)
{
    if (ops->first)
        store_queue_list(store, ops->first, ops->last, ops->count);
}
