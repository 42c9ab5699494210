/* Submitting: one insert, and a few more where there are labels, large
 * arguments or an idempotency key. */
#include "store/transition.h"

#include "base/json.h"
#include "store/callback.h"
#include "store/children.h"
#include "store/groups.h"
#include "store/holds.h"
#include "store/cached.h"
#include "store/deadline.h"
#include "store/internal.h"
#include "store/unique.h"

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
    return err == ERR_NOT_FOUND ? further_key_find(tx, s) : err;
}

static enum err check_room(struct tx *tx, struct submission *s)
{
    int64_t waiting;
    enum err err = tx_count_of(tx, s->task, STATUS_BIT(STATUS_SCHEDULED) | STATUS_BIT(STATUS_QUEUED), &waiting);
    return err == OK && waiting >= s->max_queued ? ERR_LIMIT : err;
}

static void prepare(struct tx *tx, struct submission *s)
{
    s->id = s->preset_id ? s->preset_id : id_next(&tx->store->ids, tx->id_now);
    s->status = hold_is_wanted(s) ? STATUS_HELD : s->run_at > tx->now ? STATUS_SCHEDULED : STATUS_QUEUED;
}

/* Is all that it comes after there, and the group that it joins? */
static enum err find_place(struct tx *tx, struct submission *s)
{
    enum err err = s->after_count ? dependencies_check(tx, s) : OK;
    bool joins = s->group && !s->preset_id;
    if (err == OK && joins && s->key.p) { /* a replay is no second member */
        err = replay(tx, s);
        err = err == ERR_NOT_FOUND ? OK : err;
    }
    return err == OK && joins && !s->replayed ? group_admit(tx, s) : err;
}

/* What stands beside the row. */
static enum err insert_rest(struct tx *tx, struct submission *s)
{
    enum err err = s->parent ? children_note(tx, s) : OK;
    if (err == OK && s->labels.p)
        err = insert_labels(tx, s->id, s->labels);
    if (err == OK && s->group && !s->preset_id)
        err = group_note_member(tx, s);
    if (err == OK && s->callback.p)
        err = callback_note_invocation(tx, s);
    if (err == OK && s->callback.p && status_is_final(s->status)) /* with the result of another */
        err = callback_due_invocation(tx, s->id, s->status);
    return err == OK && s->status == STATUS_HELD ? hold_note(tx, s) : err;
}

/* Its key was there, or who has its place: then it is none of its own. */
static enum err take_place(struct tx *tx, struct submission *s)
{
    enum err err = s->key.p ? replay(tx, s) : ERR_NOT_FOUND;
    return err == ERR_NOT_FOUND ? unique_take(tx, s) : err;
}

/* New work is refused; what was accepted before is still found. */
static enum err find_room(struct tx *tx, struct submission *s)
{
    enum err err = check_room(tx, s);
    if (err != ERR_LIMIT || !s->key.p)
        return err;
    enum err found = replay(tx, s);
    return found == ERR_NOT_FOUND ? ERR_LIMIT : found;
}

static enum err insert(struct tx *tx, struct submission *s)
{
    bool taken;
    enum err err = transition_insert(tx, s, &taken);
    if (err == OK && taken)
        return replay(tx, s);
    return err == OK ? insert_rest(tx, s) : err;
}

/* What comes after others, or others after it, runs itself: they look at its end. */
static bool may_be_answered(const struct submission *s)
{
    return s->particulars && s->particulars->cached.for_ms && !s->composed && !hold_is_wanted(s) &&
           !s->may_have_dependents;
}

static enum err place_and_insert(struct tx *tx, struct submission *s)
{
    bool final = status_is_final(s->status);
    enum err err = s->max_queued && !final ? find_room(tx, s) : OK;
    if (err == OK && !s->replayed)
        err = find_place(tx, s);
    if (err != OK || s->replayed)
        return err;
    s->status = s->held_by_group && !final ? STATUS_HELD : s->status;
    return insert(tx, s);
}

/* Another has the place of a member: it is there all the same, and cancelled. */
static enum err insert_duplicate(struct tx *tx, struct submission *s, int64_t id)
{
    struct particulars *particulars = s->particulars;
    s->particulars = NULL;
    s->replayed = s->not_unique = false;
    s->id = id;
    s->status = STATUS_HELD;
    enum err err = insert(tx, s);
    s->particulars = particulars;
    s->status = STATUS_CANCELLED;
    return err == OK ? alter_cancel_as(tx, id, STATUS_ANY & ~STATUS_FINALS,
                                       SPAN("{\"type\":\"duplicate\",\"message\":\"another one is there already, "
                                            "and it is to be unique\"}"))
                     : err;
}

