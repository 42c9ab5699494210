/* What follows a change and has no bound: noted in the transaction of the
 * change, done in steps that go on after a crash.
 *
 * A change of status may concern any number of other rows: a removed
 * invocation's output, later a group's members or a parent's children. The
 * change itself stays quick: it notes a row in follow_ups, and the dispatcher
 * (UPKEEP_FOLLOW_UP) does one step after the other, each a transaction of its
 * own with at most FOLLOW_UP_ROWS rows or FOLLOW_UP_BYTES, until the row can
 * go. */
#pragma once

#include "store/tx.h"
#include "store/upkeep.h"

enum { FOLLOW_UP_ROWS = 500, FOLLOW_UP_BYTES = 4 << 20 };

/* On disk; they never change. */
enum follow_up {
    FOLLOW_UP_REMOVE = 1,           /* what an invocation that is gone has left */
    FOLLOW_UP_WAKE = 2,             /* those who wait for one that is final */
    FOLLOW_UP_CHILDREN = 3,         /* the children of one that is cancelled */
    FOLLOW_UP_DROPPED = 4,          /* the children of one that starts from nothing */
    FOLLOW_UP_DEPENDENTS = 5,       /* those that come after one that is final */
    FOLLOW_UP_DEPENDENTS_AGAIN = 6, /* and after one that is not any more */
    FOLLOW_UP_GROUP_RELEASE = 7,    /* a group's promises */
    FOLLOW_UP_GROUP_STOP = 8,       /* its members, which are cancelled */
    FOLLOW_UP_GROUP_REMOVE = 9,     /* all that it was */
    FOLLOW_UP_SET = 10,             /* what was asked of all loops of a set */
    FOLLOW_UP_SLOTS = 11,           /* a set has slots that nobody holds, and loops that wait */
    FOLLOW_UP_LAST = FOLLOW_UP_SLOTS,
};

/* What one transaction may still touch of what is unbounded. */
struct follow_up_room {
    int rows;
    int64_t bytes;
    int64_t cursor; /* a step's own, 0 at first: it finds there what it left there */
};

/* Notes it; the caller's change says `follow_up` to the listeners. */
MUST_USE enum err follow_up_note(struct tx *tx, enum follow_up kind, int64_t id);

/* One step of what was noted first. */
MUST_USE enum err follow_up_step(struct tx *tx, struct op_upkeep *op);

/* wait.c. Of a final one: ends the waits for it. */
MUST_USE enum err wait_wake(struct tx *tx, int64_t target, struct follow_up_room *room, bool *left);

/* The same later, unless it was retried meanwhile. */
MUST_USE enum err wait_wake_rest(struct tx *tx, int64_t target, struct follow_up_room *room, bool *left);

/* wait.c. Of one that is retried: who waits for it and is not woken yet waits for
 * it anew. */
MUST_USE enum err wait_again(struct tx *tx, int64_t target);

/* Removes attempts, output, steps and messages of an invocation as far as there
 * is room, those that its flags do not know of left aside; *left says whether
 * some remain. */
MUST_USE enum err follow_up_remove(struct tx *tx, int64_t id, unsigned flags, struct follow_up_room *room,
                                   bool *left);
