/* What is on disk. All writes are operations that pass through the committer;
 * reads go through readers, one a thread.
 *
 * Calling sequence: store_open, store_recover, store_start; then operations
 * and readers from any thread; store_stop (commits what is queued), readers
 * closed, store_close.
 *
 * Operations. A caller embeds or fills an op, keeps it alive until its done()
 * is called, and hands it over with store_queue(). The committer applies all
 * queued ops in one transaction, in order, commits once, tells the listener
 * what changed, then calls each done(), in order. done() and the listener run
 * on the committing thread: they must not block, and may queue further ops.
 * An op whose `err` is a fault changed nothing, or nothing is known of it
 * (ERR_UNAVAILABLE); other ops of its batch are not touched by its failure. */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "store/status.h"

struct store;
struct tx;

enum {
    INLINE_MAX = 1024, /* arguments and results above stand in a table of their own */
    FLAG_ARGS_OUTSIDE = 1,
    FLAG_RESULT_OUTSIDE = 2,
    LABELS_MAX = 32,
    LABEL_NAME_MAX = 64,
    LABEL_VALUE_MAX = 256,
    KEY_MAX = 255,
};

/* --- changes: what a commit did ------------------------------------------ */

/* What it takes to start a queued invocation. `args` is absent if it stands
 * outside the row: read it with reader_payload(). */
struct ready {
    int64_t id;
    int task;
    int priority;
    int attempt; /* starts so far */
    int failures;
    int max_retries;
    int64_t timeout_ms;
    int64_t retention_ms;
    int64_t expires_at;
    int64_t run_at; /* since when it is eligible; 0: since it was queued */
    struct span args;
};

struct change {
    int64_t id;
    int task;
    enum status from; /* 0: it is new */
    enum status to;   /* 0: it is gone */
    bool cancel;      /* running, and its cancellation is now on disk */
    int64_t due_at;   /* to scheduled: run_at; else 0 */
    int64_t expires_at;
    int64_t prune_at;               /* to a final one */
    bool withdrawn;                 /* from queued, otherwise than by a start */
    int old_priority;               /* where it stood then */
    const struct op_refill *refill; /* not a change: what a refill found at this point */
    struct ready ready;             /* to queued; spans live until the listener returns */
};

/* Called after each commit, before the done()s, in commit order; also with no
 * changes when commits work again after a failure (`healthy` says which).
 * Any of them may be NULL. */
struct store_listener {
    void (*committed)(void *context, const struct change *changes, int count);
    void (*health)(void *context, bool healthy);
    void (*flushed)(void *context); /* after the done()s of a batch; NULL: not wanted */
    void *context;
};

/* --- life ----------------------------------------------------------------- */

struct store_options {
    const char *url;    /* a path, or ":memory:" */
    int node;           /* of the ids; 0..1023 */
    int64_t retain_max; /* final invocations kept at most; 0: no limit */
};

/* Opens, takes ownership, migrates. ERR_BUSY: another server has it;
 * ERR_CONFLICT: the database is newer than the program. */
MUST_USE enum err store_open(const struct store_options *options, struct store **out, struct reason *why);

/* Starts the committer's thread. The listener must outlive store_stop. At most
 * two listeners; called in the order in which they were added. */
void store_listen(struct store *store, const struct store_listener *listener);
MUST_USE enum err store_start(struct store *store, struct reason *why);

/* Commits what is queued and ends the thread; later ops are answered with
 * ERR_UNAVAILABLE. */
void store_stop(struct store *store);
void store_close(struct store *store); /* takes NULL */

/* Grows with every commit that changed something a client can see. Read it
 * before the rows: what is read then is at least as new. Odd while a commit is
 * under way: what is read then may be of either side of it, so nothing that was
 * read or compared under an odd version may be shown again. */
uint64_t store_version(const struct store *store);

/* The random id of this run of the store (ETags). */
uint64_t store_boot_id(const struct store *store);

/* Do commits work? False after a failed one, until one succeeds. */
bool store_healthy(const struct store *store);

void store_set_retain_max(struct store *store, int64_t retain_max);

