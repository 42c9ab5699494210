/* Inside the store: the transaction that operations are applied in. Included
 * by store/ only. */
#pragma once

#include "base/id.h"
#include "store/db.h"
#include "store/store.h"

#include <pthread.h>
#include <stdatomic.h>

/* What an operation is: how it is applied, and what becomes of it when its
 * batch fails. */
struct op_class {
    const char *name;
    enum err (*apply)(struct tx *tx, struct op *op);
    /* After the commit, before done(): what is kept in memory follows. NULL: nothing. */
    void (*committed)(struct store *store, struct op *op);
    /* Has it several statements, so that it needs a savepoint to fail alone?
     * NULL: it has one. */
    bool (*several)(const struct op *op);
    /* Nobody waits for it: it need not have a commit of its own at once. */
    bool patient;
    /* Kept and tried again when its batch failed (finishes, claims), instead
     * of being answered with ERR_UNAVAILABLE. */
    bool keep;
};

/* One batch on its way to disk. Belongs to whoever holds the role. */
struct tx {
    struct store *store;
    struct db *db;
    int64_t now; /* when the batch began */
    struct change *changes;
    int count, cap;
    struct tally *tally; /* counter deltas of changes[0..tallied), by task */
    int tally_cap, tallied;
    struct block *blocks; /* bytes that changes point to */
};

struct tally {
    int64_t n[STATUS_SLOTS];
    bool touched;
};

/* Notes what an operation did; the listener hears of it after the commit. */
struct change *tx_change(struct tx *tx, int64_t id, int task, enum status from, enum status to);

/* A copy that lives until the listeners have returned. */
struct span tx_keep(struct tx *tx, struct span bytes);

/* Scheduled and queued invocations of a task, this batch's included. */
int64_t tx_waiting(struct tx *tx, int task);

/* How many final ones there are, this batch's included. */
int64_t tx_final(struct tx *tx);

/* When the dispatcher is to prune after one became final: at its own time, or
 * at once if there are more than retain_max. */
int64_t tx_prune_at(struct tx *tx, int64_t prune_at);

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
     * guards the writer's connection, ids, tx, kept, and the writing of tasks. */
    pthread_mutex_t role;
    struct db *db;
    struct id_source ids;
    struct tx tx;
    struct op *kept, **kept_tail; /* of failed batches, to be tried again */
    int last_batch;

    pthread_mutex_t lock; /* guards the queue: head .. retry_at_us */
    pthread_cond_t wake;
    struct op *head, **tail;
    int queued;
    uint32_t epoch;               /* moves on when the queue is taken */
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

/* Sets an op's class and done. */
void op_init(struct op *op, const struct op_class *class);

/* Runs the store's migrations on the writer's connection. */
MUST_USE enum err migrate(struct db *db, struct reason *why);

/* meta rows. An absent one reads as `missing`. */
MUST_USE enum err meta_get_int(struct db *db, struct span name, int64_t missing, int64_t *value);
MUST_USE enum err meta_set_int(struct db *db, struct span name, int64_t value);

/* The columns that row_read() reads, for `FROM invocations i`. */
#define ROW_COLUMNS                                                                                          \
    "i.id, i.task, i.status, i.priority, i.attempt, i.max_retries, i.failures, i.recoveries, i.timeout_ms, " \
    "i.retention_ms, i.run_at, i.started_at, i.finished_at, i.expires_at, i.cancel_requested_at, "           \
    "i.progress, i.progress_note, i.labels, i.key, i.worker, i.error"
#define ROW_COLUMNS_FULL ROW_COLUMNS ", i.args, i.result, i.flags"
enum { ROW_ARGS = 21, ROW_RESULT, ROW_FLAGS };

/* The columns that ready_read() reads. */
#define READY_COLUMNS                                                                                         \
    "id, task, priority, attempt, failures, max_retries, timeout_ms, retention_ms, expires_at, flags, args, " \
    "run_at"
void ready_read(struct db_stmt *stmt, struct ready *out);

/* Whose key it is: nobody's is the empty text, because NULLs are never equal. */
static inline struct span key_owner(struct span owner)
{
    return owner.p ? owner : SPAN("");
}

/* Notes that the row is gone, so that its id is not given again. */
MUST_USE enum err note_deleted(struct db *db, int64_t id);

/* Arguments or a result that stand outside the row; what stood there is replaced. */
enum { PAYLOAD_ARGS = 1, PAYLOAD_RESULT = 2 };
MUST_USE enum err insert_payload(struct tx *tx, int64_t id, int kind, struct span data);

/* Removes the rows of one invocation in all tables but its own. */
MUST_USE enum err delete_satellites(struct db *db, int64_t id);
