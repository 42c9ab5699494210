/* Upkeep in small steps: promoting what is due, expiring, pruning, refilling
 * the dispatcher's window. Each step is bounded, so that it delays no client's
 * commit noticeably; `more` asks for the next. */
#include "store/callback.h"
#include "store/children.h"
#include "store/groups.h"
#include "store/holds.h"
#include "store/cached.h"
#include "store/deadline.h"
#include "store/internal.h"
#include "store/loops.h"
#include "store/suspensions.h"
#include "store/transition.h"

#include <stdlib.h>

enum { STEP_ROWS = 500, PRUNE_ROWS = 200, HELD_MS = 60000 };

/* The rows that an index says are due. */
struct due {
    int64_t id;
    int task;
    enum status status;
    int priority;
    int64_t retention_ms, rank;
    unsigned flags;
};
#define DUE_COLUMNS "id, task, status, priority, retention_ms, COALESCE(rank, id), flags"

static enum err collect(struct tx *tx, const char *sql, int64_t now, int limit, struct due *due, int *count)
{
    struct db_stmt *stmt = DB_QUERY(tx->db, sql, v_int(now), v_int(limit));
    if (!stmt)
        return ERR_DB;
    bool row;
    enum err err;
    *count = 0;
    while ((err = db_step(stmt, &row)) == OK && row)
        due[(*count)++] =
            (struct due){db_int(stmt, 0), (int)db_int(stmt, 1), (enum status)db_int(stmt, 2), (int)db_int(stmt, 3),
                         db_int(stmt, 4), db_int(stmt, 5),      (unsigned)db_int(stmt, 6)};
    db_reset(stmt);
    return err;
}

/* --- promote ------------------------------------------------------------------------ */

static enum err promote(struct tx *tx, struct op_upkeep *op)
{
    struct due due[STEP_ROWS];
    int count;
    enum err err = collect(tx,
                           "SELECT " DUE_COLUMNS " FROM invocations WHERE status = " SQL_SCHEDULED " "
                           "AND run_at <= $1 ORDER BY run_at LIMIT $2",
                           op->now, STEP_ROWS, due, &count);
    for (int i = 0; i < count && err == OK; i++)
        err = transition_move_due(
            tx, &(struct move_due){.id = due[i].id, .from = STATUS_SCHEDULED, .to = STATUS_QUEUED});
    op->more = count == STEP_ROWS;
    if (err == OK)
        err = DB_NUMBER(tx->db, &op->next_at, 0,
                        "SELECT run_at FROM invocations WHERE status = " SQL_SCHEDULED " "
                        "ORDER BY run_at LIMIT 1");
    return err;
}

/* --- expire -------------------------------------------------------------------------- */

#define CAN_EXPIRE "status IN (" SQL_SCHEDULED ", " SQL_QUEUED ") AND expires_at IS NOT NULL"

static enum err expire_one(struct tx *tx, const struct due *due)
{
    return transition_move_final(
        tx, &(struct move_final){
                .id = due->id,
                .task = due->task,
                .from = due->status,
                .to = STATUS_FAILED,
                .old_priority = due->priority,
                .old_rank = due->rank,
                .retention_ms = due->retention_ms,
                .expired_by = tx->now,
                .error = SPAN("{\"type\":\"expired\",\"message\":\"not started before it expired\"}"),
                .error_type = SPAN("expired"),
            });
}

static enum err expire(struct tx *tx, struct op_upkeep *op)
{
    struct due due[STEP_ROWS];
    int count;
    enum err err = collect(tx,
                           "SELECT " DUE_COLUMNS " FROM invocations WHERE " CAN_EXPIRE " "
                           "AND expires_at <= $1 ORDER BY expires_at LIMIT $2",
                           op->now, STEP_ROWS, due, &count);
    for (int i = 0; i < count && err == OK; i++)
        err = expire_one(tx, &due[i]);
    op->more = count == STEP_ROWS;
    if (err == OK)
        err = DB_NUMBER(tx->db, &op->next_at, 0,
                        "SELECT expires_at FROM invocations WHERE " CAN_EXPIRE " ORDER BY expires_at LIMIT 1");
    return err;
}

/* --- prune ----------------------------------------------------------------------------- */