/* --- tasks ------------------------------------------------------------------ */

struct store_task {
    int id;
    char *name;
    bool paused;
    int64_t counts[STATUS_SLOTS]; /* by enum status */
};

/* The number of a task's name, given on first use (a synchronous write: call
 * it while starting or reloading, not on a hot path). */
MUST_USE enum err store_task_id(struct store *store, struct span name, int *id);

/* A copy of all tasks ever seen with their counts; the caller frees with
 * store_tasks_free. Any thread; no database access. */
struct store_task *store_tasks(struct store *store, int *count);
void store_tasks_free(struct store_task *tasks, int count);

/* One task's, without names; false if there is none of that number. */
bool store_task_counts(struct store *store, int id, bool *paused, int64_t counts[STATUS_SLOTS]);

/* "" if the number is none. The string lives as long as the store. */
const char *store_task_name(struct store *store, int id);

/* --- operations -------------------------------------------------------------- */

struct op_class;

struct op {
    struct op *next;
    const struct op_class *class;
    void (*done)(struct op *op); /* err is set; the op is the owner's again */
    void *owner;                 /* for done(); the store does not look at it */
    enum err err;
    uint32_t epoch; /* the committer's: in which filling of the queue it was handed over */
};

/* Hands one op, or a list linked by `next`, to the committer. Any thread. */
void store_queue(struct store *store, struct op *op);
void store_queue_list(struct store *store, struct op *first, struct op *last, int count);

/* For an op that is alone: if nothing else waits, commits are fast and the
 * role is free, commits it on this thread (done() is called before this
 * returns, which is true). Otherwise queues it. */
bool store_queue_alone(struct store *store, struct op *op);

/* Queues the op and waits for it; its done is the store's. For start-up,
 * tools and tests. */
enum err store_do(struct store *store, struct op *op);

/* One submission. Spans are borrowed until done(). */
struct submission {
    /* in */
    int task;
    int priority;
    int max_retries;
    int64_t timeout_ms; /* 0: none */
    int64_t retention_ms;
    int64_t run_at;             /* 0: now */
    int64_t expires_at;         /* 0: never */
    int64_t max_queued;         /* 0: no limit; of the task */
    struct span args;           /* verbatim JSON, absent if none was given */
    struct span labels;         /* a JSON object of strings, absent if none */
    struct span key_owner, key; /* absent key: none; absent owner: nobody, as "" */
    uint8_t key_digest[32];
    /* out */
    int64_t id;
    enum status status;
    bool replayed; /* the key was there with the same digest: id is the first one's */
    enum err err;  /* OK, ERR_MISMATCH (key), ERR_LIMIT (max_queued) or a fault */
};

/* Submits `count` of them, each on its own; op.err is only a fault. */
struct op_submit {
    struct op op;
    struct submission *items;
    int count;
};
void op_submit_init(struct op_submit *op, struct submission *items, int count);

/* How an attempt ended, and what becomes of the invocation. */
enum finish_next {
    FINISH_FINAL,   /* `status` is final */
    FINISH_RETRY,   /* failed; scheduled at run_at (0: queued at once) */
    FINISH_REQUEUE, /* interrupted by closing; queued, no budget pays */
};

struct log_chunk {
    int stream; /* 1 stdout, 2 stderr */
    struct span data;
};

/* A start and its end. The claim is queued when the body starts and need not
 * be waited for; a finish that comes while it is still queued merges with it
 * into one write. `claim.owner` and `finish.owner` are the op_run. (A cancel queued between the two then comes after the
 * finish: as if it had been sent a moment later.) ERR_CONFLICT in
 * claim.err: the row was no longer queued (cancelled, changed): stop the body
 * and forget it. ERR_CONFLICT in finish.err: the lease was lost. When the two
 * merged only finish.done is called. */
