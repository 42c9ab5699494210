#include "store/wait.h"

#include "store/follow_up.h"
#include "store/groups.h"
#include "store/internal.h"
#include "store/suspensions.h"
#include "store/transition.h"
#include "store/waits.h"

#include <stdlib.h>

enum { CYCLE_SEARCH_MAX = 10000 };

/* --- who waits for whom ------------------------------------------------------------- */

/* Whoever cannot end before this one does: those who wait for it, those who come after it, and
 * its group. */
#define ENDS_AFTER                                                                \
    "SELECT waiter FROM waits WHERE target = $1 AND timed = 0 "                   \
    "UNION ALL SELECT id FROM dependencies WHERE predecessor = $1 AND state = 0 " \
    "UNION ALL SELECT grp FROM invocations WHERE id = $1 AND grp IS NOT NULL"

/* Ids, each once, in the order in which they came. */
struct ids {
    int64_t *items;
    int count, cap;
};

static void ids_add(struct ids *ids, int64_t id)
{
    for (int i = 0; i < ids->count; i++)
        if (ids->items[i] == id)
            return;
    if (ids->count == ids->cap) {
        ids->cap = ids->cap ? ids->cap * 2 : 16;
        ids->items = xrealloc(ids->items, (size_t)ids->cap * sizeof *ids->items);
    }
    ids->items[ids->count++] = id;
}

static enum err add_waiters(struct tx *tx, int64_t target, struct ids *ids)
{
    struct db_stmt *stmt = DB_QUERY(tx->db, ENDS_AFTER, v_int(target));
    if (!stmt)
        return ERR_DB;
    bool row;
    enum err err;
    while ((err = db_step(stmt, &row)) == OK && row && ids->count < CYCLE_SEARCH_MAX)
        ids_add(ids, db_int(stmt, 0));
    db_reset(stmt);
    return err;
}

/* Upwards through those who wait for the waiter: is one of its targets there?
 * More of them than can be looked at are no circle. */
static enum err check_cycle(struct tx *tx, int64_t waiter, struct wait_for *on)
{
    struct ids above = {0};
    enum err err = OK;
    ids_add(&above, waiter);
    for (int i = 0; i < above.count && err == OK; i++) {
        for (int k = 0; k < on->count && err == OK; k++)
            if (on->ids[k] == above.items[i]) {
                on->bad = on->ids[k];
                err = ERR_INVALID;
            }
        if (err == OK)
            err = add_waiters(tx, above.items[i], &above);
    }
    free(above.items);
    return err;
}

/* --- waiting ------------------------------------------------------------------------- */

/* A group that has not ended is as running; nobody goes ahead for it. */
static enum err read_group(struct tx *tx, int64_t id, struct wait_target *out)
{
    int64_t state;
    enum err err = DB_NUMBER(tx->db, &state, GROUP_IS_GONE, "SELECT state FROM groups WHERE id = $1", v_int(id));
    *out = (struct wait_target){.id = id,
                                .status = state & GROUP_HAS_ENDED ? STATUS_SUCCEEDED : STATUS_RUNNING,
                                .rank = INT64_MIN,
                                .is_group = true};
    return err == OK && state & GROUP_IS_GONE ? ERR_NOT_FOUND : err;
}

static enum err read_target(struct tx *tx, int64_t id, struct wait_target *out)
{
    struct db_stmt *stmt = DB_QUERY(
        tx->db,
        "SELECT status, priority, COALESCE(rank, id) FROM invocations WHERE id = $1 AND NOT (" SQL_IS_BEING_MADE
        ")",
        v_int(id));
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    if (err == OK)
        *out = (struct wait_target){.id = id,
                                    .status = (enum status)db_int(stmt, 0),
                                    .priority = (int)db_int(stmt, 1),
                                    .rank = db_int(stmt, 2)};
    db_reset(stmt);
    return err == ERR_NOT_FOUND ? read_group(tx, id, out) : err;
}

/* ERR_CONFLICT: it is not the turn's, or not running. */
static enum err read_waiter(struct tx *tx, const struct op_wait *op, int64_t *priority, enum status *status)
{
    struct db_stmt *stmt = DB_QUERY(
        tx->db, "SELECT priority, status FROM invocations WHERE id = $1 AND lease = $2 AND status " SQL_IN_TURN,
        v_int(op->turn.turn.id), v_int(op->turn.turn.lease));
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    if (err == OK) {
        *priority = db_int(stmt, 0);
        *status = (enum status)db_int(stmt, 1);
    }
    db_reset(stmt);
    bool other = err == OK && *status == STATUS_WAITING && !op->again;
    return other || err == ERR_NOT_FOUND ? ERR_CONFLICT : err;
}

