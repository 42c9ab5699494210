/* Recovery: what was running when the last process died is queued again. The
 * casualties of the slot journal say who pays for the death. Runs before the
 * committer's thread starts, in one transaction. */
#include "store/internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdlib.h>

#define CRASHED "{\"type\":\"worker_crashed\",\"message\":\"the server stopped while it ran\"}"

struct found {
    int64_t id;
    int task;
    enum status status;
    int attempt, recoveries, deaths;
    bool cancelled; /* its cancellation is on disk: it does not run again */
    bool pays, died;
};

struct list {
    struct found *items;
    int count, cap;
};

static struct found *list_add(struct list *list)
{
    if (list->count == list->cap) {
        list->cap = list->cap ? list->cap * 2 : 64;
        list->items = xrealloc(list->items, (size_t)list->cap * sizeof *list->items);
    }
    return &list->items[list->count++];
}

#define FOUND_COLUMNS "id, task, status, attempt, recoveries, deaths, cancel_requested_at"

static void found_read(struct db_stmt *stmt, struct found *out)
{
    *out = (struct found){
        .id = db_int(stmt, 0),
        .task = (int)db_int(stmt, 1),
        .status = (enum status)db_int(stmt, 2),
        .attempt = (int)db_int(stmt, 3),
        .recoveries = (int)db_int(stmt, 4),
        .deaths = (int)db_int(stmt, 5),
        .cancelled = !db_is_null(stmt, 6),
    };
}

static enum err find_running(struct store *store, struct list *list)
{
    struct db_stmt *stmt = db_cached(store->db, "SELECT " FOUND_COLUMNS " FROM invocations "
                                                "WHERE status = 3 AND status <> 2 AND status <> 5");
    if (!stmt)
        return ERR_DB;
    bool row;
    enum err err;
    while ((err = db_step(stmt, &row)) == OK && row)
        found_read(stmt, list_add(list));
    db_reset(stmt);
    return err;
}

/* A casualty may still stand on disk as queued: its claim was on its way. */
static enum err find_casualty(struct store *store, struct list *list, const struct casualty *casualty)
{
    for (int i = 0; i < list->count; i++)
        if (list->items[i].id == casualty->id) {
            list->items[i].pays = casualty->pays;
            list->items[i].died = true;
            return OK;
        }
    struct db_stmt *stmt =
        db_cached(store->db, "SELECT " FOUND_COLUMNS " FROM invocations WHERE id = $1 AND status = 2");
    if (!stmt)
        return ERR_DB;
    bool row;
    db_bind_int(stmt, 1, casualty->id);
    enum err err = db_step(stmt, &row);
    if (err == OK && row) {
        struct found *found = list_add(list);
        found_read(stmt, found);
        found->attempt++; /* the start that was not written */
        found->pays = casualty->pays;
        found->died = true;
    }
    db_reset(stmt);
    return err;
}

static enum err keep_attempt(struct store *store, const struct found *found, int64_t now)
{
    struct db_stmt *stmt =
        db_cached(store->db, "INSERT INTO attempts (id, attempt, status, started_at, finished_at, worker, error) "
                             "SELECT id, $2, 6, CASE WHEN status = 3 THEN started_at END, $3, worker, $4 "
                             "FROM invocations WHERE id = $1 "
                             "ON CONFLICT (id, attempt) DO NOTHING");
    if (!stmt)
        return ERR_DB;
    db_bind_int(stmt, 1, found->id);
    db_bind_int(stmt, 2, found->attempt);
    db_bind_int(stmt, 3, now);
    db_bind_text(stmt, 4, SPAN(CRASHED));
    return db_run(stmt);
}

static enum err requeue(struct store *store, const struct found *found, int64_t now)
{
    enum status status = found->cancelled ? STATUS_CANCELLED : STATUS_QUEUED;
    enum err err = found->cancelled ? OK : keep_attempt(store, found, now);
    if (err != OK)
        return err;
    struct db_stmt *stmt =
        db_cached(store->db, "UPDATE invocations SET status = $2, attempt = $3, recoveries = $4, deaths = $5, "
                             "finished_at = $6, prune_at = $6 + retention_ms, expires_at = NULL, progress = NULL, "
                             "progress_note = NULL, "
                             "worker = CASE WHEN $2 = 2 THEN NULL ELSE worker END "
                             "WHERE id = $1");
    if (!stmt)
        return ERR_DB;
    db_bind_int(stmt, 1, found->id);
    db_bind_int(stmt, 2, status);
    db_bind_int(stmt, 3, found->attempt);
    db_bind_int(stmt, 4, found->recoveries + found->pays);
    db_bind_int(stmt, 5, found->deaths + (found->died && !found->pays));
    db_bind_time(stmt, 6, found->cancelled ? now : 0);
    err = db_run(stmt);
    if (err == OK)
        tx_change(&store->tx, found->id, found->task, found->status, status);
    return err;
}

static enum err fail(struct store *store, const struct found *found, int64_t now)
{
    struct db_stmt *stmt =
        db_cached(store->db, "UPDATE invocations SET status = 6, attempt = $2, recoveries = $3, finished_at = $4, "
                             "started_at = CASE WHEN status = 3 THEN started_at END, "
                             "prune_at = $4 + retention_ms, error = $5 WHERE id = $1");
    struct db_stmt *error =
        db_cached(store->db,
                  "INSERT INTO errors (type, id) VALUES ('worker_crashed', $1) ON CONFLICT (type, id) DO NOTHING");
    if (!stmt || !error)
        return ERR_DB;
    db_bind_int(stmt, 1, found->id);
    db_bind_int(stmt, 2, found->attempt);
    db_bind_int(stmt, 3, found->recoveries + 1);
    db_bind_int(stmt, 4, now);
    db_bind_text(stmt, 5, SPAN(CRASHED));
    enum err err = db_run(stmt);
    if (err == OK) {
        db_bind_int(error, 1, found->id);
        err = db_run(error);
    }
    if (err == OK)
        tx_change(&store->tx, found->id, found->task, found->status, STATUS_FAILED);
    return err;
}

enum { ALONE_AFTER_DEATHS = 2 };

enum err store_recover(struct store *store, const struct casualty *casualties, int count,
                       recoveries_fn max_recoveries, void *context, int64_t **alone, int *alone_count)
{
    struct list list = {0};
    int64_t now = clock_now_ms();
    *alone = NULL;
    *alone_count = 0;
    store->tx.now = now;
    enum err err = db_begin(store->db);
    if (err == OK)
        err = find_running(store, &list);
    for (int i = 0; i < count && err == OK; i++)
        err = find_casualty(store, &list, &casualties[i]);
    *alone = xcalloc((size_t)list.count + 1, sizeof **alone);
    for (int i = 0; i < list.count && err == OK; i++) {
        struct found *found = &list.items[i];
        if (found->pays && !found->cancelled && found->recoveries >= max_recoveries(context, found->task)) {
            err = fail(store, found, now);
            continue;
        }
        err = requeue(store, found, now);
        if (!found->cancelled && found->deaths + (found->died && !found->pays) >= ALONE_AFTER_DEATHS)
            (*alone)[(*alone_count)++] = found->id;
    }
    if (err == OK)
        err = store_commit_recovery(store);
    else
        db_rollback(store->db);
    if (err == OK && list.count)
        log_warn("recovered", LOG_INT("invocations", list.count));
    free(list.items);
    return err;
}