static enum err insert_particular(struct tx *tx, struct submission *s)
{
    int64_t id = s->id;
    bool needs_place = s->particulars->unique.scope;
    enum err err = needs_place ? take_place(tx, s) : OK;
    if (needs_place && s->preset_id && (s->replayed || (err == ERR_BUSY && s->not_unique)))
        return insert_duplicate(tx, s, id);
    if (err == OK && !s->replayed && may_be_answered(s))
        err = cached_find(tx, s);
    if (err != OK || s->replayed)
        return err;
    err = place_and_insert(tx, s);
    buf_release(&s->particulars->cached.result); /* it is in the row */
    if (needs_place && err == OK && !s->replayed && status_is_final(s->status))
        err = unique_ended(tx, id);
    if (needs_place && !err_is_fault(err) && (err != OK || s->replayed)) {
        enum err untaken = unique_untake(tx, id);
        return untaken == OK ? err : untaken;
    }
    return err;
}

enum err submission_insert(struct tx *tx, struct submission *s)
{
    s->replayed = s->not_unique = false;
    enum err err = s->parent ? children_find(tx, s) : OK;
    if (err == OK && !s->replayed && s->parent_particular && !s->detached)
        err = deadline_inherit(tx, s);
    if (err != OK || s->replayed)
        return err;
    prepare(tx, s);
    return s->particulars ? insert_particular(tx, s) : place_and_insert(tx, s);
}

/* Nothing is to be looked at before it is inserted. */
static bool is_plain(const struct submission *s)
{
    return !s->max_queued && transition_insert_is_plain(s);
}

static enum err insert_rows(struct tx *tx, struct submission *const *rows, int count)
{
    for (int i = 0; i < count; i++) {
        prepare(tx, rows[i]);
        rows[i]->replayed = false;
        rows[i]->err = OK;
    }
    return transition_insert_rows(tx, rows, count);
}

/* Inserts the first of these, or as many of the first as one statement does: *n of them. */
enum err submission_insert_some(struct tx *tx, struct submission *items, int count, int *n)
{
    struct submission *rows[TRANSITION_INSERT_MAX];
    int plain = 0;
    for (; plain < count && plain < TRANSITION_INSERT_MAX && is_plain(&items[plain]); plain++)
        rows[plain] = &items[plain];
    *n = transition_insert_together(plain);
    if (*n)
        return insert_rows(tx, rows, *n);
    *n = 1;
    return items->err = submission_insert(tx, items);
}

static enum err apply_submit(struct tx *tx, struct op *base)
{
    struct op_submit *op = (struct op_submit *)base;
    for (int n, i = 0; i < op->count; i += n) {
        enum err err = submission_insert_some(tx, &op->items[i], op->count - i, &n);
        if (err_is_fault(err))
            return err;
    }
    return OK;
}

/* --- single ones that stand side by side ------------------------------------------- */

static int submits_together(const struct op *first)
{
    int count = 0;
    for (const struct op *op = first; op && op->class == first->class && count < TRANSITION_INSERT_MAX;
         op = op->next) {
        const struct op_submit *submit = (const struct op_submit *)op;
        if (submit->count != 1 || !is_plain(submit->items))
            break;
        count++;
    }
    return transition_insert_together(count);
}

static enum err apply_submits(struct tx *tx, struct op *first, int count)
{
    struct submission *rows[TRANSITION_INSERT_MAX];
    struct op *op = first;
    for (int i = 0; i < count; i++, op = op->next)
        rows[i] = ((struct op_submit *)op)->items;
    return insert_rows(tx, rows, count);
}

static bool several_submits(const struct op *base)
{
    const struct op_submit *op = (const struct op_submit *)base;
    const struct submission *s = op->items;
    return op->count > 1 || (op->count == 1 && (s->labels.p || s->parent || s->particulars || s->callback.p ||
                                                s->args.len > INLINE_MAX || s->group || hold_is_wanted(s)));
}

void op_submit_init(struct op_submit *op, struct submission *items, int count)
{
    static const struct op_class class = {
        .name = "submit",
        .apply = apply_submit,
        .together = submits_together,
        .apply_together = apply_submits,
        .several = several_submits,
    };
    *op = (struct op_submit){.items = items, .count = count};
    op_init(&op->op, &class);
}
