#include "store/tx.h"

#include "store/internal.h"

#include <assert.h>
#include <stdlib.h>

enum { CHANGES_KEPT = 65536 /* a giant batch's memory is given back */ };

struct tx_block {
    struct tx_block *next;
    char bytes[];
};

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

struct span tx_copy(struct tx *tx, struct span bytes)
{
    if (!bytes.p)
        return bytes;
    struct tx_block *block = xmalloc(sizeof *block + bytes.len);
    memcpy(block->bytes, bytes.p, bytes.len);
    block->next = tx->blocks;
    tx->blocks = block;
    return (struct span){block->bytes, bytes.len};
}

/* --- counters ------------------------------------------------------------------- */

static struct tx_counts *counts_of(struct tx *tx, int task)
{
    if (task >= tx->counts_cap) {
        int cap = task + 1 > tx->store->task_count ? task + 1 : tx->store->task_count;
        tx->counts = xrealloc(tx->counts, (size_t)cap * sizeof *tx->counts);
        memset(tx->counts + tx->counts_cap, 0, (size_t)(cap - tx->counts_cap) * sizeof *tx->counts);
        tx->counts_cap = cap;
    }
    return &tx->counts[task];
}

static void count_changes(struct tx *tx)
{
    for (; tx->counted < tx->count; tx->counted++) {
        const struct change *change = &tx->changes[tx->counted];
        if (change->from == change->to)
            continue;
        struct tx_counts *counts = counts_of(tx, change->task);
        counts->touched = true;
        if (change->from)
            counts->delta[change->from]--;
        if (change->to)
            counts->delta[change->to]++;
    }
}

void tx_undo_to(struct tx *tx, int count)
{
    tx->count = count;
    if (tx->counted <= count)
        return;
    for (int task = 0; task < tx->counts_cap; task++)
        memset(tx->counts[task].delta, 0, sizeof tx->counts[task].delta);
    tx->counted = 0;
}

static enum err load_counts(struct tx *tx, int task, struct tx_counts *counts)
{
    struct db_stmt *stmt = DB_QUERY(tx->db, "SELECT status, n FROM counters WHERE task = $1", v_int(task));
    if (!stmt)
        return ERR_DB;
    bool row;
    enum err err;
    memset(counts->on_disk, 0, sizeof counts->on_disk);
    while ((err = db_step(stmt, &row)) == OK && row) {
        int64_t status = db_int(stmt, 0);
        if (status > 0 && status < STATUS_SLOTS)
            counts->on_disk[status] = db_int(stmt, 1);
    }
    db_reset(stmt);
    counts->known = err == OK;
    return err;
}

static enum err count_one(struct tx *tx, int task, unsigned statuses, int64_t *n)
{
    struct tx_counts *counts = counts_of(tx, task);
    enum err err = counts->known ? OK : load_counts(tx, task, counts);
    for (int s = 0; s < STATUS_SLOTS; s++)
        if (statuses & STATUS_BIT(s))
            *n += counts->on_disk[s] + counts->delta[s];
    return err;
}

enum err tx_count_of(struct tx *tx, int task, unsigned statuses, int64_t *n)
{
    enum err err = OK;
    *n = 0;
    count_changes(tx);
    if (task)
        return count_one(tx, task, statuses, n);
    for (int each = 1; each < tx->store->task_count && err == OK; each++)
        err = count_one(tx, each, statuses, n);
    return err;
}

/* In memory, so perhaps behind: a hint, which the step that prunes checks. */
int64_t tx_prune_at(struct tx *tx, int64_t prune_at)
{
    int64_t retain_max = atomic_load_explicit(&tx->store->retain_max, memory_order_relaxed);
    if (!retain_max)
        return prune_at;
    int64_t n = 0;
    count_changes(tx);
    for (int task = 1; task < tx->store->task_count; task++)
        for (int s = 0; s < STATUS_SLOTS; s++)
            if (STATUS_FINALS & STATUS_BIT(s))
                n += tx->store->tasks[task].counts[s] + (task < tx->counts_cap ? tx->counts[task].delta[s] : 0);
    return n > retain_max ? tx->now : prune_at;
}

/* Ids never go back: the highest that was ever removed is remembered. */
static enum err write_removed(struct tx *tx)
{
    return DB_EXECUTE(tx->db,
                      "INSERT INTO meta (name, value) VALUES ('last_id', CAST($1 AS TEXT)) ON CONFLICT (name) "
                      "DO UPDATE SET value = excluded.value "
                      "WHERE CAST(meta.value AS BIGINT) < CAST(excluded.value AS BIGINT)",
                      v_int(tx->highest_removed));
}

enum err tx_write_counts(struct tx *tx)
{
    enum err err = tx->highest_removed ? write_removed(tx) : OK;
    count_changes(tx);
    for (int task = 1; task < tx->counts_cap && err == OK; task++)
        for (int s = 0; s < STATUS_SLOTS && tx->counts[task].touched && err == OK; s++)
            if (tx->counts[task].delta[s])
                err = DB_EXECUTE(tx->db,
                                 "INSERT INTO counters (task, status, n) VALUES ($1, $2, $3) "
                                 "ON CONFLICT (task, status) DO UPDATE SET n = counters.n + excluded.n",
                                 v_int(task), v_int(s), v_int(tx->counts[task].delta[s]));
    return err;
}

void tx_counts_committed(struct tx *tx)
{
    pthread_mutex_lock(&tx->store->tasks_lock);
    for (int task = 1; task < tx->counts_cap; task++) {
        if (!tx->counts[task].touched)
            continue;
        tasks_reserve_locked(tx->store, task);
        for (int s = 0; s < STATUS_SLOTS; s++)
            tx->store->tasks[task].counts[s] += tx->counts[task].delta[s];
    }
    pthread_mutex_unlock(&tx->store->tasks_lock);
}

/* --- its end ---------------------------------------------------------------------- */

void tx_clear(struct tx *tx)
{
    while (tx->blocks) {
        struct tx_block *next = tx->blocks->next;
        free(tx->blocks);
        tx->blocks = next;
    }
    for (int task = 0; task < tx->counts_cap; task++)
        if (tx->counts[task].touched || tx->counts[task].known)
            tx->counts[task] = (struct tx_counts){0};
    tx->count = tx->counted = tx->grouped = 0;
    tx->highest_removed = 0;
    tx->wakes = 0;
    tx->first_bytes = tx->cached_bytes = 0;
    tx->who = (struct span){NULL, 0};
    if (tx->cap > CHANGES_KEPT) {
        free(tx->changes);
        tx->changes = NULL;
        tx->cap = 0;
    }
}

void tx_release(struct tx *tx)
{
    tx_clear(tx);
    free(tx->changes);
    free(tx->counts);
}
