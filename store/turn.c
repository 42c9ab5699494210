#include "store/turn.h"

#include "base/digest.h"
#include "store/internal.h"
#include "store/suspensions.h"
#include "store/transition.h"

int64_t lease_new(void)
{
    static __thread struct {
        int64_t tokens[64];
        int left;
    } drawn;
    int64_t token;
    do {
        if (!drawn.left) {
            random_bytes(drawn.tokens, sizeof drawn.tokens);
            drawn.left = sizeof drawn.tokens / sizeof *drawn.tokens;
        }
        token = drawn.tokens[--drawn.left];
    } while (!token);
    return token;
}

static void turn_op_init(struct turn_op *op, const struct op_class *class, const struct turn *turn)
{
    op_init(&op->op, class);
    op->turn = *turn;
}

/* --- claim ---------------------------------------------------------------------- */

static enum err apply_claim(struct tx *tx, struct op *base)
{
    struct op_claim *claim = (struct op_claim *)base;
    if (claim->end) {
        enum err err = transition_start_and_end(tx, claim, claim->end);
        claim->end->written = err == OK;
        if (err == OK || err == ERR_UNAVAILABLE)
            return err;
    }
    return transition_start(tx, claim);
}

static bool several_claims(const struct op *base)
{
    const struct op_claim *claim = (const struct op_claim *)base;
    return claim->resumes || claim->flags & FLAG_PARTICULAR;
}

static void claim_init(struct op_claim *op, const struct op_class *class, const struct turn *turn)
{
    *op = (struct op_claim){0};
    turn_op_init(&op->turn, class, turn);
}

void op_claim_init(struct op_claim *op, const struct turn *turn)
{
    static const struct op_class class = {.name = "claim",
                                          .apply = apply_claim,
                                          .several = several_claims,
                                          .turn = TURN_STARTS,
                                          .keep = true,
                                          .patient = true};
    claim_init(op, &class, turn);
}

void op_claim_init_awaited(struct op_claim *op, const struct turn *turn)
{
    static const struct op_class class = {
        .name = "claim", .apply = apply_claim, .several = several_claims, .turn = TURN_STARTS, .keep = true};
    claim_init(op, &class, turn);
}

/* --- finish ------------------------------------------------------------------------ */

/* Pieces of all turns stand in one order: by attempt, then as they were numbered. */
static int64_t piece_seq(const struct turn *turn, int64_t number)
{
    return (int64_t)turn->attempt << 32 | number;
}

/* ERR_CONFLICT if another has the lease, or nobody, or the invocation is gone. */
static enum err has_lease(struct tx *tx, const struct turn *turn)
{
    int64_t found;
    enum err err = DB_NUMBER(tx->db, &found, 0, "SELECT 1 FROM invocations WHERE id = $1 AND lease = $2",
                             v_int(turn->id), v_int(turn->lease));
    return err == OK && !found ? ERR_CONFLICT : err;
}

static enum err append_log(struct tx *tx, const struct turn *turn, int64_t from, const struct log_chunk *chunks,
                           int count)
{
    enum err err = OK;
    for (int i = 0; i < count && err == OK; i++) {
        err =
            DB_EXECUTE(tx->db,
                       "INSERT INTO logs (id, seq, attempt, stream, data) SELECT $1, $2, $3, $4, $5 WHERE EXISTS "
                       "(SELECT 1 FROM invocations WHERE id = $1 AND lease = $6) ON CONFLICT (id, seq) DO NOTHING",
                       v_int(turn->id), v_int(piece_seq(turn, from + i)), v_int(turn->attempt),
                       v_int(chunks[i].stream), v_blob(chunks[i].data), v_int(turn->lease));
        if (err == OK && db_changes(tx->db) == 0) /* written before, or lost? */
            err = has_lease(tx, turn);
    }
    return err;
}

