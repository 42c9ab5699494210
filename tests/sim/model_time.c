#include "tests/sim/model_internal.h"

#include <stdlib.h>

enum { HELD_MS = 60000, STEP_ROWS = 500, PRUNE_ROWS = 200 };

/* --- what is due ---------------------------------------------------------------------- */

enum due { DUE_PROMOTE, DUE_EXPIRE, DUE_PRUNE, DUE_WAKE, DUE_RELEASE };

/* When a row is; 0: never. */
static int64_t due_at(const struct row *row, enum due due)
{
    switch (due) {
    case DUE_PROMOTE: return row->status == STATUS_SCHEDULED ? row->run_at : 0;
    case DUE_EXPIRE: return row->status == STATUS_SCHEDULED || row->status == STATUS_QUEUED ? row->expires_at : 0;
    case DUE_PRUNE: return row->prune_at;
    case DUE_WAKE: return row->suspension.wakes_at;
    case DUE_RELEASE: return row->held.release_by;
    }
    return 0;
}

struct dated {
    int64_t at, id;
};

static int compare(const void *a, const void *b)
{
    const struct dated *x = a, *y = b;
    if (x->at != y->at)
        return x->at < y->at ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

/* The first `limit` that are due, in order. */
static struct dated *collect(const struct model *model, enum due due, int limit, int *count)
{
    struct dated *list = xmalloc((size_t)(model->count + 1) * sizeof *list);
    *count = 0;
    for (int i = 0; i < model->count; i++) {
        int64_t at = due_at(model->rows[i], due);
        if (at && at <= model->now)
            list[(*count)++] = (struct dated){at, model->rows[i]->id};
    }
    qsort(list, (size_t)*count, sizeof *list, compare);
    *count = *count < limit ? *count : limit;
    return list;
}

static int64_t next_at(const struct model *model, enum due due)
{
    int64_t least = INT64_MAX;
    for (int i = 0; i < model->count; i++) {
        int64_t at = due_at(model->rows[i], due);
        least = at && at < least ? at : least;
    }
    return least == INT64_MAX ? 0 : least;
}

static void promote(struct model *model, struct row *row)
{
    row->status = STATUS_QUEUED;
    row_moved(model, row, STATUS_SCHEDULED, 0,
              (struct change){.ready = row_ready(row), .expires_at = row->expires_at});
}

static void prune(struct model *model, struct row *row)
{
    if (row_is_kept(model, row->id))
        row->prune_at = model->now + HELD_MS;
    else
        row_remove(model, row);
}

static void wake(struct model *model, struct row *row)
{
    if (!suspension_wakes(model, row))
        row->suspension.wakes_at = 0;
}

static void cancel_unreleased(struct model *model, struct row *row)
{
    row->held.release_by = 0;
    row_cancel(model, row, STATUS_BIT(STATUS_HELD), WHY_NOT_RELEASED);
}

static void follow_up(struct model *model)
{
    for (int i = 0; i < model->follow_up_count; i++) {
        struct followed next = model->follow_ups[i];
        if (next.kind == FOLLOW_UP_DEPENDENTS)
            held_tell_rest(model, next.id);
        else if (next.kind == FOLLOW_UP_DEPENDENTS_AGAIN)
            held_again_rest(model, next.id);
        else
            group_gone(model, next.id);
    }
    model->follow_up_count = 0;
}

static void each_due(struct model *model, struct op_upkeep *op, enum due due, int limit,
                     void (*one)(struct model *model, struct row *row))
{
    int count;
    struct dated *list = collect(model, due, limit, &count);
    for (int i = 0; i < count; i++)
        one(model, model_row(model, list[i].id));
    free(list);
    op->more = count == limit;
    op->next_at = next_at(model, due);
}

static int64_t sooner(int64_t a, int64_t b)
{
    return !a ? b : !b ? a : a < b ? a : b;
}

void time_upkeep(struct model *model, struct deed *deed)
{
    struct op_upkeep *op = &deed->upkeep;
    struct op_upkeep groups = {0};
    op->now = model->now;
    op->more = false;
    op->next_at = 0;
    switch (op->what) {
    case UPKEEP_PROMOTE: each_due(model, op, DUE_PROMOTE, STEP_ROWS, promote); break;
    case UPKEEP_EXPIRE: each_due(model, op, DUE_EXPIRE, STEP_ROWS, row_expire); break;
    case UPKEEP_WAKE: each_due(model, op, DUE_WAKE, STEP_ROWS, wake); break;
    case UPKEEP_FOLLOW_UP: follow_up(model); break;
    case UPKEEP_PRUNE:
        each_due(model, op, DUE_PRUNE, PRUNE_ROWS, prune);
        groups_pruned(model);
        for (int i = 0; i < model->group_count; i++)
            op->next_at = sooner(op->next_at, model->groups[i]->prune_at);
        break;
    case UPKEEP_RELEASE_BY:
        each_due(model, op, DUE_RELEASE, STEP_ROWS, cancel_unreleased);
        groups_late(model, &groups);
        op->next_at = sooner(next_at(model, DUE_RELEASE), groups.next_at);
        break;
    case UPKEEP_SCHEDULE: /* of what is not there */
    case UPKEEP_LOOPS:
    case UPKEEP_CACHE:
    case UPKEEP_DEADLINE:
    case UPKEEPS_END: break;
    }
}

/* --- refills ------------------------------------------------------------------------------ */

static int compare_ready(const void *a, const void *b)
{
    const struct ready *x = a, *y = b;
    if (x->priority != y->priority)
        return x->priority < y->priority ? -1 : 1;
    return (x->rank > y->rank) - (x->rank < y->rank);
}

void time_refill(struct model *model, struct deed *deed)
{
    struct op_refill *op = &deed->refill;
    op->count = 0;
    for (int i = 0; i < model->count; i++) {
        const struct row *row = model->rows[i];
        bool beyond = row->priority > op->after_priority ||
                      (row->priority == op->after_priority && row_rank(row) > op->after_rank);
        if (row->status != STATUS_QUEUED || row->task != op->task || !beyond)
            continue;
        if (op->count == op->cap) {
            op->cap = op->cap ? op->cap * 2 : 16;
            op->items = xrealloc(op->items, (size_t)op->cap * sizeof *op->items);
        }
        op->items[op->count++] = row_ready(row);
    }
    if (op->count)
        qsort(op->items, (size_t)op->count, sizeof *op->items, compare_ready);
    op->count = op->count < op->limit ? op->count : op->limit;
    model_note(model, 0, op->task, 0, 0)->refill = op;
}

/* --- recovery --------------------------------------------------------------------------------- */

struct found {
    int64_t id;
    bool unwritten;
    const struct casualty *casualty;
};

static bool died_here(const struct model *model, const struct row *row)
{
    bool waits = row->status == STATUS_WAITING && row->in_place && row->lease;
    return (row->status == STATUS_RUNNING || waits) && row->holder == model->node && !row->lease_until;
}

/* It may stand there as queued: its claim was on its way. */
static bool is_unwritten(const struct row *row, const struct casualty *casualty)
{
    return row && row->status == STATUS_QUEUED && row->lease != casualty->lease &&
           !(row->suspension.there && row->suspension.lease == casualty->lease);
}

static int add_casualty(const struct model *model, struct found *found, int count, const struct casualty *casualty)
{
    const struct row *row = model_row(model, casualty->id);
    for (int i = 0; i < count; i++) {
        if (found[i].id != casualty->id)
            continue;
        bool same = found[i].unwritten || !row->lease || row->lease == casualty->lease;
        if (same && (!found[i].casualty || casualty->pays))
            found[i].casualty = casualty;
        return count;
    }
    if (!casualty->refused && is_unwritten(row, casualty))
        found[count++] = (struct found){casualty->id, true, casualty};
    return count;
}

static void settle(struct model *model, const struct found *found, int max_recoveries)
{
    struct row *row = model_row(model, found->id);
    const struct casualty *casualty = found->casualty;
    bool pays = casualty && casualty->pays;
    bool again = !row->cancel_at && !(pays && row->recoveries >= max_recoveries);
    row->attempt += found->unwritten;
    row->recoveries += pays;
    if (again) {
        row->deaths += casualty && !pays && !casualty->bystander && row->status != STATUS_WAITING;
        row_lost(model, row, STATUS_QUEUED, WHY_NONE);
    } else {
        row_lost(model, row, row->cancel_at ? STATUS_CANCELLED : STATUS_FAILED,
                 row->cancel_at ? WHY_NONE : WHY_CRASHED);
    }
}

void model_recover(struct model *model, int64_t now, const struct casualty *casualties, int casualty_count,
                   int max_recoveries)
{
    struct found *found = xmalloc((size_t)(model->count + casualty_count + 1) * sizeof *found);
    int count = 0;
    model->now = now;
    model->change_count = model->grouped = 0;
    for (int waiting = 0; waiting < 2; waiting++)
        for (int i = 0; i < model->count; i++)
            if (died_here(model, model->rows[i]) && waiting == (model->rows[i]->status == STATUS_WAITING))
                found[count++] = (struct found){.id = model->rows[i]->id};
    for (int i = 0; i < casualty_count; i++)
        count = add_casualty(model, found, count, &casualties[i]);
    for (int i = 0; i < count; i++)
        settle(model, &found[i], max_recoveries);
    groups_counted(model);
    free(found);
}
