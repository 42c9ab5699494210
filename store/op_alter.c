/* What a client asks of invocations that are there: cancel, retry, patch,
 * delete. Every write is conditional on the status that was read in the same
 * transaction. */
#include "store/internal.h"

struct row {
    int task;
    enum status status;
    int priority;
    int attempt;
    int64_t started_at, finished_at, run_at, expires_at, retention_ms;
};

static enum err read_row(struct tx *tx, int64_t id, struct row *out)
{
    struct db_stmt *stmt =
        db_cached(tx->db, "SELECT task, status, priority, attempt, started_at, finished_at, run_at, "
                          "expires_at, retention_ms FROM invocations WHERE id = $1");
    if (!stmt)
        return ERR_DB;
    bool row;
    db_bind_int(stmt, 1, id);
    enum err err = db_step(stmt, &row);
    if (err == OK && row)
        *out = (struct row){(int)db_int(stmt, 0), (enum status)db_int(stmt, 1),
                            (int)db_int(stmt, 2), (int)db_int(stmt, 3),
                            db_int(stmt, 4),      db_int(stmt, 5),
                            db_int(stmt, 6),      db_int(stmt, 7),
                            db_int(stmt, 8)};
    else if (err == OK)
        err = ERR_NOT_FOUND;
    db_reset(stmt);
    return err;
}

/* --- cancel --------------------------------------------------------------------- */

static enum err cancel_waiting(struct tx *tx, int64_t id, const struct row *row)
{
    struct db_stmt *stmt =
        db_cached(tx->db, "UPDATE invocations SET status = 7, finished_at = $2, prune_at = $2 + retention_ms, "
                          "cancel_requested_at = $2 WHERE id = $1");
    if (!stmt)
        return ERR_DB;
    db_bind_int(stmt, 1, id);
    db_bind_int(stmt, 2, tx->now);
    enum err err = db_run(stmt);
    if (err == OK) {
        struct change *change = tx_change(tx, id, row->task, row->status, STATUS_CANCELLED);
        change->prune_at = tx_prune_at(tx, tx->now + row->retention_ms);
        change->withdrawn = row->status == STATUS_QUEUED;
        change->old_priority = row->priority;
    }
    return err;
}

static enum err cancel_running(struct tx *tx, int64_t id, const struct row *row)
{
    struct db_stmt *stmt = db_cached(tx->db, "UPDATE invocations SET cancel_requested_at = "
                                             "COALESCE(cancel_requested_at, $2) WHERE id = $1");
    if (!stmt)
        return ERR_DB;
    db_bind_int(stmt, 1, id);
    db_bind_int(stmt, 2, tx->now);
    enum err err = db_run(stmt);
    if (err == OK)
        tx_change(tx, id, row->task, STATUS_RUNNING, STATUS_RUNNING)->cancel = true;
    return err;
}

static enum err cancel_one(struct tx *tx, struct op_alter *op, int64_t id, const struct row *row)
{
    if (status_is_final(row->status))
        return OK;
    op->changed++;
    return row->status == STATUS_RUNNING ? cancel_running(tx, id, row) : cancel_waiting(tx, id, row);
}

/* --- retry ----------------------------------------------------------------------- */

/* The attempt that was the last one moves to where the earlier ones are. */
static enum err keep_attempt(struct tx *tx, int64_t id)
{
    struct db_stmt *stmt =
        db_cached(tx->db, "INSERT INTO attempts (id, attempt, status, started_at, finished_at, worker, error) "
                          "SELECT id, attempt, status, started_at, finished_at, worker, error FROM invocations "
                          "WHERE id = $1 ON CONFLICT (id, attempt) DO NOTHING");
    if (!stmt)
        return ERR_DB;
    db_bind_int(stmt, 1, id);
    return db_run(stmt);
}

static enum err forget_error(struct tx *tx, int64_t id)
{
    struct db_stmt *stmt = db_cached(tx->db, "DELETE FROM errors WHERE id = $1");
    if (!stmt)
        return ERR_DB;
    db_bind_int(stmt, 1, id);
    return db_run(stmt);
}

static enum err requeue(struct tx *tx, int64_t id, const struct row *row, struct op_alter *op)
{
    struct db_stmt *stmt = db_cached(
        tx->db,
        "UPDATE invocations SET status = 2, failures = 0, recoveries = 0, deaths = 0, run_at = NULL, "
        "expires_at = NULL, finished_at = NULL, prune_at = NULL, cancel_requested_at = NULL, error = NULL, "
        "worker = NULL, progress = NULL, progress_note = NULL WHERE id = $1 RETURNING " READY_COLUMNS);
    if (!stmt)
        return ERR_DB;
    bool found;
    db_bind_int(stmt, 1, id);
    enum err err = db_step(stmt, &found);
    if (err == OK && found) {
        struct change *change = tx_change(tx, id, row->task, row->status, STATUS_QUEUED);
        ready_read(stmt, &change->ready);
        change->ready.args = tx_keep(tx, change->ready.args);
        op->changed++;
    }
    db_reset(stmt);
    return err;
}

