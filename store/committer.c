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
#include "store/groups.h"
#include "store/internal.h"
#include "store/transition.h"

#include "base/clock.h"
#include "base/log.h"

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

void op_init(struct op *op, const struct op_class *class)
{
    *op = (struct op){.class = class};
}

bool op_is_several(const struct op *op)
{
    (void)op;
    return true;
}

static enum err apply_nothing(struct tx *tx, struct op *op)
{
    (void)tx, (void)op;
    return OK;
}

void op_barrier_init(struct op *op)
{
    static const struct op_class class = {.name = "barrier", .apply = apply_nothing};
    op_init(op, &class);
}

/* --- claims and finishes that meet ---------------------------------------------- */

/* The last op of that lease in the batch so far; a place for the first. Leases
 * are random: their own bits are the hash. */
static struct turn_op **last_of_turn(struct store *store, int64_t lease)
{
    uint64_t mask = (uint64_t)store->last_turns_cap - 1, at = (uint64_t)lease & mask;
    while (store->last_turns[at] && store->last_turns[at]->turn.lease != lease)
        at = (at + 1) & mask;
    return &store->last_turns[at];
}

static void clear_last_turns(struct store *store, int turns)
{
    int cap = 64;
    while (cap < 2 * turns)
        cap *= 2;
    if (cap > store->last_turns_cap || cap * 16 < store->last_turns_cap) {
        store->last_turns = xrealloc(store->last_turns, (size_t)cap * sizeof *store->last_turns);
        store->last_turns_cap = cap;
    }
    memset(store->last_turns, 0, (size_t)store->last_turns_cap * sizeof *store->last_turns);
}

/* Where a turn's end follows its start with nothing of the turn between them,
 * one write may do for both. (A cancellation that was queued between them then
 * comes after the end: as if it had been sent a moment later.) */
static void join_turns(struct store *store, struct op *list)
{
    int turns = 0;
    for (struct op *op = list; op; op = op->next)
        turns += op->class->turn == TURN_STARTS;
    if (!turns)
        return;
    clear_last_turns(store, turns);
    for (struct op *op = list; op; op = op->next) {
        if (op->class->turn == TURN_NONE)
            continue;
        struct turn_op *turn = (struct turn_op *)op, **last = last_of_turn(store, turn->turn.lease);
        if (op->class->turn == TURN_STARTS) {
            ((struct op_claim *)op)->end = NULL;
            *last = turn;
        } else if (*last) {
            bool meets = op->class->turn == TURN_ENDS && (*last)->op.class->turn == TURN_STARTS;
            struct op_claim *start = (struct op_claim *)*last;
            if (meets && !start->lease_until && transition_end_is_simple((struct op_finish *)op))
                start->end = (struct op_finish *)op;
            *last = turn;
        }
        if (op->class->turn == TURN_ENDS)
            ((struct op_finish *)op)->written = false; /* the last batch may have failed after that */
    }
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
    if (several || err_is_fault(op->err)) /* a refused claim may have found something to tell */
        tx_undo_to(tx, mark);
    return OK;
}

/* Applies several ops in one go, if they can be: *last is the last of them, NULL if there is
 * none. A fault undoes them all, and says nothing of any: each is tried by itself then. */
static enum err apply_together(struct tx *tx, struct op *first, struct op **last)
{
    int count = first->class->together ? first->class->together(first) : 0, mark = tx->count;
    *last = NULL;
    if (!count)
        return OK;
    if (db_savepoint(tx->db) != OK)
        return ERR_UNAVAILABLE;
    enum err err = first->class->apply_together(tx, first, count);
    if (err == ERR_UNAVAILABLE || !db_in_transaction(tx->db))
        return ERR_UNAVAILABLE;
    if (err != OK) {
        db_savepoint_rollback(tx->db);
        tx_undo_to(tx, mark);
        return OK;
    }
    db_savepoint_release(tx->db);
    for (struct op *op = first; count; op = op->next, count--) {
        op->err = OK;
        *last = op;
    }
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
    for (struct op *last, *op = list; op && err == OK; op = last->next) {
        err = apply_together(tx, op, &last);
        if (err == OK && !last)
            err = apply(tx, last = op);
    }
    if (err == OK)
        err = groups_count(tx);
    if (err == OK)
        err = tx_write_counts(tx);
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
    tx_counts_committed(tx);
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

/* What was running when the last process died is queued again before anything
 * else is written. */
static bool recover_first(struct store *store)
{
    if (!store->recover)
        return true;
    if (store->recover(store->recover_context) != OK)
        return false;
    store->recover = NULL;
    atomic_fetch_add(&store->version, 2);
    return true;
}

/* The time for the batch's ids; says when that is not the clock's. */
static int64_t id_time(struct store *store, int64_t now)
{
    bool followed = !store->id_clock.ahead_since_ms;
    int64_t time = id_clock_follow(&store->id_clock, now, clock_boot_ms());
    bool follows = !store->id_clock.ahead_since_ms;
    if (followed && !follows)
        log_warn("the clock is far ahead of where it was; ids do not follow it for a day",
                 LOG_INT("seconds_ahead", (now - time) / 1000));
    else if (follows && !followed)
        log_info("ids follow the clock again");
    return time;
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
    if (!recover_first(store)) {
        failed(store, list);
        return;
    }
    tx->now = clock_now_ms();
    tx->id_now = id_time(store, tx->now);
    join_turns(store, list);
    enum err err = apply_all(tx, list);
    store->last_batch = count;
    if (err == OK)
        succeeded(store, list);
    else
        failed(store, list);
    tx_clear(tx);
}

void store_abandon_recovery(struct store *store)
{
    db_rollback(store->db);
    tx_clear(&store->tx);
}

enum err store_commit_recovery(struct store *store)
{
    enum err err = groups_count(&store->tx);
    if (err == OK)
        err = tx_write_counts(&store->tx);
    if (err == OK)
        err = db_commit(store->db);
    if (err == OK)
        tx_counts_committed(&store->tx);
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
    for (struct op *op = first; op; op = op->next)
        store->urgent += !op->class->patient;
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
