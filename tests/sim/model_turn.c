#include "tests/sim/model_internal.h"

#include <stdlib.h>

/* --- start ---------------------------------------------------------------------- */

static bool may_start(const struct row *row, const struct op_claim *claim)
{
    return row && row->status == STATUS_QUEUED && row->attempt == claim->turn.turn.attempt - 1 &&
           row->failures == claim->failures;
}

static void take(struct model *model, struct row *row, const struct op_claim *claim)
{
    row->attempt = claim->turn.turn.attempt;
    row->lease = claim->turn.turn.lease;
    row->holder = model->node;
    row->left_to_expire = false;
}

/* Start and end in one write. */
static bool starts_and_ends(struct model *model, struct row *row, const struct op_claim *claim,
                            const struct op_finish *finish)
{
    if (!may_start(row, claim) || row->follow)
        return false;
    take(model, row, claim);
    row->status = finish->status;
    row->finished_at = finish->finished_at;
    row->prune_at = row->group ? 0 : finish->finished_at + row->retention_ms;
    row->why = WHY_NONE;
    row_moved(model, row, STATUS_QUEUED, 0, (struct change){.prune_at = row->prune_at});
    return true;
}

static void refuse(struct model *model, struct deed *deed, const struct row *row)
{
    deed->op.err = row && row->lease == deed->claim.turn.turn.lease ? OK : ERR_CONFLICT;
    if (deed->op.err == OK || !row || row->status != STATUS_QUEUED || deed->claim.resumes)
        return;
    model_note(model, row->id, row->task, STATUS_QUEUED, STATUS_QUEUED)->ready = row_ready(row);
}

void turn_claim(struct model *model, struct deed *deed, struct deed *end)
{
    const struct op_claim *claim = &deed->claim;
    struct row *row = model_row(model, claim->turn.turn.id);
    if (end && starts_and_ends(model, row, claim, &end->finish)) {
        end->finish.written = true;
        return;
    }
    if (!may_start(row, claim)) {
        refuse(model, deed, row);
        return;
    }
    take(model, row, claim);
    row->status = STATUS_RUNNING;
    if (claim->lease_until) {
        row->lease_until = claim->lease_until;
        row->lease_ms = claim->lease_ms;
        row->follow |= FOLLOW_LEASE;
    }
    row_moved(model, row, STATUS_QUEUED, 0, (struct change){0});
}

/* --- end -------------------------------------------------------------------------- */

static enum why why_of(const struct op_finish *finish)
{
    return finish->error.p ? WHY_BODY : WHY_NONE;
}

static void end_finally(struct model *model, struct row *row, const struct op_finish *finish)
{
    enum status from = row->status;
    unsigned follow = row->follow;
    row->status = finish->status;
    row->finished_at = finish->finished_at;
    row->prune_at = row->group ? 0 : finish->finished_at + row->retention_ms;
    row->why = finish->status == STATUS_FAILED ? why_of(finish) : WHY_NONE;
    if (follow || from == STATUS_WAITING) {
        row->lease_until = 0;
        row->waits_left = 0;
        row->ranked = false;
        row->follow = 0;
    }
    row_moved(model, row, from, follow, (struct change){.prune_at = row->prune_at});
}

static void end_for_now(struct model *model, struct row *row, const struct op_finish *finish)
{
    enum status from = row->status;
    bool retry = finish->next == FINISH_RETRY, unstarted = finish->next == FINISH_UNSTARTED;
    row->status = retry && finish->run_at > model->now ? STATUS_SCHEDULED : STATUS_QUEUED;
    row->failures += retry;
    row->failed += retry;
    row->run_at = finish->run_at;
    row->why = why_of(finish);
    row->recoveries += finish->next == FINISH_LOST && finish->pays;
    row->attempt -= unstarted;
    if (!unstarted)
        row->expires_at = 0;
    row_clear_turn(row);
    row_moved(model, row, from, 0,
              (struct change){.ready = row_ready(row),
                              .expires_at = row->expires_at,
                              .due_at = row->status == STATUS_SCHEDULED ? finish->run_at : 0});
}

/* The turn has ended under this lease: so, or otherwise? */
static enum err ended_so(const struct row *row, const struct op_finish *finish)
{
    bool succeeds = finish->next == FINISH_FINAL && finish->status == STATUS_SUCCEEDED;
    bool fails = finish->next == FINISH_RETRY || finish->next == FINISH_LOST ||
                 (finish->next == FINISH_FINAL && finish->status == STATUS_FAILED);
    if (succeeds != (row->status == STATUS_SUCCEEDED))
        return ERR_CONFLICT;
    if (succeeds || !fails || row->status == STATUS_CANCELLED)
        return OK;
    return row->why == why_of(finish) ? OK : ERR_CONFLICT;
}

