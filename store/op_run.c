/* Starting and ending an attempt, and what it says in between. The success
 * path writes one row, once when claim and finish merge. */
#include "store/internal.h"

/* --- the claim ---------------------------------------------------------------- */

static enum err apply_end(struct tx *tx, struct op_run *run, bool merged);

static enum err apply_claim(struct tx *tx, struct op *base)
{
    struct op_run *run = base->owner;
    if (run->merged)
        return apply_end(tx, run, true);
    struct db_stmt *stmt = db_cached(tx->db, "UPDATE invocations SET status = 3, attempt = $2, started_at = $3, "
                                             "worker = $4 WHERE id = $1 AND status = 2 AND attempt = $2 - 1");
    if (!stmt)
        return ERR_DB;
    db_bind_int(stmt, 1, run->id);
    db_bind_int(stmt, 2, run->attempt);
    db_bind_int(stmt, 3, run->started_at);
    db_bind_text(stmt, 4, run->worker);
    enum err err = db_run(stmt);
    if (err == OK && db_changes(tx->db) == 0)
        return ERR_CONFLICT;
    if (err == OK)
        tx_change(tx, run->id, run->task, STATUS_QUEUED, STATUS_RUNNING);
    return err;
}

/* --- the finish ----------------------------------------------------------------- */

static enum err insert_error(struct tx *tx, struct op_run *run)
{
    struct db_stmt *stmt =
        db_cached(tx->db, "INSERT INTO errors (type, id) VALUES ($1, $2) ON CONFLICT (type, id) DO NOTHING");
    if (!stmt)
        return ERR_DB;
    db_bind_text(stmt, 1, run->error_type);
    db_bind_int(stmt, 2, run->id);
    return db_run(stmt);
}

static enum err insert_attempt(struct tx *tx, struct op_run *run, enum status status)
{
    struct db_stmt *stmt =
        db_cached(tx->db, "INSERT INTO attempts (id, attempt, status, started_at, finished_at, worker, error) "
                          "VALUES ($1, $2, $3, $4, $5, $6, $7)");
    if (!stmt)
        return ERR_DB;
    db_bind_int(stmt, 1, run->id);
    db_bind_int(stmt, 2, run->attempt);
    db_bind_int(stmt, 3, status);
    db_bind_int(stmt, 4, run->started_at);
    db_bind_int(stmt, 5, run->finished_at);
    db_bind_text(stmt, 6, run->worker);
    db_bind_text(stmt, 7, run->error);
    return db_run(stmt);
}

static enum err last_seq(struct tx *tx, int64_t id, int64_t *seq)
{
    struct db_stmt *stmt = db_cached(tx->db, "SELECT MAX(seq) FROM logs WHERE id = $1");
    if (!stmt)
        return ERR_DB;
    bool row;
    db_bind_int(stmt, 1, id);
    enum err err = db_step(stmt, &row);
    *seq = err == OK && row ? db_int(stmt, 0) : 0;
    db_reset(stmt);
    return err;
}

/* Appends the pieces after `seq`. */
static enum err append_log(struct tx *tx, int64_t id, int attempt, int64_t seq, const struct log_chunk *chunks,
                           int count)
{
    enum err err = OK;
    struct db_stmt *stmt =
        db_cached(tx->db, "INSERT INTO logs (id, seq, attempt, stream, data) VALUES ($1, $2, $3, $4, $5)");
    if (!stmt)
        return ERR_DB;
    for (int i = 0; i < count && err == OK; i++) {
        db_bind_int(stmt, 1, id);
        db_bind_int(stmt, 2, ++seq);
        db_bind_int(stmt, 3, attempt);
        db_bind_int(stmt, 4, chunks[i].stream);
        db_bind_blob(stmt, 5, chunks[i].data);
        err = db_run(stmt);
    }
    return err;
}

static enum err drop_stdout(struct tx *tx, struct op_run *run)
{
    struct db_stmt *stmt = db_cached(tx->db, "DELETE FROM logs WHERE id = $1 AND attempt = $2 AND stream = 1");
    if (!stmt)
        return ERR_DB;
    db_bind_int(stmt, 1, run->id);
    db_bind_int(stmt, 2, run->attempt);
    return db_run(stmt);
}

/* Has someone asked to cancel it? Then a failure or an interruption is the end. */
static enum err cancel_requested(struct tx *tx, struct op_run *run, bool *requested)
{
    struct db_stmt *stmt = db_cached(
        tx->db, "SELECT cancel_requested_at FROM invocations WHERE id = $1 AND cancel_requested_at IS NOT NULL");
    if (!stmt)
        return ERR_DB;
    db_bind_int(stmt, 1, run->id);
    enum err err = db_step(stmt, requested);
    db_reset(stmt);
    return err;
}

