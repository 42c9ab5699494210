#include "store/children.h"

#include "store/internal.h"
#include "store/transition.h"

static enum err check_parent(struct tx *tx, struct submission *s)
{
    int64_t cancelled;
    enum err err = DB_NUMBER(tx->db, &cancelled, -1,
                             "SELECT cancel_requested_at IS NOT NULL FROM invocations WHERE " SQL_UNDER_WAY,
                             v_int(s->parent), v_int(s->parent_lease));
    s->parent_cancelled = err == OK && cancelled == 1;
    if (err == OK && (cancelled < 0 || (cancelled && !s->detached)))
        return ERR_CONFLICT;
    return err;
}

/* A step's name is a child's or a value's. */
static enum err check_name(struct tx *tx, const struct submission *s)
{
    int64_t taken;
    enum err err = DB_NUMBER(tx->db, &taken, 0, "SELECT 1 FROM steps WHERE id = $1 AND name = $2",
                             v_int(s->parent), v_text(s->step));
    return err == OK && taken ? ERR_BUSY : err;
}

enum err children_find(struct tx *tx, struct submission *s)
{
    enum err err = check_parent(tx, s);
    if (err != OK || !s->step.p)
        return err;
    struct db_stmt *stmt = DB_QUERY(tx->db,
                                    "SELECT c.id, i.status FROM children c JOIN invocations i ON i.id = c.id "
                                    "WHERE c.parent = $1 AND c.step = $2 AND c.step IS NOT NULL",
                                    v_int(s->parent), v_text(s->step));
    if (!stmt)
        return ERR_DB;
    err = db_step_found(stmt);
    s->replayed = err == OK;
    if (s->replayed) {
        s->id = db_int(stmt, 0);
        s->status = (enum status)db_int(stmt, 1);
    }
    db_reset(stmt);
    return err == ERR_NOT_FOUND ? check_name(tx, s) : err;
}

enum err children_note(struct tx *tx, const struct submission *s)
{
    enum err err = DB_EXECUTE(tx->db, "INSERT INTO children (id, parent, step, follows) VALUES ($1, $2, $3, $4)",
                              v_int(s->id), v_int(s->parent), v_text(s->step), v_int(!s->detached));
    return err == OK ? transition_flag(tx, s->parent, FLAG_PARENT) : err;
}

enum err children_cancel(struct tx *tx, int64_t parent, struct follow_up_room *room, bool *left)
{
    enum err err = OK;
    *left = false;
    while (err == OK) {
        int64_t child;
        err = DB_NUMBER(tx->db, &child, 0,
                        "SELECT id FROM children WHERE parent = $1 AND follows = 1 ORDER BY id LIMIT 1",
                        v_int(parent));
        if (err != OK || !child)
            break;
        *left = room->rows-- <= 0;
        if (*left)
            break;
        err = DB_EXECUTE(tx->db, "UPDATE children SET follows = 2 WHERE id = $1", v_int(child));
        if (err == OK)
            err = alter_cancel_one(tx, child);
        if (err == ERR_NOT_FOUND)
            err = OK;
    }
    return err;
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