static void end_turn(struct model *model, struct row *row, const struct op_finish *finish)
{
    struct op_finish as = *finish;
    bool final = finish->next == FINISH_FINAL;
    if (as.next == FINISH_LOST && as.pays && row->recoveries >= as.max_recoveries)
        as.next = FINISH_FINAL;
    if (row->follow & FOLLOW_CANCEL && (!final || as.status == STATUS_FAILED)) {
        as.next = FINISH_FINAL;
        as.status = STATUS_CANCELLED;
    }
    if (as.next == FINISH_FINAL)
        end_finally(model, row, &as);
    else
        end_for_now(model, row, &as);
}

static void hand_over(struct model *model, struct row *row, struct deed *deed)
{
    (void)model;
    deed->op.err = row_in_turn(row, deed->turn.turn.lease) ? OK : ERR_CONFLICT;
    if (deed->op.err != OK)
        return;
    row->lease_until = deed->finish.lease_until;
    row->lease_ms = deed->finish.lease_ms;
    row->follow |= FOLLOW_LEASE;
}

static enum err suspended_by(const struct row *row, int64_t lease)
{
    return row && row->suspension.there && row->suspension.lease == lease ? OK : ERR_CONFLICT;
}

void turn_finish(struct model *model, struct deed *deed)
{
    const struct op_finish *finish = &deed->finish;
    struct row *row = model_row(model, finish->turn.turn.id);
    if (finish->next == FINISH_HAND_OVER)
        hand_over(model, row, deed);
    else if (!row || row->lease != finish->turn.turn.lease)
        deed->op.err = ERR_CONFLICT;
    else if (status_in_turn(row->status))
        end_turn(model, row, finish);
    else
        deed->op.err = ended_so(row, finish);
    if (deed->op.err == ERR_CONFLICT && finish->may_have_suspended)
        deed->op.err = suspended_by(row, finish->turn.turn.lease);
}

/* --- leases --------------------------------------------------------------------------- */

void turn_renew(struct model *model, struct deed *deed)
{
    struct row *row = model_row(model, deed->turn.turn.id);
    deed->renew.cancelled = false;
    if (!row_in_turn(row, deed->turn.turn.lease))
        deed->op.err = ERR_CONFLICT;
    else if (row->lease_until && !(row->follow & FOLLOW_CANCEL))
        row->lease_until = deed->renew.lease_until;
    else
        deed->renew.cancelled = row->cancel_at != 0;
}

void turn_lose(struct model *model, struct deed *deed)
{
    struct op_lose *op = &deed->lose;
    struct row *row = model_row(model, deed->turn.turn.id);
    if (!row_in_turn(row, deed->turn.turn.lease) || row->lease_until != op->lease_until || !op->lease_until) {
        deed->op.err = ERR_CONFLICT;
        return;
    }
    op->became = row->cancel_at                                      ? STATUS_CANCELLED
                 : op->pays && row->recoveries >= op->max_recoveries ? STATUS_FAILED
                                                                     : STATUS_QUEUED;
    row->recoveries += op->pays;
    row_lost(model, row, op->became, op->became == STATUS_FAILED ? WHY_LEASE_LOST : WHY_NONE);
}

/* --- waiting ---------------------------------------------------------------------------- */

/* What it waits for, as it stands. */
struct awaited {
    int left, bad_at;
    bool met;
    int64_t open[TIES_MAX];
};

static enum err look(const struct model *model, const int64_t *ids, int count, bool any, struct awaited *out)
{
    *out = (struct awaited){0};
    for (int i = 0; i < count; i++) {
        const struct row *row = model_row(model, ids[i]);
        const struct group *group = row ? NULL : model_group(model, ids[i]);
        if (!row && (!group || group->state & GROUP_IS_GONE)) {
            out->bad_at = i;
            return ERR_NOT_FOUND;
        }
        bool open = row ? !status_is_final(row->status) : !(group->state & GROUP_HAS_ENDED);
        if (open)
            out->open[out->left++] = ids[i];
    }
    out->met = any ? out->left < count : out->left == 0;
    return OK;
}

static bool waits_for(const struct row *row, int64_t target)
{
    for (int i = 0; i < row->wait_count; i++)
        if (row->waits[i].id == target && !row->waits[i].timed)
            return true;
    for (int i = 0; i < row->after_count; i++)
        if (row->after[i].id == target && row->after[i].state == 0)
            return true;
    return false;
}

