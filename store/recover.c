/* Recovery: what was running when the last process died is queued again. The
 * casualties of the turn journal say who pays for the death. Runs before the
 * committer's thread starts, in one transaction. */
#include "store/groups.h"
#include "store/internal.h"
#include "store/transition.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"

#include <stdlib.h>

struct found {
    int64_t id;
    int task;
    enum status status;
    int attempt, priority, recoveries, deaths;
    int64_t retention_ms, lease;
    bool cancelled;                  /* its cancellation is on disk: it does not run again */
    bool unwritten;                  /* its start never reached the disk */
    const struct casualty *casualty; /* NULL: nothing is known of how it ended */
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

/* This server's turns. (Rows from before there were leases have no holder.) What has
 * suspended is not looked at, however much there is of it. */
static enum err find_running(struct store *store, struct list *list)
{
    struct db_stmt *stmt =
        DB_QUERY(store->db,
                 "SELECT " FOUND_COLUMNS " FROM invocations WHERE status = " SQL_RUNNING " " STATUS_INDEXED " "
                 "AND (holder = $1 OR holder IS NULL) AND lease_until IS NULL UNION ALL "
                 "SELECT " FOUND_COLUMNS " FROM invocations WHERE id IN (SELECT id FROM waiting_in_place) "
                 "AND status = " SQL_WAITING " AND lease IS NOT NULL AND holder = $1 AND lease_until IS NULL",
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

/* A casualty may still stand on disk as queued: its claim was on its way. (Or its
 * turn had suspended, and its process had still to end: then it is none.) */
static enum err find_unwritten(struct store *store, struct list *list, const struct casualty *casualty)
{
    struct db_stmt *stmt =
        DB_QUERY(store->db,
                 "SELECT " FOUND_COLUMNS " FROM invocations WHERE id = $1 AND status = " SQL_QUEUED " "
                 "AND NOT EXISTS (SELECT 1 FROM suspensions WHERE id = $1 AND lease = $2)",
                 v_int(casualty->id), v_int(casualty->lease));
    if (!stmt)
        return ERR_DB;
    bool row;
    enum err err = db_step(stmt, &row);
    /* With its own lease there, it was started, ended and put back: the end was the last that was written. */
    if (err == OK && row && (!casualty->lease || db_int(stmt, 8) != casualty->lease)) {
        struct found *found = list_add(list);
        found_read(stmt, found);
        found->attempt++; /* the start that was not written */
        found->unwritten = true;
        found->casualty = casualty;
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
        if (found->unwritten || !found->lease || found->lease == casualty->lease)
            if (!found->casualty || casualty->pays)
                found->casualty = casualty;
        return OK;
    }
    return casualty->refused ? OK : find_unwritten(store, list, casualty);
}

/* --- how it ended ---------------------------------------------------------------- */

/* SIGSEGV */
static void add_signal(struct buf *out, int signal)
{
    const char *name = sigabbrev_np(signal);
    if (name)
        buf_addf(out, "SIG%s", name);
    else
        buf_addf(out, "signal %d", signal);
}

/* In the log it is also said of one that has become final, or is gone, or lost its lease. */
static enum err log_doer(struct store *store, const struct casualty *casualty)
{
    char id[ID_TEXT_LEN];
    int64_t task;
    struct buf how = {0};
    enum err err =
        DB_NUMBER(store->db, &task, 0, "SELECT task FROM invocations WHERE id = $1", v_int(casualty->id));
    if (err != OK)
        return err;
    if (casualty->signal > 0)
        add_signal(&how, casualty->signal);
    else
        buf_adds(&how, casualty->signal == 0 ? "exit" : "unknown");
    id_format(casualty->id, id);
    log_warn("a task brought the server down", LOG_STR("task", store_task_name(store, (int)task)),
             LOG_SPAN("invocation", ((struct span){id, sizeof id})), LOG_INT("attempt", casualty->attempt),
             LOG_SPAN("signal", buf_span(&how)));
    buf_release(&how);
    return OK;
}

static void add_error(struct buf *out, const struct casualty *casualty)
{
    buf_addl(out, "{\"type\":\"worker_crashed\",\"message\":\"");
    if (!casualty || !casualty->marked) {
        buf_addl(out, "the server stopped while it ran\"}");
    } else if (casualty->signal > 0) {
        buf_addl(out, "it brought the server down with ");
        add_signal(out, casualty->signal);
        buf_addf(out, "\",\"signal\":%d}", casualty->signal);
    } else {
        buf_adds(out,
                 casualty->signal == 0 ? "it ended the server with exit()\"}" : "it brought the server down\"}");
    }
}

/* --- what becomes of it ------------------------------------------------------------ */

static int recoveries_after(const struct found *found)
{
    return found->recoveries + (found->casualty && found->casualty->pays);
}

static int deaths_after(const struct found *found)
{
    const struct casualty *casualty = found->casualty;
    bool suspect = casualty && !casualty->pays && !casualty->bystander && found->status != STATUS_WAITING;
    return found->deaths + suspect;
}

static struct lost_turn lost_turn(const struct found *found, struct span error)
{
    return (struct lost_turn){.attempt = found->attempt,
                              .lease = found->lease,
                              .recoveries = recoveries_after(found),
                              .started_at = found->casualty ? found->casualty->started_at : 0,
                              .error = error};
}

static enum err requeue(struct store *store, const struct found *found, struct span error)
{
    return transition_move_back(&store->tx, &(struct move_back){.id = found->id,
                                                                .task = found->task,
                                                                .from = found->status,
                                                                .lost = lost_turn(found, error),
                                                                .deaths = deaths_after(found)});
}

static enum err end(struct store *store, const struct found *found, struct span error)
{
    struct move_final move = {.id = found->id,
                              .task = found->task,
                              .from = found->status,
                              .to = found->cancelled ? STATUS_CANCELLED : STATUS_FAILED,
                              .old_priority = found->priority,
                              .retention_ms = found->retention_ms,
                              .lost = lost_turn(found, error)};
    if (!found->cancelled) {
        move.error = error;
        move.error_type = SPAN("worker_crashed");
    }
    return transition_move_final(&store->tx, &move);
}

static enum err settle(struct store *store, const struct found *found, recoveries_fn max_recoveries, void *context)
{
    struct buf error = {0};
    bool pays = found->casualty && found->casualty->pays;
    bool again = !found->cancelled && !(pays && found->recoveries >= max_recoveries(context, found->task));
    add_error(&error, found->casualty);
    enum err err = OK;
    if (found->casualty && found->casualty->log.len)
        err = turn_log_left(&store->tx, found->id, found->attempt, found->casualty->log);
    if (err == OK)
        err = (again ? requeue : end)(store, found, buf_span(&error));
    buf_release(&error);
    return err;
}

enum err store_recover(struct store *store, const struct casualty *casualties, int count,
                       recoveries_fn max_recoveries, void *context)
{
    struct list list = {0};
    store->tx.now = clock_now_ms();
    enum err err = db_begin(store->db);
    if (err == OK)
        err = find_running(store, &list);
    for (int i = 0; i < count && err == OK; i++) {
        if (casualties[i].marked)
            err = log_doer(store, &casualties[i]);
        if (err == OK)
            err = find_casualty(store, &list, &casualties[i]);
    }
    for (int i = 0; i < list.count && err == OK; i++)
        err = settle(store, &list.items[i], max_recoveries, context);
    if (err == OK)
        err = groups_recover(&store->tx);
    if (err == OK)
        err = store_commit_recovery(store);
    else
        store_abandon_recovery(store);
    if (err == OK && list.count)
        log_warn("recovered", LOG_INT("invocations", list.count));
    free(list.items);
    return err;
}

void store_recover_first(struct store *store, enum err (*recover)(void *context), void *context)
{
    store->recover = recover;
    store->recover_context = context;
    atomic_store(&store->healthy, false);
    store->retry_at_us = clock_mono_us();
    log_error("the disk does not take writes; nothing is written and nothing starts until it does");
}
