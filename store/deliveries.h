/* Deliveries: requests that tell of an end (callbacks), due, tried, reported.
 *
 * A delivery is known by its owner and its number n, which counts from 1. It is
 * tried until it is delivered or failed; each try is reported with the number of tries
 * that its sender believed in, so that of two senders one counts. Nothing is claimed: who
 * dies in the middle leaves it due, and it is sent again (at least once). */
#pragma once

#include "base/buf.h"
#include "store/op.h"
#include "store/status.h"

struct reader;

/* Whose they are. On disk; they never change. */
enum callback_kind { CALLBACK_INVOCATION = 1, CALLBACK_GROUP = 2 };

#define DELIVERY_NUMBER_PENDING 1
#define SQL_DELIVERY_PENDING SQL_NUMBER(DELIVERY_NUMBER_PENDING)
enum delivery_status { DELIVERY_PENDING = DELIVERY_NUMBER_PENDING, DELIVERY_DELIVERED = 2, DELIVERY_FAILED = 3 };

enum { DELIVERIES_MAX = 100 /* of one owner are kept */ };

struct delivery {
    int64_t owner;
    int n;
    enum callback_kind kind;
    int event; /* the status that the owner had, as its kind numbers them */
    int attempt;
    int64_t at; /* when it ended */
    struct span url, place;
    enum delivery_status status;
    int attempts;           /* so far */
    int64_t next_at;        /* of a pending one; else 0 */
    int last_status;        /* of the last answer; 0: there was none */
    struct span last_error; /* JSON; absent: none */
    int64_t created_at, delivered_at;
};

/* What is due and not under way, in the order in which it became so, with as many as there
 * is room for to each place, and one where the last try was not answered. Writes nothing, but for lines that were left empty. */
struct op_due {
    struct op op;
    /* in */
    const struct delivery *busy; /* under way: owner, n and place */
    int busy_count;
    int room, room_per_place;
    int64_t now;
    /* out */
    struct delivery *items;
    int count;
    struct buf arena; /* their bytes */
    int64_t next_at;  /* when the next one will be; 0: none is known */
};
void op_due_init(struct op_due *op);
void op_due_release(struct op_due *op);

/* How a try went. ERR_CONFLICT: the delivery is gone, or is not as believed. Safe to
 * apply twice. */
struct op_delivered {
    struct op op;
    int64_t owner;
    int n;
    int attempts;          /* believed: before this one */
    bool counts;           /* this was one, */
    bool answered, silent; /* and there was an answer, or none: then the place rests, longer each */
    int64_t rest_max_ms;   /* time, up to this */
    enum delivery_status status;
    int64_t next_at; /* of a pending one */
    int last_status;
    struct span last_error, place;
};
void op_delivered_init(struct op_delivered *op, const struct delivery *delivery);

/* It is due again at once, under the same number, with all its tries.
 * ERR_NOT_FOUND. */
struct op_repeat {
    struct op op;
    int64_t owner;
    int n;
};
void op_repeat_init(struct op_repeat *op, int64_t owner, int n);

/* Whom an owner's end tells, appended; ERR_NOT_FOUND: nobody. */
MUST_USE enum err reader_callback(struct reader *reader, int64_t owner, struct buf *url);

/* All of an owner, oldest first. Spans live until the function returns. */
MUST_USE enum err reader_deliveries(struct reader *reader, int64_t owner,
                                    void (*each)(void *context, const struct delivery *delivery), void *context);
