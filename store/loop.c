#include "store/loop.h"

#include "base/id.h"
#include "store/internal.h"
#include "store/loop_turn.h"
#include "store/loops.h"
#include "store/sets.h"
#include "store/transition.h"

/* --- making one ---------------------------------------------------------------------- */

/* The name was given before: to the same loop, or to another? */
static enum err find_named(struct tx *tx, struct op_loop_make *op)
{
    struct db_stmt *stmt =
        DB_QUERY(tx->db, "SELECT id, digest FROM loops WHERE name = $1 AND name IS NOT NULL", v_text(op->name));
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    if (err == OK) {
        struct span digest = db_span(stmt, 1);
        op->id = db_int(stmt, 0);
        op->there = true;
        if (digest.len != sizeof op->digest || memcmp(digest.p, op->digest, digest.len) != 0)
            err = ERR_MISMATCH;
    }
    db_reset(stmt);
    return err;
}

static enum err insert_loop(struct tx *tx, const struct op_loop_make *op, const struct loop *loop)
{
    const struct loop_spec *spec = &op->spec;
    return DB_EXECUTE(
        tx->db,
        "INSERT INTO loops (id, name, digest, status, task, next, continues, priority, max_retries, retention_ms, "
        "delay_ms, timeout_ms, max_iterations, labels, set_id) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
        v_int(loop->id), v_text(op->name), v_blob((struct span){(const char *)op->digest, sizeof op->digest}),
        v_int(loop->status), v_int(spec->task), v_int(spec->next), v_int(spec->continues), v_int(spec->priority),
        v_int(spec->max_retries), v_int(spec->retention_ms), v_int(spec->delay_ms), v_time(spec->timeout_ms),
        v_time(spec->max_iterations), v_text(spec->labels), v_time(loop->set));
}

static struct loop loop_of(const struct loop_spec *spec)
{
    return (struct loop){
        .status = LOOP_ACTIVE,
        .task = spec->task,
        .next = spec->next,
        .continues = spec->continues,
        .priority = spec->priority,
        .max_retries = spec->max_retries,
        .retention_ms = spec->retention_ms,
        .delay_ms = spec->delay_ms,
        .timeout_ms = spec->timeout_ms,
        .max_iterations = spec->max_iterations,
        .labels = spec->labels,
        .slot = -1,
    };
}

static enum err make(struct tx *tx, struct op_loop_make *op)
{
    struct loop loop = loop_of(&op->spec);
    enum err err = set_join(tx, &op->spec.set, &loop.set);
    op->id = loop.id = id_next(&tx->store->ids, tx->id_now);
    if (loop.id > tx->highest_removed) /* nobody else has it, also when no iteration is made */
        tx->highest_removed = loop.id;
    if (err == OK)
        err = insert_loop(tx, op, &loop);
    if (err == OK)
        err = loop_set_args(tx, &loop, op->spec.args);
    loop_note(tx, &loop);
    return err == OK ? loop_settle(tx, &loop, 0) : err;
}

static enum err apply_make(struct tx *tx, struct op *base)
{
    struct op_loop_make *op = (struct op_loop_make *)base;
    op->there = false;
    enum err err = op->name.p ? find_named(tx, op) : ERR_NOT_FOUND;
    return err == ERR_NOT_FOUND ? make(tx, op) : err;
}

void op_loop_make_init(struct op_loop_make *op)
{
    static const struct op_class class = {.name = "loop", .apply = apply_make, .several = op_is_several};
    *op = (struct op_loop_make){0};
    op_init(&op->op, &class);
}

/* --- what a client asks ------------------------------------------------------------------ */

/* Has the current iteration begun? One that has suspended and is queued again has. */
static enum err has_begun(struct tx *tx, int64_t id, bool *begun)
{
    int64_t unstarted;
    enum err err =
        DB_NUMBER(tx->db, &unstarted, 0,
                  "SELECT 1 FROM invocations WHERE id = $1 AND attempt = 0 AND flags & " SQL_FLAG_SUSPENDED
                  " = 0 AND status IN (" SQL_SCHEDULED ", " SQL_QUEUED ", " SQL_NUMBER(STATUS_NUMBER_HELD) ")",
                  v_int(id));
    *begun = !unstarted;
    return err;
}

/* One that has not begun is taken back: it is cancelled, and counts for nothing. Its
 * arguments are the loop's. */
