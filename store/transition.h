/* The one module that changes a status.
 *
 * Its few statements (insert, start, end, move, remove) alone write `status`.
 * Each says in its WHERE what it believes of the row, the lease included, and
 * changes nothing if it is not so. What follows a change and is bounded
 * follows in the same transaction, by the table in followers.c;
 * what is not bounded is noted there and done in steps (follow_up.h).
 *
 * A row has a mask of what its end has to look at. The quick end says
 * `AND follow = 0` and reads nothing; only if that changes nothing is the row
 * read. Rows that nothing follows pay for nothing.
 *
 * ERR_CONFLICT: the row is not as believed. Whoever calls several of these in
 * one operation has a savepoint around it. */
#pragma once

#include "store/follow_up.h"
#include "store/submit.h"
#include "store/tx.h"
#include "store/upkeep.h"

/* Bits of `follow`. On disk: they never change. */
#define FOLLOW_NUMBER_CANCEL 1
#define FOLLOW_NUMBER_LEASE 2
#define FOLLOW_NUMBER_WAITED 4
#define FOLLOW_NUMBER_RESUMED 8
#define FOLLOW_NUMBER_DEPENDENT 16
#define FOLLOW_NUMBER_CALLBACK 128
#define FOLLOW_NUMBER_SCHEDULE 64
#define FOLLOW_NUMBER_LOOP 32
#define FOLLOW_NUMBER_UNIQUE 256
#define FOLLOW_NUMBER_CACHED 1024
#define FOLLOW_NUMBER_DEADLINE 2048
#define SQL_FOLLOW_DEADLINE SQL_NUMBER(FOLLOW_NUMBER_DEADLINE)
#define SQL_FOLLOW_UNIQUE SQL_NUMBER(FOLLOW_NUMBER_UNIQUE)
#define SQL_FOLLOW_CACHED SQL_NUMBER(FOLLOW_NUMBER_CACHED)
#define SQL_FOLLOW_CANCEL SQL_NUMBER(FOLLOW_NUMBER_CANCEL)
#define SQL_FOLLOW_LEASE SQL_NUMBER(FOLLOW_NUMBER_LEASE)
#define SQL_FOLLOW_WAITED SQL_NUMBER(FOLLOW_NUMBER_WAITED)
#define SQL_FOLLOW_RESUMED SQL_NUMBER(FOLLOW_NUMBER_RESUMED)
#define SQL_FOLLOW_DEPENDENT SQL_NUMBER(FOLLOW_NUMBER_DEPENDENT)
#define SQL_FOLLOW_SCHEDULE SQL_NUMBER(FOLLOW_NUMBER_SCHEDULE)
#define SQL_FOLLOW_CALLBACK SQL_NUMBER(FOLLOW_NUMBER_CALLBACK)
#define SQL_FOLLOW_LOOP SQL_NUMBER(FOLLOW_NUMBER_LOOP)
enum {
    FOLLOW_CANCEL = FOLLOW_NUMBER_CANCEL, /* asked for while it runs: a failure ends it as cancelled */
    FOLLOW_LEASE = FOLLOW_NUMBER_LEASE,   /* its lease has a time, which the end takes out of the index */
    FOLLOW_WAITED = FOLLOW_NUMBER_WAITED, /* somebody waits for its end, or did */
    FOLLOW_RESUMED =
        FOLLOW_NUMBER_RESUMED, /* it has the rank of what resumes, and what is kept for it, which the end takes away */
    FOLLOW_DEPENDENT = FOLLOW_NUMBER_DEPENDENT, /* it comes after others, or others after it */
    FOLLOW_CALLBACK = FOLLOW_NUMBER_CALLBACK,   /* somebody is to be told of its end */
    FOLLOW_SCHEDULE = FOLLOW_NUMBER_SCHEDULE,   /* the schedule's next one waits for its end */
    FOLLOW_LOOP = FOLLOW_NUMBER_LOOP,     /* it is an iteration of a loop, whose next one is made by its end */
    FOLLOW_UNIQUE = FOLLOW_NUMBER_UNIQUE, /* it has, or had, a place that only one may have */
    FOLLOW_CACHED = FOLLOW_NUMBER_CACHED, /* its success is kept for those that ask the same */
    FOLLOW_DEADLINE =
        FOLLOW_NUMBER_DEADLINE, /* its deadline came while it ran: it is stopped, and ends as failed */
};

/* What it has for good: no end and no retry takes these away. */
#define SQL_FOLLOW_STAYS "(" SQL_FOLLOW_UNIQUE " | " SQL_FOLLOW_CACHED " | " SQL_FOLLOW_CALLBACK ")"

