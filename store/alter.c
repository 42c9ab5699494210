/* What a client asks of invocations that are there: cancel, retry, patch,
 * delete. Every write is conditional on the status that was read in the same
 * transaction. */
#include "store/cached.h"
#include "store/children.h"
#include "store/holds.h"
#include "store/history.h"
#include "store/internal.h"
#include "store/suspensions.h"
#include "store/transition.h"

struct alteration {
    struct op_alter *op;
    struct follow_up_room room; /* for what deleting leaves */
};

struct row {
    int task;
    enum status status;
    int priority, attempt;
    int64_t run_at, finished_at, retention_ms, rank;
    unsigned flags;
    bool has_turn; /* one is under way */
    int64_t group; /* 0: none */
};

static enum err read_row(struct tx *tx, int64_t id, struct row *out)
{
    struct db_stmt *stmt = DB_QUERY(
        tx->db,
        "SELECT task, status, priority, attempt, run_at, finished_at, retention_ms, COALESCE(rank, id), flags, "
        "lease IS NOT NULL, grp FROM invocations WHERE id = $1",
        v_int(id));
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    if (err == OK)
        *out = (struct row){.task = (int)db_int(stmt, 0),
                            .status = (enum status)db_int(stmt, 1),
                            .priority = (int)db_int(stmt, 2),
                            .attempt = (int)db_int(stmt, 3),
                            .run_at = db_int(stmt, 4),
                            .finished_at = db_int(stmt, 5),
                            .retention_ms = db_int(stmt, 6),
                            .rank = db_int(stmt, 7),
                            .flags = (unsigned)db_int(stmt, 8),
                            .group = db_int(stmt, 10)};
    if (err == OK) /* one that waits without a lease has suspended */
        out->has_turn = out->status == STATUS_RUNNING || (out->status == STATUS_WAITING && db_int(stmt, 9));
    db_reset(stmt);
    return err;
}

static enum err cancel_unstarted(struct tx *tx, int64_t id, const struct row *row, struct span error)
{
    return transition_move_final(tx, &(struct move_final){.id = id,
                                                          .task = row->task,
                                                          .from = row->status,
                                                          .to = STATUS_CANCELLED,
                                                          .old_priority = row->priority,
                                                          .old_rank = row->rank,
                                                          .retention_ms = row->retention_ms,
                                                          .cancel_requested_at = tx->now,
                                                          .error = error});
}

/* The turn's end sees by `follow` that it has to look. */
static enum err cancel_running(struct tx *tx, int64_t id, const struct row *row)
{
    enum err err = DB_EXECUTE(tx->db,
                              "UPDATE invocations SET cancel_requested_at = COALESCE(cancel_requested_at, $2), "
                              "follow = follow | " SQL_FOLLOW_CANCEL " WHERE id = $1 AND status = $3",
                              v_int(id), v_int(tx->now), v_int(row->status));
    if (err == OK && db_changes(tx->db) == 0)
        return ERR_CONFLICT;
    if (err == OK)
        tx_change(tx, id, row->task, row->status, row->status)->cancel = true;
    return err == OK
               ? history_note(tx,
                              &(struct history_note){
                                  .id = id, .at = tx->now, .status = row->status, .reason = "cancel_requested"})
               : err;
}

/* Its children are reached in steps. */
static enum err cancel_row(struct tx *tx, int64_t id, const struct row *row, struct span error)
{
    enum err err = row->has_turn ? cancel_running(tx, id, row) : cancel_unstarted(tx, id, row, error);
    if (err != OK || !(row->flags & FLAG_PARENT))
        return err;
    tx->changes[tx->count - 1].follow_up = true;
    return follow_up_note(tx, FOLLOW_UP_CHILDREN, id);
}

static enum err cancel_one(struct tx *tx, struct alteration *a, int64_t id, const struct row *row)
{
    (void)a;
    return cancel_row(tx, id, row, (struct span){NULL, 0});
}

enum err alter_cancel_one(struct tx *tx, int64_t id)
{
    struct row row;
    enum err err = read_row(tx, id, &row);
    return err == OK && !status_is_final(row.status) ? cancel_row(tx, id, &row, (struct span){NULL, 0}) : err;
}

enum err alter_cancel_as(struct tx *tx, int64_t id, unsigned statuses, struct span error)
{
    struct row row;
    enum err err = read_row(tx, id, &row);
    return err == OK && statuses & STATUS_BIT(row.status) ? cancel_row(tx, id, &row, error) : err;
}

/* Nothing of what its turns have left is there for the next one. */
static enum err forget_past(struct tx *tx, int64_t id, const struct row *row)
{
    enum err err = row->flags & FLAG_STEPS ? steps_forget(tx, id) : OK;
    if (err == OK && row->flags & FLAG_SUSPENDED)
        err = suspension_forget(tx, id);
    if (err == OK && row->flags & FLAG_PARENT)
        err = children_drop(tx, id);
    if (err == OK && row->flags & FLAG_PARENT)
        err = follow_up_note(tx, FOLLOW_UP_DROPPED, id);
    return err;
}

static enum err retry_fresh(struct tx *tx, int64_t id, const struct row *row)
{
    enum err err = forget_past(tx, id, row);
    if (err == OK)
        err = transition_move_back(tx, &(struct move_back){.id = id, .task = row->task, .from = row->status});
    if (err == OK && row->flags & FLAG_PARENT)
        tx->changes[tx->count - 1].follow_up = true;
    return err;
}

