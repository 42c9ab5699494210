#include "store/lease.h"

#include "store/internal.h"
#include "store/reader.h"
#include "store/transition.h"

#define LOST "{\"type\":\"lease_lost\",\"message\":\"its worker did not renew the lease in time\"}"

/* --- renewing ---------------------------------------------------------------------- */

/* The renewal changed nothing. One that has no time needs none. */
static enum err not_renewed(struct tx *tx, struct op_renew *op)
{
    const struct turn *turn = &op->turn.turn;
    struct db_stmt *stmt = DB_QUERY(tx->db,
                                    "SELECT cancel_requested_at FROM invocations WHERE id = $1 AND lease = $2 "
                                    "AND status " SQL_IN_TURN,
                                    v_int(turn->id), v_int(turn->lease));
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    if (err == OK)
        op->cancelled = !db_is_null(stmt, 0);
    db_reset(stmt);
    return err == ERR_NOT_FOUND ? ERR_CONFLICT : err;
}

static enum err apply_renew(struct tx *tx, struct op *base)
{
    struct op_renew *op = (struct op_renew *)base;
    const struct turn *turn = &op->turn.turn;
    op->cancelled = false;
    enum err err = DB_EXECUTE(tx->db,
                              "UPDATE invocations SET lease_until = $3 WHERE id = $1 AND lease = $2 "
                              "AND status " SQL_IN_TURN " AND lease_until IS NOT NULL "
                              "AND follow & " SQL_FOLLOW_CANCEL " = 0",
                              v_int(turn->id), v_int(turn->lease), v_int(op->lease_until));
    return err == OK && db_changes(tx->db) == 0 ? not_renewed(tx, op) : err;
}

void op_renew_init(struct op_renew *op, const struct turn *turn)
{
    static const struct op_class class = {.name = "renew", .apply = apply_renew, .turn = TURN_GOES_ON};
    *op = (struct op_renew){.turn.turn = *turn};
    op_init(&op->turn.op, &class);
}

/* --- losing ------------------------------------------------------------------------ */

struct lost {
    int task, attempt, priority, recoveries, deaths;
    int64_t retention_ms;
    bool cancelled;
    enum status from;
};

static enum err read_lost(struct tx *tx, const struct op_lose *op, struct lost *out)
{
    const struct turn *turn = &op->turn.turn;
    struct db_stmt *stmt =
        DB_QUERY(tx->db,
                 "SELECT task, attempt, priority, recoveries, deaths, retention_ms, cancel_requested_at, status "
                 "FROM invocations WHERE id = $1 AND lease = $2 AND status " SQL_IN_TURN " AND lease_until = $3",
                 v_int(turn->id), v_int(turn->lease), v_int(op->lease_until));
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    if (err == OK)
        *out = (struct lost){.task = (int)db_int(stmt, 0),
                             .attempt = (int)db_int(stmt, 1),
                             .priority = (int)db_int(stmt, 2),
                             .recoveries = (int)db_int(stmt, 3),
                             .deaths = (int)db_int(stmt, 4),
                             .retention_ms = db_int(stmt, 5),
                             .cancelled = !db_is_null(stmt, 6),
                             .from = (enum status)db_int(stmt, 7)};
    db_reset(stmt);
    return err == ERR_NOT_FOUND ? ERR_CONFLICT : err;
}

static enum err lose_finally(struct tx *tx, const struct op_lose *op, const struct lost *lost,
                             const struct lost_turn *turn)
{
    struct move_final move = {.id = op->turn.turn.id,
                              .task = lost->task,
                              .from = lost->from,
                              .to = op->became,
                              .old_priority = lost->priority,
                              .retention_ms = lost->retention_ms,
                              .lost = *turn};
    if (op->became == STATUS_FAILED) {
        move.error = SPAN(LOST);
        move.error_type = SPAN("lease_lost");
    }
    return transition_move_final(tx, &move);
}

