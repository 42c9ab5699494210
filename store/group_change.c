/* What becomes of groups that are there: released, closed, cancelled, removed. What has many
 * members is done in steps, that go through them in the order of their ids. */
#include "store/groups.h"

#include "store/callback.h"
#include "store/children.h"
#include "store/holds.h"
#include "store/internal.h"
#include "store/suspensions.h"
#include "store/transition.h"

enum { PRUNED_AT_ONCE = 50, HELD_MS = 60000 };

/* --- steps --------------------------------------------------------------------------------- */

struct member {
    int64_t id;
    int task;
    enum status status;
    unsigned flags;
};

/* The first after that one; id 0: there is none. */
static enum err next_member(struct tx *tx, int64_t group, int64_t after, struct member *out)
{
    struct db_stmt *stmt = DB_QUERY(tx->db,
                                    "SELECT m.id, i.task, i.status, i.flags FROM members m "
                                    "LEFT JOIN invocations i ON i.id = m.id "
                                    "WHERE m.grp = $1 AND m.id > $2 ORDER BY m.id LIMIT 1",
                                    v_int(group), v_int(after));
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    *out = (struct member){0};
    if (err == OK)
        *out = (struct member){db_int(stmt, 0), (int)db_int(stmt, 1), (enum status)db_int(stmt, 2),
                               (unsigned)db_int(stmt, 3)};
    db_reset(stmt);
    return err == ERR_NOT_FOUND ? OK : err;
}

static enum err each_member(struct tx *tx, int64_t group, struct follow_up_room *room, bool *left,
                            enum err (*one)(struct tx *tx, int64_t group, const struct member *member,
                                            void *context),
                            void *context)
{
    enum err err = OK;
    *left = false;
    while (err == OK) {
        struct member member;
        err = next_member(tx, group, room->cursor, &member);
        if (err != OK || !member.id)
            break;
        *left = room->rows <= 0 || room->bytes <= 0;
        if (*left)
            break;
        room->rows--;
        room->cursor = member.id;
        err = one(tx, group, &member, context);
    }
    return err;
}

static enum err state_of(struct tx *tx, int64_t id, int64_t *state)
{
    return DB_NUMBER(tx->db, state, GROUP_IS_GONE, "SELECT state FROM groups WHERE id = $1", v_int(id));
}

static enum err release_one(struct tx *tx, int64_t group, const struct member *member, void *context)
{
    (void)group, (void)context;
    if (member->status != STATUS_HELD)
        return OK;
    return member->flags & FLAG_HOLDS ? hold_let_go(tx, member->id, HOLD_PROMISE)
                                      : transition_move_release(tx, &(struct move_release){.id = member->id});
}

enum err group_release(struct tx *tx, int64_t id, struct follow_up_room *room, bool *left)
{
    int64_t state;
    *left = false;
    enum err err = state_of(tx, id, &state);
    bool stopped = state & (GROUP_IS_STOPPED | GROUP_IS_GONE);
    return err == OK && !stopped ? each_member(tx, id, room, left, release_one, NULL) : err;
}

static enum err stop_one(struct tx *tx, int64_t group, const struct member *member, void *context)
{
    (void)group;
    const struct span *error = context;
    return alter_cancel_as(tx, member->id, STATUS_ANY & ~STATUS_FINALS, *error);
}

enum err group_stop(struct tx *tx, int64_t id, struct follow_up_room *room, bool *left)
{
    int64_t state;
    struct span error = {NULL, 0};
    *left = false;
    enum err err = state_of(tx, id, &state);
    if (err != OK || !(state & GROUP_IS_STOPPED))
        return err; /* opened again since */
    if (state & GROUP_WAS_LATE)
        error = SPAN("{\"type\":\"not_released\",\"message\":\"its group was not released in time\"}");
    else if (state & GROUP_HAS_FAILED)
        error = SPAN("{\"type\":\"fail_fast\",\"message\":\"another member of its group has failed\"}");
    return each_member(tx, id, room, left, stop_one, &error);
}

/* --- changes --------------------------------------------------------------------------------- */

/* The first steps at once, the rest noted. */
static enum err begin(struct tx *tx, enum follow_up what, int64_t id, bool *left)
{
    struct follow_up_room room = {.rows = FOLLOW_UP_ROWS, .bytes = FOLLOW_UP_BYTES};
    enum err err =
        what == FOLLOW_UP_GROUP_RELEASE ? group_release(tx, id, &room, left) : group_stop(tx, id, &room, left);
    if (err == OK && *left)
        err = DB_EXECUTE(tx->db, "INSERT INTO follow_ups (kind, id, position) VALUES ($1, $2, $3)", v_int(what),
                         v_int(id), v_int(room.cursor));
    group_touch(tx, id);
    tx->changes[tx->count - 1].follow_up = *left;
    return err;
}

enum err group_begin_stop(struct tx *tx, int64_t id, int reason)
{
    bool left;
    enum err err =
        DB_EXECUTE(tx->db, "UPDATE groups SET state = (state | $2) & ~$3, release_by = NULL WHERE id = $1",
                   v_int(id), v_int(GROUP_IS_STOPPED | reason), v_int(GROUP_IS_OPEN | GROUP_IS_HELD));
    return err == OK ? begin(tx, FOLLOW_UP_GROUP_STOP, id, &left) : err;
}