static void note_final(struct tx *tx, struct op_run *run, enum status from, enum status to)
{
    struct change *change = tx_change(tx, run->id, run->task, from, to);
    change->prune_at = tx_prune_at(tx, run->finished_at + run->retention_ms);
}

/* The row's part for a final end. `merged`: it still stands there as queued. */
static enum err finish_row(struct tx *tx, struct op_run *run, enum status status, bool merged)
{
    static const struct span none = {NULL, 0};
    bool outside = run->result.len > INLINE_MAX;
    struct db_stmt *stmt =
        merged
            ? db_cached(tx->db, "UPDATE invocations SET status = $3, attempt = $2, finished_at = $4, "
                                "prune_at = $4 + retention_ms, result = $5, error = $6, flags = flags | $7, "
                                "started_at = $8, worker = $9 WHERE id = $1 AND status = 2 AND attempt = $2 - 1")
            : db_cached(tx->db, "UPDATE invocations SET status = $3, finished_at = $4, "
                                "prune_at = $4 + retention_ms, result = $5, error = $6, flags = flags | $7 "
                                "WHERE id = $1 AND status = 3 AND attempt = $2");
    if (!stmt)
        return ERR_DB;
    db_bind_int(stmt, 1, run->id);
    db_bind_int(stmt, 2, run->attempt);
    db_bind_int(stmt, 3, status);
    db_bind_int(stmt, 4, run->finished_at);
    db_bind_text(stmt, 5, outside || status != STATUS_SUCCEEDED ? none : run->result);
    db_bind_text(stmt, 6, status == STATUS_FAILED ? run->error : none);
    db_bind_int(stmt, 7, outside && status == STATUS_SUCCEEDED ? FLAG_RESULT_OUTSIDE : 0);
    if (merged) {
        db_bind_int(stmt, 8, run->started_at);
        db_bind_text(stmt, 9, run->worker);
    }
    enum err err = db_run(stmt);
    if (err == OK && db_changes(tx->db) == 0)
        return ERR_CONFLICT;
    if (err == OK)
        note_final(tx, run, merged ? STATUS_QUEUED : STATUS_RUNNING, status);
    if (err == OK && outside && status == STATUS_SUCCEEDED)
        err = insert_payload(tx, run->id, PAYLOAD_RESULT, run->result);
    if (err == OK && status == STATUS_FAILED && run->error_type.p)
        err = insert_error(tx, run);
    return err;
}

/* The row's part for one that is to run again. It has started, so it cannot
 * expire any more: expires_in says by when it must start. */
static enum err again_row(struct tx *tx, struct op_run *run, bool merged)
{
    bool retry = run->next == FINISH_RETRY;
    enum status status = retry && run->run_at > tx->now ? STATUS_SCHEDULED : STATUS_QUEUED;
    struct db_stmt *stmt = db_cached(
        tx->db,
        "UPDATE invocations SET status = $3, attempt = $2, failures = failures + $4, run_at = $5, error = $6, "
        "started_at = $7, expires_at = NULL, worker = NULL, progress = NULL, progress_note = NULL "
        "WHERE id = $1 AND ((status = 3 AND attempt = $2) OR (status = 2 AND attempt = $2 - 1 AND $8 = 1)) "
        "RETURNING " READY_COLUMNS);
    if (!stmt)
        return ERR_DB;
    db_bind_int(stmt, 1, run->id);
    db_bind_int(stmt, 2, run->attempt);
    db_bind_int(stmt, 3, status);
    db_bind_int(stmt, 4, retry);
    db_bind_time(stmt, 5, run->run_at);
    db_bind_text(stmt, 6, run->error);
    db_bind_int(stmt, 7, run->started_at);
    db_bind_int(stmt, 8, merged);
    bool row;
    enum err err = db_step(stmt, &row);
    if (err == OK && row) {
        struct ready ready;
        ready_read(stmt, &ready);
        struct change *change = tx_change(tx, run->id, run->task, merged ? STATUS_QUEUED : STATUS_RUNNING, status);
        ready.args = tx_keep(tx, ready.args);
        change->ready = ready;
        change->expires_at = ready.expires_at;
        change->due_at = status == STATUS_SCHEDULED ? run->run_at : 0;
    } else if (err == OK) {
        err = ERR_CONFLICT;
    }
    db_reset(stmt);
    return err == OK ? insert_attempt(tx, run, retry ? STATUS_FAILED : STATUS_CANCELLED) : err;
}

