#include "store/suspend.h"

#include "base/id.h"
#include "store/holds.h"
#include "store/internal.h"
#include "store/reader.h"
#include "store/suspensions.h"
#include "store/transition.h"
#include "store/waits.h"

enum { WAKE_ROWS = 500 };

/* --- what is kept for it ------------------------------------------------------------- */

enum err suspension_keeps_no_more(struct tx *tx, int64_t waiter)
{
    return DB_EXECUTE(tx->db, "DELETE FROM results_kept WHERE waiter = $1", v_int(waiter));
}

enum err result_is_kept(struct tx *tx, int64_t target, bool *kept)
{
    int64_t found;
    enum err err = DB_NUMBER(tx->db, &found, 0,
                             "SELECT 1 FROM results_kept WHERE target = $1 UNION ALL "
                             "SELECT 1 FROM waits WHERE target = $1 LIMIT 1",
                             v_int(target));
    *kept = found != 0;
    return err == OK && !*kept ? dependents_keep(tx, target, kept) : err;
}

/* --- suspending ---------------------------------------------------------------------- */

/* The turn as its row has it. */
struct turning {
    enum status status;
    int priority;
    unsigned follow;
    int64_t retention_ms;
};

static enum err read_turning(struct tx *tx, const struct turn *turn, struct turning *out)
{
    struct db_stmt *stmt =
        DB_QUERY(tx->db, "SELECT status, priority, follow, retention_ms FROM invocations WHERE " SQL_UNDER_WAY,
                 v_int(turn->id), v_int(turn->lease));
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    if (err == OK)
        *out = (struct turning){(enum status)db_int(stmt, 0), (int)db_int(stmt, 1), (unsigned)db_int(stmt, 2),
                                db_int(stmt, 3)};
    db_reset(stmt);
    return err;
}

enum err suspension_was_by(struct tx *tx, const struct turn *turn)
{
    int64_t found;
    enum err err = DB_NUMBER(tx->db, &found, 0, "SELECT 1 FROM suspensions WHERE id = $1 AND lease = $2",
                             v_int(turn->id), v_int(turn->lease));
    return err == OK && !found ? ERR_CONFLICT : err;
}

static enum err end_cancelled(struct tx *tx, const struct op_suspend *op, int64_t retention_ms)
{
    struct op_finish finish;
    op_finish_init(&finish, &op->turn.turn);
    finish.next = FINISH_FINAL;
    finish.status = STATUS_CANCELLED;
    finish.retention_ms = retention_ms;
    finish.finished_at = tx->now;
    return transition_end(tx, &finish);
}

static void add_targets(struct buf *out, const struct suspension *on)
{
    for (int i = 0; i < on->count; i++) {
        if (i)
            buf_addc(out, ',');
        id_add(out, on->ids[i]);
    }
}

/* What the turn was given of the inbox is read, now that it has ended well. */
static enum err read_inbox(struct tx *tx, const struct op_suspend *op)
{
    int64_t id = op->turn.turn.id, given = op->read_up_to;
    enum err err = given
                       ? OK
                       : DB_NUMBER(tx->db, &given, 0,
                                   "SELECT given FROM suspensions WHERE id = $1 AND given IS NOT NULL", v_int(id));
    if (err == OK && given)
        err = DB_EXECUTE(tx->db,
                         "UPDATE invocations SET inbox_read = $2 WHERE id = $1 AND COALESCE(inbox_read, 0) < $2",
                         v_int(id), v_int(given));
    return err;
}

static enum err save(struct tx *tx, const struct op_suspend *op)
{
    const struct suspension *on = &op->on;
    int64_t id = op->turn.turn.id;
    struct buf targets = {0};
    add_targets(&targets, on);
    enum err err = DB_EXECUTE(
        tx->db,
        "INSERT INTO suspensions (id, turns, lease, targets, inbox, wakes_at) VALUES ($1, 1, $2, $3, $4, $5) "
        "ON CONFLICT (id) DO UPDATE SET turns = suspensions.turns + 1, lease = excluded.lease, "
        "targets = excluded.targets, inbox = excluded.inbox, wakes_at = excluded.wakes_at, "
        "woken_by = NULL, given = NULL",
        v_int(id), v_int(op->turn.turn.lease), v_text(on->count ? buf_span(&targets) : (struct span){NULL, 0}),
        v_int(on->inbox), v_time(on->until));
    buf_release(&targets);
    if (err == OK)
        err = on->state.p ? insert_payload(tx, id, PAYLOAD_STATE, on->state)
                          : DB_EXECUTE(tx->db, "DELETE FROM payloads WHERE id = $1 AND kind = $2", v_int(id),
                                       v_int(PAYLOAD_STATE));
    return err;
}

