/* Tasks by number: names, counts, pauses. What is in memory follows the
 * database; another server's changes reach it when the store is opened, or
 * with the first commit that meets a number which is not known yet. */
#include "store/tasks.h"

#include "store/internal.h"

#include <stdlib.h>

void tasks_reserve_locked(struct store *store, int id)
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
    if (!store->tasks[id].name) /* store_task_name() has given it away, perhaps */
        store->tasks[id].name = span_dup(name);
    store->tasks[id].paused = paused;
    pthread_mutex_unlock(&store->tasks_lock);
}

enum err tasks_load(struct store *store)
{
    bool row = true;
    struct db_stmt *stmt = DB_QUERY(store->db, "SELECT id, name, paused FROM tasks ORDER BY id");
    enum err err = stmt ? OK : ERR_DB;
    while (err == OK && (err = db_step(stmt, &row)) == OK && row)
        task_set(store, (int)db_int(stmt, 0), db_span(stmt, 1), db_int(stmt, 2) != 0);
    if (stmt)
        db_reset(stmt);
    if (err != OK)
        return err;
    stmt = DB_QUERY(store->db, "SELECT task, status, n FROM counters");
    if (!stmt)
        return ERR_DB;
    row = true;
    pthread_mutex_lock(&store->tasks_lock);
    while ((err = db_step(stmt, &row)) == OK && row) {
        int64_t task = db_int(stmt, 0), status = db_int(stmt, 1);
        if (task > 0 && task < store->task_count && status > 0 && status < STATUS_SLOTS)
            store->tasks[task].counts[status] = db_int(stmt, 2);
    }
    pthread_mutex_unlock(&store->tasks_lock);
    db_reset(stmt);
    return err;
}

int store_task_find(struct store *store, struct span name)
{
    int found = 0;
    pthread_mutex_lock(&store->tasks_lock);
    for (int id = 1; id < store->task_count && !found; id++)
        if (store->tasks[id].name && span_is(name, store->tasks[id].name))
            found = id;
    pthread_mutex_unlock(&store->tasks_lock);
    return found;
}

enum err store_task_id_with_role(struct store *store, struct span name, int *id)
{
    if ((*id = store_task_find(store, name)))
        return OK;
    int64_t number = 0, paused = 0;
    enum err err = db_begin(store->db);
    if (err == OK) /* the number of another server's, if that was faster */
        err = DB_EXECUTE(store->db,
                         "INSERT INTO tasks (id, name) SELECT COALESCE(MAX(id), 0) + 1, $1 FROM tasks WHERE true "
                         "ON CONFLICT (name) DO NOTHING",
                         v_text(name));
    if (err == OK)
        err = DB_NUMBER(store->db, &number, 0, "SELECT id FROM tasks WHERE name = $1", v_text(name));
    if (err == OK)
        err = DB_NUMBER(store->db, &paused, 0, "SELECT paused FROM tasks WHERE name = $1", v_text(name));
    if (err == OK)
        err = db_commit(store->db);
    if (err == OK) {
        *id = (int)number;
        task_set(store, *id, name, paused != 0);
        atomic_fetch_add(&store->version, 2);
    } else {
        db_rollback(store->db);
    }
    return err;
}

enum err store_task_id(struct store *store, struct span name, int *id)
{
    if ((*id = store_task_find(store, name)))
        return OK;
    pthread_mutex_lock(&store->role);
    enum err err = store_task_id_with_role(store, name, id);
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
    enum err err =
        DB_EXECUTE(tx->db, "UPDATE tasks SET paused = $2 WHERE id = $1", v_int(op->task), v_int(op->paused));
    return err == OK && db_changes(tx->db) == 0 ? ERR_NOT_FOUND : err;
}

static void committed_pause(struct store *store, struct op *base)
{
    struct op_pause *op = (struct op_pause *)base;
    if (op->task == 0) {
        atomic_store(&store->paused, op->paused);
    } else {
        pthread_mutex_lock(&store->tasks_lock);
        tasks_reserve_locked(store, op->task);
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
