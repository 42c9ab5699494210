#include "store/schedule.h"

#include "store/internal.h"
#include "store/schedule_rows.h"
#include "store/transition.h"

/* --- what runs ------------------------------------------------------------------- */

/* The last one, if it is unfinished; 0: it is not. */
static enum err find_unfinished(struct tx *tx, int64_t schedule, int64_t *id)
{
    return DB_NUMBER(tx->db, id, 0,
                     "SELECT i.id FROM schedules s JOIN invocations i ON i.id = s.last_id WHERE s.id = $1 "
                     "AND i.status NOT IN (" SQL_SUCCEEDED ", " SQL_FAILED ", " SQL_CANCELLED ")",
                     v_int(schedule));
}

static enum err note_made(struct tx *tx, int64_t schedule, int64_t id, int64_t due_at)
{
    return DB_EXECUTE(tx->db,
                      "UPDATE schedules SET last_id = $2, problem = NULL, "
                      "last_at = CASE WHEN last_at > $3 THEN last_at ELSE $3 END WHERE id = $1",
                      v_int(schedule), v_int(id), v_int(due_at));
}

static enum err note_skipped(struct tx *tx, int64_t schedule, int64_t count, struct span problem)
{
    return DB_EXECUTE(tx->db,
                      "UPDATE schedules SET skipped = skipped + $2, problem = COALESCE($3, problem) WHERE id = $1",
                      v_int(schedule), v_int(count), v_text(problem));
}

#define QUEUE_FULL SPAN("the task has as many waiting invocations as its max_queued")

/* A full queue is no fault: that time makes none. */
static enum err make_one(struct tx *tx, int64_t schedule, struct submission *s, int64_t due_at)
{
    s->err = submission_insert(tx, s);
    if (s->err == OK)
        return note_made(tx, schedule, s->id, due_at);
    return err_is_fault(s->err) ? s->err : note_skipped(tx, schedule, 1, QUEUE_FULL);
}

static enum err make_all(struct tx *tx, struct op_schedule_fire *op)
{
    enum err err = OK;
    for (int i = 0; i < op->count && err == OK; i++) {
        err = make_one(tx, op->id, &op->items[i], op->due[i]);
        op->made += op->items[i].err == OK;
    }
    op->skipped = op->count - op->made;
    return err;
}

/* --- one that waits for another's end ------------------------------------------------ */

static enum err insert_waiting(struct tx *tx, const struct op_schedule_fire *op, int which, int64_t behind)
{
    const struct submission *s = &op->items[which];
    return DB_EXECUTE(
        tx->db,
        "INSERT INTO schedule_waiting (schedule, behind, due_at, task, priority, max_retries, retention_ms, "
        "timeout_ms, run_at, expires_in_ms, max_queued, args, labels) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT (schedule) DO NOTHING",
        v_int(op->id), v_int(behind), v_int(op->due[which]), v_int(s->task), v_int(s->priority),
        v_int(s->max_retries), v_int(s->retention_ms), v_time(s->timeout_ms), v_time(s->run_at),
        v_time(s->expires_at ? s->expires_at - tx->now : 0), v_time(s->max_queued), v_text(s->args),
        v_text(s->labels));
}

/* All but the one that waits are skipped; and all, if one waits already. */
static enum err wait_behind(struct tx *tx, struct op_schedule_fire *op, int which, int64_t behind)
{
    enum err err = insert_waiting(tx, op, which, behind);
    op->waits = err == OK && db_changes(tx->db);
    if (op->waits)
        err = DB_EXECUTE(tx->db, "UPDATE invocations SET follow = follow | " SQL_FOLLOW_SCHEDULE " WHERE id = $1",
                         v_int(behind));
    op->skipped = op->count - op->waits;
    return err == OK ? note_skipped(tx, op->id, op->skipped, (struct span){NULL, 0}) : err;
}

/* What waited so far gives way to the newest. */
static enum err cancel_and_wait(struct tx *tx, struct op_schedule_fire *op, int64_t unfinished)
{
    enum err err = DB_EXECUTE(tx->db, "DELETE FROM schedule_waiting WHERE schedule = $1", v_int(op->id));
    int64_t replaced = err == OK ? db_changes(tx->db) : 0;
    if (err == OK)
        err = note_skipped(tx, op->id, replaced, (struct span){NULL, 0});
    if (err == OK)
        err = alter_cancel_one(tx, unfinished);
    if (err == OK)
        err = find_unfinished(tx, op->id, &unfinished);
    if (err != OK)
        return err;
    return unfinished ? wait_behind(tx, op, op->count - 1, unfinished) : make_all(tx, op);
}

