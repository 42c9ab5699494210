/* A turn that ends itself to go on later: no process, no memory and no lease are
 * left of it. Its row is `waiting` until what it waits for is there; then it is
 * queued, before new work, and the next turn starts with the state that the last
 * one left and with what woke it.
 *
 * To register what it waits for and to see what is there already is one
 * transaction. It is no new attempt: budgets are whole again, and only `turns`
 * counts. A turn that fails, times out or is lost is repeated with the same
 * state. */
#pragma once

#include "store/message.h"
#include "store/turn.h"

struct reader;

enum {
    STATE_BYTES_MAX = 1 << 20,
    WOKEN_MESSAGES_BYTES =
        1 << 20, /* of unread messages that one turn is given at its start; the rest stays unread */
};

/* What wakes it: the first of these that is there; at least one is given. */
struct suspension {
    const int64_t *ids; /* their ends; no one twice, at most WAIT_IDS_MAX */
    int count;
    bool any;          /* one of them is enough; else all */
    bool inbox;        /* a message that no turn has read */
    int64_t until;     /* ms since the epoch; 0: no time */
    struct span state; /* JSON, at most STATE_BYTES_MAX; absent: none */
};

/* ERR_CONFLICT: the lease was lost, or the turn has ended otherwise. OK also if
 * it was suspended before by this very turn. The turn goes on after
 * ERR_NOT_FOUND (there is no invocation `bad`) and ERR_INVALID (`bad` waits, by
 * whatever detour, for this one, and nothing else would wake it). After a
 * cancellation it ends as cancelled. */
struct op_suspend {
    struct turn_op turn;
    struct suspension on;
    int64_t read_up_to; /* the last message that the turn was given; 0: what is known of it on disk */
    int64_t bad;        /* out */
};
void op_suspend_init(struct op_suspend *op, const struct turn *turn);

/* On disk: they never change. */
enum woken_by { WOKEN_BY_NOTHING, WOKEN_BY_IDS, WOKEN_BY_INBOX, WOKEN_BY_UNTIL };

/* What an invocation has left behind when it suspended last. Spans live until
 * the next call on the reader. */
struct suspended {
    int turns;           /* that have ended so */
    int64_t lease;       /* of the last of them */
    int64_t wakes_at;    /* 0: no time, or it is awake */
    enum woken_by by;    /* nothing: it was not woken (yet) */
    int64_t given;       /* the last message that its turn was given; 0: nothing is known on disk */
    struct span targets; /* ids as text, with commas between; absent: none */
};

/* ERR_NOT_FOUND: it has never suspended. */
MUST_USE enum err reader_suspended(struct reader *reader, int64_t id, struct suspended *out);

/* Appends the state it left. ERR_NOT_FOUND: none. */
MUST_USE enum err reader_state(struct reader *reader, int64_t id, struct buf *state);
