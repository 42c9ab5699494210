#include "tests/sim/model_internal.h"

static bool is_bad(enum status status)
{
    return status == STATUS_FAILED || status == STATUS_CANCELLED;
}

enum err held_check(const struct model *model, struct submission *s)
{
    for (int i = 0; i < s->after_count; i++)
        if (!model_row(model, s->after[i])) {
            s->missing = s->after[i];
            return ERR_NOT_FOUND;
        }
    return OK;
}

/* --- judging ------------------------------------------------------------------------- */

enum verdict { WAITS_ON, GOES_ON, IS_CANCELLED };

static enum verdict judge(const struct row *row)
{
    bool unmet = row->held.unmet, bad = row->held.bad;
    if (row->held.policy == AFTER_SUCCESS && bad)
        return IS_CANCELLED;
    if (unmet)
        return WAITS_ON;
    return row->held.policy == AFTER_FAILURE && !bad ? IS_CANCELLED : GOES_ON;
}

static void decide(struct model *model, struct row *row, int64_t predecessor)
{
    if (row->status != STATUS_HELD || !row->held.there || !(row->held.reasons & HOLD_DEPENDENCY))
        return;
    enum verdict verdict = judge(row);
    if (verdict == GOES_ON)
        held_let_go(model, row, HOLD_DEPENDENCY);
    if (verdict != IS_CANCELLED)
        return;
    row->held.was_cancelled = true;
    row->held.cancelled_by = row->held.policy == AFTER_FAILURE ? 0 : predecessor;
    row->held.release_by = 0;
    row_cancel(model, row, STATUS_BIT(STATUS_HELD), WHY_DEPENDENCY);
}

void held_note(struct model *model, struct row *row, const struct submission *s)
{
    int64_t last = 0;
    if (!(row->flags & FLAG_HOLDS))
        return;
    row->held.there = true;
    row->held.policy = s->after_policy ? s->after_policy : AFTER_SUCCESS;
    row->held.delay_ms = s->delay_ms;
    row->held.expires_ms = s->expires_ms;
    row->held.release_by = s->release_by;
    for (int i = 0; i < s->after_count; i++) {
        struct row *before = model_row(model, s->after[i]);
        bool over = status_is_final(before->status), bad = is_bad(before->status);
        row->after[row->after_count++] = (struct tie){.id = before->id, .state = over};
        before->follow |= over ? 0 : FOLLOW_DEPENDENT;
        row->held.unmet += !over;
        row->held.bad += bad;
        last = bad ? before->id : last;
    }
    for (int i = 0; i < s->after_member_count; i++) {
        row->after[row->after_count++] = (struct tie){.id = s->member_ids[s->after_members[i]]};
        row->held.unmet++;
    }
    row->held.reasons =
        (s->hold || s->held_by_group ? HOLD_PROMISE : 0) | (row->after_count ? HOLD_DEPENDENCY : 0);
    if (row->after_count && (!row->held.unmet || row->held.bad))
        decide(model, row, last);
}

/* --- letting go ---------------------------------------------------------------------------- */

void held_release(struct model *model, struct row *row, int64_t run_at, int64_t expires_at)
{
    row->run_at = run_at ? run_at : row->run_at;
    row->expires_at = expires_at ? expires_at : row->expires_at;
    row->status = row->run_at > model->now ? STATUS_SCHEDULED : STATUS_QUEUED;
    row_moved(model, row, STATUS_HELD, 0,
              (struct change){.ready = row_ready(row),
                              .expires_at = row->expires_at,
                              .due_at = row->status == STATUS_SCHEDULED ? row->run_at : 0});
}

void held_let_go(struct model *model, struct row *row, unsigned reason)
{
    if (!row->held.there || !(row->held.reasons & reason))
        return;
    row->held.reasons &= ~reason;
    if (reason == HOLD_PROMISE)
        row->held.release_by = 0;
    if (!row->held.reasons && row->status == STATUS_HELD)
        held_release(model, row, row->held.delay_ms ? model->now + row->held.delay_ms : 0,
                     row->held.expires_ms ? model->now + row->held.expires_ms : 0);
}

void client_release(struct model *model, struct deed *deed)
{
    struct op_release *op = &deed->release;
    struct row *row = model_row(model, op->id);
    deed->op.err = row ? OK : ERR_NOT_FOUND;
    if (!row)
        return;
    op->status = row->status;
    bool promise = row->held.there && row->held.reasons & HOLD_PROMISE;
    if (row->status == STATUS_HELD && !row->held.there)
        held_release(model, row, 0, 0);
    else if (row->status == STATUS_HELD && promise)
        held_let_go(model, row, HOLD_PROMISE);
    else if (!row->held.there || promise || row->status == STATUS_CANCELLED)
        deed->op.err = ERR_CONFLICT;
}

