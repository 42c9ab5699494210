#include "store/children.h"

#include "store/groups.h"
#include "store/internal.h"
#include "store/transition.h"

static enum err check_parent(struct tx *tx, struct submission *s, int64_t *failed)
{
    struct db_stmt *stmt = DB_QUERY(
        tx->db, "SELECT cancel_requested_at IS NOT NULL, failed, flags FROM invocations WHERE " SQL_UNDER_WAY,
        v_int(s->parent), v_int(s->parent_lease));
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    s->parent_cancelled = err == OK && db_int(stmt, 0);
    *failed = err == OK ? db_int(stmt, 1) : 0;
    s->parent_particular = err == OK && db_int(stmt, 2) & FLAG_PARTICULAR;
    db_reset(stmt);
    return err == ERR_NOT_FOUND || (err == OK && s->parent_cancelled && !s->detached) ? ERR_CONFLICT : err;
}

/* A step's name is a child's or a value's. */
static enum err check_name(struct tx *tx, const struct submission *s)
{
    int64_t taken;
    enum err err = DB_NUMBER(tx->db, &taken, 0, "SELECT 1 FROM steps WHERE id = $1 AND name = $2",
                             v_int(s->parent), v_text(s->step));
    return err == OK && taken ? ERR_BUSY : err;
}

/* A step's child that is there. */
struct found {
    bool is_group;
    int64_t id, asked;
    int task;
    enum status status;
};

static enum err find_step(struct tx *tx, const struct submission *s, struct found *out)
{
    struct db_stmt *stmt =
        DB_QUERY(tx->db,
                 "SELECT c.id, c.asked, i.task, i.status FROM children c LEFT JOIN invocations i ON i.id = c.id "
                 "WHERE c.parent = $1 AND c.step = $2 AND c.step IS NOT NULL",
                 v_int(s->parent), v_text(s->step));
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    if (err == OK)
        *out = (struct found){.is_group = db_is_null(stmt, 3),
                              .id = db_int(stmt, 0),
                              .asked = db_int(stmt, 1),
                              .task = (int)db_int(stmt, 2),
                              .status = (enum status)db_int(stmt, 3)};
    db_reset(stmt);
    return err;
}

/* Only success is kept for good: what failed or was cancelled is tried again, once for
 * each failure of the parent's own. (A recovery is none: it gets what it got before.) */
static enum err ask_again(struct tx *tx, struct found *found, int64_t failed)
{
    bool ended_badly = found->status == STATUS_FAILED || found->status == STATUS_CANCELLED;
    enum err err = OK;
    if (found->asked >= failed)
        return OK;
    if (ended_badly) {
        err = transition_move_back(
            tx, &(struct move_back){.id = found->id, .task = found->task, .from = found->status});
        found->status = STATUS_QUEUED;
    }
    return err == OK ? DB_EXECUTE(tx->db, "UPDATE children SET asked = $2 WHERE id = $1", v_int(found->id),
                                  v_int(failed))
                     : err;
}

enum err children_find(struct tx *tx, struct submission *s)
{
    struct found found = {0};
    int64_t failed = 0;
    enum err err = check_parent(tx, s, &failed);
    s->parent_failed = failed;
    if (err != OK || !s->step.p)
        return err;
    err = find_step(tx, s, &found);
    if (err == ERR_NOT_FOUND)
        return check_name(tx, s);
    if (err == OK && found.is_group != s->is_group)
        err = ERR_BUSY;
    if (err == OK && !found.is_group)
        err = ask_again(tx, &found, failed);
    s->not_unique = err == ERR_BUSY; /* its retry is refused */
    if (err != OK)
        return err;
    s->replayed = true;
    s->id = found.id;
    s->status = found.status;
    return OK;
}

enum err children_note(struct tx *tx, const struct submission *s)
{
    enum err err =
        DB_EXECUTE(tx->db, "INSERT INTO children (id, parent, step, follows, asked) VALUES ($1, $2, $3, $4, $5)",
                   v_int(s->id), v_int(s->parent), v_text(s->step), v_int(!s->detached), v_time(s->parent_failed));
    return err == OK ? transition_flag(tx, s->parent, FLAG_PARENT) : err;
}

#define CHILD_THAT_FOLLOWS(how) \
    "SELECT id FROM children WHERE parent = $1 AND follows = " how " ORDER BY id LIMIT 1"

static enum err cancel_each(struct tx *tx, const char *next, int64_t parent, struct follow_up_room *room,
                            bool *left)
{
    enum err err = OK;
    *left = false;
    while (err == OK) {
        int64_t child;
        err = DB_NUMBER(tx->db, &child, 0, next, v_int(parent));
        if (err != OK || !child)
            break;
        *left = room->rows-- <= 0;
        if (*left)
            break;
        err = DB_EXECUTE(tx->db, "UPDATE children SET follows = 2 WHERE id = $1", v_int(child));
        if (err == OK)
            err = alter_cancel_one(tx, child);
        if (err == ERR_NOT_FOUND)
            err = group_cancel_one(tx, child);
    }
    return err;
}

enum err children_cancel(struct tx *tx, int64_t parent, struct follow_up_room *room, bool *left)
{
    return cancel_each(tx, CHILD_THAT_FOLLOWS("1"), parent, room, left);
}

enum err children_cancel_dropped(struct tx *tx, int64_t parent, struct follow_up_room *room, bool *left)
{
    return cancel_each(tx, CHILD_THAT_FOLLOWS("3"), parent, room, left);
}

enum err children_drop(struct tx *tx, int64_t parent)
{
    return DB_EXECUTE(tx->db,
                      "UPDATE children SET step = NULL, follows = CASE follows WHEN 1 THEN 3 ELSE follows END "
                      "WHERE parent = $1",
                      v_int(parent));
}

enum err children_leave(struct tx *tx, int64_t parent)
{
    enum err err = DB_EXECUTE(tx->db, "UPDATE follow_ups SET kind = $2 WHERE kind = $3 AND id = $1", v_int(parent),
                              v_int(FOLLOW_UP_DROPPED), v_int(FOLLOW_UP_CHILDREN));
    return err == OK && db_changes(tx->db)
               ? DB_EXECUTE(tx->db, "UPDATE children SET follows = 3 WHERE parent = $1 AND follows = 1",
                            v_int(parent))
               : err;
}

enum err children_follow_again(struct tx *tx, int64_t child)
{
    return DB_EXECUTE(tx->db, "UPDATE children SET follows = 1 WHERE id = $1 AND follows = 2", v_int(child));
}

enum err children_is_held(struct tx *tx, int64_t child, bool *held)
{
    int64_t found;
    enum err err = DB_NUMBER(tx->db, &found, 0,
                             "SELECT 1 FROM children c JOIN invocations p ON p.id = c.parent WHERE c.id = $1 "
                             "AND c.step IS NOT NULL AND p.status NOT IN (" SQL_SUCCEEDED ", " SQL_FAILED
                             ", " SQL_CANCELLED ")",
                             v_int(child));
    *held = found != 0;
    return err;
}