static enum err apply_lose(struct tx *tx, struct op *base)
{
    struct op_lose *op = (struct op_lose *)base;
    struct lost lost;
    enum err err = read_lost(tx, op, &lost);
    if (err != OK)
        return err;
    struct lost_turn turn = {.attempt = lost.attempt,
                             .lease = op->turn.turn.lease,
                             .recoveries = lost.recoveries + op->pays,
                             .error = SPAN(LOST)};
    op->became = lost.cancelled                                      ? STATUS_CANCELLED
                 : op->pays && lost.recoveries >= op->max_recoveries ? STATUS_FAILED
                                                                     : STATUS_QUEUED;
    if (op->became != STATUS_QUEUED)
        return lose_finally(tx, op, &lost, &turn);
    return transition_move_back(
        tx,
        &(struct move_back){
            .id = op->turn.turn.id, .task = lost.task, .from = lost.from, .lost = turn, .deaths = lost.deaths});
}

void op_lose_init(struct op_lose *op, const struct turn *turn)
{
    static const struct op_class class = {
        .name = "lose", .apply = apply_lose, .several = op_is_several, .turn = TURN_GOES_ON};
    *op = (struct op_lose){.turn.turn = *turn};
    op_init(&op->turn.op, &class);
}

/* --- reading ------------------------------------------------------------------------ */

#define TURN_COLUMNS                                                                                    \
    "SELECT id, lease, task, attempt, status, cancel_requested_at, lease_until, lease_ms, started_at, " \
    "timeout_ms, retention_ms, failures, max_retries, worker, grp FROM invocations "

static void turn_read(struct db_stmt *stmt, struct turn_row *out)
{
    *out = (struct turn_row){
        .turn = {.id = db_int(stmt, 0),
                 .lease = db_int(stmt, 1),
                 .task = (int)db_int(stmt, 2),
                 .attempt = (int)db_int(stmt, 3),
                 .group = db_int(stmt, 14)},
        .status = (enum status)db_int(stmt, 4),
        .cancelled = !db_is_null(stmt, 5),
        .elsewhere = !db_is_null(stmt, 6),
        .lease_until = db_int(stmt, 6),
        .lease_ms = db_int(stmt, 7),
        .started_at = db_int(stmt, 8),
        .timeout_ms = db_int(stmt, 9),
        .retention_ms = db_int(stmt, 10),
        .failures = (int)db_int(stmt, 11),
        .max_retries = (int)db_int(stmt, 12),
        .worker = db_span(stmt, 13),
    };
}

static enum err has_suspended(struct reader *reader, int64_t id, int64_t lease, bool *it)
{
    int64_t found;
    enum err err = DB_NUMBER(reader->db, &found, 0, "SELECT 1 FROM suspensions WHERE id = $1 AND lease = $2",
                             v_int(id), v_int(lease));
    *it = found != 0;
    return err;
}

enum err reader_turn(struct reader *reader, int64_t id, int64_t lease, struct turn_row *out)
{
    struct db_stmt *stmt = DB_QUERY(reader->db, TURN_COLUMNS "WHERE id = $1", v_int(id));
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    bool has_it = err == OK && !db_is_null(stmt, 1) && db_int(stmt, 1) == lease;
    bool had_it = false;
    if (err == OK && !has_it)
        err = has_suspended(reader, id, lease, &had_it);
    if (err == OK && !has_it && !had_it)
        err = ERR_CONFLICT;
    if (err == OK) {
        turn_read(stmt, out);
        out->turn.lease = lease;
        out->suspended = had_it;
        reader->note.len = 0;
        buf_add_span(&reader->note, out->worker);
        out->worker = buf_span(&reader->note);
    }
    db_reset(stmt);
    return err;
}

enum err reader_leases(struct reader *reader, void (*row)(void *context, const struct turn_row *row),
                       void *context)
{
    struct db_stmt *stmt =
        DB_QUERY(reader->db,
                 TURN_COLUMNS "WHERE lease_until IS NOT NULL AND holder = $1 AND status " SQL_IN_TURN " "
                              "ORDER BY lease_until",
                 v_int(reader->store->options.node));
    if (!stmt)
        return ERR_DB;
    bool more;
    enum err err;
    while ((err = db_step(stmt, &more)) == OK && more) {
        struct turn_row found;
        turn_read(stmt, &found);
        row(context, &found);
    }
    db_reset(stmt);
    return err;
}
