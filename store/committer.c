/* The committer: group commit.
 *
 * All writes pass through one role. Whoever holds it takes everything that is
 * queued, applies it in one transaction, commits once, tells the listeners and
 * calls back. The committer's thread usually holds it; a caller with a single
 * op may take it while commits are fast (store_queue_alone), which saves two
 * thread switches.
 *
 * A failed commit fails its whole batch (ERR_UNAVAILABLE: nothing is known),
 * except for ops that must not be lost, claims, finishes and logs: they are
 * kept in front of the queue and tried again, with the next batch or after a
 * delay. While commits fail one is tried every second, kept ops or not: nobody
 * else would find out that the disk has room again. */
#include "store/internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <time.h>

enum {
    HERE_MAX_US = 200,       /* commits slower than this leave the caller's thread alone */
    GATHER_FROM_US = 300,    /* a disk this slow is worth gathering for ... */
    GATHER_PART = 4,         /* ... at most a quarter of its last commit */
    RETRY_FIRST_US = 100000, /* to try again, after a first failed commit ... */
    LINGER_US = 500,         /* what nobody waits for waits for company */
    NEVER = INT_MAX,
    RETRY_US = 1000000, /* ... and after further ones */
};

struct block {
    struct block *next;
    char bytes[];
};

void op_init(struct op *op, const struct op_class *class)
{
    *op = (struct op){.class = class};
}

/* --- the transaction ------------------------------------------------------ */

struct change *tx_change(struct tx *tx, int64_t id, int task, enum status from, enum status to)
{
    assert(!from || !to || from == to || status_may_become(from, to)); /* the SQL's conditions see to it */
    if (tx->count == tx->cap) {
        tx->cap = tx->cap ? tx->cap * 2 : 256;
        tx->changes = xrealloc(tx->changes, (size_t)tx->cap * sizeof *tx->changes);
    }
    struct change *change = &tx->changes[tx->count++];
    *change = (struct change){.id = id, .task = task, .from = from, .to = to};
    return change;
}

struct span tx_keep(struct tx *tx, struct span bytes)
{
    if (!bytes.p)
        return bytes;
    struct block *block = xmalloc(sizeof *block + bytes.len);
    memcpy(block->bytes, bytes.p, bytes.len);
    block->next = tx->blocks;
    tx->blocks = block;
    return (struct span){block->bytes, bytes.len};
}

static void tally_clear(struct tx *tx)
{
    if (tx->tallied)
        memset(tx->tally, 0, (size_t)tx->tally_cap * sizeof *tx->tally);
    tx->tallied = 0;
}

static void tally(struct tx *tx)
{
    if (tx->tally_cap < tx->store->task_count) {
        tx->tally = xrealloc(tx->tally, (size_t)tx->store->task_count * sizeof *tx->tally);
        memset(tx->tally + tx->tally_cap, 0, (size_t)(tx->store->task_count - tx->tally_cap) * sizeof *tx->tally);
        tx->tally_cap = tx->store->task_count;
    }
    for (; tx->tallied < tx->count; tx->tallied++) {
        const struct change *change = &tx->changes[tx->tallied];
        if (change->from == change->to)
            continue;
        struct tally *t = &tx->tally[change->task];
        t->touched = true;
        if (change->from)
            t->n[change->from]--;
        if (change->to)
            t->n[change->to]++;
    }
}

int64_t tx_waiting(struct tx *tx, int task)
{
    tally(tx);
    const int64_t *kept = tx->store->tasks[task].counts, *delta = tx->tally[task].n;
    return kept[STATUS_SCHEDULED] + kept[STATUS_QUEUED] + delta[STATUS_SCHEDULED] + delta[STATUS_QUEUED];
}

int64_t tx_final(struct tx *tx)
{
    int64_t n = 0;
    tally(tx);
    for (int task = 1; task < tx->store->task_count; task++)
        for (int s = STATUS_SUCCEEDED; s < STATUS_SLOTS; s++)
            n += tx->store->tasks[task].counts[s] + tx->tally[task].n[s];
    return n;
}

int64_t tx_prune_at(struct tx *tx, int64_t prune_at)
{
    int64_t retain_max = atomic_load_explicit(&tx->store->retain_max, memory_order_relaxed);
    return retain_max && tx_final(tx) > retain_max ? tx->now : prune_at;
}

static void tx_undo_to(struct tx *tx, int count)
{
    tx->count = count;
    if (tx->tallied > count)
        tally_clear(tx);
}

static void tx_clear(struct tx *tx)
{
    while (tx->blocks) {
        struct block *next = tx->blocks->next;
        free(tx->blocks);
        tx->blocks = next;
    }
    tally_clear(tx);
    tx->count = 0;
    if (tx->cap > 65536) { /* a giant batch must not stay in memory */
        free(tx->changes);
        tx->changes = NULL;
        tx->cap = 0;
    }
}