/* Its next turn gets them all, whatever wakes it, and so does one that repeats it. */
static enum err keep_results(struct tx *tx, int64_t id, const struct suspension *on)
{
    enum err err = suspension_keeps_no_more(tx, id);
    for (int i = 0; i < on->count && err == OK; i++)
        err = DB_EXECUTE(tx->db, "INSERT INTO results_kept (waiter, target) VALUES ($1, $2)", v_int(id),
                         v_int(on->ids[i]));
    return err;
}

/* Something may be there already. */
static enum err look_at_once(struct tx *tx, const struct op_suspend *op, const struct wait_for *ends)
{
    int64_t id = op->turn.turn.id;
    bool unread = false;
    enum err err = op->on.inbox ? messages_unread(tx, id, 0, &unread) : OK;
    enum woken_by by = ends->count && ends->met                  ? WOKEN_BY_IDS
                       : unread                                  ? WOKEN_BY_INBOX
                       : op->on.until && op->on.until <= tx->now ? WOKEN_BY_UNTIL
                                                                 : WOKEN_BY_NOTHING;
    return err == OK && by ? suspension_wake(tx, id, by) : err;
}

static enum err suspend(struct tx *tx, struct op_suspend *op, const struct turning *turning)
{
    const struct turn *turn = &op->turn.turn;
    struct wait_for ends = {
        .ids = op->on.ids, .count = op->on.count, .any = op->on.any, .timed = op->on.inbox || op->on.until};
    enum err err = wait_look(tx, &ends);
    bool waits = ends.count && !ends.met;
    if (err == OK)
        err = messages_take_given(tx, turn);
    if (err == OK)
        err = transition_move_suspend(tx, &(struct move_suspend){.turn = turn,
                                                                 .from = turning->status,
                                                                 .left = waits ? wait_left(&ends) : 0,
                                                                 .wakes_at = op->on.until});
    if (err == OK && waits)
        err = wait_register(tx, turn->id, &ends, turning->priority);
    if (err == OK)
        err = read_inbox(tx, op);
    if (err == OK)
        err = save(tx, op);
    if (err == OK)
        err = keep_results(tx, turn->id, &op->on);
    op->bad = ends.bad;
    return err == OK ? look_at_once(tx, op, &ends) : err;
}

static enum err apply_suspend(struct tx *tx, struct op *base)
{
    struct op_suspend *op = (struct op_suspend *)base;
    struct turning turning;
    if (op->on.count > WAIT_IDS_MAX)
        return ERR_LIMIT;
    enum err err = read_turning(tx, &op->turn.turn, &turning);
    if (err == ERR_NOT_FOUND)
        return suspension_was_by(tx, &op->turn.turn);
    if (err != OK)
        return err;
    return turning.follow & FOLLOW_CANCEL ? end_cancelled(tx, op, turning.retention_ms)
                                          : suspend(tx, op, &turning);
}

void op_suspend_init(struct op_suspend *op, const struct turn *turn)
{
    static const struct op_class class = {
        .name = "suspend", .apply = apply_suspend, .several = op_is_several, .turn = TURN_GOES_ON};
    *op = (struct op_suspend){.turn.turn = *turn};
    op_init(&op->turn.op, &class);
}

/* --- waking -------------------------------------------------------------------------- */

enum err suspension_wake(struct tx *tx, int64_t id, enum woken_by by)
{
    enum err err = transition_move_wake(tx, id);
    return err == OK ? DB_EXECUTE(tx->db, "UPDATE suspensions SET woken_by = $2, wakes_at = NULL WHERE id = $1",
                                  v_int(id), v_int(by))
                     : err;
}

enum err suspension_message(struct tx *tx, int64_t id)
{
    int64_t waits;
    enum err err = DB_NUMBER(tx->db, &waits, 0,
                             "SELECT 1 FROM suspensions s JOIN invocations i ON i.id = s.id "
                             "WHERE s.id = $1 AND s.inbox = 1 AND i.status = " SQL_WAITING " AND i.lease IS NULL",
                             v_int(id));
    return err == OK && waits ? suspension_wake(tx, id, WOKEN_BY_INBOX) : err;
}

/* The oldest of what is unread, as much as has room; the first always has. (A
 * text's length is in characters: the bytes may be a few times as many.) */
