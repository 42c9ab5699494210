/* Those that come after others: they learn of each end once, by their own row of
 * `dependencies`, and are judged when all are met, or one is bad. */
#include "store/dependents.h"

#include "store/groups.h"
#include "store/internal.h"
#include "store/transition.h"

#include "base/id.h"

/* --- noting ---------------------------------------------------------------------------- */

static enum err note_one(struct tx *tx, int64_t id, int position, int64_t predecessor, bool final)
{
    enum err err =
        DB_EXECUTE(tx->db, "INSERT INTO dependencies (id, position, predecessor, state) VALUES ($1, $2, $3, $4)",
                   v_int(id), v_int(position), v_int(predecessor), v_int(final));
    return err == OK && !final ? DB_EXECUTE(tx->db,
                                            "UPDATE invocations SET follow = follow | " SQL_FOLLOW_DEPENDENT
                                            " WHERE id = $1 AND follow & " SQL_FOLLOW_DEPENDENT " = 0",
                                            v_int(predecessor))
                               : err;
}

static bool is_bad(int64_t status)
{
    return status == STATUS_FAILED || status == STATUS_CANCELLED;
}

static enum err status_of(struct tx *tx, int64_t id, int64_t *status)
{
    return DB_NUMBER(tx->db, status, 0, "SELECT status FROM invocations WHERE id = $1", v_int(id));
}

enum err dependencies_check(struct tx *tx, struct submission *s)
{
    enum err err = OK;
    int64_t status = 1;
    for (int i = 0; i < s->after_count && err == OK && status; i++) {
        err = DB_NUMBER(tx->db, &status, 0,
                        "SELECT status FROM invocations WHERE id = $1 AND NOT (" SQL_IS_BEING_MADE ")",
                        v_int(s->after[i]));
        s->missing = status ? 0 : s->after[i];
    }
    return err == OK && !status ? ERR_NOT_FOUND : err;
}

static enum err note_after(struct tx *tx, const struct submission *s, int position, struct met *met)
{
    int64_t status, predecessor = s->after[position];
    enum err err = status_of(tx, predecessor, &status);
    bool final = status_is_final((enum status)status);
    met->unmet += !final;
    met->bad += is_bad(status);
    met->last = is_bad(status) ? predecessor : met->last;
    return err == OK ? note_one(tx, s->id, position, predecessor, final) : err;
}

/* Of its own group they may still be to come; their rows say that they have dependents. */
static enum err note_member(struct tx *tx, const struct submission *s, int which, int index, struct met *met)
{
    met->unmet++;
    return DB_EXECUTE(tx->db, "INSERT INTO dependencies (id, position, predecessor, state) VALUES ($1, $2, $3, 0)",
                      v_int(s->id), v_int(s->after_count + which), v_int(s->member_ids[index]));
}

enum err dependencies_note(struct tx *tx, const struct submission *s, struct met *met)
{
    enum err err = OK;
    for (int i = 0; i < s->after_count && err == OK; i++)
        err = note_after(tx, s, i, met);
    for (int i = 0; i < s->after_member_count && err == OK; i++)
        err = note_member(tx, s, i, s->after_members[i], met);
    return err == OK && s->is_link ? note_member(tx, s, s->after_member_count, s->index - 1, met) : err;
}

/* --- judging ----------------------------------------------------------------------------- */

struct held {
    int64_t reasons, unmet, bad;
    enum after_policy policy;
};

/* ERR_NOT_FOUND: it is not held. */
static enum err read_held(struct tx *tx, int64_t id, struct held *out)
{
    struct db_stmt *stmt = DB_QUERY(tx->db,
                                    "SELECT h.reasons, h.unmet, h.bad, h.policy FROM holds h "
                                    "JOIN invocations i ON i.id = h.id WHERE h.id = $1 AND i.status = " SQL_HELD,
                                    v_int(id));
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    if (err == OK)
        *out =
            (struct held){db_int(stmt, 0), db_int(stmt, 1), db_int(stmt, 2), (enum after_policy)db_int(stmt, 3)};
    db_reset(stmt);
    return err;
}

