#include "store/loop_row.h"

#include "store/internal.h"
#include "store/transition.h"

#define LOOP_COLUMNS                                                                                       \
    "id, status, task, next, continues, priority, max_retries, retention_ms, delay_ms, timeout_ms, "       \
    "max_iterations, labels, args, result, flags, iteration, invocation, inbox_read, error, finished_at, " \
    "set_id, slot, slot_since, ticket, due_at"

enum err loop_read(struct tx *tx, int64_t id, struct loop *out)
{
    struct db_stmt *stmt = DB_QUERY(tx->db, "SELECT " LOOP_COLUMNS " FROM loops WHERE id = $1", v_int(id));
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    if (err == OK)
        *out = (struct loop){
            .id = db_int(stmt, 0),
            .status = (enum loop_status)db_int(stmt, 1),
            .task = (int)db_int(stmt, 2),
            .next = (enum loop_next)db_int(stmt, 3),
            .continues = db_int(stmt, 4),
            .priority = (int)db_int(stmt, 5),
            .max_retries = (int)db_int(stmt, 6),
            .retention_ms = db_int(stmt, 7),
            .delay_ms = db_int(stmt, 8),
            .timeout_ms = db_int(stmt, 9),
            .max_iterations = db_int(stmt, 10),
            .labels = tx_copy(tx, db_span(stmt, 11)),
            .args = tx_copy(tx, db_span(stmt, 12)),
            .result = tx_copy(tx, db_span(stmt, 13)),
            .flags = (unsigned)db_int(stmt, 14),
            .iteration = db_int(stmt, 15),
            .invocation = db_int(stmt, 16),
            .inbox_read = db_int(stmt, 17),
            .error = tx_copy(tx, db_span(stmt, 18)),
            .finished_at = db_int(stmt, 19),
            .set = db_int(stmt, 20),
            .slot = db_is_null(stmt, 21) ? -1 : db_int(stmt, 21),
            .slot_since = db_int(stmt, 22),
            .ticket = db_int(stmt, 23),
            .due_at = db_int(stmt, 24),
        };
    db_reset(stmt);
    return err;
}

enum err loop_find(struct db *db, struct loop_ref ref, int64_t *id)
{
    enum err err = OK;
    *id = 0;
    if (ref.id)
        err = DB_NUMBER(db, id, 0, "SELECT id FROM loops WHERE id = $1", v_int(ref.id));
    if (err == OK && !*id && ref.name.p)
        err = DB_NUMBER(db, id, 0, "SELECT id FROM loops WHERE name = $1 AND name IS NOT NULL", v_text(ref.name));
    return err == OK && !*id ? ERR_NOT_FOUND : err;
}

enum err loop_write_turn(struct tx *tx, const struct loop *loop)
{
    enum err err = DB_EXECUTE(
        tx->db,
        "UPDATE loops SET iteration = $2, invocation = $3, args = $4, result = $5, flags = $6, inbox_read = $7 "
        "WHERE id = $1 AND iteration IN ($2, $2 - 1)",
        v_int(loop->id), v_int(loop->iteration), v_time(loop->invocation), v_text(loop->args),
        v_text(loop->result), v_int(loop->flags), v_time(loop->inbox_read));
    return err == OK && !db_changes(tx->db) ? ERR_CONFLICT : err;
}

static struct db_value v_slot(int64_t slot)
{
    return slot < 0 ? (struct db_value){DB_NULL, {0}} : v_int(slot);
}

enum err loop_write_state(struct tx *tx, const struct loop *loop)
{
    int64_t prune_at = loop_is_final(loop->status) ? loop->finished_at + loop->retention_ms : 0;
    loop_note(tx, loop)->loops_at = prune_at ? prune_at : loop->due_at;
    return DB_EXECUTE(tx->db,
                      "UPDATE loops SET status = $2, task = $3, delay_ms = $4, error = $5, finished_at = $6, "
                      "prune_at = $7, slot = $8, slot_since = $9, ticket = $10, due_at = $11 WHERE id = $1",
                      v_int(loop->id), v_int(loop->status), v_int(loop->task), v_int(loop->delay_ms),
                      v_text(loop->error), v_time(loop->finished_at), v_time(prune_at), v_slot(loop->slot),
                      v_time(loop->slot_since), v_time(loop->ticket), v_time(loop->due_at));
}

/* --- arguments and results -------------------------------------------------------------- */

enum err loop_args(struct tx *tx, const struct loop *loop, struct span *out)
{
    *out = loop->args;
    if (!(loop->flags & LOOP_ARGS_OUTSIDE))
        return OK;
    struct db_stmt *stmt = DB_QUERY(tx->db, "SELECT data FROM payloads WHERE id = $1 AND kind = $2",
                                    v_int(loop->id), v_int(PAYLOAD_ARGS));
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    if (err == OK)
        *out = tx_copy(tx, db_span(stmt, 0));
    db_reset(stmt);
    return err == ERR_NOT_FOUND ? ERR_DB : err;
}

/* What is too large for the row stands beside it; what stood there goes. */
static enum err set_payload(struct tx *tx, struct loop *loop, int kind, unsigned flag, struct span data,
                            struct span *inside)
{
    bool outside = data.len > INLINE_MAX, was_outside = loop->flags & flag;
    *inside = outside ? (struct span){NULL, 0} : data;
    loop->flags = outside ? loop->flags | flag : loop->flags & ~flag;
    if (outside)
        return insert_payload(tx, loop->id, kind, data);
    return was_outside ? DB_EXECUTE(tx->db, "DELETE FROM payloads WHERE id = $1 AND kind = $2", v_int(loop->id),
                                    v_int(kind))
                       : OK;
}

enum err loop_set_args(struct tx *tx, struct loop *loop, struct span args)
{
    return set_payload(tx, loop, PAYLOAD_ARGS, LOOP_ARGS_OUTSIDE, args, &loop->args);
}

enum err loop_set_result(struct tx *tx, struct loop *loop, struct span result)
{
    return set_payload(tx, loop, PAYLOAD_RESULT, LOOP_RESULT_OUTSIDE, result, &loop->result);
}

struct change *loop_note(struct tx *tx, const struct loop *loop)
{
    return tx_change(tx, loop->id, loop->task, STATUS_SCHEDULED, STATUS_SCHEDULED);
}
