#include "store/follow_up.h"

#include "store/children.h"
#include "store/groups.h"
#include "store/holds.h"
#include "store/message.h"
#include "store/sets.h"
#include "store/transition.h"

enum err follow_up_note(struct tx *tx, enum follow_up kind, int64_t id)
{
    return DB_EXECUTE(tx->db, "INSERT INTO follow_ups (kind, id) VALUES ($1, $2)", v_int(kind), v_int(id));
}

/* --- an invocation that is gone ------------------------------------------------- */

static enum err remove_attempts(struct tx *tx, int64_t id, struct follow_up_room *room, bool *left)
{
    int64_t last;
    enum err err = DB_NUMBER(tx->db, &last, INT64_MAX,
                             "SELECT attempt FROM attempts WHERE id = $1 ORDER BY attempt LIMIT 1 OFFSET $2",
                             v_int(id), v_int(room->rows));
    if (err == OK)
        err = DB_EXECUTE(tx->db, "DELETE FROM attempts WHERE id = $1 AND attempt < $2", v_int(id), v_int(last));
    if (err == OK)
        room->rows -= (int)db_changes(tx->db);
    *left |= last != INT64_MAX;
    return err;
}

/* What has pieces of any size, in the order of a number. (A text's length is in
 * characters: the bytes may be a few times as many.) */
static const struct pieces {
    unsigned flag; /* the row says that it has some; 0: it does not say */
    const char *sizes, *forget;
} all_pieces[] = {
    {0, "SELECT seq, LENGTH(data) FROM logs WHERE id = $1 ORDER BY seq",
     "DELETE FROM logs WHERE id = $1 AND seq <= $2"},
    {FLAG_PARTICULAR, "SELECT number, LENGTH(key) FROM further_keys WHERE id = $1 ORDER BY number",
     "DELETE FROM further_keys WHERE id = $1 AND number <= $2"},
    {FLAG_STEPS, "SELECT number, LENGTH(value) FROM steps WHERE id = $1 ORDER BY number",
     "DELETE FROM steps WHERE id = $1 AND number <= $2"},
    {FLAG_MESSAGES,
     "SELECT seq, LENGTH(body) FROM messages WHERE id = $1 AND kind = " SQL_MESSAGE_OUT " ORDER BY seq",
     "DELETE FROM messages WHERE id = $1 AND kind = " SQL_MESSAGE_OUT " AND seq <= $2"},
    {FLAG_MESSAGES,
     "SELECT seq, LENGTH(body) FROM messages WHERE id = $1 AND kind = " SQL_MESSAGE_IN " ORDER BY seq",
     "DELETE FROM messages WHERE id = $1 AND kind = " SQL_MESSAGE_IN " AND seq <= $2"},
    {FLAG_CALLBACK, "SELECT n, LENGTH(url) FROM deliveries WHERE owner = $1 ORDER BY n",
     "DELETE FROM deliveries WHERE owner = $1 AND n <= $2"},
};

/* Up to which piece there is room; the first always goes. */
static enum err last_piece(struct tx *tx, const char *sizes, int64_t id, struct follow_up_room *room,
                           int64_t *last, bool *left)
{
    struct db_stmt *stmt = DB_QUERY(tx->db, sizes, v_int(id));
    if (!stmt)
        return ERR_DB;
    bool row;
    enum err err;
    *last = -1;
    while ((err = db_step(stmt, &row)) == OK && row) {
        if (room->rows <= 0 || (room->bytes <= 0 && *last >= 0)) {
            *left = true;
            break;
        }
        *last = db_int(stmt, 0);
        room->bytes -= db_int(stmt, 1);
        room->rows--;
    }
    db_reset(stmt);
    return err;
}

static enum err remove_pieces(struct tx *tx, const struct pieces *pieces, int64_t id, struct follow_up_room *room,
                              bool *left)
{
    int64_t last;
    enum err err = last_piece(tx, pieces->sizes, id, room, &last, left);
    if (err == OK && last >= 0)
        err = DB_EXECUTE(tx->db, pieces->forget, v_int(id), v_int(last));
    return err;
}

enum err follow_up_remove(struct tx *tx, int64_t id, unsigned flags, struct follow_up_room *room, bool *left)
{
    *left = false;
    enum err err = remove_attempts(tx, id, room, left);
    for (size_t i = 0; i < sizeof all_pieces / sizeof *all_pieces && err == OK; i++)
        if (!all_pieces[i].flag || flags & all_pieces[i].flag)
            err = remove_pieces(tx, &all_pieces[i], id, room, left);
    if (err == OK && flags & FLAG_MESSAGES)
        err = DB_EXECUTE(tx->db, "DELETE FROM inboxes WHERE id = $1", v_int(id));
    return err;
}

/* --- a step ------------------------------------------------------------------------ */

/* Of a kind that this program knows: others wait for the one that does. */
static enum err first_noted(struct tx *tx, int64_t *seq, int64_t *kind, int64_t *id, int64_t *cursor)
{
    struct db_stmt *stmt =
        DB_QUERY(tx->db, "SELECT seq, kind, id, position FROM follow_ups WHERE kind <= $1 ORDER BY seq LIMIT 1",
                 v_int(FOLLOW_UP_LAST));
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    if (err == OK) {
        *seq = db_int(stmt, 0);
        *kind = db_int(stmt, 1);
        *id = db_int(stmt, 2);
        *cursor = db_int(stmt, 3);
    }
    db_reset(stmt);
    return err;
}

/* The row that had flags is gone. */
static enum err remove_left(struct tx *tx, int64_t id, struct follow_up_room *room, bool *left)
{
    return follow_up_remove(tx, id, ~0u, room, left);
}

/* Each touches what there is room for, and says whether some is left. */
static enum err (*const steps[])(struct tx *tx, int64_t id, struct follow_up_room *room, bool *left) = {
    [FOLLOW_UP_REMOVE] = remove_left,
    [FOLLOW_UP_WAKE] = wait_wake_rest,
    [FOLLOW_UP_CHILDREN] = children_cancel,
    [FOLLOW_UP_DROPPED] = children_cancel_dropped,
    [FOLLOW_UP_DEPENDENTS] = dependents_tell_rest,
    [FOLLOW_UP_DEPENDENTS_AGAIN] = dependents_again_rest,
    [FOLLOW_UP_GROUP_RELEASE] = group_release,
    [FOLLOW_UP_GROUP_STOP] = group_stop,
    [FOLLOW_UP_GROUP_REMOVE] = group_remove,
    [FOLLOW_UP_SET] = set_act_on_rest,
    [FOLLOW_UP_SLOTS] = set_fill_slots,
};

enum err follow_up_step(struct tx *tx, struct op_upkeep *op)
{
    struct follow_up_room room = {.rows = FOLLOW_UP_ROWS, .bytes = FOLLOW_UP_BYTES};
    while (room.rows > 0 && room.bytes > 0) {
        int64_t seq, kind, id;
        bool left = false;
        enum err err = first_noted(tx, &seq, &kind, &id, &room.cursor);
        int64_t cursor = room.cursor;
        if (err == ERR_NOT_FOUND)
            return OK;
        if (err == OK)
            err = steps[kind](tx, id, &room, &left);
        if (err == OK && !left)
            err = DB_EXECUTE(tx->db, "DELETE FROM follow_ups WHERE seq = $1", v_int(seq));
        else if (err == OK && room.cursor != cursor)
            err = DB_EXECUTE(tx->db, "UPDATE follow_ups SET position = $2 WHERE seq = $1", v_int(seq),
                             v_int(room.cursor));
        if (err != OK)
            return err;
    }
    op->more = true;
    return OK;
}