static enum err retry_one(struct tx *tx, struct op_alter *op, int64_t id, const struct row *row)
{
    if (row->status != STATUS_FAILED && row->status != STATUS_CANCELLED)
        return ERR_CONFLICT;
    enum err err = OK;
    if (row->attempt > 0)
        err = keep_attempt(tx, id);
    if (err == OK && row->status == STATUS_FAILED)
        err = forget_error(tx, id);
    return err == OK ? requeue(tx, id, row, op) : err;
}

/* --- patch ------------------------------------------------------------------------ */

static enum err patch_one(struct tx *tx, struct op_alter *op, int64_t id, const struct row *row)
{
    if (row->status != STATUS_SCHEDULED && row->status != STATUS_QUEUED)
        return ERR_CONFLICT;
    int priority = op->set_priority ? op->priority : row->priority;
    int64_t run_at = op->set_run_at ? op->run_at : row->run_at;
    enum status status = run_at > tx->now ? STATUS_SCHEDULED : STATUS_QUEUED;
    struct db_stmt *stmt = db_cached(
        tx->db,
        "UPDATE invocations SET status = $2, priority = $3, run_at = $4 WHERE id = $1 RETURNING " READY_COLUMNS);
    if (!stmt)
        return ERR_DB;
    bool found;
    db_bind_int(stmt, 1, id);
    db_bind_int(stmt, 2, status);
    db_bind_int(stmt, 3, priority);
    db_bind_time(stmt, 4, run_at);
    enum err err = db_step(stmt, &found);
    if (err == OK && found) {
        struct change *change = tx_change(tx, id, row->task, row->status, status);
        ready_read(stmt, &change->ready);
        change->ready.args = tx_keep(tx, change->ready.args);
        change->withdrawn = row->status == STATUS_QUEUED;
        change->old_priority = row->priority;
        change->due_at = status == STATUS_SCHEDULED ? run_at : 0;
        change->expires_at = row->expires_at;
        op->changed++;
    }
    db_reset(stmt);
    return err;
}

/* --- delete ------------------------------------------------------------------------ */

enum err delete_satellites(struct db *db, int64_t id)
{
    static const char *const texts[] = {
        "DELETE FROM payloads WHERE id = $1", "DELETE FROM labels WHERE id = $1",
        "DELETE FROM errors WHERE id = $1",   "DELETE FROM attempts WHERE id = $1",
        "DELETE FROM logs WHERE id = $1",
    };
    enum err err = OK;
    for (size_t i = 0; i < sizeof texts / sizeof *texts && err == OK; i++) {
        struct db_stmt *stmt = db_cached(db, texts[i]);
        if (!stmt)
            return ERR_DB;
        db_bind_int(stmt, 1, id);
        err = db_run(stmt);
    }
    return err;
}

static enum err delete_one(struct tx *tx, struct op_alter *op, int64_t id, const struct row *row)
{
    if (!status_is_final(row->status))
        return ERR_CONFLICT;
    struct db_stmt *stmt = db_cached(tx->db, "DELETE FROM invocations WHERE id = $1");
    if (!stmt)
        return ERR_DB;
    db_bind_int(stmt, 1, id);
    enum err err = db_run(stmt);
    if (err == OK)
        err = delete_satellites(tx->db, id);
    if (err == OK)
        err = note_deleted(tx->db, id);
    if (err == OK) {
        tx_change(tx, id, row->task, row->status, 0);
        op->changed++;
    }
    return err;
}

/* --- all of them -------------------------------------------------------------------- */

static enum err alter_one(struct tx *tx, struct op_alter *op, int64_t id)
{
    struct row row;
    enum err err = read_row(tx, id, &row);
    if (err != OK)
        return err;
    op->status = row.status;
    switch (op->what) {
    case ALTER_CANCEL: return cancel_one(tx, op, id, &row);
    case ALTER_RETRY: return retry_one(tx, op, id, &row);
    case ALTER_PATCH: return patch_one(tx, op, id, &row);
    case ALTER_DELETE: return delete_one(tx, op, id, &row);
    }
    return ERR_INVALID;
}

static enum err apply_alter(struct tx *tx, struct op *base)
{
    struct op_alter *op = (struct op_alter *)base;
    op->changed = 0;
    for (int i = 0; i < op->count; i++) {
        enum err err = alter_one(tx, op, op->ids[i]);
        if (err == ERR_DB || err == ERR_UNAVAILABLE)
            return err;
        if (op->errs)
            op->errs[i] = err;
        else if (err != OK)
            return err;
    }
    return OK;
}

static bool several_alterations(const struct op *base)
{
    (void)base;
    return true;
}

void op_alter_init(struct op_alter *op, enum alter what, const int64_t *ids, int count)
{
    static const struct op_class class = {.name = "alter", .apply = apply_alter, .several = several_alterations};
    *op = (struct op_alter){.what = what, .ids = ids, .count = count};
    op_init(&op->op, &class);
}
