#include "store/step.h"

#include "store/reader.h"
#include "store/transition.h"

/* --- recording --------------------------------------------------------------------- */

/* The name is there, or it is a child's, or the turn is not. */
static enum err recorded_before(struct tx *tx, struct op_step *op)
{
    const struct turn *turn = &op->turn.turn;
    enum err err = turn_under_way(tx, turn);
    if (err != OK)
        return err;
    struct db_stmt *stmt =
        DB_QUERY(tx->db, "SELECT value FROM steps WHERE id = $1 AND name = $2", v_int(turn->id), v_text(op->name));
    if (!stmt)
        return ERR_DB;
    err = db_step_found(stmt);
    if (err == OK) {
        op->found = true;
        buf_add_span(&op->kept, db_span(stmt, 0));
    }
    db_reset(stmt);
    return err == ERR_NOT_FOUND ? ERR_BUSY : err;
}

struct recorded {
    int64_t count, bytes;
};

/* The numbers have no gaps and the bytes add up, so the last entry of the index
 * says it all, and no counter needs a row of its own. (One in details would go
 * with each retry.) */
static enum err read_recorded(struct tx *tx, int64_t id, struct recorded *out)
{
    struct db_stmt *stmt =
        DB_QUERY(tx->db, "SELECT number, bytes FROM steps WHERE id = $1 ORDER BY number DESC LIMIT 1", v_int(id));
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    *out = (struct recorded){0};
    if (err == OK)
        *out = (struct recorded){db_int(stmt, 0), db_int(stmt, 1)};
    db_reset(stmt);
    return err == ERR_NOT_FOUND ? OK : err;
}

/* With this one there are so many; 0: it was not recorded. */
static enum err insert(struct tx *tx, const struct op_step *op, const struct recorded *before, int64_t *number)
{
    const struct turn *turn = &op->turn.turn;
    return DB_NUMBER(
        tx->db, number, 0,
        "INSERT INTO steps (id, name, number, bytes, value, at) SELECT $1, $3, $4, $5, $6, $7 "
        "WHERE EXISTS (SELECT 1 FROM invocations WHERE " SQL_UNDER_WAY ") "
        "AND NOT EXISTS (SELECT 1 FROM children WHERE parent = $1 AND step = $3 AND step IS NOT NULL) "
        "ON CONFLICT (id, name) DO NOTHING RETURNING number",
        v_int(turn->id), v_int(turn->lease), v_text(op->name), v_int(before->count + 1),
        v_int(before->bytes + (int64_t)op->value.len), v_text(op->value), v_int(tx->now));
}

static enum err apply_step(struct tx *tx, struct op *base)
{
    struct op_step *op = (struct op_step *)base;
    const struct turn *turn = &op->turn.turn;
    struct recorded before;
    int64_t number;
    op->found = false;
    op->kept.len = 0;
    enum err err = read_recorded(tx, turn->id, &before);
    if (err == OK)
        err = insert(tx, op, &before, &number);
    if (err == OK && !number)
        return recorded_before(tx, op);
    if (err == OK && (number > STEPS_MAX || before.bytes + (int64_t)op->value.len > STEPS_BYTES_MAX))
        return ERR_LIMIT;
    if (err == OK && number == 1)
        err = transition_flag(tx, turn->id, FLAG_STEPS);
    if (err == OK)
        tx_change(tx, turn->id, turn->task, STATUS_RUNNING, STATUS_RUNNING);
    return err;
}

void op_step_init(struct op_step *op, const struct turn *turn)
{
    static const struct op_class class = {
        .name = "step", .apply = apply_step, .several = op_is_several, .turn = TURN_GOES_ON};
    *op = (struct op_step){.turn.turn = *turn};
    op_init(&op->turn.op, &class);
}

/* The flag stays: a row that has it may have none. */
enum err steps_forget(struct tx *tx, int64_t id)
{
    return DB_EXECUTE(tx->db, "DELETE FROM steps WHERE id = $1", v_int(id));
}

/* --- reading ------------------------------------------------------------------------ */

enum err reader_steps(struct reader *reader, int64_t id, void (*row)(void *context, const struct step *step),
                      void *context)
{
    struct db_stmt *stmt =
        DB_QUERY(reader->db, "SELECT name, value, at FROM steps WHERE id = $1 ORDER BY number", v_int(id));
    if (!stmt)
        return ERR_DB;
    bool more;
    enum err err;
    while ((err = db_step(stmt, &more)) == OK && more)
        row(context, &(struct step){db_span(stmt, 0), db_span(stmt, 1), db_int(stmt, 2)});
    db_reset(stmt);
    return err;
}

enum err reader_step(struct reader *reader, int64_t id, struct span name, struct buf *value)
{
    struct db_stmt *stmt =
        DB_QUERY(reader->db, "SELECT value FROM steps WHERE id = $1 AND name = $2", v_int(id), v_text(name));
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    if (err == OK)
        buf_add_span(value, db_span(stmt, 0));
    db_reset(stmt);
    return err;
}
