/* Upkeep in small steps: promoting what is due, expiring, pruning, refilling
 * the dispatcher's window. Each step is bounded, so that it delays no client's
 * commit noticeably; `more` asks for the next. */
#include "store/internal.h"

#include "base/log.h"

#include <stdlib.h>

enum { STEP_ROWS = 500, PRUNE_ROWS = 200 };

void ready_read(struct db_stmt *stmt, struct ready *out)
{
    int64_t flags = db_int(stmt, 9);
    struct span args = db_span(stmt, 10);
    *out = (struct ready){
        .id = db_int(stmt, 0),
        .task = (int)db_int(stmt, 1),
        .priority = (int)db_int(stmt, 2),
        .attempt = (int)db_int(stmt, 3),
        .failures = (int)db_int(stmt, 4),
        .max_retries = (int)db_int(stmt, 5),
        .timeout_ms = db_int(stmt, 6),
        .retention_ms = db_int(stmt, 7),
        .expires_at = db_int(stmt, 8),
        .run_at = db_int(stmt, 11),
        .args = flags & FLAG_ARGS_OUTSIDE ? (struct span){NULL, 0}
                : args.p                  ? args
                                          : SPAN(""),
    };
}

/* The time of the first row of an index, 0 if there is none. */
static enum err first_time(struct tx *tx, const char *sql, int64_t *at)
{
    struct db_stmt *stmt = db_cached(tx->db, sql);
    if (!stmt)
        return ERR_DB;
    bool row;
    enum err err = db_step(stmt, &row);
    *at = err == OK && row ? db_int(stmt, 0) : 0;
    db_reset(stmt);
    return err;
}

static enum err collect_ids(struct tx *tx, const char *sql, int64_t now, int limit, int64_t *ids, int *count)
{
    struct db_stmt *stmt = db_cached(tx->db, sql);
    if (!stmt)
        return ERR_DB;
    bool row;
    enum err err;
    *count = 0;
    db_bind_int(stmt, 1, now);
    db_bind_int(stmt, 2, limit);
    while ((err = db_step(stmt, &row)) == OK && row)
        ids[(*count)++] = db_int(stmt, 0);
    db_reset(stmt);
    return err;
}

/* --- promote ------------------------------------------------------------------------ */

static enum err promote_one(struct tx *tx, int64_t id)
{
    struct db_stmt *stmt = db_cached(
        tx->db, "UPDATE invocations SET status = 2 WHERE id = $1 AND status = 1 RETURNING " READY_COLUMNS);
    if (!stmt)
        return ERR_DB;
    bool row;
    db_bind_int(stmt, 1, id);
    enum err err = db_step(stmt, &row);
    if (err == OK && row) {
        struct ready ready;
        ready_read(stmt, &ready);
        ready.args = tx_keep(tx, ready.args);
        struct change *change = tx_change(tx, id, ready.task, STATUS_SCHEDULED, STATUS_QUEUED);
        change->ready = ready;
        change->expires_at = ready.expires_at;
    }
    db_reset(stmt);
    return err;
}

static enum err promote(struct tx *tx, struct op_upkeep *op)
{
    int64_t ids[STEP_ROWS];
    int count;
    enum err err =
        collect_ids(tx, "SELECT id FROM invocations WHERE status = 1 AND run_at <= $1 ORDER BY run_at LIMIT $2",
                    op->now, STEP_ROWS, ids, &count);
    for (int i = 0; i < count && err == OK; i++)
        err = promote_one(tx, ids[i]);
    op->more = count == STEP_ROWS;
    if (err == OK)
        err = first_time(tx, "SELECT run_at FROM invocations WHERE status = 1 ORDER BY run_at LIMIT 1",
                         &op->next_at);
    return err;
}

/* --- expire -------------------------------------------------------------------------- */