/* Bits of `flags`. On disk, too. The highest ten count how often the arguments were replaced:
 * a claim that believes in others finds no row. */
#define FLAG_NUMBER_HISTORY 2048
#define FLAG_NUMBER_PARTICULAR 16384
#define FLAG_NUMBER_VERSION 1072693248
#define SQL_FLAG_VERSION SQL_NUMBER(FLAG_NUMBER_VERSION)
#define FLAG_NUMBER_DETAILS 4
#define FLAG_NUMBER_SUSPENDED 128
#define FLAG_NUMBER_CALLBACK 8192
#define FLAG_NUMBER_NAMED 131072
#define FLAG_NUMBER_LOOP 1024
#define SQL_FLAG_LOOP SQL_NUMBER(FLAG_NUMBER_LOOP)
#define SQL_FLAG_DETAILS SQL_NUMBER(FLAG_NUMBER_DETAILS)
#define SQL_FLAG_SUSPENDED SQL_NUMBER(FLAG_NUMBER_SUSPENDED)
#define SQL_FLAG_NAMED SQL_NUMBER(FLAG_NUMBER_NAMED)
#define SQL_FLAG_CALLBACK SQL_NUMBER(FLAG_NUMBER_CALLBACK)
enum {
    FLAG_ARGS_OUTSIDE = 1,
    FLAG_RESULT_OUTSIDE = 2,
    FLAG_DETAILS = FLAG_NUMBER_DETAILS,       /* it has a row in details */
    FLAG_CHILD = 8,                           /* and one in children */
    FLAG_PARENT = 16,                         /* it has submitted some of those */
    FLAG_STEPS = 32,                          /* it has had steps */
    FLAG_MESSAGES = 64,                       /* it has messages */
    FLAG_SUSPENDED = FLAG_NUMBER_SUSPENDED,   /* it has a row in suspensions */
    FLAG_HOLDS = 256,                         /* and one in holds */
    FLAG_COMPOSED = 512,                      /* its arguments are made of others' when it starts */
    FLAG_NAMED = FLAG_NUMBER_NAMED,           /* it has a name in its group */
    FLAG_CALLBACK = FLAG_NUMBER_CALLBACK,     /* and one in callbacks */
    FLAG_LOOP = FLAG_NUMBER_LOOP,             /* and one in iterations */
    FLAG_HISTORY = FLAG_NUMBER_HISTORY,       /* some of its changes are kept */
    FLAG_PARTICULAR = FLAG_NUMBER_PARTICULAR, /* it has some of what stands in particulars.h */
    FLAG_VERSION = FLAG_NUMBER_VERSION,
    FLAG_VERSION_ONE = 1 << 20,
};

/* What a turn left behind when it suspended: waiting, and nobody has it. */
#define SQL_IS_SUSPENDED "status = " SQL_WAITING " AND lease IS NULL"

/* --- insert -------------------------------------------------------------------- */

/* A new row with s->id and s->status. *taken: its key is there already, and
 * nothing was inserted. */
MUST_USE enum err transition_insert(struct tx *tx, const struct submission *s, bool *taken);

/* Many by one statement, which is what half of an insert costs. Only plain ones: no key, no
 * labels, nobody's child, nothing of theirs stands elsewhere. _together() says how many
 * of the `count` that are there one statement takes, the first; 0: too few. */
enum { TRANSITION_INSERT_MAX = 16 };
bool transition_insert_is_plain(const struct submission *s);
int transition_insert_together(int count);
MUST_USE enum err transition_insert_rows(struct tx *tx, struct submission *const *rows, int count);

/* What was just inserted is an iteration of a loop, whose inbox was read so far. */
MUST_USE enum err transition_mark_iteration(struct tx *tx, int64_t id, int64_t inbox_read);

/* --- start and end: a turn's own ------------------------------------------------ */

MUST_USE enum err transition_start(struct tx *tx, const struct op_claim *claim);
MUST_USE enum err transition_end(struct tx *tx, const struct op_finish *finish);

/* Has the end one statement and nothing to look at? Then it can be written
 * together with its start: one write instead of two. ERR_CONFLICT: not this
 * one; write them apart. */
bool transition_end_is_simple(const struct op_finish *finish);
MUST_USE enum err transition_start_and_end(struct tx *tx, const struct op_claim *claim,
                                           const struct op_finish *finish);

/* Between running and waiting, of a turn that goes on: `left` of those that it
 * waits for are to end. ERR_CONFLICT: the lease was lost, or the row is not `from`. */
struct move_wait {
    const struct turn *turn;
    enum status from, to;
    int left;
};
MUST_USE enum err transition_move_wait(struct tx *tx, const struct move_wait *move);