/* How many there are above retain_max. */
static enum err count_over(struct tx *tx, int64_t *over)
{
    int64_t retain_max = atomic_load(&tx->store->retain_max), final = 0;
    enum err err = retain_max ? tx_count_of(tx, 0, STATUS_FINALS, &final) : OK;
    *over = retain_max ? final - retain_max : 0;
    return err;
}

/* A step's child stays while its parent may ask for it, what somebody waits for, and what somebody
 * is to be told of: it is looked at later. */
static enum err prune_one(struct tx *tx, const struct due *due, struct follow_up_room *room)
{
    bool held = false;
    enum err err = due->flags & FLAG_CHILD ? children_is_held(tx, due->id, &held) : OK;
    if (err == OK && !held)
        err = result_is_kept(tx, due->id, &held);
    if (err == OK && !held && due->flags & FLAG_CALLBACK)
        err = callback_is_pending(tx, due->id, &held);
    if (err != OK)
        return err;
    if (held)
        return DB_EXECUTE(tx->db, "UPDATE invocations SET prune_at = $2 WHERE id = $1", v_int(due->id),
                          v_int(tx->now + HELD_MS));
    return transition_remove(tx, due->id, due->task, due->status, room);
}

static enum err prune(struct tx *tx, struct op_upkeep *op)
{
    static const char by_age[] = "SELECT " DUE_COLUMNS " FROM invocations WHERE prune_at IS NOT NULL "
                                 "AND prune_at <= $1 ORDER BY prune_at LIMIT $2";
    /* Those that were found to be held are not looked at again and again. */
    static const char oldest[] = "SELECT " DUE_COLUMNS " FROM invocations WHERE prune_at IS NOT NULL "
                                 "AND prune_at > $1 ORDER BY prune_at LIMIT $2";
    struct due due[PRUNE_ROWS];
    struct follow_up_room room = {.rows = FOLLOW_UP_ROWS, .bytes = FOLLOW_UP_BYTES};
    int64_t over, reclaim_left = 0;
    int count = 0, pruned = 0;
    enum err err = count_over(tx, &over);
    if (err == OK)
        err = collect(tx, by_age, op->now, PRUNE_ROWS, due, &count);
    if (err == OK && count == 0 && over > 0)
        err = collect(tx, oldest, op->now + HELD_MS, over < PRUNE_ROWS ? (int)over : PRUNE_ROWS, due, &count);
    while (pruned < count && err == OK && room.rows > 0 && room.bytes > 0) {
        err = prune_one(tx, &due[pruned], &room);
        pruned++;
    }
    int64_t next_group = 0;
    int groups = 0;
    if (err == OK)
        err = groups_prune(tx, count == 0 && over > 0, &groups, &next_group);
    bool whole = pruned == count && count < PRUNE_ROWS;
    if (err == OK && whole)
        err = db_reclaim(tx->db, &reclaim_left);
    op->more = !whole || reclaim_left > 0 || (count && over > count);
    if (err == OK)
        err = DB_NUMBER(tx->db, &op->next_at, 0,
                        "SELECT prune_at FROM invocations WHERE prune_at IS NOT NULL ORDER BY prune_at LIMIT 1");
    if (err == OK && next_group && (!op->next_at || next_group < op->next_at))
        op->next_at = next_group;
    return err;
}

/* --- together ---------------------------------------------------------------------------- */

static enum err apply_upkeep(struct tx *tx, struct op *base)
{
    struct op_upkeep *op = (struct op_upkeep *)base;
    op->now = tx->now;
    op->more = false;
    op->next_at = 0;
    switch (op->what) {
    case UPKEEP_PROMOTE: return promote(tx, op);
    case UPKEEP_EXPIRE: return expire(tx, op);
    case UPKEEP_PRUNE: return prune(tx, op);
    case UPKEEP_WAKE: return suspensions_wake_due(tx, op);
    case UPKEEP_FOLLOW_UP: return follow_up_step(tx, op);
    case UPKEEP_RELEASE_BY: return holds_expire(tx, op);
    case UPKEEP_SCHEDULE: return OK;
    case UPKEEP_LOOPS: return loops_upkeep(tx, op);
    case UPKEEP_CACHE: return cached_tidy(tx, op);
    case UPKEEP_DEADLINE: return deadlines_meet(tx, op);
    case UPKEEPS_END: break;
    }
    return ERR_INVALID;
}