static enum err release(struct tx *tx, struct op_group_change *op, int64_t state)
{
    if (state & GROUP_WAS_LATE)
        return ERR_CONFLICT;
    if (state & GROUP_IS_MAKING)
        return ERR_BUSY;
    enum err err = DB_EXECUTE(tx->db, "UPDATE groups SET state = state & ~$2, release_by = NULL WHERE id = $1",
                              v_int(op->id), v_int(GROUP_IS_HELD | GROUP_IS_OPEN));
    if (err == OK && state & GROUP_IS_HELD)
        return begin(tx, FOLLOW_UP_GROUP_RELEASE, op->id, &op->follows);
    group_touch(tx, op->id);
    return err;
}

static enum err close(struct tx *tx, struct op_group_change *op, int64_t state)
{
    (void)state;
    group_touch(tx, op->id);
    return DB_EXECUTE(tx->db, "UPDATE groups SET state = state & ~$2 WHERE id = $1", v_int(op->id),
                      v_int(GROUP_IS_OPEN));
}

static enum err cancel(struct tx *tx, struct op_group_change *op, int64_t state)
{
    if (state & GROUP_IS_MAKING)
        return ERR_BUSY;
    if (state & GROUP_HAS_ENDED)
        return OK;
    enum err err = group_begin_stop(tx, op->id, 0);
    op->follows = err == OK && tx->changes[tx->count - 1].follow_up;
    return err;
}

enum err group_cancel_one(struct tx *tx, int64_t id)
{
    int64_t state;
    enum err err = state_of(tx, id, &state);
    return err == OK && !(state & (GROUP_IS_GONE | GROUP_HAS_ENDED)) ? group_begin_stop(tx, id, 0) : err;
}

static enum err begin_removal(struct tx *tx, int64_t id)
{
    enum err err = DB_EXECUTE(tx->db,
                              "UPDATE groups SET state = state | " SQL_GROUP_GONE ", prune_at = NULL, "
                              "release_by = NULL, key = NULL WHERE id = $1",
                              v_int(id));
    if (err == OK)
        err = follow_up_note(tx, FOLLOW_UP_GROUP_REMOVE, id);
    group_touch(tx, id);
    tx->changes[tx->count - 1].follow_up = true;
    return err;
}

static enum err abandon(struct tx *tx, struct op_group_change *op, int64_t state)
{
    (void)state;
    enum err err = DB_EXECUTE(tx->db, "DELETE FROM groups_making WHERE id = $1", v_int(op->id));
    return err == OK && db_changes(tx->db) ? begin_removal(tx, op->id) : err;
}

static enum err apply_change(struct tx *tx, struct op *base)
{
    static enum err (*const changes[])(struct tx * tx, struct op_group_change * op, int64_t state) = {
        [GROUP_RELEASE] = release,
        [GROUP_CLOSE] = close,
        [GROUP_CANCEL] = cancel,
        [GROUP_ABANDON] = abandon,
    };
    struct op_group_change *op = (struct op_group_change *)base;
    int64_t state;
    op->follows = false;
    enum err err = state_of(tx, op->id, &state);
    if (err == OK && state & GROUP_IS_GONE)
        err = ERR_NOT_FOUND;
    return err == OK ? changes[op->what](tx, op, state) : err;
}

void op_group_change_init(struct op_group_change *op, enum group_change what, int64_t id)
{
    static const struct op_class class = {.name = "group_change", .apply = apply_change, .several = op_is_several};
    *op = (struct op_group_change){.what = what, .id = id};
    op_init(&op->op, &class);
}

/* --- what time asks ---------------------------------------------------------------------------- */

enum err groups_expire(struct tx *tx, struct op_upkeep *op, int64_t *next_at)
{
    enum err err = OK;
    int64_t id = 0;
    for (int i = 0; i < PRUNED_AT_ONCE && err == OK; i++) {
        err = DB_NUMBER(tx->db, &id, 0,
                        "SELECT id FROM groups WHERE release_by IS NOT NULL AND release_by <= $1 "
                        "ORDER BY release_by LIMIT 1",
                        v_int(op->now));
        if (err != OK || !id)
            break;
        err = group_begin_stop(tx, id, GROUP_WAS_LATE);
    }
    op->more |= id != 0;
    return err == OK ? DB_NUMBER(tx->db, next_at, 0,
                                 "SELECT release_by FROM groups WHERE release_by IS NOT NULL "
                                 "ORDER BY release_by LIMIT 1")
                     : err;
}

/* --- removal -------------------------------------------------------------------------------------- */

/* It outlives its group: somebody needs it, or it was retried since. */
static enum err leave_group(struct tx *tx, const struct member *member)
{
    int64_t prune_at = status_is_final(member->status) ? tx->now + HELD_MS : 0;
    if (prune_at)
        tx_change(tx, member->id, member->task, member->status, member->status)->prune_at = prune_at;
    return DB_EXECUTE(tx->db, "UPDATE invocations SET grp = NULL, member = NULL, prune_at = $2 WHERE id = $1",
                      v_int(member->id), v_time(prune_at));
}

