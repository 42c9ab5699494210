/* Operations: how every write reaches the disk.
 *
 * A caller embeds or fills an op, keeps it alive until its done() is called,
 * and hands it over with store_queue(). The committer applies all queued ops in
 * one transaction, in order, commits once, tells the listeners what changed,
 * then calls each done(), in order. done() and the listeners run on the
 * committing thread: they must not block, and may queue further ops. An op
 * whose `err` is a fault changed nothing, or nothing is known of it
 * (ERR_UNAVAILABLE); other ops of its batch are not touched by its failure. */
#pragma once

#include "base/buf.h"
#include "base/err.h"

struct store;

struct op_class;

struct op {
    struct op *next;
    const struct op_class *class;
    void (*done)(struct op *op); /* err is set; the op is the owner's again */
    void *owner;                 /* for done(); the store does not look at it */
    enum err err;
};

/* Hands one op, or a list linked by `next`, to the committer. Any thread. */
void store_queue(struct store *store, struct op *op);
void store_queue_list(struct store *store, struct op *first, struct op *last, int count);

/* For an op that is alone: if nothing else waits, commits are fast and the
 * role is free, commits it on this thread (done() is called before this
 * returns, which is true). Otherwise queues it. */
bool store_queue_alone(struct store *store, struct op *op);

/* An op that writes nothing: it is back when all that was queued before it is,
 * ERR_UNAVAILABLE if its batch failed. Its done is the caller's to set. */
void op_barrier_init(struct op *op);

/* Queues the op and waits for it; its done is the store's. For start-up,
 * tools and tests. */
enum err store_do(struct store *store, struct op *op);
