/* Submitting: one insert, and a few more where there are labels, large
 * arguments or an idempotency key. */
#include "store/transition.h"

#include "base/json.h"
#include "store/children.h"
#include "store/internal.h"

static enum err insert_labels(struct tx *tx, int64_t id, struct span labels)
{
    struct json_iter it = json_iter(labels);
    struct span key, value;
    struct buf name = {0}, text = {0};
    enum err err = OK;
    while (err == OK && json_member(&it, &key, &value)) {
        name.len = text.len = 0;
        json_unescape(key, &name);
        json_unescape(value, &text);
        err = DB_EXECUTE(tx->db, "INSERT INTO labels (name, value, id) VALUES ($1, $2, $3)",
                         v_text(buf_span(&name)), v_text(buf_span(&text)), v_int(id));
    }
    buf_release(&name);
    buf_release(&text);
    return err;
}

static bool is_digest(struct span stored, const uint8_t digest[32])
{
    return stored.len == 32 && memcmp(stored.p, digest, 32) == 0;
}

/* The key was taken: by the same submission, or by another? */
static enum err replay(struct tx *tx, struct submission *s)
{
    struct db_stmt *stmt = DB_QUERY(
        tx->db,
        "SELECT id, status, key_digest FROM invocations WHERE key_owner = $1 AND key = $2 AND key IS NOT NULL",
        v_text(key_owner(s->key_owner)), v_text(s->key));
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    if (err == OK) {
        struct span digest = db_span(stmt, 2);
        s->id = db_int(stmt, 0);
        s->status = (enum status)db_int(stmt, 1);
        s->replayed = true;
        if (!is_digest(digest, s->key_digest) && !is_digest(digest, s->key_digest_sent))
            err = ERR_MISMATCH;
    }
    db_reset(stmt);
    return err;
}

static enum err check_room(struct tx *tx, struct submission *s)
{
    int64_t waiting;
    enum err err = tx_count_of(tx, s->task, STATUS_BIT(STATUS_SCHEDULED) | STATUS_BIT(STATUS_QUEUED), &waiting);
    return err == OK && waiting >= s->max_queued ? ERR_LIMIT : err;
}

enum err submission_insert(struct tx *tx, struct submission *s)
{
    bool taken;
    s->replayed = false;
    enum err err = s->parent ? children_find(tx, s) : OK;
    if (err == OK && !s->replayed && s->max_queued)
        err = check_room(tx, s);
    if (err == ERR_LIMIT && s->key.p) { /* new work is refused; what was accepted before is still found */
        enum err found = replay(tx, s);
        err = found == ERR_NOT_FOUND ? ERR_LIMIT : found;
    }
    if (err != OK || s->replayed)
        return err;
    s->id = id_next(&tx->store->ids, tx->id_now);
    s->status = s->run_at > tx->now ? STATUS_SCHEDULED : STATUS_QUEUED;
    err = transition_insert(tx, s, &taken);
    if (err == OK && taken)
        return replay(tx, s);
    if (err == OK && s->parent)
        err = children_note(tx, s);
    return err == OK && s->labels.p ? insert_labels(tx, s->id, s->labels) : err;
}

static enum err apply_submit(struct tx *tx, struct op *base)
{
    struct op_submit *op = (struct op_submit *)base;
    for (int i = 0; i < op->count; i++) {
        struct submission *s = &op->items[i];
        s->err = submission_insert(tx, s);
        if (err_is_fault(s->err))
            return s->err;
    }
    return OK;
}

static bool several_submits(const struct op *base)
{
    const struct op_submit *op = (const struct op_submit *)base;
    const struct submission *s = op->items;
    return op->count > 1 || (op->count == 1 && (s->labels.p || s->parent || s->args.len > INLINE_MAX));
}

void op_submit_init(struct op_submit *op, struct submission *items, int count)
{
    static const struct op_class class = {.name = "submit", .apply = apply_submit, .several = several_submits};
    *op = (struct op_submit){.items = items, .count = count};
    op_init(&op->op, &class);
}
