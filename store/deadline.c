#include "store/deadline.h"

#include "store/internal.h"
#include "store/reader.h"
#include "store/transition.h"

#include "base/id.h"

enum { STEP_ROWS = 500 };

enum err deadline_inherit(struct tx *tx, struct submission *s)
{
    int64_t at;
    enum err err = DB_NUMBER(tx->db, &at, 0, "SELECT at FROM deadlines WHERE id = $1", v_int(s->parent));
    if (err != OK || !at)
        return err;
    if (!s->particulars)
        s->particulars = particulars_new();
    int64_t *own = &s->particulars->deadline_at;
    *own = *own && *own < at ? *own : at;
    return OK;
}

enum err deadline_note(struct tx *tx, const struct submission *s)
{
    int64_t at = s->particulars->deadline_at, for_ms = at - tx->now;
    if (!at)
        return DB_EXECUTE(tx->db, "DELETE FROM deadlines WHERE id = $1", v_int(s->id));
    return DB_EXECUTE(tx->db,
                      "INSERT INTO deadlines (id, at, for_ms, open) VALUES ($1, $2, $3, 1) ON CONFLICT (id) "
                      "DO UPDATE SET at = excluded.at, for_ms = excluded.for_ms, open = 1",
                      v_int(s->id), v_int(at), v_int(for_ms > 0 ? for_ms : 1));
}

enum err deadline_renew(struct tx *tx, int64_t id, int64_t *at)
{
    return DB_NUMBER(tx->db, at, 0, "UPDATE deadlines SET at = $2 + for_ms, open = 1 WHERE id = $1 RETURNING at",
                     v_int(id), v_int(tx->now));
}

enum err reader_deadline(struct reader *reader, int64_t id, int64_t *at)
{
    return DB_NUMBER(reader->db, at, 0, "SELECT at FROM deadlines WHERE id = $1", v_int(id));
}

/* --- when its time has come ----------------------------------------------------------- */

struct late {
    int64_t id, retention_ms, rank;
    int task, priority;
    enum status status;
    bool has_turn;
};

static enum err collect(struct tx *tx, struct late *late, int *count)
{
    struct db_stmt *stmt = DB_QUERY(
        tx->db,
        "SELECT d.id, i.task, i.status, i.priority, i.retention_ms, COALESCE(i.rank, i.id), i.lease IS NOT NULL "
        "FROM deadlines d CROSS JOIN invocations i WHERE d.open = 1 AND d.at <= $1 AND i.id = d.id "
        "ORDER BY d.at LIMIT $2",
        v_int(tx->now), v_int(STEP_ROWS));
    if (!stmt)
        return ERR_DB;
    bool row;
    enum err err;
    *count = 0;
    while ((err = db_step(stmt, &row)) == OK && row) {
        enum status status = (enum status)db_int(stmt, 2);
        late[(*count)++] =
            (struct late){.id = db_int(stmt, 0),
                          .task = (int)db_int(stmt, 1),
                          .status = status,
                          .priority = (int)db_int(stmt, 3),
                          .retention_ms = db_int(stmt, 4),
                          .rank = db_int(stmt, 5),
                          .has_turn = status == STATUS_RUNNING || (status == STATUS_WAITING && db_int(stmt, 6))};
    }
    db_reset(stmt);
    return err;
}

/* One that somebody has cancelled ends as cancelled. */
static enum err stop_turn(struct tx *tx, const struct late *late)
{
    enum err err = DB_EXECUTE(tx->db,
                              "UPDATE invocations SET cancel_requested_at = COALESCE(cancel_requested_at, $2), "
                              "follow = follow | " SQL_FOLLOW_CANCEL " | " SQL_FOLLOW_DEADLINE " "
                              "WHERE id = $1 AND status = $3 AND follow & " SQL_FOLLOW_CANCEL " = 0",
                              v_int(late->id), v_int(tx->now), v_int(late->status));
    if (err == OK && db_changes(tx->db))
        tx_change(tx, late->id, late->task, late->status, late->status)->cancel = true;
    return err;
}

static enum err fail(struct tx *tx, const struct late *late)
{
    return transition_move_final(tx, &(struct move_final){.id = late->id,
                                                          .task = late->task,
                                                          .from = late->status,
                                                          .to = STATUS_FAILED,
                                                          .old_priority = late->priority,
                                                          .old_rank = late->rank,
                                                          .retention_ms = late->retention_ms,
                                                          .is_late = true,
                                                          .error = SPAN(DEADLINE_ERROR),
                                                          .error_type = SPAN("deadline")});
}

static enum err meet(struct tx *tx, const struct late *late)
{
    enum err err = DB_EXECUTE(tx->db, "UPDATE deadlines SET open = 0 WHERE id = $1", v_int(late->id));
    if (err != OK || status_is_final(late->status))
        return err;
    return late->has_turn ? stop_turn(tx, late) : fail(tx, late);
}

enum err deadlines_meet(struct tx *tx, struct op_upkeep *op)
{
    struct late late[STEP_ROWS];
    int count = 0;
    enum err err = collect(tx, late, &count);
    for (int i = 0; i < count && err == OK; i++)
        err = meet(tx, &late[i]);
    op->more = count == STEP_ROWS;
    return err == OK ? DB_NUMBER(tx->db, &op->next_at, 0,
                                 "SELECT at FROM deadlines WHERE open = 1 AND at > 0 ORDER BY at LIMIT 1")
                     : err;
}
