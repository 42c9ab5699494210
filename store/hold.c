/* What is held: promises, and their release. Those that come after others are in
 * dependents.c. */
#include "store/holds.h"

#include "store/dependents.h"
#include "store/groups.h"
#include "store/internal.h"
#include "store/reader.h"
#include "store/transition.h"

enum { STEP_ROWS = 500 };

static bool comes_after(const struct submission *s)
{
    return s->after_count || s->after_member_count || s->is_link;
}

bool hold_is_wanted(const struct submission *s)
{
    return s->hold || s->held_by_group || comes_after(s);
}

bool hold_has_row(const struct submission *s)
{
    return s->hold || comes_after(s) || s->delay_ms || s->expires_ms;
}

bool hold_is_dependent(const struct submission *s)
{
    return comes_after(s) || s->may_have_dependents;
}

enum err hold_note(struct tx *tx, struct submission *s)
{
    struct met met = {0};
    int reasons = (s->hold || s->held_by_group ? HOLD_PROMISE : 0) | (comes_after(s) ? HOLD_DEPENDENCY : 0);
    int policy = s->after_policy ? s->after_policy : AFTER_SUCCESS;
    if (!hold_has_row(s))
        return OK;
    enum err err = dependencies_note(tx, s, &met);
    if (err == OK)
        err = DB_EXECUTE(tx->db,
                         "INSERT INTO holds (id, reasons, policy, unmet, bad, delay_ms, expires_ms, release_by) "
                         "VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                         v_int(s->id), v_int(reasons), v_int(policy), v_int(met.unmet), v_int(met.bad),
                         v_time(s->delay_ms), v_time(s->expires_ms), v_time(s->release_by));
    bool decided = reasons & HOLD_DEPENDENCY && (!met.unmet || met.bad);
    return err == OK && decided ? dependent_judge(tx, s->id, met.last) : err;
}

/* --- letting go -------------------------------------------------------------------- */

enum err hold_let_go(struct tx *tx, int64_t id, enum hold_reason reason)
{
    struct db_stmt *stmt = DB_QUERY(tx->db,
                                    "UPDATE holds SET reasons = reasons & ~$2, "
                                    "release_by = CASE WHEN $2 = 1 THEN NULL ELSE release_by END "
                                    "WHERE id = $1 AND reasons & $2 <> 0 RETURNING reasons, delay_ms, expires_ms",
                                    v_int(id), v_int(reason));
    if (!stmt)
        return ERR_DB;
    struct move_release move = {.id = id, .noted = true};
    enum err err = db_step_found(stmt);
    bool free = err == OK && db_int(stmt, 0) == 0;
    if (free) {
        move.run_at = db_int(stmt, 1) ? tx->now + db_int(stmt, 1) : 0;
        move.expires_at = db_int(stmt, 2) ? tx->now + db_int(stmt, 2) : 0;
    }
    db_reset(stmt);
    if (err == ERR_NOT_FOUND || (err == OK && !free))
        return OK;
    err = err == OK ? transition_move_release(tx, &move) : err;
    return err == ERR_CONFLICT ? OK : err; /* it is final already */
}

/* --- a client's release -------------------------------------------------------------- */

static enum err read_held(struct tx *tx, int64_t id, enum status *status, int64_t *reasons, int64_t *group)
{
    struct db_stmt *stmt = DB_QUERY(
        tx->db,
        "SELECT i.status, h.reasons, i.grp FROM invocations i LEFT JOIN holds h ON h.id = i.id WHERE i.id = $1",
        v_int(id));
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    if (err == OK) {
        *status = (enum status)db_int(stmt, 0);
        *reasons = db_is_null(stmt, 1) ? -1 : db_int(stmt, 1);
        *group = db_int(stmt, 2);
    }
    db_reset(stmt);
    return err;
}

static enum err apply_release(struct tx *tx, struct op *base)
{
    struct op_release *op = (struct op_release *)base;
    int64_t reasons, group;
    enum err err = read_held(tx, op->id, &op->status, &reasons, &group);
    if (err != OK)
        return err;
    if (op->status == STATUS_HELD && reasons < 0) /* its group alone holds it */
        return transition_move_release(tx, &(struct move_release){.id = op->id, .noted = true});
    if (op->status == STATUS_HELD && reasons & HOLD_PROMISE)
        return hold_let_go(tx, op->id, HOLD_PROMISE);
    bool was_released = reasons >= 0 && !(reasons & HOLD_PROMISE);
    return was_released && op->status != STATUS_CANCELLED ? OK : ERR_CONFLICT;
}

void op_release_init(struct op_release *op, int64_t id)
{
    static const struct op_class class = {.name = "release", .apply = apply_release, .several = op_is_several};
    *op = (struct op_release){.id = id};
    op_init(&op->op, &class);
}

/* --- not released in time --------------------------------------------------------------- */

#define NOT_RELEASED "{\"type\":\"not_released\",\"message\":\"it was not released in time\"}"

static enum err expire_one(struct tx *tx, int64_t id)
{
    enum err err = DB_EXECUTE(tx->db, "UPDATE holds SET release_by = NULL WHERE id = $1", v_int(id));
    return err == OK ? alter_cancel_as(tx, id, STATUS_BIT(STATUS_HELD), SPAN(NOT_RELEASED)) : err;
}

enum err holds_expire(struct tx *tx, struct op_upkeep *op)
{
    enum err err = OK;
    int64_t id;
    int count = 0;
    for (; count < STEP_ROWS && err == OK; count++) {
        err = DB_NUMBER(tx->db, &id, 0,
                        "SELECT id FROM holds WHERE release_by IS NOT NULL AND release_by <= $1 "
                        "ORDER BY release_by LIMIT 1",
                        v_int(op->now));
        if (err != OK || !id)
            break;
        err = expire_one(tx, id);
    }
    op->more = count == STEP_ROWS;
    int64_t next_group = 0;
    if (err == OK)
        err = groups_expire(tx, op, &next_group);
    if (err == OK)
        err = DB_NUMBER(tx->db, &op->next_at, 0,
                        "SELECT release_by FROM holds WHERE release_by IS NOT NULL ORDER BY release_by LIMIT 1");
    if (err == OK && next_group && (!op->next_at || next_group < op->next_at))
        op->next_at = next_group;
    return err;
}

enum err hold_forget(struct tx *tx, int64_t id)
{
    enum err err = DB_EXECUTE(tx->db, "DELETE FROM holds WHERE id = $1", v_int(id));
    return err == OK ? DB_EXECUTE(tx->db, "DELETE FROM dependencies WHERE id = $1", v_int(id)) : err;
}

/* --- reading ----------------------------------------------------------------------------- */

enum err reader_holds(struct reader *reader, int64_t id, unsigned *reasons)
{
    int64_t found;
    enum err err =
        DB_NUMBER(reader->db, &found, HOLD_PROMISE, "SELECT reasons FROM holds WHERE id = $1", v_int(id));
    *reasons = (unsigned)found;
    return err;
}

enum err reader_after(struct reader *reader, int64_t id, int64_t *ids, int *count)
{
    struct db_stmt *stmt =
        DB_QUERY(reader->db, "SELECT predecessor FROM dependencies WHERE id = $1 ORDER BY position LIMIT $2",
                 v_int(id), v_int(AFTER_MAX));
    if (!stmt)
        return ERR_DB;
    bool row;
    enum err err;
    *count = 0;
    while ((err = db_step(stmt, &row)) == OK && row)
        ids[(*count)++] = db_int(stmt, 0);
    db_reset(stmt);
    return err;
}