struct op_run {
    struct op claim;
    struct op finish;
    int64_t id;
    int task;
    int attempt; /* the number of this one */
    int64_t retention_ms;
    struct span worker;
    int64_t started_at;
    /* the end */
    void (*claimed)(struct op *claim);
    bool apart;  /* other ops of this attempt were queued since: do not merge */
    bool merged; /* the committer's */
    enum finish_next next;
    enum status status;
    int64_t finished_at;
    int64_t run_at;
    struct span result; /* JSON; absent: null */
    struct span error;  /* JSON object; absent if none */
    struct span error_type;
    const struct log_chunk *log;
    int log_count;
    bool drop_stdout; /* delete what was already logged of this attempt's stdout */
};
void op_run_init(struct op_run *run, void (*claimed)(struct op *), void (*finished)(struct op *));
void store_claim(struct store *store, struct op_run *run);
void store_finish(struct store *store, struct op_run *run);

/* Output of an attempt. ERR_CONFLICT: it is no longer the current one. */
struct op_log {
    struct op op;
    int64_t id;
    int task;
    int attempt;
    const struct log_chunk *chunks;
    int count;
};
void op_log_init(struct op_log *op);

/* ERR_CONFLICT: the attempt does not run (any more). */
struct op_progress {
    struct op op;
    int64_t id;
    int task;
    int attempt;
    double value;
    struct span note; /* absent: none */
};
void op_progress_init(struct op_progress *op);

/* What a client asks of invocations that are there. Each id on its own; the
 * outcome of each stands in `errs` (may be NULL). */
enum alter {
    ALTER_CANCEL, /* final ones stay as they are: OK */
    ALTER_RETRY,  /* failed and cancelled ones, else ERR_CONFLICT */
    ALTER_PATCH,  /* scheduled and queued ones, else ERR_CONFLICT */
    ALTER_DELETE, /* final ones, else ERR_CONFLICT */
};
struct op_alter {
    struct op op;
    enum alter what;
    const int64_t *ids;
    int count;
    enum err *errs;
    int changed;        /* out: how many changed */
    enum status status; /* out: of the last id, before the change */
    bool set_priority;  /* PATCH */
    int priority;
    bool set_run_at;
    int64_t run_at; /* 0: now */
};
void op_alter_init(struct op_alter *op, enum alter what, const int64_t *ids, int count);

/* Upkeep, in small steps; `more` says that another step is due at once. */
enum upkeep {
    UPKEEP_PROMOTE, /* scheduled -> queued where run_at <= now */
    UPKEEP_EXPIRE,  /* scheduled, queued -> failed as `expired` where expires_at <= now */
    UPKEEP_PRUNE,   /* final ones past prune_at or above retain_max are deleted */
};
struct op_upkeep {
    struct op op;
    enum upkeep what;
    int64_t now;
    bool more;       /* out */
    int64_t next_at; /* out: when the next one is due; 0: none is known */
};
void op_upkeep_init(struct op_upkeep *op, enum upkeep what);

/* The next `limit` queued of a task after (priority, id), in order. Its done()
 * only frees; what was found reaches the listener in its place among the
 * changes, because only there is it known what was queued before it and what
 * after. */
struct op_refill {
    struct op op;
    int task;
    int after_priority;
    int64_t after_id;
    int limit;
    /* out */
    struct ready *items;
    int count;
    struct buf arena; /* the items' bytes */
};
void op_refill_init(struct op_refill *op);
void op_refill_release(struct op_refill *op);

/* Pause or resume one task (its id), or the whole service (id 0). */
struct op_pause {
    struct op op;
    int task;
    bool paused;
};
void op_pause_init(struct op_pause *op, int task, bool paused);

/* Is the whole service paused, on disk? */
bool store_paused(const struct store *store);

/* --- recovery ------------------------------------------------------------------ */

/* What the last process was running when it died, from the slot journal. */
struct casualty {
    int64_t id;
    bool pays; /* the death was its doing, or it ran alone at an unexplained one */
};

/* Whoever failed too often becomes `worker_crashed`; asked once a casualty that
 * pays. Returns its max_recoveries. */
typedef int (*recoveries_fn)(void *context, int task);

/* Before store_start: what was running is queued again at once. Casualties
 * that pay spend max_recoveries and fail as `worker_crashed` beyond it; the
 * others count an unexplained death. Ids with two such deaths or more come
 * back in *alone (the caller frees): they are to run alone. */
