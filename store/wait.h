/* A turn that waits in place for others' ends: its body stays where it is, its
 * row is `waiting` and holds no slot.
 *
 * To register the wait and to see what has ended already is one transaction,
 * and every final status ends a wait in its own: none is missed. The listeners
 * hear that it is woken (change.h); the row is `running` again when whoever
 * minds the body has a slot for it and says so (op_resume). A message that comes
 * to one that waits changes no row: who minds the body hears of it as of any. */
#pragma once

#include "store/turn.h"

enum { WAIT_IDS_MAX = 1000 };

/* ERR_CONFLICT: the lease was lost, or the turn has ended or waits already
 * (unless `again`);
 * ERR_NOT_FOUND: there is no such invocation; ERR_INVALID: one of them waits,
 * by whatever detour, for this one. Whoever is waited for goes before new work
 * of its own or the waiter's priority, whichever is the better. */
struct op_wait {
    struct turn_op turn;
    const int64_t *ids; /* no one twice, at most WAIT_IDS_MAX */
    int count;
    bool any;   /* one of them is enough; else all */
    bool inbox; /* so is a message after after_seq that no turn has read; then `any` is set, and ids may be none */
    int64_t after_seq;
    bool timed;  /* it is given up after a time: it closes no circle */
    bool again;  /* it may wait already: what for is forgotten then */
    bool met;    /* out: enough have ended: the turn does not wait */
    int64_t bad; /* out: the id that was refused */
};
void op_wait_init(struct op_wait *op, const struct turn *turn);

/* It goes on: woken, or tired of waiting. ERR_CONFLICT: the lease was lost, or
 * it does not wait. */
struct op_resume {
    struct turn_op turn;
};
void op_resume_init(struct op_resume *op, const struct turn *turn);