static enum err take_back(struct tx *tx, struct loop *loop)
{
    bool begun = false;
    int64_t id = loop->invocation;
    enum err err = id ? has_begun(tx, id, &begun) : OK;
    if (err != OK || !id || begun)
        return err;
    loop->invocation = 0;
    err = loop_write_turn(tx, loop);
    return err == OK ? alter_cancel_one(tx, id) : err;
}

/* Where it is to be if its current iteration has begun, and if it has none. */
static enum err come_to_rest(struct tx *tx, struct loop *loop, enum loop_status meanwhile, enum loop_status then)
{
    enum err err = take_back(tx, loop);
    loop->status = loop->invocation ? meanwhile : then;
    if (loop_is_final(loop->status))
        loop_end(tx, loop, loop->status);
    if (err == OK && !loop->invocation)
        err = loop_settle(tx, loop, 0);
    return err == OK ? loop_write_state(tx, loop) : err;
}

static enum err pause_one(struct tx *tx, struct loop *loop)
{
    return loop->status == LOOP_PAUSED ? OK : come_to_rest(tx, loop, LOOP_PAUSED, LOOP_PAUSED);
}

static enum err stop_one(struct tx *tx, struct loop *loop)
{
    return loop->status == LOOP_STOPPING || loop_is_final(loop->status)
               ? OK
               : come_to_rest(tx, loop, LOOP_STOPPING, LOOP_STOPPED);
}

/* Its iteration may still be under way, and goes on then. */
static enum err resume_one(struct tx *tx, struct loop *loop)
{
    if (loop->max_iterations && loop->iteration >= loop->max_iterations)
        return ERR_LIMIT;
    loop->status = LOOP_ACTIVE;
    loop->error = (struct span){NULL, 0};
    loop->finished_at = 0;
    enum err err = loop->invocation ? OK : loop_settle(tx, loop, 0);
    return err == OK ? loop_write_state(tx, loop) : err;
}

/* An iteration that has begun is cancelled as any is; if it runs, its end comes later, and counts. */
static enum err cancel_one(struct tx *tx, struct loop *loop)
{
    if (loop_is_final(loop->status))
        return OK;
    enum err err = come_to_rest(tx, loop, LOOP_CANCELLED, LOOP_CANCELLED);
    return err == OK && loop->invocation ? alter_cancel_one(tx, loop->invocation) : err;
}

static enum err remove_one(struct tx *tx, struct loop *loop)
{
    if (loop->invocation)
        return ERR_CONFLICT;
    enum err err = DB_EXECUTE(tx->db, "DELETE FROM loops WHERE id = $1", v_int(loop->id));
    if (err == OK)
        err = DB_EXECUTE(tx->db, "DELETE FROM payloads WHERE id = $1", v_int(loop->id));
    struct change *change = loop_note(tx, loop);
    change->follow_up = loop->flags & LOOP_INBOX;
    if (err == OK && change->follow_up)
        err = follow_up_note(tx, FOLLOW_UP_REMOVE, loop->id);
    return err == OK && loop->set ? set_leave(tx, loop->set) : err;
}

#define AT(status) (1u << LOOP_##status)
static const struct {
    unsigned from;
    enum err (*one)(struct tx *tx, struct loop *loop);
} alterations[] = {
    [LOOP_PAUSE] = {AT(ACTIVE) | AT(PAUSED), pause_one},
    [LOOP_RESUME] = {AT(PAUSED) | AT(FAILED), resume_one},
    [LOOP_STOP] = {~0u, stop_one},
    [LOOP_CANCEL] = {~0u, cancel_one},
    [LOOP_DELETE] = {AT(STOPPED) | AT(SUCCEEDED) | AT(FAILED) | AT(CANCELLED), remove_one},
};

enum err loop_alter_one(struct tx *tx, enum loop_alter what, int64_t id, enum loop_status *was)
{
    struct loop loop;
    enum err err = loop_read(tx, id, &loop);
    if (err != OK)
        return err;
    *was = loop.status;
    return alterations[what].from & 1u << loop.status ? alterations[what].one(tx, &loop) : ERR_CONFLICT;
}

/* What holds for the next iteration whatever the current one gives. */
static enum err patch_one(struct tx *tx, const struct op_loop_alter *op, struct loop *loop)
{
    enum err err = OK;
    if (op->patch.task)
        loop->task = op->patch.task;
    if (op->patch.set_delay)
        loop->delay_ms = op->patch.delay_ms;
    if (op->patch.set_args) {
        err = loop_set_args(tx, loop, op->patch.args);
        loop->flags |= loop->invocation ? LOOP_PATCHED : 0;
    }
    if (err == OK)
        err = loop_write_turn(tx, loop);
    return err == OK ? loop_write_state(tx, loop) : err;
}