static enum err last_with_room(struct tx *tx, int64_t id, int64_t *last)
{
    struct db_stmt *stmt =
        DB_QUERY(tx->db,
                 "SELECT seq, LENGTH(body) FROM messages WHERE id = " SQL_INBOX_OF " AND kind = " SQL_MESSAGE_IN
                 " AND seq > (SELECT COALESCE(inbox_read, 0) FROM invocations WHERE id = $1) "
                 "ORDER BY seq LIMIT $2",
                 v_int(id), v_int(UNREAD_MAX));
    if (!stmt)
        return ERR_DB;
    int64_t length = 0;
    bool row;
    enum err err = OK;
    *last = 0;
    while (length < WOKEN_MESSAGES_BYTES && (err = db_step(stmt, &row)) == OK && row) {
        *last = db_int(stmt, 0);
        length += db_int(stmt, 1);
    }
    db_reset(stmt);
    return err;
}

/* What nothing woke (it was cancelled, and retried) is given nothing. */
enum err suspension_given(struct tx *tx, int64_t id)
{
    int64_t last;
    enum err err = last_with_room(tx, id, &last);
    return err == OK
               ? DB_EXECUTE(tx->db, "UPDATE suspensions SET given = $2 WHERE id = $1 AND woken_by IS NOT NULL",
                            v_int(id), v_time(last))
               : err;
}

enum err suspension_forget(struct tx *tx, int64_t id)
{
    enum err err = DB_EXECUTE(tx->db, "DELETE FROM suspensions WHERE id = $1", v_int(id));
    if (err == OK)
        err = DB_EXECUTE(tx->db, "DELETE FROM payloads WHERE id = $1 AND kind = $2", v_int(id),
                         v_int(PAYLOAD_STATE));
    if (err == OK)
        err = DB_EXECUTE(tx->db, "UPDATE invocations SET flags = flags & ~" SQL_FLAG_SUSPENDED " WHERE id = $1",
                         v_int(id));
    return err;
}

static enum err collect_due(struct tx *tx, int64_t *ids, int *count)
{
    struct db_stmt *stmt = DB_QUERY(
        tx->db,
        "SELECT id FROM suspensions WHERE wakes_at IS NOT NULL AND wakes_at <= $1 ORDER BY wakes_at LIMIT $2",
        v_int(tx->now), v_int(WAKE_ROWS));
    if (!stmt)
        return ERR_DB;
    bool row;
    enum err err;
    while ((err = db_step(stmt, &row)) == OK && row)
        ids[(*count)++] = db_int(stmt, 0);
    db_reset(stmt);
    return err;
}

/* One that was cancelled meanwhile has its time still, and nothing to wake. */
static enum err wake_due(struct tx *tx, int64_t id)
{
    enum err err = suspension_wake(tx, id, WOKEN_BY_UNTIL);
    return err == ERR_CONFLICT
               ? DB_EXECUTE(tx->db, "UPDATE suspensions SET wakes_at = NULL WHERE id = $1", v_int(id))
               : err;
}

enum err suspensions_wake_due(struct tx *tx, struct op_upkeep *op)
{
    int64_t ids[WAKE_ROWS];
    int count = 0;
    enum err err = collect_due(tx, ids, &count);
    for (int i = 0; i < count && err == OK; i++)
        err = wake_due(tx, ids[i]);
    op->more = count == WAKE_ROWS;
    if (err == OK)
        err = DB_NUMBER(tx->db, &op->next_at, 0,
                        "SELECT wakes_at FROM suspensions WHERE wakes_at IS NOT NULL ORDER BY wakes_at LIMIT 1");
    return err;
}

/* --- reading ------------------------------------------------------------------------- */

enum err reader_suspended(struct reader *reader, int64_t id, struct suspended *out)
{
    struct db_stmt *stmt = DB_QUERY(
        reader->db, "SELECT turns, lease, wakes_at, woken_by, given, targets FROM suspensions WHERE id = $1",
        v_int(id));
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    if (err == OK) {
        reader->targets.len = 0;
        buf_add_span(&reader->targets, db_span(stmt, 5));
        *out = (struct suspended){.turns = (int)db_int(stmt, 0),
                                  .lease = db_int(stmt, 1),
                                  .wakes_at = db_int(stmt, 2),
                                  .by = (enum woken_by)db_int(stmt, 3),
                                  .given = db_int(stmt, 4),
                                  .targets =
                                      db_is_null(stmt, 5) ? (struct span){NULL, 0} : buf_span(&reader->targets)};
    }
    db_reset(stmt);
    return err;
}

enum err reader_state(struct reader *reader, int64_t id, struct buf *state)
{
    return reader_payload(reader, id, PAYLOAD_STATE, state);
}
