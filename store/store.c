/* Opening and closing, and the small tables: meta, tasks, counters. */
#include "store/internal.h"

#include "base/clock.h"
#include "base/digest.h"
#include "base/log.h"

#include <limits.h>
#include <stdlib.h>

enum err meta_get_int(struct db *db, struct span name, int64_t missing, int64_t *value)
{
    struct db_stmt *stmt = db_cached(db, "SELECT CAST(value AS BIGINT) FROM meta WHERE name = $1");
    if (!stmt)
        return ERR_DB;
    bool row;
    db_bind_text(stmt, 1, name);
    enum err err = db_step(stmt, &row);
    *value = err == OK && row ? db_int(stmt, 0) : missing;
    db_reset(stmt);
    return err;
}

enum err meta_set_int(struct db *db, struct span name, int64_t value)
{
    struct db_stmt *stmt = db_cached(db, "INSERT INTO meta (name, value) VALUES ($1, $2) "
                                         "ON CONFLICT (name) DO UPDATE SET value = excluded.value");
    if (!stmt)
        return ERR_DB;
    struct buf text = {0};
    buf_add_int(&text, value);
    db_bind_text(stmt, 1, name);
    db_bind_text(stmt, 2, buf_span(&text));
    enum err err = db_run(stmt);
    buf_release(&text);
    return err;
}

enum err note_deleted(struct db *db, int64_t id)
{
    int64_t highest;
    enum err err = meta_get_int(db, SPAN("last_id"), 0, &highest);
    return err == OK && id > highest ? meta_set_int(db, SPAN("last_id"), id) : err;
}

static void tasks_reserve_locked(struct store *store, int id)
{
    if (id < store->task_count)
        return;
    store->tasks = xrealloc(store->tasks, (size_t)(id + 1) * sizeof *store->tasks);
    memset(store->tasks + store->task_count, 0, (size_t)(id + 1 - store->task_count) * sizeof *store->tasks);
    store->task_count = id + 1;
}

static void task_set(struct store *store, int id, struct span name, bool paused)
{
    pthread_mutex_lock(&store->tasks_lock);
    tasks_reserve_locked(store, id);
    store->tasks[id].name = span_dup(name);
    store->tasks[id].paused = paused;
    pthread_mutex_unlock(&store->tasks_lock);
}

static enum err load_tasks(struct store *store)
{
    bool row = true;
    struct db_stmt *stmt = db_cached(store->db, "SELECT id, name, paused FROM tasks ORDER BY id");
    enum err err = stmt ? OK : ERR_DB;
    while (err == OK && (err = db_step(stmt, &row)) == OK && row)
        task_set(store, (int)db_int(stmt, 0), db_span(stmt, 1), db_int(stmt, 2) != 0);
    if (stmt)
        db_reset(stmt);
    if (err != OK)
        return err;
    stmt = db_cached(store->db, "SELECT task, status, n FROM counters");
    if (!stmt)
        return ERR_DB;
    row = true;
    while ((err = db_step(stmt, &row)) == OK && row) {
        int64_t task = db_int(stmt, 0), status = db_int(stmt, 1);
        if (task > 0 && task < store->task_count && status > 0 && status < STATUS_SLOTS)
            store->tasks[task].counts[status] = db_int(stmt, 2);
    }
    db_reset(stmt);
    return err;
}

/* Ids never go back: not over a restart, a clock set back, or pruned rows
 * (last_id is the highest that was deleted). */
static enum err load_ids(struct store *store)
{
    int64_t kept;
    enum err err = meta_get_int(store->db, SPAN("last_id"), 0, &kept);
    if (err != OK)
        return err;
    bool row;
    struct db_stmt *stmt = db_cached(store->db, "SELECT MAX(id) FROM invocations");
    if (!stmt || (err = db_step(stmt, &row)) != OK)
        return ERR_DB;
    int64_t highest = row ? db_int(stmt, 0) : 0;
    db_reset(stmt);
    store->ids = (struct id_source){store->options.node, highest > kept ? highest : kept};
    return OK;
}

enum err store_open(const struct store_options *options, struct store **out, struct reason *why)
{
    struct store *store = xcalloc(1, sizeof *store);
    store->options = *options;
    store->url = xstrdup(options->url);
    store->options.url = store->url;
    store->tail = &store->head;
    store->wake_queued = store->wake_urgent = INT_MAX;
    store->epoch = 1; /* an op that was never queued has 0 */
    store->task_count = 0;
    atomic_init(&store->healthy, true);
    atomic_init(&store->version, 2);
    atomic_init(&store->retain_max, options->retain_max);
    random_bytes(&store->boot_id, sizeof store->boot_id);
    pthread_mutex_init(&store->role, NULL);
    pthread_mutex_init(&store->lock, NULL);
    pthread_mutex_init(&store->tasks_lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&store->wake, &attr);
    pthread_condattr_destroy(&attr);

    int64_t paused = 0;
    enum err err = db_open(options->url, DB_WRITER, &store->db, why);
    if (err == OK)
        err = migrate(store->db, why);
    if (err == OK)
        err = load_tasks(store);
    if (err == OK)
        err = load_ids(store);
    if (err == OK)
        err = meta_get_int(store->db, SPAN("paused"), 0, &paused);
    if (err != OK) {
        if (why && !why->text[0])
            reason_set(why, "%s: the database could not be read (see the log)", options->url);
        store_close(store);
        return err;
    }
    atomic_init(&store->paused, paused != 0);
    store->tx.store = store;
    store->tx.db = store->db;
    *out = store;
    return OK;
}