/* The columns of one that waits, and its texts as long as the batch. */
static enum err take_waiting(struct tx *tx, int64_t behind, int64_t *schedule, int64_t *due_at,
                             struct submission *out)
{
    struct db_stmt *stmt =
        DB_QUERY(tx->db,
                 "DELETE FROM schedule_waiting WHERE behind = $1 RETURNING schedule, due_at, task, priority, "
                 "max_retries, retention_ms, timeout_ms, run_at, expires_in_ms, max_queued, args, labels",
                 v_int(behind));
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    if (err == OK) {
        *schedule = db_int(stmt, 0);
        *due_at = db_int(stmt, 1);
        *out = (struct submission){
            .task = (int)db_int(stmt, 2),
            .priority = (int)db_int(stmt, 3),
            .max_retries = (int)db_int(stmt, 4),
            .retention_ms = db_int(stmt, 5),
            .timeout_ms = db_int(stmt, 6),
            .run_at = db_int(stmt, 7),
            .expires_at = db_int(stmt, 8) ? tx->now + db_int(stmt, 8) : 0,
            .max_queued = db_int(stmt, 9),
            .args = db_is_null(stmt, 10) ? (struct span){NULL, 0} : tx_copy(tx, db_span(stmt, 10)),
            .labels = db_is_null(stmt, 11) ? (struct span){NULL, 0} : tx_copy(tx, db_span(stmt, 11)),
        };
    }
    db_reset(stmt);
    return err;
}

enum err schedule_go_on(struct tx *tx, int64_t behind)
{
    struct submission s;
    int64_t schedule, due_at;
    enum err err = take_waiting(tx, behind, &schedule, &due_at, &s);
    if (err == ERR_NOT_FOUND)
        return OK;
    return err == OK ? make_one(tx, schedule, &s, due_at) : err;
}

/* --- what is due ----------------------------------------------------------------------- */

static enum err move_times(struct tx *tx, struct op_schedule_fire *op)
{
    if (!op->moves) {
        int64_t found;
        enum err err = DB_NUMBER(tx->db, &found, 0, "SELECT id FROM schedules WHERE id = $1", v_int(op->id));
        return err == OK && !found ? ERR_NOT_FOUND : err;
    }
    enum err err = DB_EXECUTE(tx->db,
                              "UPDATE schedules SET until = $4, next_at = $5, problem = NULL "
                              "WHERE id = $1 AND version = $2 AND next_at IS NOT DISTINCT FROM $3 AND paused = 0",
                              v_int(op->id), v_int(op->version), v_time(op->believed_next), v_int(op->until),
                              v_time(op->next_at));
    return err == OK && !db_changes(tx->db) ? ERR_CONFLICT : err;
}

static enum err make_due(struct tx *tx, struct op_schedule_fire *op)
{
    int64_t unfinished = 0;
    enum err err = op->moves && op->overlap != OVERLAP_ALLOW ? find_unfinished(tx, op->id, &unfinished) : OK;
    if (err != OK)
        return err;
    if (!unfinished)
        return make_all(tx, op);
    if (op->overlap == OVERLAP_QUEUE)
        return wait_behind(tx, op, 0, unfinished);
    if (op->overlap == OVERLAP_CANCEL)
        return cancel_and_wait(tx, op, unfinished);
    op->skipped = op->count;
    return note_skipped(tx, op->id, op->count, (struct span){NULL, 0});
}

static enum err apply_fire(struct tx *tx, struct op *base)
{
    struct op_schedule_fire *op = (struct op_schedule_fire *)base;
    op->made = op->skipped = 0;
    op->waits = false;
    enum err err = move_times(tx, op);
    if (err == OK && op->count)
        err = make_due(tx, op);
    if (err == OK && (op->left_out || op->problem.p))
        err = note_skipped(tx, op->id, op->left_out, op->problem);
    return err;
}

void schedule_committed(struct store *store, struct op *op)
{
    (void)op;
    atomic_fetch_add(&store->version, 2);
}

void op_schedule_fire_init(struct op_schedule_fire *op)
{
    static const struct op_class class = {
        .name = "schedule_fire", .apply = apply_fire, .committed = schedule_committed, .several = op_is_several};
    *op = (struct op_schedule_fire){0};
    op_init(&op->op, &class);
}