enum verdict { WAITS_ON, GOES_ON, IS_CANCELLED };

static enum verdict judge(enum after_policy policy, int64_t unmet, int64_t bad)
{
    switch (policy) {
    case AFTER_SUCCESS: return bad ? IS_CANCELLED : unmet ? WAITS_ON : GOES_ON;
    case AFTER_ANY: return unmet ? WAITS_ON : GOES_ON;
    case AFTER_FAILURE: return unmet ? WAITS_ON : bad ? GOES_ON : IS_CANCELLED;
    }
    return WAITS_ON;
}

static enum err cancel(struct tx *tx, int64_t id, enum after_policy policy, int64_t predecessor)
{
    char name[ID_TEXT_LEN];
    struct buf error = {0};
    id_format(predecessor, name);
    if (policy == AFTER_FAILURE)
        buf_adds(&error, "{\"type\":\"dependency\",\"message\":\"all that it comes after has succeeded\"}");
    else
        buf_addf(&error,
                 "{\"type\":\"dependency\",\"message\":\"%.*s, which it comes after, did not succeed\","
                 "\"invocation\":\"%.*s\"}",
                 ID_TEXT_LEN, name, ID_TEXT_LEN, name);
    enum err err = DB_EXECUTE(tx->db, "UPDATE holds SET cancelled_by = $2, release_by = NULL WHERE id = $1",
                              v_int(id), v_int(policy == AFTER_FAILURE ? 0 : predecessor));
    if (err == OK)
        err = alter_cancel_as(tx, id, STATUS_BIT(STATUS_HELD), buf_span(&error));
    buf_release(&error);
    return err;
}

enum err dependent_judge(struct tx *tx, int64_t id, int64_t predecessor)
{
    struct held held;
    enum err err = read_held(tx, id, &held);
    if (err == ERR_NOT_FOUND || (err == OK && !(held.reasons & HOLD_DEPENDENCY)))
        return OK;
    if (err != OK)
        return err;
    switch (judge(held.policy, held.unmet, held.bad)) {
    case WAITS_ON: return OK;
    case GOES_ON: return hold_let_go(tx, id, HOLD_DEPENDENCY);
    case IS_CANCELLED: return cancel(tx, id, held.policy, predecessor);
    }
    return OK;
}

/* --- an end -------------------------------------------------------------------------------- */

static enum err tell_one(struct tx *tx, int64_t id, int64_t dependent, bool bad)
{
    enum err err =
        DB_EXECUTE(tx->db, "UPDATE dependencies SET state = 1 WHERE predecessor = $1 AND id = $2 AND state = 0",
                   v_int(id), v_int(dependent));
    int64_t edges = err == OK ? db_changes(tx->db) : 0; /* more than one if it was named twice */
    if (err == OK && !edges)
        return OK;
    if (err == OK)
        err = DB_EXECUTE(tx->db, "UPDATE holds SET unmet = unmet - $3, bad = bad + $2 WHERE id = $1",
                         v_int(dependent), v_int(bad), v_int(edges));
    return err == OK ? dependent_judge(tx, dependent, id) : err;
}

/* The first that has not heard of it, after that one. */
static enum err next_untold(struct tx *tx, int64_t id, int64_t after, int64_t *dependent)
{
    return DB_NUMBER(tx->db, dependent, 0,
                     "SELECT id FROM dependencies WHERE predecessor = $1 AND id > $2 AND state = 0 "
                     "ORDER BY id LIMIT 1",
                     v_int(id), v_int(after));
}

static enum err tell(struct tx *tx, int64_t id, bool bad, struct follow_up_room *room, bool *left)
{
    enum err err = OK;
    *left = false;
    while (err == OK) {
        int64_t dependent;
        err = next_untold(tx, id, room->cursor, &dependent);
        if (err != OK || !dependent)
            break;
        *left = room->rows-- <= 0;
        if (*left)
            break;
        err = tell_one(tx, id, dependent, bad);
        room->cursor = dependent;
    }
    return err;
}