/* --- an end --------------------------------------------------------------------------------- */

static struct tie *tie_to(struct row *row, int64_t predecessor)
{
    for (int i = 0; i < row->after_count; i++)
        if (row->after[i].id == predecessor)
            return &row->after[i];
    return NULL;
}

static void tell_all(struct model *model, int64_t id, bool bad)
{
    for (int i = 0; i < model->count; i++) {
        struct row *row = model->rows[i];
        struct tie *tie = tie_to(row, id);
        if (!tie || tie->state)
            continue;
        tie->state = 1;
        row->held.unmet--;
        row->held.bad += bad;
        decide(model, row, id);
    }
}

bool held_tell(struct model *model, struct row *row)
{
    bool some = false;
    for (int i = 0; i < row->after_count; i++)
        row->after[i].state = 2;
    if (row->status == STATUS_SUCCEEDED) {
        tell_all(model, row->id, false);
        return false;
    }
    for (int i = 0; i < model->count && !some; i++) {
        const struct tie *tie = tie_to(model->rows[i], row->id);
        some = tie && !tie->state;
    }
    if (some)
        model_follow_up(model, FOLLOW_UP_DEPENDENTS, row->id);
    return some;
}

void held_tell_rest(struct model *model, int64_t id)
{
    const struct row *row = model_row(model, id);
    if (row && status_is_final(row->status))
        tell_all(model, id, is_bad(row->status));
}

/* --- an end that is taken back ------------------------------------------------------------------ */

/* How those that it comes after stand now. */
static int64_t count(const struct model *model, const struct row *row, int *unmet, int *bad)
{
    int64_t last = 0;
    *unmet = *bad = 0;
    for (int i = 0; i < row->after_count; i++) {
        const struct row *before = model_row(model, row->after[i].id);
        if (!before)
            continue;
        *unmet += !status_is_final(before->status);
        *bad += is_bad(before->status);
        last = is_bad(before->status) ? before->id : last;
    }
    return last;
}

static void recount(struct model *model, struct row *row)
{
    int64_t last = count(model, row, &row->held.unmet, &row->held.bad);
    for (int i = 0; i < row->after_count; i++) {
        struct row *before = model_row(model, row->after[i].id);
        row->after[i].state = !before || status_is_final(before->status);
        if (!row->after[i].state)
            before->follow |= FOLLOW_DEPENDENT;
    }
    decide(model, row, last);
}

static void hold_anew(struct model *model, struct row *row)
{
    row_back(model, row, STATUS_HELD);
    row->held.reasons = HOLD_DEPENDENCY;
    row->held.was_cancelled = false;
    row->held.cancelled_by = 0;
    recount(model, row);
}

enum err held_retry(struct model *model, struct row *row)
{
    struct row as = *row;
    count(model, row, &as.held.unmet, &as.held.bad);
    enum verdict verdict = row->after_count ? judge(&as) : GOES_ON;
    if (verdict == IS_CANCELLED)
        return ERR_CONFLICT;
    if (verdict == WAITS_ON)
        hold_anew(model, row);
    else
        row_back(model, row, STATUS_QUEUED);
    return OK;
}

bool held_again(struct model *model, struct row *row)
{
    bool some = row->after_count > 0;
    for (int i = 0; i < model->count && !some; i++)
        some = tie_to(model->rows[i], row->id);
    if (!some)
        return false;
    row->follow |= FOLLOW_DEPENDENT;
    for (int i = 0; i < row->after_count; i++)
        row->after[i].state = row->after[i].state == 2 ? 1 : row->after[i].state;
    model_follow_up(model, FOLLOW_UP_DEPENDENTS_AGAIN, row->id);
    return true;
}

void held_again_rest(struct model *model, int64_t id)
{
    for (int i = 0; i < model->count; i++) {
        struct row *row = model->rows[i];
        if (!tie_to(row, id) || !row->held.there)
            continue;
        bool on_its_account = row->status == STATUS_CANCELLED && row->held.was_cancelled &&
                              (row->held.cancelled_by == id || !row->held.cancelled_by);
        if (on_its_account)
            hold_anew(model, row);
        else if (row->status == STATUS_HELD)
            recount(model, row);
    }
}