static enum err expire_one(struct tx *tx, int64_t id)
{
    struct db_stmt *stmt = db_cached(
        tx->db, "UPDATE invocations SET status = 6, finished_at = $2, prune_at = $2 + retention_ms, error = $3 "
                "WHERE id = $1 AND status IN (1, 2) RETURNING task, priority, prune_at");
    struct db_stmt *error = db_cached(
        tx->db, "INSERT INTO errors (type, id) VALUES ('expired', $1) ON CONFLICT (type, id) DO NOTHING");
    struct db_stmt *before = db_cached(tx->db, "SELECT status FROM invocations WHERE id = $1");
    if (!stmt || !error || !before)
        return ERR_DB;
    bool row;
    enum status was = 0;
    db_bind_int(before, 1, id);
    enum err err = db_step(before, &row);
    if (err == OK && row)
        was = (enum status)db_int(before, 0);
    db_reset(before);
    if (err != OK)
        return err;
    db_bind_int(stmt, 1, id);
    db_bind_int(stmt, 2, tx->now);
    db_bind_text(stmt, 3, SPAN("{\"type\":\"expired\",\"message\":\"not started before it expired\"}"));
    err = db_step(stmt, &row);
    if (err == OK && row) {
        struct change *change = tx_change(tx, id, (int)db_int(stmt, 0), was, STATUS_FAILED);
        change->withdrawn = was == STATUS_QUEUED;
        change->old_priority = (int)db_int(stmt, 1);
        change->prune_at = tx_prune_at(tx, db_int(stmt, 2));
    }
    db_reset(stmt);
    if (err != OK)
        return err;
    db_bind_int(error, 1, id);
    return db_run(error);
}

static enum err expire(struct tx *tx, struct op_upkeep *op)
{
    int64_t ids[STEP_ROWS];
    int count;
    enum err err = collect_ids(tx,
                               "SELECT id FROM invocations WHERE status IN (1, 2) AND expires_at IS NOT NULL "
                               "AND expires_at <= $1 ORDER BY expires_at LIMIT $2",
                               op->now, STEP_ROWS, ids, &count);
    for (int i = 0; i < count && err == OK; i++)
        err = expire_one(tx, ids[i]);
    op->more = count == STEP_ROWS;
    if (err == OK)
        err = first_time(tx,
                         "SELECT expires_at FROM invocations WHERE status IN (1, 2) AND expires_at IS NOT NULL "
                         "ORDER BY expires_at LIMIT 1",
                         &op->next_at);
    return err;
}

/* --- prune ----------------------------------------------------------------------------- */

static enum err prune_one(struct tx *tx, int64_t id, int64_t *highest)
{
    struct db_stmt *stmt =
        db_cached(tx->db, "DELETE FROM invocations WHERE id = $1 AND prune_at IS NOT NULL RETURNING task, status");
    if (!stmt)
        return ERR_DB;
    bool row;
    db_bind_int(stmt, 1, id);
    enum err err = db_step(stmt, &row);
    if (err == OK && row)
        tx_change(tx, id, (int)db_int(stmt, 0), (enum status)db_int(stmt, 1), 0);
    db_reset(stmt);
    if (err == OK)
        err = delete_satellites(tx->db, id);
    if (id > *highest)
        *highest = id;
    return err;
}

static enum err prune(struct tx *tx, struct op_upkeep *op)
{
    static const char by_age[] = "SELECT id FROM invocations WHERE prune_at IS NOT NULL AND prune_at <= $1 "
                                 "ORDER BY prune_at LIMIT $2";
    int64_t ids[PRUNE_ROWS], highest = 0, reclaim_left = 0;
    int64_t retain_max = atomic_load(&tx->store->retain_max);
    int64_t over = retain_max ? tx_final(tx) - retain_max : 0;
    int count;
    enum err err = collect_ids(tx, by_age, op->now, PRUNE_ROWS, ids, &count);
    if (err == OK && count == 0 && over > 0)
        err = collect_ids(tx, by_age, INT64_MAX, over < PRUNE_ROWS ? (int)over : PRUNE_ROWS, ids, &count);
    for (int i = 0; i < count && err == OK; i++)
        err = prune_one(tx, ids[i], &highest);
    if (err == OK && count)
        err = note_deleted(tx->db, highest);
    if (err == OK && count < PRUNE_ROWS)
        err = db_reclaim(tx->db, &reclaim_left);
    op->more = count == PRUNE_ROWS || reclaim_left > 0 || (count && over > count);
    if (err == OK)
        err =
            first_time(tx, "SELECT prune_at FROM invocations WHERE prune_at IS NOT NULL ORDER BY prune_at LIMIT 1",
                       &op->next_at);
    return err;
}

