/* Inside the store: its fields, and what an operation is. Included by store/
 * only. */
#pragma once

#include "base/id.h"
#include "store/db.h"
#include "store/store.h"
#include "store/tx.h"

#include <pthread.h>
#include <stdatomic.h>

/* What an op is to the turn that it belongs to (its first member is a turn_op). */
enum op_turn { TURN_NONE, TURN_STARTS, TURN_GOES_ON, TURN_ENDS };

/* What an operation is: how it is applied, and what becomes of it when its
 * batch fails. */
struct op_class {
    const char *name;
    enum err (*apply)(struct tx *tx, struct op *op);
    /* How many, the first and those that follow it, are better applied in one go: 0, or a
     * number that apply_together takes. NULL: none ever is. */
    int (*together)(const struct op *first);
    enum err (*apply_together)(struct tx *tx, struct op *first, int count);
    /* After the commit, before done(): what is kept in memory follows. NULL: nothing. */
    void (*committed)(struct store *store, struct op *op);
    /* Has it several statements, so that it needs a savepoint to fail alone?
     * NULL: it has one. */
    bool (*several)(const struct op *op);
    enum op_turn turn;
    /* Nobody waits for it: it need not have a commit of its own at once. */
    bool patient;
    /* Kept and tried again when its batch failed (finishes, claims), instead
     * of being answered with ERR_UNAVAILABLE. Safe to apply twice. */
    bool keep;
};

struct task_row {
    char *name; /* NULL: no such number */
    bool paused;
    int64_t counts[STATUS_SLOTS];
};

enum { LISTENERS_MAX = 2 };

struct store {
    struct store_options options;
    char *url;
    uint64_t boot_id;

    /* The role: whoever holds it commits. Not a data lock but a baton: it is
     * held through I/O and callbacks, nothing waits for it but committing. It
     * guards the writer's connection, ids, tx, kept, last_turns, and the
     * writing of tasks. */
    pthread_mutex_t role;
    struct db *db;
    struct id_source ids;
    struct id_clock id_clock;
    enum err (*recover)(void *context); /* to be OK before anything is committed; NULL: it was */
    void *recover_context;
    struct tx tx;
    struct op *kept, **kept_tail; /* of failed batches, to be tried again */
    _Atomic int last_batch;       /* how many ops; the committer's thread looks at it without the role */
    struct turn_op **last_turns;  /* a batch's turns by lease (a hash), for claims and finishes that meet */
    int last_turns_cap;

    pthread_mutex_t lock; /* guards the queue: head .. retry_at_us */
    pthread_cond_t wake;
    struct op *head, **tail;
    int queued;
    int urgent;                   /* of the queued ones: those that are not patient */
    int wake_queued, wake_urgent; /* as many wake the thread */
    int64_t head_since_us;        /* when the first of them was queued */
    bool stopping, stopped;
    int64_t retry_at_us; /* when commits are to be tried again; 0: they work */

    pthread_mutex_t tasks_lock; /* guards tasks against readers without the role */
    struct task_row *tasks;     /* by id; [0] unused */
    int task_count;             /* one past the highest id */

    _Atomic uint64_t version;
    _Atomic int64_t commit_us; /* of late, smoothed */
    atomic_bool healthy;
    atomic_bool paused;
    _Atomic int64_t retain_max;
    struct store_listener listeners[LISTENERS_MAX];
    int listener_count;
    pthread_t thread;
    bool started;
};

/* Writes the counters of tx's changes, commits, and clears it: for what runs
 * before the committer does. */
MUST_USE enum err store_commit_recovery(struct store *store);
void store_abandon_recovery(struct store *store); /* nothing of it was done */

/* op_class.several of those that have several statements, whatever they are about. */
bool op_is_several(const struct op *op);

/* Sets an op's class and done. */
void op_init(struct op *op, const struct op_class *class);

/* What is left of the output of a turn that was lost with its server, after what is there of it. */
MUST_USE enum err turn_log_left(struct tx *tx, int64_t id, int attempt, struct span stderr_bytes);

/* A cancellation, as a step of any operation. ERR_NOT_FOUND; OK for a final one. */
MUST_USE enum err alter_cancel_one(struct tx *tx, int64_t id);

/* The same of one that has one of these statuses, and with an error (absent: none) where no turn
 * is under way. OK for any other. */
MUST_USE enum err alter_cancel_as(struct tx *tx, int64_t id, unsigned statuses, struct span error);

/* The turn with the lease $2 of the invocation $1 goes on. */
#define SQL_UNDER_WAY "id = $1 AND lease = $2 AND status " SQL_IN_TURN

/* ERR_CONFLICT: it does not. */
MUST_USE enum err turn_under_way(struct tx *tx, const struct turn *turn);

/* The messages to the invocation $1 stand under this id: its own, or its loop's. */
#define SQL_INBOX_OF "COALESCE((SELECT loop FROM iterations WHERE id = $1), $1)"

/* What the turn was given of its inbox is read: a part of its good end, where
 * another turn of the invocation comes after it. */
MUST_USE enum err messages_take_given(struct tx *tx, const struct turn *turn);

/* Its recorded values go: at most STEPS_MAX. */
MUST_USE enum err steps_forget(struct tx *tx, int64_t id);

/* What a turn was given of its inbox is read, up to that one. Changes nothing if the turn has
 * ended: db_changes() says whether it did. */
MUST_USE enum err messages_mark_read(struct tx *tx, const struct turn *turn, int64_t up_to_seq);

/* Is there anything in its inbox after that one that no turn has read? */
MUST_USE enum err messages_unread(struct tx *tx, int64_t id, int64_t after_seq, bool *found);

/* One invocation is made, as a part of any operation: s->id and s->status, or
 * s->replayed. Outcomes as in s->err. */
MUST_USE enum err submission_insert(struct tx *tx, struct submission *s);

/* The first of these, or as many of the first as one statement inserts: *n of them. */
MUST_USE enum err submission_insert_some(struct tx *tx, struct submission *items, int count, int *n);

/* Whose key it is: nobody's is the empty text, because NULLs are never equal. */
static inline struct span key_owner(struct span owner)
{
    return owner.p ? owner : SPAN("");
}

/* tasks.c: reads names, pauses and counts; makes room for a number. */
MUST_USE enum err tasks_load(struct store *store);
void tasks_reserve_locked(struct store *store, int id);

/* Runs the store's migrations on the writer's connection. */
MUST_USE enum err migrate(struct db *db, struct reason *why);

/* meta rows. An absent one reads as `missing`. */
MUST_USE enum err meta_get_int(struct db *db, struct span name, int64_t missing, int64_t *value);
MUST_USE enum err meta_set_int(struct db *db, struct span name, int64_t value);

/* What the index invocations_status leaves out, word for word: that is how
 * SQLite knows it. */
#define STATUS_INDEXED "AND status <> " SQL_QUEUED " AND status <> " SQL_SUCCEEDED

/* The columns that row_read() reads, for `FROM invocations i`. */
#define ROW_COLUMNS                                                                                          \
    "i.id, i.task, i.status, i.priority, i.attempt, i.max_retries, i.failures, i.recoveries, i.timeout_ms, " \
    "i.retention_ms, i.run_at, i.started_at, i.finished_at, i.expires_at, i.cancel_requested_at, "           \
    "i.progress, i.progress_note, i.labels, i.key, i.worker, i.error, i.flags, i.grp, i.member"
#define ROW_COLUMNS_FULL ROW_COLUMNS ", i.args, i.result"
enum { ROW_FLAGS = 21, ROW_GROUP, ROW_MEMBER, ROW_ARGS, ROW_RESULT };
