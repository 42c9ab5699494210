/* Messages: JSON that a running invocation sends out (its outbox), or that
 * someone sends it (its inbox). They live as long as their invocation.
 *
 * Their numbers (seq) grow in commit order over the whole database: who has
 * read up to one has missed none before it. None comes twice, whatever was
 * removed and however often the server was started. */
#pragma once

#include "store/loop.h"
#include "store/status.h"
#include "store/turn.h"

struct kin;
struct reader;

/* On disk: they never change. */
#define MESSAGE_NUMBER_OUT 1
#define MESSAGE_NUMBER_IN 2
#define SQL_MESSAGE_OUT SQL_NUMBER(MESSAGE_NUMBER_OUT)
#define SQL_MESSAGE_IN SQL_NUMBER(MESSAGE_NUMBER_IN)
enum message_kind {
    MESSAGE_OUT = MESSAGE_NUMBER_OUT, /* a turn sent it */
    MESSAGE_IN = MESSAGE_NUMBER_IN,   /* it was sent to the invocation */
};

enum {
    OUTBOX_MAX = 10000,          /* messages that one invocation sends, over all its turns */
    UNREAD_MAX = 1000,           /* that wait in one inbox */
    MESSAGE_BYTES_MAX = 64 << 10 /* of one; the caller's to check */
};

/* A turn sends some, in this order: all or none. Nothing says whose they are
 * but their lease, so those that are applied twice are there twice.
 * ERR_CONFLICT: the lease was lost, or the turn has ended; ERR_LIMIT: there
 * would be more than OUTBOX_MAX. */
struct op_message_out {
    struct turn_op turn;
    const struct span *bodies; /* JSON, verbatim; 1 or more */
    int count;
    int64_t first_seq; /* out; the others follow it without a gap */
};
void op_message_out_init(struct op_message_out *op, const struct turn *turn);

/* Someone sends one, to an invocation or to a loop. What is sent to an iteration is its loop's:
 * whichever one is current reads it. The key is the sender's own, and one inbox's: it stands for
 * its message also when the invocation is final or the inbox is full.
 * ERR_NOT_FOUND; ERR_CONFLICT: it is final, as `status` says; ERR_MISMATCH: the
 * key came before with another body; ERR_LIMIT: UNREAD_MAX wait to be read. */
struct op_message_in {
    struct op op;
    int64_t id;
    struct loop_ref loop;       /* zeros: to the invocation */
    struct span body;           /* JSON, verbatim */
    struct span key_owner, key; /* absent key: none; absent owner: nobody, as "" */
    uint8_t key_digest[32];     /* of the body */
    /* out */
    int64_t seq;
    bool replayed;                /* the key was there: seq is the first one's */
    enum status status;           /* of the invocation; 0: there is none */
    enum loop_status loop_status; /* of the loop; 0: there is none */
};
void op_message_in_init(struct op_message_in *op, int64_t id);
void op_message_in_init_loop(struct op_message_in *op, struct loop_ref loop);

/* The turn was given its inbox up to that one. A later turn gets them again,
 * unless this one ends well. ERR_CONFLICT: the lease was lost, or the turn has ended. */
struct op_messages_given {
    struct turn_op turn;
    int64_t up_to_seq;
};
void op_messages_given_init(struct op_messages_given *op, const struct turn *turn);

struct message {
    int64_t seq;
    int64_t id; /* of the invocation */
    enum message_kind kind;
    int64_t at;
    struct span body;
};

/* Return false to stop: the message is not counted as given. Spans live until
 * it returns. */
typedef bool (*message_fn)(void *context, const struct message *message);

struct message_query {
    int64_t id;        /* of an invocation; 0: of all */
    struct kin *among; /* of those of one tree; NULL: of all */
    unsigned kinds;    /* bits 1 << enum message_kind; 0: both */
    int64_t after_seq; /* 0: from the first. Moves on behind what was given or left out */
    int limit;
    int64_t scan_until_us; /* clock_mono_us at which it stops all the same; 0: never */
};

/* In the order of seq, by index; those of a tree are all, those of others left
 * out, their bodies unread. *more: there may be others after after_seq. */
MUST_USE enum err reader_messages(struct reader *reader, struct message_query *query, message_fn row,
                                  void *context, bool *more);

/* Is there any message in an inbox after that one, which no turn has read? What is
 * unread comes after *after_seq then, as reader_messages() wants it. Two rows. */
MUST_USE enum err reader_inbox_look(struct reader *reader, int64_t id, int64_t *after_seq, bool *any);

/* Under whose id the messages to an invocation stand: its own, or its loop's. */
MUST_USE enum err reader_inbox_of(struct reader *reader, int64_t id, int64_t *inbox);

/* Has the invocation one of those kinds after that number? */
MUST_USE enum err reader_has_message(struct reader *reader, int64_t id, unsigned kinds, int64_t after_seq,
                                     bool *there);

/* The invocation with the lowest id above that one that has any message; 0: there
 * is none. */
MUST_USE enum err reader_next_sender(struct reader *reader, int64_t above, int64_t *id);

/* When the last message up to that number was sent; 0: none is there. */
MUST_USE enum err reader_message_time(struct reader *reader, int64_t seq, int64_t *at);

/* What of an inbox no turn has read yet; that after one of them. */
MUST_USE enum err reader_inbox(struct reader *reader, int64_t id, message_fn row, void *context);
MUST_USE enum err reader_inbox_after(struct reader *reader, int64_t id, int64_t after_seq, message_fn row,
                                     void *context);