static enum err apply_end(struct tx *tx, struct op_run *run, bool merged)
{
    enum status status = run->status;
    enum finish_next next = run->next;
    enum err err = OK;
    if (next != FINISH_FINAL || status == STATUS_FAILED) {
        bool requested;
        err = cancel_requested(tx, run, &requested);
        if (err == OK && requested) {
            next = FINISH_FINAL;
            status = STATUS_CANCELLED;
        }
    }
    if (err == OK)
        err = next == FINISH_FINAL ? finish_row(tx, run, status, merged) : again_row(tx, run, merged);
    int64_t seq = 0; /* read before anything is dropped: who follows the log knows the numbers */
    if (err == OK && run->log_count)
        err = last_seq(tx, run->id, &seq);
    if (err == OK && run->drop_stdout)
        err = drop_stdout(tx, run);
    if (err == OK && run->log_count)
        err = append_log(tx, run->id, run->attempt, seq, run->log, run->log_count);
    return err;
}

static enum err apply_finish(struct tx *tx, struct op *base)
{
    return apply_end(tx, base->owner, false);
}

static bool several_ends(const struct op *base)
{
    const struct op_run *run = base->owner;
    bool finish = base == &run->finish || run->merged;
    return finish && (run->next != FINISH_FINAL || run->status == STATUS_FAILED || run->log_count ||
                      run->drop_stdout || run->result.len > INLINE_MAX);
}

/* A merged claim answers as the finish. */
static void claim_done(struct op *base)
{
    struct op_run *run = base->owner;
    if (run->merged) {
        run->finish.err = base->err;
        run->finish.done(&run->finish);
    } else {
        run->claimed(base);
    }
}

void op_run_init(struct op_run *run, void (*claimed)(struct op *), void (*finished)(struct op *))
{
    static const struct op_class claim = {
        .name = "claim", .apply = apply_claim, .several = several_ends, .keep = true, .patient = true};
    static const struct op_class finish = {
        .name = "finish", .apply = apply_finish, .several = several_ends, .keep = true};
    *run = (struct op_run){.claimed = claimed};
    op_init(&run->claim, &claim);
    op_init(&run->finish, &finish);
    run->claim.owner = run->finish.owner = run;
    run->claim.done = claim_done;
    run->finish.done = finished;
}

/* --- in between ------------------------------------------------------------------ */

/* ERR_CONFLICT if it is another's turn, or the invocation is gone. */
static enum err attempt_is_current(struct tx *tx, int64_t id, int attempt)
{
    struct db_stmt *stmt = db_cached(tx->db, "SELECT 1 FROM invocations WHERE id = $1 AND attempt = $2");
    if (!stmt)
        return ERR_DB;
    bool row;
    db_bind_int(stmt, 1, id);
    db_bind_int(stmt, 2, attempt);
    enum err err = db_step(stmt, &row);
    db_reset(stmt);
    return err == OK && !row ? ERR_CONFLICT : err;
}

static enum err apply_log(struct tx *tx, struct op *base)
{
    struct op_log *op = (struct op_log *)base;
    int64_t seq = 0;
    enum err err = attempt_is_current(tx, op->id, op->attempt);
    if (err == OK)
        err = last_seq(tx, op->id, &seq);
    if (err == OK)
        err = append_log(tx, op->id, op->attempt, seq, op->chunks, op->count);
    if (err == OK)
        tx_change(tx, op->id, op->task, STATUS_RUNNING, STATUS_RUNNING);
    return err;
}

static bool several_chunks(const struct op *base)
{
    return ((const struct op_log *)base)->count > 1;
}

void op_log_init(struct op_log *op)
{
    static const struct op_class class = {
        .name = "log", .apply = apply_log, .several = several_chunks, .keep = true, .patient = true};
    *op = (struct op_log){0};
    op_init(&op->op, &class);
}

static enum err apply_progress(struct tx *tx, struct op *base)
{
    struct op_progress *op = (struct op_progress *)base;
    struct db_stmt *stmt = db_cached(tx->db, "UPDATE invocations SET progress = $3, progress_note = $4 "
                                             "WHERE id = $1 AND status = 3 AND attempt = $2");
    if (!stmt)
        return ERR_DB;
    db_bind_int(stmt, 1, op->id);
    db_bind_int(stmt, 2, op->attempt);
    db_bind_double(stmt, 3, op->value);
    db_bind_text(stmt, 4, op->note);
    enum err err = db_run(stmt);
    if (err == OK && db_changes(tx->db) == 0)
        return ERR_CONFLICT;
    if (err == OK)
        tx_change(tx, op->id, op->task, STATUS_RUNNING, STATUS_RUNNING);
    return err;
}

void op_progress_init(struct op_progress *op)
{
    static const struct op_class class = {.name = "progress", .apply = apply_progress, .patient = true};
    *op = (struct op_progress){0};
    op_init(&op->op, &class);
}