static enum err write_counters(struct tx *tx)
{
    tally(tx);
    for (int task = 1; task < tx->tally_cap; task++) {
        if (!tx->tally[task].touched)
            continue;
        for (int s = 0; s < STATUS_SLOTS; s++) {
            if (!tx->tally[task].n[s])
                continue;
            struct db_stmt *stmt =
                db_cached(tx->db, "INSERT INTO counters (task, status, n) VALUES ($1, $2, $3) "
                                  "ON CONFLICT (task, status) DO UPDATE SET n = counters.n + excluded.n");
            if (!stmt)
                return ERR_DB;
            db_bind_int(stmt, 1, task);
            db_bind_int(stmt, 2, s);
            db_bind_int(stmt, 3, tx->tally[task].n[s]);
            enum err err = db_run(stmt);
            if (err != OK)
                return err;
        }
    }
    return OK;
}

/* After the commit: what is kept in memory follows what is on disk. */
static void keep_counters(struct tx *tx)
{
    pthread_mutex_lock(&tx->store->tasks_lock);
    for (int task = 1; task < tx->tally_cap; task++)
        if (tx->tally[task].touched)
            for (int s = 0; s < STATUS_SLOTS; s++)
                tx->store->tasks[task].counts[s] += tx->tally[task].n[s];
    pthread_mutex_unlock(&tx->store->tasks_lock);
}

/* --- a batch ---------------------------------------------------------------- */

/* Applies one op. ERR_UNAVAILABLE: the transaction is gone. */
static enum err apply(struct tx *tx, struct op *op)
{
    bool several = op->class->several && op->class->several(op);
    int mark = tx->count;
    if (several) {
        enum err err = db_savepoint(tx->db);
        if (err != OK)
            return ERR_UNAVAILABLE;
    }
    op->err = op->class->apply(tx, op);
    if (op->err == ERR_UNAVAILABLE || !db_in_transaction(tx->db))
        return ERR_UNAVAILABLE;
    if (op->err == OK) {
        if (several)
            db_savepoint_release(tx->db);
        return OK;
    }
    if (several)
        db_savepoint_rollback(tx->db);
    tx_undo_to(tx, mark);
    return OK;
}

static void note_commit_time(struct store *store, int64_t took_us)
{
    int64_t smooth = atomic_load_explicit(&store->commit_us, memory_order_relaxed);
    atomic_store_explicit(&store->commit_us, smooth + (took_us - smooth) / 8, memory_order_relaxed);
}

static enum err apply_all(struct tx *tx, struct op *list)
{
    enum err err = db_begin(tx->db);
    if (err == OK && !atomic_load(&tx->store->healthy))
        err = meta_set_int(tx->db, SPAN("probe"), tx->now); /* a batch that writes nothing proves nothing */
    for (struct op *op = list; op && err == OK; op = op->next)
        err = apply(tx, op);
    if (err == OK)
        err = write_counters(tx);
    if (err == OK) {
        int64_t began = clock_mono_us();
        if (tx->count)
            atomic_fetch_add(&tx->store->version, 1); /* odd: under way; succeeded() makes it even */
        err = db_commit(tx->db);
        if (err != OK && tx->count)
            atomic_fetch_add(&tx->store->version, 1);
        note_commit_time(tx->store, clock_mono_us() - began);
    }
    if (err != OK)
        db_rollback(tx->db);
    return err;
}

static void set_health(struct store *store, bool healthy)
{
    if (atomic_exchange(&store->healthy, healthy) == healthy)
        return;
    if (healthy)
        log_info("commits work again");
    else
        log_error("a commit failed; nothing starts until commits work again");
    for (int i = 0; i < store->listener_count; i++)
        if (store->listeners[i].health)
            store->listeners[i].health(store->listeners[i].context, healthy);
}

static void call_back(struct store *store, struct op *list)
{
    for (struct op *next, *op = list; op; op = next) {
        next = op->next; /* done() may free it */
        op->done(op);
    }
    for (int i = 0; i < store->listener_count; i++)
        if (store->listeners[i].flushed)
            store->listeners[i].flushed(store->listeners[i].context);
}

static void succeeded(struct store *store, struct op *list)
{
    struct tx *tx = &store->tx;
    keep_counters(tx);
    if (tx->count)
        atomic_fetch_add(&store->version, 1);
    for (struct op *op = list; op; op = op->next)
        if (op->class->committed && op->err == OK)
            op->class->committed(store, op);
    set_health(store, true);
    for (int i = 0; i < store->listener_count && tx->count; i++)
        if (store->listeners[i].committed)
            store->listeners[i].committed(store->listeners[i].context, tx->changes, tx->count);
    call_back(store, list);
}