/* What is cancelled on its account may have dependents of its own, and they theirs: that is
 * done in steps, one after the other, and never within one another. */
enum err dependents_tell(struct tx *tx, int64_t id, bool succeeded, bool *left)
{
    struct follow_up_room room = {.rows = FOLLOW_UP_ROWS - tx->wakes, .bytes = FOLLOW_UP_BYTES};
    int64_t first = 0;
    enum err err = DB_EXECUTE(tx->db, "UPDATE dependencies SET state = 2 WHERE id = $1 AND state < 2", v_int(id));
    *left = false;
    if (err != OK)
        return err;
    if (succeeded) {
        err = tell(tx, id, false, &room, left);
        tx->wakes = room.rows > 0 ? FOLLOW_UP_ROWS - room.rows : FOLLOW_UP_ROWS;
    } else {
        err = next_untold(tx, id, 0, &first);
        *left = first != 0;
    }
    return err == OK && *left ? follow_up_note(tx, FOLLOW_UP_DEPENDENTS, id) : err;
}

enum err dependents_tell_rest(struct tx *tx, int64_t id, struct follow_up_room *room, bool *left)
{
    int64_t status;
    *left = false;
    enum err err = status_of(tx, id, &status);
    return err == OK && status_is_final((enum status)status) ? tell(tx, id, is_bad(status), room, left) : err;
}

enum err dependents_keep(struct tx *tx, int64_t id, bool *kept)
{
    int64_t found;
    enum err err = DB_NUMBER(tx->db, &found, 0,
                             "SELECT 1 FROM dependencies WHERE predecessor = $1 AND state < 2 LIMIT 1", v_int(id));
    *kept = found != 0;
    return err;
}

/* --- an end that is taken back ---------------------------------------------------------------- */

/* How those that it comes after stand now. (One that is gone by now was met.) */
static enum err count(struct tx *tx, int64_t id, struct met *met)
{
    struct db_stmt *stmt = DB_QUERY(tx->db,
                                    "SELECT d.predecessor, p.status FROM dependencies d "
                                    "JOIN invocations p ON p.id = d.predecessor WHERE d.id = $1",
                                    v_int(id));
    if (!stmt)
        return ERR_DB;
    bool row;
    enum err err;
    while ((err = db_step(stmt, &row)) == OK && row) {
        int64_t status = db_int(stmt, 1);
        met->unmet += !status_is_final((enum status)status);
        met->bad += is_bad(status);
        met->last = is_bad(status) ? db_int(stmt, 0) : met->last;
    }
    db_reset(stmt);
    return err;
}

/* Its row is held: all that is noted of it follows from how they stand now. */
static enum err recount(struct tx *tx, int64_t id)
{
    struct met met = {0};
    enum err err = count(tx, id, &met);
    if (err == OK)
        err = DB_EXECUTE(tx->db,
                         "UPDATE dependencies SET state = CASE WHEN (SELECT p.status FROM invocations p "
                         "WHERE p.id = dependencies.predecessor) NOT IN (" SQL_FINALS ") THEN 0 ELSE 1 END "
                         "WHERE id = $1",
                         v_int(id));
    if (err == OK)
        err = DB_EXECUTE(tx->db,
                         "UPDATE invocations SET follow = follow | " SQL_FOLLOW_DEPENDENT " WHERE id IN "
                         "(SELECT predecessor FROM dependencies WHERE id = $1 AND state = 0) "
                         "AND follow & " SQL_FOLLOW_DEPENDENT " = 0",
                         v_int(id));
    if (err == OK)
        err = DB_EXECUTE(tx->db, "UPDATE holds SET unmet = $2, bad = $3 WHERE id = $1", v_int(id),
                         v_int(met.unmet), v_int(met.bad));
    return err == OK ? dependent_judge(tx, id, met.last) : err;
}

