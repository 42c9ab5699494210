/* Making groups: their row, and their members, all or nothing. */
#include "store/groups.h"

#include "store/callback.h"
#include "store/children.h"
#include "store/holds.h"
#include "store/internal.h"
#include "store/transition.h"

/* --- the group's own row ------------------------------------------------------------- */

static enum err replay(struct tx *tx, struct group_submission *g)
{
    struct db_stmt *stmt =
        DB_QUERY(tx->db, "SELECT id, key_digest FROM groups WHERE key_owner = $1 AND key = $2 AND key IS NOT NULL",
                 v_text(key_owner(g->key_owner)), v_text(g->key));
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    if (err == OK) {
        struct span digest = db_span(stmt, 1);
        g->id = db_int(stmt, 0);
        g->replayed = true;
        if (digest.len != sizeof g->key_digest || memcmp(digest.p, g->key_digest, sizeof g->key_digest) != 0)
            err = ERR_MISMATCH;
    }
    db_reset(stmt);
    return err == ERR_NOT_FOUND ? OK : err;
}

/* What it is to the turn that submits it, as any child. */
static struct submission as_child(const struct group_submission *g)
{
    return (struct submission){
        .id = g->id,
        .parent = g->parent,
        .parent_lease = g->parent_lease,
        .parent_failed = g->parent_failed,
        .step = g->step,
        .detached = g->detached,
        .is_group = true,
    };
}

static enum err find_step(struct tx *tx, struct group_submission *g)
{
    struct submission child = as_child(g);
    enum err err = children_find(tx, &child);
    g->parent_failed = child.parent_failed;
    g->parent_cancelled = child.parent_cancelled;
    g->replayed = err == OK && child.replayed;
    g->id = g->replayed ? child.id : 0;
    return err;
}

static int first_state(const struct op_group *op)
{
    const struct group_submission *g = op->group;
    return (g->hold || !op->last ? GROUP_IS_HELD : 0) | (g->open ? GROUP_IS_OPEN : 0) |
           (g->fail_fast ? GROUP_FAILS_FAST : 0) | (op->last ? 0 : GROUP_IS_MAKING);
}

static enum err insert_group(struct tx *tx, const struct op_group *op)
{
    const struct group_submission *g = op->group;
    bool key = g->key.p;
    return DB_EXECUTE(tx->db,
                      "INSERT INTO groups (id, mode, state, total, retention_ms, labels, release_by, key_owner, "
                      "key, key_digest) "
                      "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
                      v_int(g->id), v_int(g->mode), v_int(first_state(op)), v_int(g->total),
                      v_int(g->retention_ms), v_text(g->labels), v_time(g->release_by),
                      v_text(key ? key_owner(g->key_owner) : g->key), v_text(g->key),
                      v_blob(key ? (struct span){(const char *)g->key_digest, sizeof g->key_digest} : g->key));
}

static enum err insert_rest(struct tx *tx, const struct op_group *op)
{
    const struct group_submission *g = op->group;
    enum err err = g->common_args.p ? insert_payload(tx, g->id, PAYLOAD_COMMON_ARGS, g->common_args) : OK;
    if (err == OK && !op->last)
        err = DB_EXECUTE(tx->db, "INSERT INTO groups_making (id, holder) VALUES ($1, $2)", v_int(g->id),
                         v_int(tx->store->options.node));
    if (err == OK && g->callback.p)
        err = callback_note(tx, &(struct callback){g->id, CALLBACK_GROUP, g->callback, g->callback_place});
    struct submission child = as_child(g);
    return err == OK && g->parent ? children_note(tx, &child) : err;
}

/* Ids for all members: whoever comes later, in this group or not, has a higher one. */
static enum err begin(struct tx *tx, struct op_group *op)
{
    struct group_submission *g = op->group;
    g->replayed = false;
    enum err err = g->parent ? find_step(tx, g) : g->key.p ? replay(tx, g) : OK;
    if (err != OK || g->replayed)
        return err;
    g->id = id_next(&tx->store->ids, tx->id_now);
    for (int i = 0; i < g->total; i++)
        g->ids[i] = id_next(&tx->store->ids, tx->id_now);
    err = insert_group(tx, op);
    return err == OK ? insert_rest(tx, op) : err;
}

/* --- members ---------------------------------------------------------------------------- */

