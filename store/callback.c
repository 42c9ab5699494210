#include "store/callback.h"

#include "store/internal.h"
#include "store/transition.h"

enum err callback_note(struct tx *tx, const struct callback *callback)
{
    return DB_EXECUTE(tx->db, "INSERT INTO callbacks (id, kind, url, place, made) VALUES ($1, $2, $3, $4, 0)",
                      v_int(callback->owner), v_int(callback->kind), v_text(callback->url),
                      v_text(callback->place));
}

/* A statement of its own, because a column more costs every submission that has none. */
enum err callback_note_invocation(struct tx *tx, const struct submission *s)
{
    struct callback callback = {s->id, CALLBACK_INVOCATION, s->callback, s->callback_place};
    enum err err = callback_note(tx, &callback);
    return err == OK ? DB_EXECUTE(tx->db,
                                  "UPDATE invocations SET follow = follow | " SQL_FOLLOW_CALLBACK
                                  ", flags = flags | " SQL_FLAG_CALLBACK " WHERE id = $1",
                                  v_int(s->id))
                     : err;
}

/* --- due ----------------------------------------------------------------------------- */

/* A place's line begins when the first in it is due, now, unless it rests. */
static enum err line_up(struct tx *tx, int64_t owner, int64_t n)
{
    return DB_EXECUTE(tx->db,
                      "INSERT INTO callback_places (place, next_at, silences, rest_until) "
                      "SELECT place, $3, 0, 0 FROM deliveries WHERE owner = $1 AND n = $2 "
                      "ON CONFLICT (place) DO UPDATE SET next_at = excluded.next_at "
                      "WHERE callback_places.next_at > excluded.next_at "
                      "AND callback_places.rest_until <= excluded.next_at",
                      v_int(owner), v_int(n), v_int(tx->now));
}

/* Whoever asks for it wants it now. */
static enum err rest_no_more(struct tx *tx, int64_t owner, int64_t n)
{
    return DB_EXECUTE(tx->db,
                      "UPDATE callback_places SET rest_until = 0 "
                      "WHERE place = (SELECT place FROM deliveries WHERE owner = $1 AND n = $2)",
                      v_int(owner), v_int(n));
}

static enum err make_due(struct tx *tx, const struct callback_end *end, int64_t n)
{
    enum err err = DB_EXECUTE(
        tx->db,
        "INSERT INTO deliveries (owner, n, kind, event, attempt, at, url, place, status, attempts, next_at, "
        "created_at) SELECT $1, $2, kind, $3, $4, $5, url, place, " SQL_DELIVERY_PENDING ", 0, $6, $6 "
        "FROM callbacks WHERE id = $1",
        v_int(end->owner), v_int(n), v_int(end->event), v_int(end->attempt), v_int(end->at), v_int(tx->now));
    if (err == OK && n > DELIVERIES_MAX)
        err = DB_EXECUTE(tx->db, "DELETE FROM deliveries WHERE owner = $1 AND n <= $2", v_int(end->owner),
                         v_int(n - DELIVERIES_MAX));
    if (err == OK)
        err = line_up(tx, end->owner, n);
    if (err == OK)
        tx_change(tx, end->owner, 0, 0, 0)->callback = true;
    return err;
}

enum err callback_due(struct tx *tx, const struct callback_end *end)
{
    int64_t n;
    enum err err = DB_NUMBER(tx->db, &n, 0, "UPDATE callbacks SET made = made + 1 WHERE id = $1 RETURNING made",
                             v_int(end->owner));
    return err == OK && n ? make_due(tx, end, n) : err;
}

enum err callback_due_invocation(struct tx *tx, int64_t id, enum status status)
{
    struct callback_end end = {.owner = id, .event = (int)status};
    struct db_stmt *stmt = DB_QUERY(tx->db,
                                    "SELECT i.attempt, i.finished_at FROM callbacks c "
                                    "JOIN invocations i ON i.id = c.id WHERE c.id = $1",
                                    v_int(id));
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    if (err == OK) {
        end.attempt = (int)db_int(stmt, 0);
        end.at = db_int(stmt, 1);
    }
    db_reset(stmt);
    if (err == ERR_NOT_FOUND)
        return OK;
    return err == OK ? callback_due(tx, &end) : err;
}

/* --- removal --------------------------------------------------------------------------- */

enum err callback_is_pending(struct tx *tx, int64_t owner, bool *pending)
{
    int64_t found;
    enum err err =
        DB_NUMBER(tx->db, &found, 0, "SELECT 1 FROM deliveries WHERE owner = $1 AND status = $2 LIMIT 1",
                  v_int(owner), v_int(DELIVERY_PENDING));
    *pending = found != 0;
    return err;
}

/* The line of its place is looked at when it is due (op_due). */
enum err callback_remove(struct tx *tx, int64_t owner)
{
    return DB_EXECUTE(tx->db, "DELETE FROM callbacks WHERE id = $1", v_int(owner));
}

/* --- repeating --------------------------------------------------------------------------- */

static enum err apply_repeat(struct tx *tx, struct op *base)
{
    struct op_repeat *op = (struct op_repeat *)base;
    enum err err = DB_EXECUTE(tx->db,
                              "UPDATE deliveries SET status = " SQL_DELIVERY_PENDING ", attempts = 0, "
                              "next_at = $3 WHERE owner = $1 AND n = $2",
                              v_int(op->owner), v_int(op->n), v_int(tx->now));
    if (err == OK && db_changes(tx->db) == 0)
        return ERR_NOT_FOUND;
    if (err == OK)
        err = rest_no_more(tx, op->owner, op->n);
    if (err == OK)
        err = line_up(tx, op->owner, op->n);
    if (err == OK)
        tx_change(tx, op->owner, 0, 0, 0)->callback = true;
    return err;
}

void op_repeat_init(struct op_repeat *op, int64_t owner, int n)
{
    static const struct op_class class = {.name = "repeat", .apply = apply_repeat, .several = op_is_several};
    *op = (struct op_repeat){.owner = owner, .n = n};
    op_init(&op->op, &class);
}