MUST_USE enum err store_recover(struct store *store, const struct casualty *casualties, int count,
                                recoveries_fn max_recoveries, void *context, int64_t **alone, int *alone_count);

/* --- readers -------------------------------------------------------------------- */

struct reader;

/* A read-only connection, for one thread at a time. */
MUST_USE enum err reader_open(struct store *store, struct reader **out, struct reason *why);
void reader_close(struct reader *reader); /* takes NULL */

/* For a thread that must not be held up: from now on a row of which something
 * stands outside it is ERR_LIMIT with VIEW_FULL. Other readers have no such limit. */
void reader_be_brief(struct reader *reader);

/* How many rows it has stepped over so far, ends of results included. */
int64_t reader_steps(const struct reader *reader);

enum view { VIEW_BASIC /* without args and result */, VIEW_FULL };

/* A row. Spans live until the next call on the reader, or until the row
 * function returns. */
struct invocation {
    int64_t id;
    int task;
    enum status status;
    int priority, attempt, max_retries, failures, recoveries;
    int64_t timeout_ms, retention_ms;
    int64_t run_at, started_at, finished_at, expires_at, cancel_requested_at; /* 0: absent */
    bool has_progress;
    double progress;
    struct span progress_note, args, labels, key, worker, result, error; /* absent: null */
};

MUST_USE enum err reader_get(struct reader *reader, int64_t id, enum view view, struct invocation *out);

/* Arguments (kind 1) or result (2) that stand outside the row, appended. */
MUST_USE enum err reader_payload(struct reader *reader, int64_t id, int kind, struct buf *out);

/* By idempotency key; the digest is copied out. */
MUST_USE enum err reader_find_key(struct reader *reader, struct span owner, struct span key, int64_t *id,
                                  uint8_t digest[32]);

struct filter {
    unsigned statuses;  /* bits 1 << enum status; 0: any */
    int task;           /* 0: any; -1: none can match */
    struct span worker; /* absent: any */
    struct span error;  /* a type, or a prefix and `*`; absent: any */
    struct span label_names[LABELS_MAX], label_values[LABELS_MAX];
    int label_count;
    struct span key_owner, key;
    int64_t created_after, created_before; /* both exclusive; 0: any */
};

struct list_query {
    struct filter filter;
    bool oldest_first;
    int64_t cursor; /* ids after this one in the order; 0: from the start */
    int limit;
    enum view view;
    int64_t scan_until_us; /* clock_mono_us at which an unindexed scan gives up; 0: never */
};

/* Return false to stop: the row is not counted as given. */
typedef bool (*row_fn)(void *context, const struct invocation *row);

/* Walks the rows of a page in order. *next is the cursor of the next page, 0
 * if there is none; a page may be short, even empty, and not the last. */
MUST_USE enum err reader_list(struct reader *reader, const struct list_query *query, row_fn row, void *context,
                              int64_t *next);

/* Is the query surely short (served in order by an index)? Otherwise it
 * belongs on a reader thread. */
bool filter_is_indexed(const struct filter *filter);

struct attempt_row {
    int attempt;
    enum status status;
    int64_t started_at, finished_at;
    struct span worker, error;
};
/* All of them, the current or last included, oldest first. ERR_NOT_FOUND. */
MUST_USE enum err reader_attempts(struct reader *reader, int64_t id,
                                  void (*row)(void *context, const struct attempt_row *row), void *context);

/* The log as one run of bytes: all attempts in order, or one (attempt > 0).
 * Appends at most `limit` bytes from `offset`; *total is its length now. */
MUST_USE enum err reader_log(struct reader *reader, int64_t id, int attempt, int64_t offset, int64_t limit,
                             struct buf *out, int64_t *total);

/* For following: appends the pieces after `*seq` (start with 0), at most about
 * `limit` bytes, and moves `*seq` on. */
MUST_USE enum err reader_log_after(struct reader *reader, int64_t id, int attempt, int64_t *seq, int64_t limit,
                                   struct buf *out);