/* The row is queued: it goes ahead, and whoever hears of changes gets it anew. */
static enum err move_ahead(struct tx *tx, const struct wait_target *target, int64_t priority)
{
    return transition_move_due(tx, &(struct move_due){.id = target->id,
                                                      .from = STATUS_QUEUED,
                                                      .to = STATUS_QUEUED,
                                                      .ahead = true,
                                                      .old_priority = target->priority,
                                                      .old_rank = target->rank,
                                                      .priority = (int)priority});
}

/* It is not queued: it will go ahead when it is. */
static enum err come_ahead(struct tx *tx, const struct wait_target *target, int64_t priority)
{
    return DB_EXECUTE(tx->db, "UPDATE invocations SET priority = $3, rank = -id WHERE id = $1 AND status = $2",
                      v_int(target->id), v_int(target->status), v_int(priority));
}

static enum err wait_for_one(struct tx *tx, int64_t waiter, const struct wait_target *target, int64_t priority,
                             bool timed)
{
    if (target->priority < priority)
        priority = target->priority;
    enum err err = DB_EXECUTE(tx->db, "INSERT INTO waits (waiter, target, ended, timed) VALUES ($1, $2, 0, $3)",
                              v_int(waiter), v_int(target->id), v_int(timed));
    if (err == OK && target->is_group) /* its end looks for them */
        return OK;
    if (err == OK)
        err = DB_EXECUTE(tx->db,
                         "UPDATE invocations SET follow = follow | " SQL_FOLLOW_WAITED " "
                         "WHERE id = $1 AND follow & " SQL_FOLLOW_WAITED " = 0",
                         v_int(target->id));
    bool ahead = target->rank < 0 && target->priority <= priority;
    if (err != OK || ahead)
        return err;
    return target->status == STATUS_QUEUED ? move_ahead(tx, target, priority) : come_ahead(tx, target, priority);
}

enum err wait_look(struct tx *tx, struct wait_for *on)
{
    enum err err = OK;
    on->left = 0;
    for (int i = 0; i < on->count && err == OK; i++) {
        err = read_target(tx, on->ids[i], &on->targets[on->left]);
        if (err == ERR_NOT_FOUND)
            on->bad = on->ids[i];
        on->left += err == OK && !status_is_final(on->targets[on->left].status);
    }
    on->met = on->any ? on->left < on->count : on->left == 0;
    return err;
}

enum err wait_register(struct tx *tx, int64_t waiter, struct wait_for *on, int64_t priority)
{
    enum err err = on->timed ? OK : check_cycle(tx, waiter, on);
    for (int i = 0; i < on->left && err == OK; i++)
        err = wait_for_one(tx, waiter, &on->targets[i], priority, on->timed);
    for (int i = 0; i < on->count && on->left < on->count && err == OK; i++) /* kept, and perhaps retried */
        err = DB_EXECUTE(tx->db,
                         "INSERT INTO waits (waiter, target, ended, timed) VALUES ($1, $2, 1, $3) "
                         "ON CONFLICT (waiter, target) DO NOTHING",
                         v_int(waiter), v_int(on->ids[i]), v_int(on->timed));
    return err;
}

static enum err apply_wait(struct tx *tx, struct op *base)
{
    struct op_wait *op = (struct op_wait *)base;
    const struct turn *turn = &op->turn.turn;
    struct wait_for on = {.ids = op->ids, .count = op->count, .any = op->any, .timed = op->timed};
    int64_t priority;
    enum status status;
    if (op->count > WAIT_IDS_MAX)
        return ERR_LIMIT;
    enum err err = read_waiter(tx, op, &priority, &status);
    if (err == OK && status == STATUS_WAITING)
        err = transition_move_wait(
            tx, &(struct move_wait){.turn = turn, .from = STATUS_WAITING, .to = STATUS_RUNNING});
    if (err == OK)
        err = wait_look(tx, &on);
    if (err == OK && op->inbox && !on.met)
        err = messages_unread(tx, turn->id, op->after_seq, &on.met);
    op->met = on.met;
    if (err == OK && !on.met)
        err = wait_register(tx, turn->id, &on, priority);
    op->bad = on.bad;
    if (err != OK || on.met)
        return err;
    return transition_move_wait(
        tx,
        &(struct move_wait){.turn = turn, .from = STATUS_RUNNING, .to = STATUS_WAITING, .left = wait_left(&on)});
}