enum err hold_look(struct tx *tx, int64_t id, enum hold_now *now)
{
    struct met met = {0};
    int64_t policy, any;
    *now = HOLD_NOW_FREE;
    enum err err = DB_NUMBER(tx->db, &any, 0, "SELECT 1 FROM dependencies WHERE id = $1 LIMIT 1", v_int(id));
    if (err != OK || !any)
        return err;
    err = DB_NUMBER(tx->db, &policy, AFTER_SUCCESS, "SELECT policy FROM holds WHERE id = $1", v_int(id));
    if (err == OK)
        err = count(tx, id, &met);
    switch (judge((enum after_policy)policy, met.unmet, met.bad)) {
    case WAITS_ON: *now = HOLD_NOW_HELD; break;
    case GOES_ON: *now = HOLD_NOW_FREE; break;
    case IS_CANCELLED: *now = HOLD_NOW_REFUSED; break;
    }
    return err;
}

enum err hold_again(struct tx *tx, int64_t id, int task, enum status from)
{
    enum err err =
        transition_move_back(tx, &(struct move_back){.id = id, .task = task, .from = from, .to_held = true});
    if (err == OK)
        err = DB_EXECUTE(tx->db, "UPDATE holds SET reasons = $2, cancelled_by = NULL WHERE id = $1", v_int(id),
                         v_int(HOLD_DEPENDENCY));
    return err == OK ? recount(tx, id) : err;
}

/* Of one dependent, that has heard of the end. */
static enum err again_one(struct tx *tx, int64_t id, int64_t dependent)
{
    struct db_stmt *stmt = DB_QUERY(tx->db,
                                    "SELECT i.status, i.task, h.cancelled_by FROM invocations i "
                                    "JOIN holds h ON h.id = i.id WHERE i.id = $1",
                                    v_int(dependent));
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    int64_t status = err == OK ? db_int(stmt, 0) : 0;
    int task = err == OK ? (int)db_int(stmt, 1) : 0;
    bool on_its_account = err == OK && status == STATUS_CANCELLED && !db_is_null(stmt, 2) &&
                          (db_int(stmt, 2) == id || db_int(stmt, 2) == 0);
    db_reset(stmt);
    if (err == ERR_NOT_FOUND)
        return OK;
    if (on_its_account)
        return hold_again(tx, dependent, task, STATUS_CANCELLED);
    return err == OK && status == STATUS_HELD ? recount(tx, dependent) : err;
}

enum err dependents_again(struct tx *tx, int64_t id, bool *left)
{
    int64_t found;
    *left = false;
    enum err err = DB_NUMBER(tx->db, &found, 0,
                             "SELECT 1 FROM dependencies WHERE predecessor = $1 UNION ALL "
                             "SELECT 1 FROM dependencies WHERE id = $1 LIMIT 1",
                             v_int(id));
    if (err != OK || !found)
        return err;
    err = DB_EXECUTE(tx->db, "UPDATE invocations SET follow = follow | " SQL_FOLLOW_DEPENDENT " WHERE id = $1",
                     v_int(id));
    if (err == OK) /* it keeps those it comes after, again */
        err = DB_EXECUTE(tx->db, "UPDATE dependencies SET state = 1 WHERE id = $1 AND state = 2", v_int(id));
    *left = true;
    return err == OK ? follow_up_note(tx, FOLLOW_UP_DEPENDENTS_AGAIN, id) : err;
}

enum err dependents_again_rest(struct tx *tx, int64_t id, struct follow_up_room *room, bool *left)
{
    enum err err = OK;
    *left = false;
    while (err == OK) {
        int64_t dependent;
        err = DB_NUMBER(tx->db, &dependent, 0,
                        "SELECT id FROM dependencies WHERE predecessor = $1 AND id > $2 ORDER BY id LIMIT 1",
                        v_int(id), v_int(room->cursor));
        if (err != OK || !dependent)
            break;
        *left = room->rows-- <= 0;
        if (*left)
            break;
        err = again_one(tx, id, dependent);
        room->cursor = dependent;
    }
    return err;
}