void op_upkeep_init(struct op_upkeep *op, enum upkeep what)
{
    static const struct op_class class = {.name = "upkeep", .apply = apply_upkeep, .several = op_is_several};
    *op = (struct op_upkeep){.what = what};
    op_init(&op->op, &class);
}

/* --- refill ------------------------------------------------------------------------------- */

static enum err refill_from(struct op_refill *op, struct db_stmt *stmt)
{
    if (!stmt)
        return ERR_DB;
    bool row;
    enum err err;
    while ((err = db_step(stmt, &row)) == OK && row) {
        if (op->count == op->cap) {
            op->cap = op->cap ? 2 * op->cap : 256;
            op->items = xrealloc(op->items, (size_t)op->cap * sizeof *op->items);
        }
        struct ready *ready = &op->items[op->count++];
        ready_read(stmt, ready);
        buf_add_span(&op->arena, ready->args);
    }
    db_reset(stmt);
    return err;
}

#define READY_OF_TASK "SELECT " READY_COLUMNS " FROM invocations WHERE status = " SQL_QUEUED " AND task = $1 "

/* Those in order of their ids, and those that have another rank: each in two
 * ranges, because SQLite would use only the first part of (priority, id) > (...). */
static enum err refill_new(struct tx *tx, struct op_refill *op)
{
    int limit = op->count + op->limit;
    enum err err = refill_from(op, DB_QUERY(tx->db,
                                            READY_OF_TASK "AND priority = $2 AND id > $3 AND rank IS NULL "
                                                          "ORDER BY id LIMIT $4",
                                            v_int(op->task), v_int(op->after_priority), v_int(op->after_rank),
                                            v_int(op->limit)));
    if (err == OK && op->count < limit)
        err = refill_from(op, DB_QUERY(tx->db,
                                       READY_OF_TASK "AND priority > $2 AND rank IS NULL "
                                                     "ORDER BY priority, id LIMIT $3",
                                       v_int(op->task), v_int(op->after_priority), v_int(limit - op->count)));
    return err;
}

static enum err refill_ranked(struct tx *tx, struct op_refill *op)
{
    enum err err = refill_from(op, DB_QUERY(tx->db,
                                            READY_OF_TASK "AND priority = $2 AND rank > $3 AND rank IS NOT NULL "
                                                          "ORDER BY rank LIMIT $4",
                                            v_int(op->task), v_int(op->after_priority), v_int(op->after_rank),
                                            v_int(op->limit)));
    if (err == OK && op->count < op->limit)
        err = refill_from(op, DB_QUERY(tx->db,
                                       READY_OF_TASK "AND priority > $2 AND rank IS NOT NULL "
                                                     "ORDER BY priority, rank LIMIT $3",
                                       v_int(op->task), v_int(op->after_priority), v_int(op->limit - op->count)));
    return err;
}

static int compare_ready(const void *a, const void *b)
{
    const struct ready *x = a, *y = b;
    if (x->priority != y->priority)
        return x->priority < y->priority ? -1 : 1;
    return (x->rank > y->rank) - (x->rank < y->rank);
}

static enum err apply_refill(struct tx *tx, struct op *base)
{
    struct op_refill *op = (struct op_refill *)base;
    op->count = 0;
    op->arena.len = 0;
    enum err err = refill_ranked(tx, op);
    int ranked = op->count;
    if (err == OK)
        err = refill_new(tx, op);
    /* The arena has stopped moving: let the spans point into it. */
    size_t at = 0;
    for (int i = 0; i < op->count; i++) {
        struct ready *ready = &op->items[i];
        if (ready->args.p)
            ready->args.p = ready->args.len ? op->arena.data + at : "";
        at += ready->args.len;
    }
    if (ranked)
        qsort(op->items, (size_t)op->count, sizeof *op->items, compare_ready);
    if (op->count > op->limit)
        op->count = op->limit;
    if (err == OK)
        tx_change(tx, 0, op->task, 0, 0)->refill = op;
    return err;
}

void op_refill_init(struct op_refill *op)
{
    static const struct op_class class = {.name = "refill", .apply = apply_refill};
    *op = (struct op_refill){0};
    op_init(&op->op, &class);
}

void op_refill_release(struct op_refill *op)
{
    free(op->items);
    buf_release(&op->arena);
    op->items = NULL;
}