/* What comes after an iteration is its loop's. */
static enum err retry_one(struct tx *tx, struct alteration *a, int64_t id, const struct row *row)
{
    enum hold_now now = HOLD_NOW_FREE;
    a->op->of_loop = row->flags & FLAG_LOOP;
    if (a->op->of_loop)
        return ERR_CONFLICT;
    enum err err = row->flags & FLAG_HOLDS ? hold_look(tx, id, &now) : OK;
    if (err != OK || now == HOLD_NOW_REFUSED)
        return err == OK ? ERR_CONFLICT : err;
    if (now == HOLD_NOW_HELD)
        return hold_again(tx, id, row->task, row->status);
    if (a->op->fresh)
        return retry_fresh(tx, id, row);
    return transition_move_back(tx, &(struct move_back){.id = id, .task = row->task, .from = row->status});
}

static enum err patch_one(struct tx *tx, struct alteration *a, int64_t id, const struct row *row)
{
    const struct op_alter *op = a->op;
    int64_t run_at = op->set_run_at ? op->run_at : row->run_at;
    bool held = row->status == STATUS_HELD;
    if (held && op->set_run_at) { /* in place of a delay from its release */
        enum err err = DB_EXECUTE(tx->db, "UPDATE holds SET delay_ms = NULL WHERE id = $1", v_int(id));
        if (err != OK)
            return err;
    }
    return transition_move_due(tx, &(struct move_due){.id = id,
                                                      .from = row->status,
                                                      .to = held               ? STATUS_HELD
                                                            : run_at > tx->now ? STATUS_SCHEDULED
                                                                               : STATUS_QUEUED,
                                                      .set = true,
                                                      .old_priority = row->priority,
                                                      .old_rank = row->rank,
                                                      .old_run_at = row->run_at,
                                                      .priority = op->set_priority ? op->priority : row->priority,
                                                      .run_at = run_at});
}

static enum err delete_one(struct tx *tx, struct alteration *a, int64_t id, const struct row *row)
{
    bool held = row->group != 0; /* members go with their group */
    enum err err = row->flags & FLAG_CHILD ? children_is_held(tx, id, &held) : OK;
    if (err == OK && !held)
        err = result_is_kept(tx, id, &held);
    if (err != OK || held)
        return err == OK ? ERR_CONFLICT : err;
    if (row->flags & FLAG_PARTICULAR)
        err = cached_forget(tx, id);
    if (err != OK)
        return err;
    return transition_remove(tx, id, row->task, row->status, &a->room);
}

/* --- all of them -------------------------------------------------------------------- */

/* What may be altered how. Cancelling what is final is no change, and no error. */
static const struct {
    unsigned from;
    enum err (*one)(struct tx *tx, struct alteration *a, int64_t id, const struct row *row);
} alterations[] = {
    [ALTER_CANCEL] = {STATUS_ANY & ~STATUS_FINALS, cancel_one},
    [ALTER_RETRY] = {1 << STATUS_FAILED | 1 << STATUS_CANCELLED, retry_one},
    [ALTER_PATCH] = {1 << STATUS_HELD | 1 << STATUS_SCHEDULED | 1 << STATUS_QUEUED, patch_one},
    [ALTER_DELETE] = {STATUS_FINALS, delete_one},
};

static bool is_believed(const struct alter_belief *belief, const struct row *row)
{
    return !belief->given || (belief->status == row->status && belief->priority == row->priority &&
                              belief->attempt == row->attempt && belief->run_at == row->run_at &&
                              belief->finished_at == row->finished_at);
}

static enum err alter_one(struct tx *tx, struct alteration *a, int64_t id)
{
    struct op_alter *op = a->op;
    struct row row;
    enum err err = read_row(tx, id, &row);
    if (err != OK)
        return err;
    op->status = row.status;
    if (!is_believed(&op->belief, &row))
        return ERR_MISMATCH;
    if (!(alterations[op->what].from & STATUS_BIT(row.status)))
        return op->what == ALTER_CANCEL ? OK : ERR_CONFLICT;
    err = alterations[op->what].one(tx, a, id, &row);
    op->changed += err == OK;
    return err;
}

static enum err apply_alter(struct tx *tx, struct op *base)
{
    struct op_alter *op = (struct op_alter *)base;
    op->changed = 0;
    op->of_loop = false;
    struct alteration a = {op, {.rows = FOLLOW_UP_ROWS, .bytes = FOLLOW_UP_BYTES}};
    for (int i = 0; i < op->count; i++) {
        tx->who = op->who;
        enum err err = alter_one(tx, &a, op->ids[i]);
        tx->who = (struct span){NULL, 0};
        if (err_is_fault(err))
            return err;
        if (op->errs)
            op->errs[i] = err;
        else if (err != OK)
            return err;
    }
    return OK;
}

void op_alter_init(struct op_alter *op, enum alter what, const int64_t *ids, int count)
{
    static const struct op_class class = {.name = "alter", .apply = apply_alter, .several = op_is_several};
    *op = (struct op_alter){.what = what, .ids = ids, .count = count};
    op_init(&op->op, &class);
}