void store_close(struct store *store)
{
    if (!store)
        return;
    db_close(store->db);
    for (int i = 0; i < store->task_count; i++)
        free(store->tasks[i].name);
    free(store->tasks);
    free(store->tx.changes);
    free(store->tx.tally);
    pthread_mutex_destroy(&store->role);
    pthread_mutex_destroy(&store->lock);
    pthread_mutex_destroy(&store->tasks_lock);
    pthread_cond_destroy(&store->wake);
    free(store->url);
    free(store);
}

void store_listen(struct store *store, const struct store_listener *listener)
{
    if (store->listener_count < LISTENERS_MAX)
        store->listeners[store->listener_count++] = *listener;
}

uint64_t store_version(const struct store *store)
{
    return atomic_load(&store->version);
}

uint64_t store_boot_id(const struct store *store)
{
    return store->boot_id;
}

bool store_healthy(const struct store *store)
{
    return atomic_load(&store->healthy);
}

bool store_paused(const struct store *store)
{
    return atomic_load(&store->paused);
}

void store_set_retain_max(struct store *store, int64_t retain_max)
{
    atomic_store(&store->retain_max, retain_max);
}

/* --- tasks -------------------------------------------------------------------- */

static int find_task(struct store *store, struct span name)
{
    int found = 0;
    pthread_mutex_lock(&store->tasks_lock);
    for (int id = 1; id < store->task_count && !found; id++)
        if (store->tasks[id].name && span_is(name, store->tasks[id].name))
            found = id;
    pthread_mutex_unlock(&store->tasks_lock);
    return found;
}

enum err store_task_id(struct store *store, struct span name, int *id)
{
    if ((*id = find_task(store, name)))
        return OK;
    pthread_mutex_lock(&store->role);
    if ((*id = find_task(store, name))) { /* another thread was faster */
        pthread_mutex_unlock(&store->role);
        return OK;
    }
    enum err err = db_begin(store->db);
    struct db_stmt *stmt = db_cached(store->db, "INSERT INTO tasks (id, name) "
                                                "SELECT COALESCE(MAX(id), 0) + 1, $1 FROM tasks RETURNING id");
    bool row = false;
    if (err == OK && stmt) {
        db_bind_text(stmt, 1, name);
        err = db_step(stmt, &row);
        if (err == OK && row)
            *id = (int)db_int(stmt, 0);
        db_reset(stmt);
    }
    if (err == OK && row)
        err = db_commit(store->db);
    else if (err == OK)
        err = ERR_DB;
    if (err == OK) {
        task_set(store, *id, name, false);
        atomic_fetch_add(&store->version, 2);
    } else {
        db_rollback(store->db);
    }
    pthread_mutex_unlock(&store->role);
    return err;
}

struct store_task *store_tasks(struct store *store, int *count)
{
    pthread_mutex_lock(&store->tasks_lock);
    struct store_task *out = xcalloc((size_t)store->task_count + 1, sizeof *out);
    *count = 0;
    for (int id = 1; id < store->task_count; id++) {
        if (!store->tasks[id].name)
            continue;
        struct store_task *task = &out[(*count)++];
        task->id = id;
        task->name = xstrdup(store->tasks[id].name);
        task->paused = store->tasks[id].paused;
        memcpy(task->counts, store->tasks[id].counts, sizeof task->counts);
    }
    pthread_mutex_unlock(&store->tasks_lock);
    return out;
}

void store_tasks_free(struct store_task *tasks, int count)
{
    for (int i = 0; i < count; i++)
        free(tasks[i].name);
    free(tasks);
}

bool store_task_counts(struct store *store, int id, bool *paused, int64_t counts[STATUS_SLOTS])
{
    pthread_mutex_lock(&store->tasks_lock);
    bool known = id > 0 && id < store->task_count && store->tasks[id].name;
    if (known) {
        *paused = store->tasks[id].paused;
        memcpy(counts, store->tasks[id].counts, sizeof store->tasks[id].counts);
    }
    pthread_mutex_unlock(&store->tasks_lock);
    return known;
}

const char *store_task_name(struct store *store, int id)
{
    pthread_mutex_lock(&store->tasks_lock);
    const char *name = id > 0 && id < store->task_count ? store->tasks[id].name : NULL;
    pthread_mutex_unlock(&store->tasks_lock);
    return name ? name : "";
}

static enum err apply_pause(struct tx *tx, struct op *base)
{
    struct op_pause *op = (struct op_pause *)base;
    if (op->task == 0)
        return meta_set_int(tx->db, SPAN("paused"), op->paused);
    struct db_stmt *stmt = db_cached(tx->db, "UPDATE tasks SET paused = $2 WHERE id = $1");
    if (!stmt)
        return ERR_DB;
    db_bind_int(stmt, 1, op->task);
    db_bind_int(stmt, 2, op->paused);
    enum err err = db_run(stmt);
    return err == OK && db_changes(tx->db) == 0 ? ERR_NOT_FOUND : err;
}

static void committed_pause(struct store *store, struct op *base)
{
    struct op_pause *op = (struct op_pause *)base;
    if (op->task == 0) {
        atomic_store(&store->paused, op->paused);
    } else {
        pthread_mutex_lock(&store->tasks_lock);
        store->tasks[op->task].paused = op->paused;
        pthread_mutex_unlock(&store->tasks_lock);
    }
    atomic_fetch_add(&store->version, 2);
}

void op_pause_init(struct op_pause *op, int task, bool paused)
{
    static const struct op_class class = {.name = "pause", .apply = apply_pause, .committed = committed_pause};
    *op = (struct op_pause){.task = task, .paused = paused};
    op_init(&op->op, &class);
}