/* Keeps what must not be lost and answers the rest: nobody is told that
 * anything happened. */
static void failed(struct store *store, struct op *list)
{
    struct op *answer = NULL, **answer_tail = &answer;
    pthread_mutex_lock(&store->lock);
    bool keep = !store->stopping;
    pthread_mutex_unlock(&store->lock);
    store->kept_tail = &store->kept;
    for (struct op *next, *op = list; op; op = next) {
        next = op->next;
        op->next = NULL;
        if (op->class->keep && keep) {
            *store->kept_tail = op;
            store->kept_tail = &op->next;
        } else {
            *answer_tail = op;
            answer_tail = &op->next;
        }
    }
    int64_t delay = atomic_load(&store->healthy) ? RETRY_FIRST_US : RETRY_US;
    pthread_mutex_lock(&store->lock);
    store->retry_at_us = keep ? clock_mono_us() + delay : 0;
    pthread_mutex_unlock(&store->lock);
    pthread_cond_signal(&store->wake); /* the batch may have been another thread's (store_queue_alone) */
    set_health(store, false);
    for (struct op *op = answer; op; op = op->next)
        op->err = ERR_UNAVAILABLE;
    call_back(store, answer);
}

/* Runs one batch. The role is the caller's. */
static void commit(struct store *store, struct op *list, int count)
{
    struct tx *tx = &store->tx;
    if (store->kept) {
        *store->kept_tail = list;
        list = store->kept;
        store->kept = NULL;
    }
    pthread_mutex_lock(&store->lock);
    store->retry_at_us = 0;
    pthread_mutex_unlock(&store->lock);
    tx->now = clock_now_ms();
    enum err err = apply_all(tx, list);
    store->last_batch = count;
    if (err == OK)
        succeeded(store, list);
    else
        failed(store, list);
    tx_clear(tx);
}

enum err store_commit_recovery(struct store *store)
{
    enum err err = write_counters(&store->tx);
    if (err == OK)
        err = db_commit(store->db);
    if (err == OK)
        keep_counters(&store->tx);
    else
        db_rollback(store->db);
    tx_clear(&store->tx);
    return err;
}

/* The role is the caller's. */
static struct op *take_queue(struct store *store, int *count)
{
    pthread_mutex_lock(&store->lock);
    struct op *list = store->head;
    *count = store->queued;
    store->head = NULL;
    store->tail = &store->head;
    store->queued = store->urgent = 0;
    store->epoch++;
    pthread_mutex_unlock(&store->lock);
    return list;
}

/* --- the thread ---------------------------------------------------------------- */

static struct timespec timespec_at(int64_t mono_us)
{
    return (struct timespec){mono_us / 1000000, mono_us % 1000000 * 1000};
}

/* Sleeps until `until_us` (0: without end), or until so many ops or so many
 * urgent ones are queued. */
static bool sleep_locked(struct store *store, int64_t until_us, int queued, int urgent)
{
    int code = 0;
    store->wake_queued = queued;
    store->wake_urgent = urgent;
    if (until_us) {
        struct timespec until = timespec_at(until_us);
        code = pthread_cond_timedwait(&store->wake, &store->lock, &until);
    } else {
        pthread_cond_wait(&store->wake, &store->lock);
    }
    store->wake_queued = store->wake_urgent = NEVER;
    return code != ETIMEDOUT;
}

/* Claims that nobody waits for may wait themselves, a moment, for the finish
 * that would merge with them, or for company. */
static void linger_locked(struct store *store)
{
    int64_t until_us = store->head_since_us + LINGER_US;
    while (store->head && !store->urgent && !store->stopping)
        if (!sleep_locked(store, until_us, NEVER, 1))
            break;
}

/* Sleeps until there is something to commit. False: it is time to end. The
 * lock is the caller's. */
static bool wait_for_work_locked(struct store *store)
{
    do {
        while (!store->head && !store->stopping) {
            if (store->retry_at_us && store->retry_at_us <= clock_mono_us())
                return true;
            sleep_locked(store, store->retry_at_us, 1, 1);
        }
        linger_locked(store);
    } while (!store->head && !store->stopping); /* a caller took the queue meanwhile */
    bool work = store->head || store->retry_at_us;
    store->stopped = !work; /* what comes from now on is answered at once */
    return work;
}

/* On a slow disk the next batch is worth waiting for: until it is as large as
 * the last, for at most a part of what a commit takes. */
static void gather_locked(struct store *store)
{
    int64_t commit_us = atomic_load_explicit(&store->commit_us, memory_order_relaxed);
    if (commit_us < GATHER_FROM_US)
        return;
    int64_t until_us = clock_mono_us() + commit_us / GATHER_PART;
    while (store->queued < store->last_batch && !store->stopping)
        if (!sleep_locked(store, until_us, store->last_batch, NEVER))
            break;
}