/* Who cannot end before `id` does, all the way up; true: one of `ids` is among them. */
static bool is_circle(const struct model *model, int64_t id, const int64_t *ids, int count, int64_t *bad)
{
    int64_t *above = xmalloc((size_t)(model->count + model->group_count + 1) * sizeof *above);
    int n = 0;
    bool found = false;
    above[n++] = id;
    for (int at = 0; at < n && !found; at++) {
        for (int k = 0; k < count && !found; k++) {
            found = ids[k] == above[at];
            if (found)
                *bad = ids[k];
        }
        const struct row *self = model_row(model, above[at]);
        for (int i = 0; i <= model->count && !found; i++) {
            int64_t next = i < model->count ? waits_for(model->rows[i], above[at]) ? model->rows[i]->id : 0
                           : self           ? self->group
                                            : 0;
            for (int k = 0; k < n && next; k++)
                next = above[k] == next ? 0 : next;
            if (next)
                above[n++] = next;
        }
    }
    free(above);
    return found;
}

static void goes_ahead(struct model *model, struct row *row, int priority)
{
    struct change note = {.withdrawn = true, .old_priority = row->priority, .old_rank = row_rank(row)};
    row->priority = priority;
    row->rank = -row->id;
    row->ranked = true;
    if (row->status != STATUS_QUEUED)
        return;
    note.ready = row_ready(row);
    note.expires_at = row->expires_at;
    row_moved(model, row, STATUS_QUEUED, 0, note);
}

static void add_wait(struct row *waiter, int64_t target, bool over, bool timed)
{
    for (int i = 0; i < waiter->wait_count; i++)
        if (waiter->waits[i].id == target)
            return;
    waiter->waits[waiter->wait_count++] = (struct tie){target, over, timed};
}

static void wait_for_one(struct model *model, struct row *waiter, int64_t id, int priority, bool timed)
{
    struct row *target = model_row(model, id);
    add_wait(waiter, id, false, timed);
    if (!target)
        return;
    priority = target->priority < priority ? target->priority : priority;
    target->follow |= FOLLOW_WAITED;
    if (target == waiter &&
        waiter->status == STATUS_WAITING) /* itself, and it has suspended since it was looked at */
        return;
    if (!(row_rank(target) < 0 && target->priority <= priority))
        goes_ahead(model, target, priority);
}

static void register_waits(struct model *model, struct row *waiter, const struct awaited *on, const int64_t *ids,
                           int count, bool timed)
{
    for (int i = 0; i < on->left; i++)
        wait_for_one(model, waiter, on->open[i], waiter->priority, timed);
    for (int i = 0; i < count && on->left < count; i++)
        add_wait(waiter, ids[i], true, timed);
}

static void between(struct model *model, struct row *row, enum status to, int left)
{
    enum status from = row->status;
    row->status = to;
    row->waits_left = left;
    row_moved(model, row, from, 0, (struct change){0});
}

void turn_wait(struct model *model, struct deed *deed)
{
    struct op_wait *op = &deed->wait;
    struct row *row = model_row(model, deed->turn.turn.id);
    struct awaited on;
    if (!row_in_turn(row, deed->turn.turn.lease) || (row->status == STATUS_WAITING && !op->again)) {
        deed->op.err = ERR_CONFLICT;
        return;
    }
    deed->op.err = look(model, op->ids, op->count, op->any, &on);
    if (deed->op.err == OK && !on.met && !op->timed && is_circle(model, row->id, op->ids, op->count, &op->bad))
        deed->op.err = ERR_INVALID;
    if (deed->op.err != OK)
        return;
    op->met = on.met;
    if (row->status == STATUS_WAITING)
        between(model, row, STATUS_RUNNING, 0);
    if (on.met)
        return;
    register_waits(model, row, &on, op->ids, op->count, op->timed);
    between(model, row, STATUS_WAITING, op->any ? 1 : on.left);
}

void turn_resume(struct model *model, struct deed *deed)
{
    struct row *row = model_row(model, deed->turn.turn.id);
    if (row && row->lease == deed->turn.turn.lease && row->status == STATUS_WAITING)
        between(model, row, STATUS_RUNNING, 0);
    else
        deed->op.err = ERR_CONFLICT;
}

/* --- suspending -------------------------------------------------------------------------- */

static void end_cancelled(struct model *model, struct row *row)
{
    struct op_finish finish = {.next = FINISH_FINAL, .status = STATUS_CANCELLED, .finished_at = model->now};
    end_finally(model, row, &finish);
}

static void leave(struct model *model, struct row *row, const struct op_suspend *op, int left)
{
    enum status from = row->status;
    row->status = STATUS_WAITING;
    row->lease = row->lease_until = row->lease_ms = 0;
    row->holder = 0;
    row->waits_left = left;
    row->failures = row->recoveries = row->deaths = 0;
    row->why = WHY_NONE;
    row->expires_at = row->run_at = 0;
    row->flags |= FLAG_SUSPENDED;
    row->ranked = row->follow & FOLLOW_WAITED;
    row->rank = -row->id;
    row->follow &= FOLLOW_WAITED | FOLLOW_DEPENDENT;
    row_moved(model, row, from, 0, (struct change){.suspended = true, .wakes_at = op->on.until});
}