/* --- together ---------------------------------------------------------------------------- */

static enum err apply_upkeep(struct tx *tx, struct op *base)
{
    struct op_upkeep *op = (struct op_upkeep *)base;
    op->now = tx->now;
    op->more = false;
    op->next_at = 0;
    switch (op->what) {
    case UPKEEP_PROMOTE: return promote(tx, op);
    case UPKEEP_EXPIRE: return expire(tx, op);
    case UPKEEP_PRUNE: return prune(tx, op);
    }
    return ERR_INVALID;
}

static bool several_steps(const struct op *base)
{
    (void)base;
    return true;
}

void op_upkeep_init(struct op_upkeep *op, enum upkeep what)
{
    static const struct op_class class = {.name = "upkeep", .apply = apply_upkeep, .several = several_steps};
    *op = (struct op_upkeep){.what = what};
    op_init(&op->op, &class);
}

/* --- refill ------------------------------------------------------------------------------- */

static enum err refill_from(struct op_refill *op, struct db_stmt *stmt)
{
    if (!stmt)
        return ERR_DB;
    bool row;
    enum err err;
    db_bind_int(stmt, 1, op->task);
    db_bind_int(stmt, 2, op->after_priority);
    db_bind_int(stmt, 3, op->after_id);
    db_bind_int(stmt, 4, op->limit - op->count);
    while ((err = db_step(stmt, &row)) == OK && row) {
        struct ready *ready = &op->items[op->count++];
        ready_read(stmt, ready);
        buf_add_span(&op->arena, ready->args);
    }
    db_reset(stmt);
    return err;
}

static enum err apply_refill(struct tx *tx, struct op *base)
{
    struct op_refill *op = (struct op_refill *)base;
    op->items = xrealloc(op->items, (size_t)op->limit * sizeof *op->items);
    op->count = 0;
    op->arena.len = 0;
    /* Two ranges, because SQLite would use only the first part of (priority, id) > (...). */
    enum err err =
        refill_from(op, db_cached(tx->db, "SELECT " READY_COLUMNS " FROM invocations WHERE status = 2 "
                                          "AND task = $1 AND priority = $2 AND id > $3 ORDER BY id LIMIT $4"));
    if (err == OK && op->count < op->limit)
        err = refill_from(op, db_cached(tx->db, "SELECT " READY_COLUMNS " FROM invocations WHERE status = 2 "
                                                "AND task = $1 AND priority > $2 ORDER BY priority, id LIMIT $4"));
    /* The arena has stopped moving: let the spans point into it. */
    size_t at = 0;
    for (int i = 0; i < op->count; i++) {
        struct ready *ready = &op->items[i];
        if (ready->args.p)
            ready->args.p = ready->args.len ? op->arena.data + at : "";
        at += ready->args.len;
    }
    if (err == OK)
        tx_change(tx, 0, op->task, 0, 0)->refill = op;
    return err;
}

void op_refill_init(struct op_refill *op)
{
    static const struct op_class class = {.name = "refill", .apply = apply_refill};
    *op = (struct op_refill){0};
    op_init(&op->op, &class);
}

void op_refill_release(struct op_refill *op)
{
    free(op->items);
    buf_release(&op->arena);
    op->items = NULL;
}
