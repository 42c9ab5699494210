/* Turns that wait in place and say so over HTTP: a command's, whose process goes
 * on meanwhile, or one that is run elsewhere. (A body in the process waits on its
 * thread: in_place.c.)
 *
 *     ask.over = ...; waits_ask(runner, &ask);     over() wakes whoever asks
 *     waits_leave(runner, &ask);                   then ask.end says what came of it
 *
 * A wait is the turn's, and an ask looks at it for a while: who asks again for the
 * same goes on with the same wait. A command gives its slot back while it waits,
 * and has one again before it is told that the wait is over. Its timeout stands
 * still, as does that of a turn that is run elsewhere.
 *
 * Nobody need come back. What a command waits for may be there while nobody asks:
 * it takes a slot when somebody does, when its turn says anything else, or a minute
 * after the last ask, whichever comes first; and after that minute the wait is over
 * even if it was for nothing, as its process does something else, it seems. A turn
 * elsewhere needs no slot: it goes on as soon as what it waits for is there.
 *
 * Threads: any. */
#pragma once

#include "store/wait.h"

struct runner;
struct wait;

enum wait_end {
    WAIT_GOES_ON, /* ask again */
    WAIT_MET,
    WAIT_TIMED_OUT,
    WAIT_CANCELLED, /* the turn is to end */
    WAIT_REFUSED,   /* `err` says why, as of op_wait; ERR_CONFLICT: the turn is over */
    WAIT_BUSY,      /* it waits for others, and somebody asks for that; or its body waits by itself */
};

/* One who asks. Embedded in what its caller keeps of the request; the ids stay as
 * they are until it leaves. */
struct wait_ask {
    struct turn turn;
    bool elsewhere;     /* it is run there */
    const int64_t *ids; /* no one twice, 1 to WAIT_IDS_MAX */
    int count;
    bool any;
    bool inbox; /* a message after after_seq that no turn has read ends it, too; then there may be no ids */
    int64_t after_seq;
    int64_t timeout_ms; /* after which the wait is given up, from the first ask; -1: never */

    /* The end is there. Called at most once, perhaps before waits_ask() returns,
     * under the runner's lock: it only wakes. */
    void (*over)(struct wait_ask *ask);
    void *owner;

    /* out, after waits_leave() */
    enum wait_end end;
    enum err err;
    int64_t bad; /* the id that was refused */

    struct wait *wait; /* waits.c's own */
};

void waits_ask(struct runner *runner, struct wait_ask *ask);

/* After this over() is not called. The wait goes on if it has not ended. */
void waits_leave(struct runner *runner, struct wait_ask *ask);

/* The turn, whose row waits, says something else: unless somebody asks, it waits no
 * longer. */
void waits_stir(struct runner *runner, const struct turn *turn);