static void save(struct row *row, const struct op_suspend *op)
{
    row->suspension.there = true;
    row->suspension.turns++;
    row->suspension.lease = op->turn.turn.lease;
    row->suspension.wakes_at = op->on.until;
    row->kept_count = op->on.count;
    for (int i = 0; i < op->on.count; i++)
        row->kept[i] = op->on.ids[i];
}

void turn_suspend(struct model *model, struct deed *deed)
{
    struct op_suspend *op = &deed->suspend;
    struct row *row = model_row(model, deed->turn.turn.id);
    struct awaited on;
    if (!row_in_turn(row, deed->turn.turn.lease)) {
        deed->op.err = suspended_by(row, deed->turn.turn.lease);
        return;
    }
    if (row->follow & FOLLOW_CANCEL) {
        end_cancelled(model, row);
        return;
    }
    deed->op.err = look(model, op->on.ids, op->on.count, op->on.any, &on);
    bool waits = op->on.count && !on.met;
    if (deed->op.err == OK && waits && !op->on.until &&
        is_circle(model, row->id, op->on.ids, op->on.count, &op->bad))
        deed->op.err = ERR_INVALID;
    if (deed->op.err != OK)
        return;
    leave(model, row, op, !waits ? 0 : op->on.any ? 1 : on.left);
    if (waits)
        register_waits(model, row, &on, op->on.ids, op->on.count, op->on.until != 0);
    save(row, op);
    if ((op->on.count && on.met) || (op->on.until && op->on.until <= model->now))
        suspension_wakes(model, row);
}

/* --- waking ------------------------------------------------------------------------------- */

bool suspension_wakes(struct model *model, struct row *row)
{
    if (row->status != STATUS_WAITING || row->lease)
        return false;
    model->turn = NULL; /* its own word is done */
    row->status = STATUS_QUEUED;
    row->attempt--;
    row->waits_left = 0;
    row->ranked = true;
    row->rank = INT64_MIN + row->id;
    row->follow |= FOLLOW_RESUMED;
    row_moved(model, row, STATUS_WAITING, 0, (struct change){.ready = row_ready(row)});
    row->suspension.wakes_at = 0;
    return true;
}

static void wake_one(struct model *model, struct row *row, struct tie *wait)
{
    wait->state = 1;
    if (row->status != STATUS_WAITING || row->waits_left <= 0 || --row->waits_left)
        return;
    if (row->lease)
        model_note(model, row->id, row->task, STATUS_WAITING, STATUS_WAITING)->woken = true;
    else
        suspension_wakes(model, row);
}

void waits_wake(struct model *model, int64_t target)
{
    for (int i = 0; i < model->count; i++) {
        struct row *row = model->rows[i];
        for (int k = 0; k < row->wait_count; k++)
            if (row->waits[k].id == target && !row->waits[k].state)
                wake_one(model, row, &row->waits[k]);
    }
}

static struct tie *wait_on(struct row *row, int64_t target, int state)
{
    for (int k = 0; k < row->wait_count; k++)
        if (row->waits[k].id == target && row->waits[k].state == state)
            return &row->waits[k];
    return NULL;
}

void waits_again(struct model *model, int64_t target)
{
    struct row *self = model_row(model, target);
    bool any = false, some = false;
    for (int i = 0; i < model->count; i++) {
        struct row *row = model->rows[i];
        bool counts = row->status == STATUS_WAITING && row->waits_left > 0 && wait_on(row, target, 1);
        row->waits_left += counts;
        any |= counts;
        some |= wait_on(row, target, 0) || wait_on(row, target, 1);
    }
    for (int i = 0; i < model->count && any; i++) {
        struct tie *wait = wait_on(model->rows[i], target, 1);
        if (wait)
            wait->state = 0;
    }
    if (self && some)
        self->follow |= FOLLOW_WAITED;
}

bool row_is_kept(const struct model *model, int64_t id)
{
    for (int i = 0; i < model->count; i++) {
        const struct row *row = model->rows[i];
        for (int k = 0; k < row->kept_count; k++)
            if (row->kept[k] == id)
                return true;
        for (int k = 0; k < row->wait_count; k++)
            if (row->waits[k].id == id)
                return true;
        for (int k = 0; k < row->after_count; k++)
            if (row->after[k].id == id && row->after[k].state < 2)
                return true;
    }
    return false;
}