static void *commit_thread(void *arg)
{
    struct store *store = arg;
    for (;;) {
        pthread_mutex_lock(&store->lock);
        bool work = wait_for_work_locked(store);
        if (work)
            gather_locked(store);
        pthread_mutex_unlock(&store->lock);
        if (!work)
            return NULL;
        pthread_mutex_lock(&store->role);
        int count;
        struct op *list = take_queue(store, &count);
        if (list || !atomic_load(&store->healthy))
            commit(store, list, count);
        pthread_mutex_unlock(&store->role);
    }
}

/* --- the outside ------------------------------------------------------------------ */

/* Links the list behind the queue; true: the thread is to be woken. */
static bool enqueue_locked(struct store *store, struct op *first, struct op *last, int count)
{
    if (!store->head)
        store->head_since_us = clock_mono_us();
    for (struct op *op = first; op; op = op->next) {
        op->epoch = store->epoch;
        store->urgent += !op->class->patient;
    }
    *store->tail = first;
    store->tail = &last->next;
    store->queued += count;
    return store->queued >= store->wake_queued || store->urgent >= store->wake_urgent;
}

void store_queue_list(struct store *store, struct op *first, struct op *last, int count)
{
    last->next = NULL;
    pthread_mutex_lock(&store->lock);
    bool stopped = store->stopped;
    bool wake = !stopped && enqueue_locked(store, first, last, count);
    pthread_mutex_unlock(&store->lock);
    if (wake)
        pthread_cond_signal(&store->wake);
    for (struct op *next, *op = stopped ? first : NULL; op; op = next) {
        next = op->next;
        op->err = ERR_UNAVAILABLE;
        op->done(op);
    }
}

void store_queue(struct store *store, struct op *op)
{
    store_queue_list(store, op, op, 1);
}

/* What waits without urgency goes along, in its order. */
bool store_queue_alone(struct store *store, struct op *op)
{
    bool alone = false;
    if (atomic_load_explicit(&store->commit_us, memory_order_relaxed) <= HERE_MAX_US &&
        atomic_load_explicit(&store->healthy, memory_order_relaxed) && pthread_mutex_trylock(&store->role) == 0) {
        int count = 0;
        op->next = NULL;
        pthread_mutex_lock(&store->lock);
        alone = !store->urgent && !store->stopped;
        if (alone)
            enqueue_locked(store, op, op, 1);
        pthread_mutex_unlock(&store->lock);
        struct op *list = alone ? take_queue(store, &count) : NULL;
        if (list)
            commit(store, list, count);
        pthread_mutex_unlock(&store->role);
    }
    if (!alone)
        store_queue(store, op);
    return alone;
}

void store_claim(struct store *store, struct op_run *run)
{
    store_queue(store, &run->claim);
}

void store_finish(struct store *store, struct op_run *run)
{
    bool wake = false;
    pthread_mutex_lock(&store->lock);
    bool merge = !run->apart && !store->stopped && run->claim.epoch == store->epoch;
    if (merge) {
        run->merged = true;
        store->urgent++;
        wake = store->urgent >= store->wake_urgent;
    }
    pthread_mutex_unlock(&store->lock);
    if (wake)
        pthread_cond_signal(&store->wake);
    if (!merge)
        store_queue(store, &run->finish);
}

struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool done;
};

static void wake_waiter(struct op *op)
{
    struct waiter *waiter = op->owner;
    pthread_mutex_lock(&waiter->lock);
    waiter->done = true;
    pthread_cond_signal(&waiter->wake);
    pthread_mutex_unlock(&waiter->lock);
}

enum err store_do(struct store *store, struct op *op)
{
    struct waiter waiter = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};
    op->owner = &waiter;
    op->done = wake_waiter;
    store_queue(store, op);
    pthread_mutex_lock(&waiter.lock);
    while (!waiter.done)
        pthread_cond_wait(&waiter.wake, &waiter.lock);
    pthread_mutex_unlock(&waiter.lock);
    return op->err;
}

enum err store_start(struct store *store, struct reason *why)
{
    int code = pthread_create(&store->thread, NULL, commit_thread, store);
    if (code != 0) {
        reason_set(why, "no thread for the committer: %s", strerror(code));
        return ERR_IO;
    }
    pthread_setname_np(store->thread, "committer");
    store->started = true;
    return OK;
}

void store_stop(struct store *store)
{
    if (!store->started)
        return;
    pthread_mutex_lock(&store->lock);
    store->stopping = true;
    pthread_mutex_unlock(&store->lock);
    pthread_cond_signal(&store->wake);
    pthread_join(store->thread, NULL);
    store->started = false;
}