/* Of a process that goes on after its turn has suspended. */
static enum err append_late(struct tx *tx, const struct turn *turn, int64_t from, const struct log_chunk *chunks,
                            int count)
{
    enum err err = suspension_was_by(tx, turn);
    for (int i = 0; i < count && err == OK; i++)
        err = DB_EXECUTE(tx->db,
                         "INSERT INTO logs (id, seq, attempt, stream, data) VALUES ($1, $2, $3, $4, $5) "
                         "ON CONFLICT (id, seq) DO NOTHING",
                         v_int(turn->id), v_int(piece_seq(turn, from + i)), v_int(turn->attempt),
                         v_int(chunks[i].stream), v_blob(chunks[i].data));
    return err;
}

enum err turn_log_left(struct tx *tx, int64_t id, int attempt, struct span stderr_bytes)
{
    int64_t first = piece_seq(&(struct turn){.attempt = attempt}, 0);
    return DB_EXECUTE(tx->db,
                      "INSERT INTO logs (id, seq, attempt, stream, data) "
                      "SELECT $1, COALESCE(MAX(seq) + 1, $2), $3, 2, $4 FROM logs WHERE id = $1 AND seq >= $2",
                      v_int(id), v_int(first), v_int(attempt), v_blob(stderr_bytes));
}

static enum err apply_finish(struct tx *tx, struct op *base)
{
    struct op_finish *op = (struct op_finish *)base;
    const struct turn *turn = &op->turn.turn;
    if (op->written)
        return OK;
    enum err err = op->inbox_read ? messages_mark_read(tx, turn, op->inbox_read) : OK;
    if (err == OK)
        err = transition_end(tx, op);
    if (err == ERR_CONFLICT && op->may_have_suspended)
        return append_late(tx, turn, op->log_from, op->log, op->log_count);
    if (err == OK && op->drop_stdout)
        err = DB_EXECUTE(tx->db, "DELETE FROM logs WHERE id = $1 AND attempt = $2 AND seq >= $3 AND stream = 1",
                         v_int(turn->id), v_int(turn->attempt), v_int(piece_seq(turn, op->drop_from)));
    return err == OK ? append_log(tx, turn, op->log_from, op->log, op->log_count) : err;
}

static bool several_ends(const struct op *base)
{
    const struct op_finish *op = (const struct op_finish *)base;
    return !op->written && !transition_end_is_simple(op);
}

void op_finish_init(struct op_finish *op, const struct turn *turn)
{
    static const struct op_class class = {
        .name = "finish", .apply = apply_finish, .several = several_ends, .turn = TURN_ENDS, .keep = true};
    *op = (struct op_finish){0};
    turn_op_init(&op->turn, &class, turn);
}

void op_finish_init_once(struct op_finish *op, const struct turn *turn)
{
    static const struct op_class class = {
        .name = "report", .apply = apply_finish, .several = several_ends, .turn = TURN_ENDS};
    *op = (struct op_finish){0};
    turn_op_init(&op->turn, &class, turn);
}

/* --- in between ------------------------------------------------------------------------ */

static enum err apply_log(struct tx *tx, struct op *base)
{
    struct op_log *op = (struct op_log *)base;
    const struct turn *turn = &op->turn.turn;
    enum err err = append_log(tx, turn, op->from, op->chunks, op->count);
    if (err == ERR_CONFLICT)
        err = append_late(tx, turn, op->from, op->chunks, op->count);
    if (err == OK)
        tx_change(tx, turn->id, turn->task, STATUS_RUNNING, STATUS_RUNNING);
    return err;
}

static bool several_chunks(const struct op *base)
{
    return ((const struct op_log *)base)->count > 1;
}

void op_log_init(struct op_log *op, const struct turn *turn)
{
    static const struct op_class class = {.name = "log",
                                          .apply = apply_log,
                                          .several = several_chunks,
                                          .turn = TURN_GOES_ON,
                                          .keep = true,
                                          .patient = true};
    *op = (struct op_log){0};
    turn_op_init(&op->turn, &class, turn);
}