static enum err patch(struct tx *tx, struct op_loop_alter *op)
{
    struct loop loop;
    enum err err = loop_read(tx, op->id, &loop);
    if (err != OK)
        return err;
    op->status = loop.status;
    return loop.status == LOOP_PAUSED || loop.status == LOOP_FAILED ? patch_one(tx, op, &loop) : ERR_CONFLICT;
}

static enum err apply_alter(struct tx *tx, struct op *base)
{
    struct op_loop_alter *op = (struct op_loop_alter *)base;
    enum err err = loop_find(tx->db, op->ref, &op->id);
    if (err != OK)
        return err;
    return op->what == LOOP_PATCH ? patch(tx, op) : loop_alter_one(tx, op->what, op->id, &op->status);
}

void op_loop_alter_init(struct op_loop_alter *op, enum loop_alter what, struct loop_ref ref)
{
    static const struct op_class class = {.name = "loop_alter", .apply = apply_alter, .several = op_is_several};
    *op = (struct op_loop_alter){.what = what, .ref = ref};
    op_init(&op->op, &class);
}

/* --- what time asks ------------------------------------------------------------------------ */

enum { STEP_ROWS = 100, HELD_MS = 60000 };

static enum err collect(struct tx *tx, const char *sql, int64_t *ids, int *count)
{
    struct db_stmt *stmt = DB_QUERY(tx->db, sql, v_int(tx->now), v_int(STEP_ROWS));
    if (!stmt)
        return ERR_DB;
    bool row;
    enum err err;
    *count = 0;
    while ((err = db_step(stmt, &row)) == OK && row)
        ids[(*count)++] = db_int(stmt, 0);
    db_reset(stmt);
    return err;
}

/* It rested without a slot, and is to have one again. */
static enum err rested(struct tx *tx, int64_t id)
{
    struct loop loop;
    enum err err = loop_read(tx, id, &loop);
    if (err != OK)
        return err;
    loop.due_at = 0;
    err = loop_settle(tx, &loop, 0);
    return err == OK ? loop_write_state(tx, &loop) : err;
}

/* A cancelled one whose iteration still runs is looked at later. */
static enum err prune_one(struct tx *tx, int64_t id)
{
    enum loop_status was;
    enum err err = loop_alter_one(tx, LOOP_DELETE, id, &was);
    return err == ERR_CONFLICT ? DB_EXECUTE(tx->db, "UPDATE loops SET prune_at = $2 WHERE id = $1", v_int(id),
                                            v_int(tx->now + HELD_MS))
                               : err;
}

#define NEXT_DUE "SELECT due_at FROM loops WHERE due_at IS NOT NULL ORDER BY due_at LIMIT 1"
#define NEXT_PRUNE "SELECT prune_at FROM loops WHERE prune_at IS NOT NULL ORDER BY prune_at LIMIT 1"

static enum err next_time(struct tx *tx, int64_t *at)
{
    int64_t due = 0, prune = 0;
    enum err err = DB_NUMBER(tx->db, &due, 0, NEXT_DUE);
    if (err == OK)
        err = DB_NUMBER(tx->db, &prune, 0, NEXT_PRUNE);
    *at = due && (!prune || due < prune) ? due : prune;
    return err;
}

enum err loops_upkeep(struct tx *tx, struct op_upkeep *op)
{
    static const char due[] = "SELECT id FROM loops WHERE due_at IS NOT NULL AND due_at <= $1 "
                              "ORDER BY due_at LIMIT $2";
    static const char past[] = "SELECT id FROM loops WHERE prune_at IS NOT NULL AND prune_at <= $1 "
                               "ORDER BY prune_at LIMIT $2";
    int64_t ids[STEP_ROWS];
    int count;
    enum err err = collect(tx, due, ids, &count);
    for (int i = 0; i < count && err == OK; i++)
        err = rested(tx, ids[i]);
    op->more = count == STEP_ROWS;
    if (err == OK)
        err = collect(tx, past, ids, &count);
    for (int i = 0; i < count && err == OK; i++)
        err = prune_one(tx, ids[i]);
    op->more |= count == STEP_ROWS;
    return err == OK ? next_time(tx, &op->next_at) : err;
}