/* Of a group whose members did not all come, none stays. */
static enum err member_stays(struct tx *tx, int64_t group, const struct member *member, bool *stays)
{
    int64_t state;
    *stays = false;
    if (member->status && status_is_final(member->status))
        return result_is_kept(tx, member->id, stays);
    enum err err = state_of(tx, group, &state);
    *stays = member->status && !(state & GROUP_IS_MAKING);
    return err;
}

static enum err remove_one(struct tx *tx, int64_t group, const struct member *member, void *context)
{
    bool stays;
    enum err err = member_stays(tx, group, member, &stays);
    if (err == OK && stays)
        err = leave_group(tx, member);
    else if (err == OK && member->status)
        err = transition_remove(tx, member->id, member->task, member->status, context);
    return err == OK ? DB_EXECUTE(tx->db, "DELETE FROM members WHERE grp = $1 AND id = $2", v_int(group),
                                  v_int(member->id))
                     : err;
}

/* What has no member of its own: as many rows as there is room for. */
static enum err remove_rows(struct tx *tx, const char *sql, int64_t id, struct follow_up_room *room, bool *left)
{
    enum err err = room->rows > 0 ? DB_EXECUTE(tx->db, sql, v_int(id), v_int(room->rows)) : OK;
    int rows = err == OK && room->rows > 0 ? (int)db_changes(tx->db) : 0;
    room->rows -= rows;
    *left = room->rows <= 0;
    return err;
}

static enum err remove_own(struct tx *tx, int64_t id)
{
    static const char *const texts[] = {
        "DELETE FROM payloads WHERE id = $1",
        "DELETE FROM children WHERE id = $1",
        "DELETE FROM deliveries WHERE owner = $1", /* DELIVERIES_MAX at most */
        "DELETE FROM groups WHERE id = $1",
    };
    enum err err = callback_remove(tx, id);
    for (size_t i = 0; i < sizeof texts / sizeof *texts && err == OK; i++)
        err = DB_EXECUTE(tx->db, texts[i], v_int(id));
    tx->highest_removed = id > tx->highest_removed ? id : tx->highest_removed;
    return err;
}

enum err group_remove(struct tx *tx, int64_t id, struct follow_up_room *room, bool *left)
{
    enum err err = each_member(tx, id, room, left, remove_one, room);
    if (err == OK && !*left)
        err = remove_rows(tx,
                          "DELETE FROM completions WHERE grp = $1 AND number IN "
                          "(SELECT number FROM completions WHERE grp = $1 ORDER BY number LIMIT $2)",
                          id, room, left);
    if (err == OK && !*left)
        err = remove_rows(tx,
                          "DELETE FROM member_names WHERE grp = $1 AND name IN "
                          "(SELECT name FROM member_names WHERE grp = $1 ORDER BY name LIMIT $2)",
                          id, room, left);
    return err == OK && !*left ? remove_own(tx, id) : err;
}

/* It stays while somebody waits for it, and as a step that may be asked for. */
static enum err prune_one(struct tx *tx, int64_t id)
{
    bool held = false;
    enum err err = children_is_held(tx, id, &held);
    if (err == OK && !held)
        err = result_is_kept(tx, id, &held);
    if (err == OK && !held)
        err = callback_is_pending(tx, id, &held);
    if (err != OK)
        return err;
    return held ? DB_EXECUTE(tx->db, "UPDATE groups SET prune_at = $2 WHERE id = $1", v_int(id),
                             v_int(tx->now + HELD_MS))
                : begin_removal(tx, id);
}

enum err groups_prune(struct tx *tx, bool over, int *begun, int64_t *next_at)
{
    enum err err = OK;
    *begun = 0;
    for (int i = 0; i < PRUNED_AT_ONCE && err == OK; i++) {
        int64_t id;
        err = DB_NUMBER(tx->db, &id, 0,
                        "SELECT id FROM groups WHERE prune_at IS NOT NULL AND prune_at <= $1 "
                        "ORDER BY prune_at LIMIT 1",
                        v_int(over && !*begun ? INT64_MAX : tx->now));
        if (err != OK || !id)
            break;
        err = prune_one(tx, id);
        ++*begun;
    }
    return err == OK
               ? DB_NUMBER(tx->db, next_at, 0,
                           "SELECT prune_at FROM groups WHERE prune_at IS NOT NULL ORDER BY prune_at LIMIT 1")
               : err;
}

enum err groups_recover(struct tx *tx)
{
    enum err err = OK;
    while (err == OK) {
        int64_t id;
        err = DB_NUMBER(tx->db, &id, 0, "SELECT id FROM groups_making WHERE holder = $1 ORDER BY id LIMIT 1",
                        v_int(tx->store->options.node));
        if (err != OK || !id)
            break;
        err = DB_EXECUTE(tx->db, "DELETE FROM groups_making WHERE id = $1", v_int(id));
        if (err == OK)
            err = begin_removal(tx, id);
    }
    return err;
}