enum err turn_under_way(struct tx *tx, const struct turn *turn)
{
    int64_t found;
    enum err err = DB_NUMBER(tx->db, &found, 0, "SELECT 1 FROM invocations WHERE " SQL_UNDER_WAY, v_int(turn->id),
                             v_int(turn->lease));
    return err == OK && !found ? ERR_CONFLICT : err;
}

/* How much there is of the attempt's log: the last piece begins where its number says. */
static enum err log_length(struct tx *tx, const struct turn *turn, int64_t *out)
{
    int64_t first = piece_seq(turn, 0);
    return DB_NUMBER(tx->db, out, 0,
                     "SELECT seq - $2 + LENGTH(data) FROM logs WHERE id = $1 AND seq BETWEEN $2 AND $3 "
                     "ORDER BY seq DESC LIMIT 1",
                     v_int(turn->id), v_int(first), v_int(first | UINT32_MAX));
}

static enum err apply_append(struct tx *tx, struct op *base)
{
    struct op_append *op = (struct op_append *)base;
    const struct turn *turn = &op->turn.turn;
    struct log_chunk chunks[2] = {op->chunk, {2, op->notice}};
    int64_t length = 0;
    enum err err = turn_under_way(tx, turn);
    if (err == OK)
        err = log_length(tx, turn, &length);
    if (err != OK || length > op->limit_bytes) /* the notice made it longer */
        return err;
    bool cut = (int64_t)op->chunk.data.len > op->limit_bytes - length;
    if (cut)
        chunks[0].data.len = (size_t)(op->limit_bytes - length);
    if (chunks[0].data.len)
        err = append_log(tx, turn, length, chunks, 1);
    if (err == OK && cut)
        err = append_log(tx, turn, op->limit_bytes, chunks + 1, 1);
    if (err == OK)
        tx_change(tx, turn->id, turn->task, STATUS_RUNNING, STATUS_RUNNING);
    return err;
}

/* Progress stands beside the row, which says that it does from the first on. */
static enum err apply_progress(struct tx *tx, struct op *base)
{
    struct op_progress *op = (struct op_progress *)base;
    const struct turn *turn = &op->turn.turn;
    enum err err = DB_EXECUTE(tx->db,
                              "INSERT INTO details (id, progress, progress_note) SELECT $1, $3, $4 WHERE EXISTS "
                              "(SELECT 1 FROM invocations WHERE " SQL_UNDER_WAY ") "
                              "ON CONFLICT (id) DO UPDATE SET progress = excluded.progress, "
                              "progress_note = excluded.progress_note",
                              v_int(turn->id), v_int(turn->lease), v_real(op->value), v_text(op->note));
    if (err == OK && db_changes(tx->db) == 0)
        return ERR_CONFLICT;
    if (err == OK)
        err = DB_EXECUTE(tx->db,
                         "UPDATE invocations SET flags = flags | " SQL_FLAG_DETAILS " "
                         "WHERE id = $1 AND lease = $2 AND flags & " SQL_FLAG_DETAILS " = 0",
                         v_int(turn->id), v_int(turn->lease));
    if (err == OK)
        tx_change(tx, turn->id, turn->task, STATUS_RUNNING, STATUS_RUNNING);
    return err;
}

void op_append_init(struct op_append *op, const struct turn *turn)
{
    static const struct op_class class = {
        .name = "append", .apply = apply_append, .several = op_is_several, .turn = TURN_GOES_ON};
    *op = (struct op_append){0};
    turn_op_init(&op->turn, &class, turn);
}

void op_progress_init(struct op_progress *op, const struct turn *turn)
{
    static const struct op_class class = {.name = "progress",
                                          .apply = apply_progress,
                                          .several = op_is_several,
                                          .turn = TURN_GOES_ON,
                                          .patient = true};
    *op = (struct op_progress){0};
    turn_op_init(&op->turn, &class, turn);
}
