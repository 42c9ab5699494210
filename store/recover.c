/* Recovery: what was running when the last process died is queued again. The
 * casualties of the turn journal say who pays for the death. Runs before the
 * committer's thread starts, in one transaction. */
#include "store/internal.h"
#include "store/transition.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdlib.h>

#define CRASHED "{\"type\":\"worker_crashed\",\"message\":\"the server stopped while it ran\"}"

struct found {
    int64_t id;
    int task;
    enum status status;
    int attempt, priority, recoveries, deaths;
    int64_t retention_ms, lease;
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

#define FOUND_COLUMNS \
    "id, task, status, attempt, priority, recoveries, deaths, retention_ms, lease, cancel_requested_at"

static void found_read(struct db_stmt *stmt, struct found *out)
{
    *out = (struct found){
        .id = db_int(stmt, 0),
        .task = (int)db_int(stmt, 1),
        .status = (enum status)db_int(stmt, 2),
        .attempt = (int)db_int(stmt, 3),
        .priority = (int)db_int(stmt, 4),
        .recoveries = (int)db_int(stmt, 5),
        .deaths = (int)db_int(stmt, 6),
        .retention_ms = db_int(stmt, 7),
        .lease = db_int(stmt, 8),
        .cancelled = !db_is_null(stmt, 9),
    };
}

/* This server's turns. (Rows from before there were leases have no holder.) */
static enum err find_running(struct store *store, struct list *list)
{
    struct db_stmt *stmt = DB_QUERY(store->db,
                                    "SELECT " FOUND_COLUMNS " FROM invocations WHERE status = " STATUS(
                                        RUNNING) " " STATUS_INDEXED " "
                                                 "AND (holder = $1 OR holder IS NULL) AND lease_until IS NULL",
                                    v_int(store->options.node));
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
static enum err find_unwritten(struct store *store, struct list *list, const struct casualty *casualty)
{
    struct db_stmt *stmt =
        DB_QUERY(store->db, "SELECT " FOUND_COLUMNS " FROM invocations WHERE id = $1 AND status = " STATUS(QUEUED),
                 v_int(casualty->id));
    if (!stmt)
        return ERR_DB;
    bool row;
    enum err err = db_step(stmt, &row);
    /* With its own lease there, it was started, ended and put back: the end was the last that was written. */
    if (err == OK && row && db_int(stmt, 8) != casualty->lease) {
        struct found *found = list_add(list);
        found_read(stmt, found);
        found->attempt++; /* the start that was not written */
        found->pays = casualty->pays;
        found->died = true;
    }
    db_reset(stmt);
    return err;
}

/* One that lost its lease before it died harms only itself. */
static enum err find_casualty(struct store *store, struct list *list, const struct casualty *casualty)
{
    for (int i = 0; i < list->count; i++) {
        struct found *found = &list->items[i];
        if (found->id != casualty->id)
            continue;
        if (!found->lease || found->lease == casualty->lease) {
            found->pays = casualty->pays;
            found->died = true;
        }
        return OK;
    }
    return find_unwritten(store, list, casualty);
}

static enum err requeue(struct store *store, const struct found *found)
{
    return transition_move_back(
        &store->tx, &(struct move_back){.id = found->id,
                                        .task = found->task,
                                        .from = found->status,
                                        .lost = {.attempt = found->attempt,
                                                 .recoveries = found->recoveries + found->pays,
                                                 .deaths = found->deaths + (found->died && !found->pays),
                                                 .at = store->tx.now,
                                                 .error = SPAN(CRASHED)}});
}

static enum err end(struct store *store, const struct found *found)
{
    struct move_final move = {.id = found->id,
                              .task = found->task,
                              .from = found->status,
                              .to = found->cancelled ? STATUS_CANCELLED : STATUS_FAILED,
                              .old_priority = found->priority,
                              .retention_ms = found->retention_ms,
                              .lost = found->attempt,
                              .recoveries = found->recoveries + found->pays};
    if (!found->cancelled) {
        move.error = SPAN(CRASHED);
        move.error_type = SPAN("worker_crashed");
    }
    return transition_move_final(&store->tx, &move);
}

enum { ALONE_AFTER_DEATHS = 2 };

enum err store_recover(struct store *store, const struct casualty *casualties, int count,
                       recoveries_fn max_recoveries, void *context, int64_t **alone, int *alone_count)
{
    struct list list = {0};
    *alone = NULL;
    *alone_count = 0;
    store->tx.now = clock_now_ms();
    enum err err = db_begin(store->db);
    if (err == OK)
        err = find_running(store, &list);
    for (int i = 0; i < count && err == OK; i++)
        err = find_casualty(store, &list, &casualties[i]);
    *alone = xcalloc((size_t)list.count + 1, sizeof **alone);
    for (int i = 0; i < list.count && err == OK; i++) {
        struct found *found = &list.items[i];
        if (found->cancelled || (found->pays && found->recoveries >= max_recoveries(context, found->task))) {
            err = end(store, found);
            continue;
        }
        err = requeue(store, found);
        if (found->deaths + (found->died && !found->pays) >= ALONE_AFTER_DEATHS)
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
