#include "store/holds.h"
#include "tests/sim/model_internal.h"

/* --- submitting --------------------------------------------------------------------- */

void row_insert(struct model *model, struct submission *s)
{
    s->id = s->preset_id ? s->preset_id : id_take(model);
    s->status = hold_is_wanted(s) ? STATUS_HELD : s->run_at > model->now ? STATUS_SCHEDULED : STATUS_QUEUED;
    struct row *row = row_add(model, s->id);
    row->task = s->task;
    row->status = s->status;
    row->priority = s->priority;
    row->max_retries = s->max_retries;
    row->retention_ms = s->retention_ms;
    row->run_at = s->run_at;
    row->expires_at = s->expires_at;
    row->group = s->group;
    row->follow = hold_is_dependent(s) ? FOLLOW_DEPENDENT : 0;
    row->flags = s->status == STATUS_HELD && hold_has_row(s) ? FLAG_HOLDS : 0;
    struct change note = {.expires_at = s->expires_at};
    if (s->status == STATUS_HELD) {
        note.release_by = s->release_by;
    } else if (s->status == STATUS_SCHEDULED) {
        note.due_at = s->run_at;
    } else {
        note.ready = row_ready(row);
        note.ready.run_at = 0;
    }
    row_moved(model, row, 0, 0, note);
    if (s->status == STATUS_HELD)
        held_note(model, row, s);
}

void client_submit(struct model *model, struct deed *deed)
{
    struct submission *s = deed->submit.items;
    s->err = held_check(model, s);
    if (s->err == OK && s->group)
        s->err = group_joins(model, s);
    if (s->err == OK)
        row_insert(model, s);
}

/* --- to an end without a turn's report --------------------------------------------------- */

/* What has not started, or has suspended. */
static void end_unstarted(struct model *model, struct row *row, enum status to, enum why why)
{
    enum status from = row->status;
    struct change note = {
        .withdrawn = from == STATUS_QUEUED, .old_priority = row->priority, .old_rank = row_rank(row)};
    row->status = to;
    row->finished_at = model->now;
    row->prune_at = row->group ? 0 : model->now + row->retention_ms;
    row->why = why;
    row->ranked = false;
    row->follow = 0;
    note.prune_at = row->prune_at;
    row_moved(model, row, from, ~0u, note);
}

void row_cancel(struct model *model, struct row *row, unsigned statuses, enum why why)
{
    if (!(statuses & STATUS_BIT(row->status)))
        return;
    bool turn = row->status == STATUS_RUNNING || (row->status == STATUS_WAITING && row->lease);
    if (!row->cancel_at || !turn)
        row->cancel_at = model->now;
    if (!turn) {
        end_unstarted(model, row, STATUS_CANCELLED, why);
        return;
    }
    row->follow |= FOLLOW_CANCEL;
    model_note(model, row->id, row->task, row->status, row->status)->cancel = true;
}

void row_expire(struct model *model, struct row *row)
{
    end_unstarted(model, row, STATUS_FAILED, WHY_EXPIRED);
}

/* --- back ------------------------------------------------------------------------------------ */

void row_back(struct model *model, struct row *row, enum status to)
{
    enum status from = row->status;
    row->status = to;
    row->failures = row->recoveries = row->deaths = 0;
    row->failed++;
    row->run_at = row->expires_at = row->finished_at = row->prune_at = row->cancel_at = 0;
    row->ranked = false;
    row->why = WHY_NONE;
    row_clear_turn(row);
    row_moved(model, row, from, 0, (struct change){.ready = row_ready(row)});
}

/* Budgets are what they are to be already. */
void row_lost(struct model *model, struct row *row, enum status to, enum why why)
{
    enum status from = row->status;
    int64_t old_rank = row->rank;
    struct change note = {0};
    row->status = to;
    row->lease = 0;
    (void)old_rank;
    if (to == STATUS_QUEUED) {
        row->expires_at = 0;
        row_clear_turn(row);
        note.ready = row_ready(row);
        row_moved(model, row, from, 0, note);
        return;
    }
    note.old_priority = row->priority;
    row->finished_at = model->now;
    row->prune_at = note.prune_at = row->group ? 0 : model->now + row->retention_ms;
    row->why = why;
    row->lease_until = 0;
    row->waits_left = 0;
    row->ranked = false;
    row->follow = 0;
    note.withdrawn = from == STATUS_QUEUED;
    row_moved(model, row, from, ~0u, note);
}

/* --- altering ---------------------------------------------------------------------------------- */

static void patch(struct model *model, struct row *row, const struct op_alter *op)
{
    enum status from = row->status;
    struct change note = {
        .withdrawn = from == STATUS_QUEUED, .old_priority = row->priority, .old_rank = row_rank(row)};
    row->run_at = op->set_run_at ? op->run_at : row->run_at;
    row->priority = op->set_priority ? op->priority : row->priority;
    if (from == STATUS_HELD) /* in place of a delay from its release */
        row->held.delay_ms = op->set_run_at ? 0 : row->held.delay_ms;
    else
        row->status = row->run_at > model->now ? STATUS_SCHEDULED : STATUS_QUEUED;
    note.ready = row_ready(row);
    note.expires_at = row->expires_at;
    note.due_at = row->status == STATUS_SCHEDULED ? row->run_at : 0;
    row_moved(model, row, from, 0, note);
}

static enum err alter(struct model *model, struct row *row, const struct op_alter *op)
{
    enum status status = row->status;
    switch (op->what) {
    case ALTER_CANCEL: row_cancel(model, row, STATUS_ANY & ~STATUS_FINALS, WHY_NONE); return OK;
    case ALTER_RETRY:
        return status == STATUS_FAILED || status == STATUS_CANCELLED ? held_retry(model, row) : ERR_CONFLICT;
    case ALTER_PATCH:
        if (status != STATUS_HELD && status != STATUS_SCHEDULED && status != STATUS_QUEUED)
            return ERR_CONFLICT;
        patch(model, row, op);
        return OK;
    case ALTER_DELETE:
        if (!status_is_final(status) || row->group || row_is_kept(model, row->id))
            return ERR_CONFLICT;
        row_remove(model, row);
        return OK;
    }
    return ERR_INVALID;
}

void client_alter(struct model *model, struct deed *deed)
{
    struct row *row = model_row(model, *deed->alter.ids);
    deed->op.err = row ? alter(model, row, &deed->alter) : ERR_NOT_FOUND;
}