void op_wait_init(struct op_wait *op, const struct turn *turn)
{
    static const struct op_class class = {
        .name = "wait", .apply = apply_wait, .several = op_is_several, .turn = TURN_GOES_ON};
    *op = (struct op_wait){.turn.turn = *turn};
    op_init(&op->turn.op, &class);
}

/* --- going on ---------------------------------------------------------------------------- */

static enum err apply_resume(struct tx *tx, struct op *base)
{
    struct op_resume *op = (struct op_resume *)base;
    return transition_move_wait(
        tx, &(struct move_wait){.turn = &op->turn.turn, .from = STATUS_WAITING, .to = STATUS_RUNNING});
}

void op_resume_init(struct op_resume *op, const struct turn *turn)
{
    static const struct op_class class = {.name = "resume",
                                          .apply = apply_resume,
                                          .several = op_is_several,
                                          .turn = TURN_GOES_ON,
                                          .keep = true,
                                          .patient = true};
    *op = (struct op_resume){.turn.turn = *turn};
    op_init(&op->turn.op, &class);
}

/* --- waking -------------------------------------------------------------------------------- */

/* One of what it waits for has ended. Who has suspended is queued, whoever waits
 * in place hears of it. */
static enum err wake_one(struct tx *tx, int64_t waiter, int64_t target)
{
    enum err err = DB_EXECUTE(tx->db, "UPDATE waits SET ended = 1 WHERE waiter = $1 AND target = $2",
                              v_int(waiter), v_int(target));
    if (err != OK)
        return err;
    struct db_stmt *stmt = DB_QUERY(tx->db,
                                    "UPDATE invocations SET waits_left = waits_left - 1 WHERE id = $1 "
                                    "AND status = " SQL_WAITING " AND waits_left > 0 "
                                    "RETURNING waits_left, task, lease",
                                    v_int(waiter));
    if (!stmt)
        return ERR_DB;
    bool row;
    err = db_step(stmt, &row);
    bool woken = err == OK && row && db_int(stmt, 0) == 0;
    bool in_place = woken && !db_is_null(stmt, 2);
    int task = woken ? (int)db_int(stmt, 1) : 0;
    db_reset(stmt);
    if (in_place)
        tx_change(tx, waiter, task, STATUS_WAITING, STATUS_WAITING)->woken = true;
    return woken && !in_place ? suspension_wake(tx, waiter, WOKEN_BY_IDS) : err;
}

enum err wait_wake(struct tx *tx, int64_t target, struct follow_up_room *room, bool *left)
{
    enum err err = OK;
    *left = false;
    while (err == OK) {
        int64_t waiter;
        err = DB_NUMBER(tx->db, &waiter, 0, "SELECT waiter FROM waits WHERE target = $1 AND ended = 0 LIMIT 1",
                        v_int(target));
        if (err != OK || !waiter)
            break;
        *left = room->rows-- <= 0;
        if (*left)
            break;
        err = wake_one(tx, waiter, target);
    }
    return err;
}

enum err wait_wake_rest(struct tx *tx, int64_t target, struct follow_up_room *room, bool *left)
{
    int64_t status;
    *left = false;
    enum err err = DB_NUMBER(tx->db, &status, 0,
                             "SELECT status FROM invocations WHERE id = $1 UNION ALL SELECT CASE WHEN state "
                             "& " SQL_GROUP_ENDED " <> 0 THEN " SQL_SUCCEEDED " END FROM groups WHERE id = $1",
                             v_int(target));
    return err == OK && status_is_final((enum status)status) ? wait_wake(tx, target, room, left) : err;
}

/* Who was woken already stays so. */
enum err wait_again(struct tx *tx, int64_t target)
{
    enum err err =
        DB_EXECUTE(tx->db,
                   "UPDATE invocations SET waits_left = waits_left + 1 WHERE status = " SQL_WAITING
                   " AND waits_left > 0 AND id IN (SELECT waiter FROM waits WHERE target = $1 AND ended = 1)",
                   v_int(target));
    if (err == OK && db_changes(tx->db))
        err = DB_EXECUTE(tx->db, "UPDATE waits SET ended = 0 WHERE target = $1 AND ended = 1", v_int(target));
    if (err == OK) /* the end took the bit away, and not all were woken yet, perhaps */
        err = DB_EXECUTE(tx->db,
                         "UPDATE invocations SET follow = follow | " SQL_FOLLOW_WAITED " WHERE id = $1 "
                         "AND EXISTS (SELECT 1 FROM waits WHERE target = $1)",
                         v_int(target));
    return err;
}