static void prepare(const struct op_group *op, int i)
{
    const struct group_submission *g = op->group;
    struct submission *s = &op->items[i];
    bool alone = op->first && op->last;
    s->group = g->id;
    s->index = op->from + i;
    s->preset_id = g->ids[s->index];
    s->member_ids = g->ids;
    s->held_by_group = g->hold || !alone;
    s->is_link = g->mode == GROUP_CHAIN && s->index > 0 && !s->after_member_count;
    s->may_have_dependents = g->mode != GROUP_PARALLEL;
}

enum err group_note_member(struct tx *tx, const struct submission *s)
{
    enum err err =
        DB_EXECUTE(tx->db, "INSERT INTO members (grp, id) VALUES ($1, $2)", v_int(s->group), v_int(s->id));
    return err == OK && s->name.p
               ? DB_EXECUTE(tx->db, "INSERT INTO member_names (grp, name, id) VALUES ($1, $2, $3)",
                            v_int(s->group), v_text(s->name), v_int(s->id))
               : err;
}

/* As many of the first as one statement does, or one. */
static enum err insert_some(struct tx *tx, struct op_group *op, int at, int *n)
{
    enum err err = submission_insert_some(tx, op->items + at, op->count - at, n);
    for (int i = at; i < at + *n && err == OK; i++)
        err = group_note_member(tx, &op->items[i]);
    if (err != OK) {
        op->bad = op->from + at;
        op->bad_id = op->items[at].missing;
    }
    return err;
}

/* --- the last of them ---------------------------------------------------------------------- */

static enum err end_making(struct tx *tx, struct op_group *op)
{
    struct group_submission *g = op->group;
    enum err err = DB_EXECUTE(tx->db, "DELETE FROM groups_making WHERE id = $1", v_int(g->id));
    if (err == OK && db_changes(tx->db) == 0)
        return ERR_UNAVAILABLE; /* it was given up */
    if (err == OK)
        err = DB_EXECUTE(tx->db, "UPDATE groups SET state = state & ~$2 WHERE id = $1", v_int(g->id),
                         v_int(GROUP_IS_MAKING | (g->hold ? 0 : GROUP_IS_HELD)));
    if (err == OK && !g->hold)
        err = follow_up_note(tx, FOLLOW_UP_GROUP_RELEASE, g->id);
    return err;
}

static enum err apply_group(struct tx *tx, struct op *base)
{
    struct op_group *op = (struct op_group *)base;
    struct group_submission *g = op->group;
    op->bad = -1;
    op->bad_id = 0;
    enum err err = op->first ? begin(tx, op) : OK;
    if (err != OK || g->replayed)
        return err;
    for (int i = 0; i < op->count; i++)
        prepare(op, i);
    for (int n, i = 0; i < op->count && err == OK; i += n)
        err = insert_some(tx, op, i, &n);
    bool releases = err == OK && op->last && !op->first && !g->hold;
    if (err == OK && op->last && !op->first)
        err = end_making(tx, op);
    group_touch(tx, g->id);
    tx->changes[tx->count - 1].follow_up = releases;
    tx->changes[tx->count - 1].release_by = g->release_by;
    return err;
}

void op_group_init(struct op_group *op, struct group_submission *group, struct submission *items, int count)
{
    static const struct op_class class = {.name = "group", .apply = apply_group, .several = op_is_several};
    *op = (struct op_group){.group = group, .items = items, .count = count, .first = true, .last = true};
    op_init(&op->op, &class);
}

/* --- one more ------------------------------------------------------------------------------- */

enum err group_admit(struct tx *tx, struct submission *s)
{
    struct db_stmt *stmt = DB_QUERY(tx->db,
                                    "UPDATE groups SET total = total + 1 WHERE id = $1 "
                                    "AND state & " SQL_GROUP_OPEN " <> 0 RETURNING total - 1, state",
                                    v_int(s->group));
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    if (err == OK) {
        s->index = (int)db_int(stmt, 0);
        s->held_by_group = db_int(stmt, 1) & GROUP_IS_HELD;
    }
    db_reset(stmt);
    if (err != ERR_NOT_FOUND)
        return err;
    int64_t found;
    err = DB_NUMBER(tx->db, &found, 0, "SELECT 1 FROM groups WHERE id = $1 AND state & " SQL_GROUP_GONE " = 0",
                    v_int(s->group));
    s->group_closed = err == OK && found;
    s->missing = found ? 0 : s->group;
    return err != OK ? err : found ? ERR_CONFLICT : ERR_NOT_FOUND;
}
