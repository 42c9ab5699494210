/* Sets of loops, which share slots of their own. A loop that has none waits its
 * turn, and has no invocation: that is made in the transaction that frees a slot. So
 * none is ever dropped, and the first that came is the first that gets one. */
#pragma once

#include "store/op.h"
#include "store/read.h"

enum {
    SET_NAME_MAX = 255, /* characters */
    SET_SLOTS_MAX = 1000,
};

/* The set that a loop names. */
struct set_spec {
    struct span name;               /* absent: none */
    int slots;                      /* 0: nothing is said; it is to be there */
    bool by_turn, says_slot;        /* it holds one for a turn at a time */
    bool fail_fast, says_fail_fast; /* one loop's failure cancels the others */
};

/* What a client asks of one, and so of all its loops: those that are there get it in steps.
 * ERR_NOT_FOUND. */
enum set_alter {
    SET_PAUSE = 1, /* on disk: these never change */
    SET_RESUME = 2,
    SET_STOP = 3,
    SET_CANCEL = 4,
    SET_PATCH = 5, /* of the set alone */
};
struct op_set_alter {
    struct op op;
    enum set_alter what;
    struct span name;
    struct { /* PATCH; what is not said stays */
        int slots;
        bool by_turn, says_slot, fail_fast, says_fail_fast;
    } patch;
    bool left; /* out: steps remain */
};
void op_set_alter_init(struct op_set_alter *op, enum set_alter what, struct span name);

/* --- reading ------------------------------------------------------------------------- */

struct set_view {
    int64_t id;
    struct span name;
    int slots;
    bool by_turn, fail_fast, paused;
    int64_t loops, used, waiting; /* that are there; that hold a slot; that wait for one */
    enum set_alter acting;        /* on its way to its loops; 0: nothing */
};

/* Return false to stop: the row is not counted as given. */
typedef bool (*set_fn)(void *context, const struct set_view *row);

/* ERR_NOT_FOUND. The name is the caller's. */
MUST_USE enum err reader_set(struct reader *reader, struct span name, struct set_view *out);

/* Newest first, those after the cursor (0: from the start). */
MUST_USE enum err reader_sets(struct reader *reader, int64_t cursor, int limit, set_fn row, void *context,
                              int64_t *next);

/* Who holds which slot of a set, in the order of the slots. */
struct set_slot {
    int64_t slot, loop, invocation, since; /* invocation 0: between two */
};
MUST_USE enum err reader_set_slots(struct reader *reader, int64_t set,
                                   void (*row)(void *context, const struct set_slot *row), void *context);