/* A turn ends to go on later: `left` of those that it waits for are to end, or a
 * time is to come. All budgets are renewed. */
struct move_suspend {
    const struct turn *turn;
    enum status from; /* running, or waiting in place */
    int left;
    int64_t wakes_at; /* 0: none */
};
MUST_USE enum err transition_move_suspend(struct tx *tx, const struct move_suspend *move);

/* And is queued for that, before what is waited for and what is new. ERR_CONFLICT:
 * it is not suspended. */
MUST_USE enum err transition_move_wake(struct tx *tx, int64_t id);

/* --- move: everybody else's ------------------------------------------------------ */

/* Between scheduled and queued: what is due, what a client changes, what goes
 * ahead because somebody waits for it. */
struct move_due {
    int64_t id;
    enum status from, to;
    bool ahead; /* to that priority, before what is new there */
    bool set;   /* priority and run_at, from these to those; else it is due by now: */
    int old_priority, priority;
    int64_t old_run_at, run_at; /* 0: now */
    int64_t old_rank;
};
MUST_USE enum err transition_move_due(struct tx *tx, const struct move_due *move);

/* One that has never started gets the arguments and the time of a submission, which has its id
 * and the status that follows from that time. ERR_CONFLICT: it is not as believed. */
struct move_replace {
    const struct submission *submission;
    enum status from;
    unsigned flags; /* of the row */
    int old_priority;
    int64_t old_rank;
};
MUST_USE enum err transition_replace(struct tx *tx, const struct move_replace *move);

/* A turn that its holder does not end: it died with its server. */
struct lost_turn {
    int attempt;   /* its number; 0: no turn was lost */
    int64_t lease; /* that stands in the row; 0: none */
    int recoveries;
    int64_t started_at; /* where that was not written; 0: not known */
    struct span error;  /* of the attempt */
};

/* Held -> scheduled or queued: nothing holds it any more. ERR_CONFLICT: it is not held. */
struct move_release {
    int64_t id;
    int64_t run_at, expires_at; /* 0: as they are */
    bool noted;                 /* in its history: it was held by more than its group */
};
MUST_USE enum err transition_move_release(struct tx *tx, const struct move_release *move);

/* To a final status without a turn's report: cancelled before it started,
 * expired, or lost. */
struct move_final {
    int64_t id;
    int task;
    enum status from, to;
    int old_priority;
    int64_t old_rank;
    int64_t retention_ms;
    int64_t cancel_requested_at; /* 0: as it is */
    int64_t expired_by;          /* it must have: 0: it need not */
    bool is_late;                /* its deadline has come */
    struct span error, error_type;
    struct lost_turn lost;
};
MUST_USE enum err transition_move_final(struct tx *tx, const struct move_final *move);

/* Back to queued (or held) from a final status (a client's retry, which renews all
 * budgets) or from a lost turn. */
struct move_back {
    int64_t id;
    int task;
    enum status from;
    struct lost_turn lost;
    int deaths;   /* after a lost one */
    bool to_held; /* a retry: it comes after others that are not final */
};
MUST_USE enum err transition_move_back(struct tx *tx, const struct move_back *move);

/* --- remove ------------------------------------------------------------------------ */

/* A final one goes, with all that is its own; what of it is too much for `room`
 * is left to follow. */
MUST_USE enum err transition_remove(struct tx *tx, int64_t id, int task, enum status from,
                                    struct follow_up_room *room);

/* --- what it takes to start one ------------------------------------------------------ */

#define READY_COLUMNS                                                                                         \
    "id, task, priority, attempt, failures, max_retries, timeout_ms, retention_ms, expires_at, flags, args, " \
    "run_at, lease, COALESCE(rank, id), deaths, grp"
void ready_read(struct db_stmt *stmt, struct ready *out);

/* Steps a statement that returns READY_COLUMNS of the row it changed.
 * ERR_CONFLICT: it changed none. */
MUST_USE enum err transition_changed(struct tx *tx, struct db_stmt *stmt, struct ready *out);

/* Arguments or a result that stand outside the row, or the state of a suspended
 * one; what stood there is replaced. */
enum { PAYLOAD_ARGS = 1, PAYLOAD_RESULT = 2, PAYLOAD_STATE = 3, PAYLOAD_COMMON_ARGS = 4 /* a group's */ };
MUST_USE enum err insert_payload(struct tx *tx, int64_t id, int kind, struct span data);

/* Its row says from now on what stands beside it. */
MUST_USE enum err transition_flag(struct tx *tx, int64_t id, int flag);
