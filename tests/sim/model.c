#include "tests/sim/model_internal.h"

#include <assert.h>
#include <stdlib.h>

/* --- rows ---------------------------------------------------------------------- */

/* Where it stands, or would. */
static int row_place(const struct model *model, int64_t id)
{
    int low = 0, high = model->count;
    while (low < high) {
        int middle = (low + high) / 2;
        if (model->rows[middle]->id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct row *model_row(const struct model *model, int64_t id)
{
    int at = row_place(model, id);
    return at < model->count && model->rows[at]->id == id ? model->rows[at] : NULL;
}

/* Ids only grow. */
struct row *row_add(struct model *model, int64_t id)
{
    struct row *row = model->spare ? model->spare : xmalloc(sizeof *row);
    model->spare = NULL;
    assert(!model->count || model->rows[model->count - 1]->id < id);
    if (model->count == model->cap) {
        model->cap = model->cap ? model->cap * 2 : 64;
        model->rows = xrealloc(model->rows, (size_t)model->cap * sizeof *model->rows);
    }
    *row = (struct row){.id = id};
    return model->rows[model->count++] = row;
}

void row_remove(struct model *model, struct row *row)
{
    int at = row_place(model, row->id);
    enum status from = row->status;
    int64_t id = row->id;
    int task = row->task;
    struct row **place = model->rows + at;
    memmove(place, place + 1, (size_t)(--model->count - at) * sizeof *place);
    free(model->spare);
    model->spare = row;
    model_note(model, id, task, from, 0);
}

int64_t id_take(struct model *model)
{
    return model->last_id = model->given ? *model->given++ : model->last_id + 1;
}

int64_t row_rank(const struct row *row)
{
    return row->ranked ? row->rank : row->id;
}

struct ready row_ready(const struct row *row)
{
    return (struct ready){
        .id = row->id,
        .task = row->task,
        .priority = row->priority,
        .rank = row_rank(row),
        .attempt = row->attempt,
        .lease = row->lease,
        .failures = row->failures,
        .max_retries = row->max_retries,
        .retention_ms = row->retention_ms,
        .expires_at = row->expires_at,
        .run_at = row->run_at,
        .group = row->group,
        .suspect = row->deaths >= 2,
        .resumes = row->flags & FLAG_SUSPENDED,
        .args = SPAN(""),
    };
}

bool row_in_turn(const struct row *row, int64_t lease)
{
    return row && row->lease == lease && status_in_turn(row->status);
}

void row_clear_turn(struct row *row)
{
    row->lease_until = 0;
    row->waits_left = 0;
    row->follow &= FOLLOW_WAITED | FOLLOW_DEPENDENT | FOLLOW_RESUMED;
}

/* --- changes ------------------------------------------------------------------------ */

struct change *model_note(struct model *model, int64_t id, int task, enum status from, enum status to)
{
    if (model->change_count == model->change_cap) {
        model->change_cap = model->change_cap ? model->change_cap * 2 : 64;
        model->changes = xrealloc(model->changes, (size_t)model->change_cap * sizeof *model->changes);
    }
    struct change *change = &model->changes[model->change_count++];
    *change = (struct change){.id = id, .task = task, .from = from, .to = to};
    return change;
}

void model_follow_up(struct model *model, int kind, int64_t id)
{
    if (model->follow_up_count == model->follow_up_cap) {
        model->follow_up_cap = model->follow_up_cap ? model->follow_up_cap * 2 : 16;
        model->follow_ups = xrealloc(model->follow_ups, (size_t)model->follow_up_cap * sizeof *model->follow_ups);
    }
    model->follow_ups[model->follow_up_count++] = (struct followed){kind, id};
}

static void ended(struct model *model, struct row *row, unsigned follow, struct change *note)
{
    if (follow & FOLLOW_WAITED)
        waits_wake(model, row->id);
    if (follow & FOLLOW_RESUMED)
        row->kept_count = 0;
    if (follow & FOLLOW_DEPENDENT)
        note->follow_up |= held_tell(model, row);
}

static bool waits_to_start(enum status status)
{
    return status == STATUS_HELD || status == STATUS_SCHEDULED || status == STATUS_QUEUED;
}

/* The rules of section 3, whatever the store does. */
static void check_move(const struct row *row, enum status from)
{
    bool may = !from || from == row->status || status_may_become(from, row->status);
    bool turn = row->status != STATUS_RUNNING || row->lease;
    if (!may || !turn)
        fault("%lld went from %s to %s", (long long)row->id, status_name(from), status_name(row->status));
}

void row_moved(struct model *model, struct row *row, enum status from, unsigned follow, struct change note)
{
    enum status to = row->status;
    check_move(row, from);
    if (from && !status_is_final(from) && status_is_final(to))
        ended(model, row, follow, &note);
    if (from == STATUS_RUNNING && to == STATUS_WAITING && !note.suspended)
        row->in_place = true;
    if (from == STATUS_WAITING) {
        row->wait_count = 0;
        row->in_place = false;
    }
    if (status_is_final(from) && waits_to_start(to)) {
        waits_again(model, row->id);
        note.follow_up |= held_again(model, row);
    }
    struct change *change = model_note(model, row->id, row->task, from, to);
    note.id = change->id;
    note.task = change->task;
    bool by_turn = model->turn && model->turn->id == row->id;
    note.group = by_turn ? model->turn->group : row->group;
    note.prune_at = by_turn && note.group ? 0 : note.prune_at;
    note.from = from;
    note.to = to;
    *change = note;
}

/* --- batches -------------------------------------------------------------------------- */

bool deed_ends_simply(const struct deed *deed)
{
    const struct op_finish *finish = &deed->finish;
    return deed->kind == DEED_FINISH && finish->next == FINISH_FINAL && finish->status != STATUS_FAILED;
}

/* The end of the claim's turn, if it is the next thing that is said of it. */
static struct deed *end_of(struct deed *claim)
{
    if (claim->claim.lease_until)
        return NULL;
    for (struct deed *deed = claim->next; deed; deed = deed->next) {
        bool of_turn = deed->kind >= DEED_CLAIM && deed->kind <= DEED_LOSE;
        if (of_turn && deed->turn.turn.lease == claim->turn.turn.lease)
            return deed_ends_simply(deed) ? deed : NULL;
    }
    return NULL;
}

static void apply(struct model *model, struct deed *deed)
{
    static void (*const one[DEED_KINDS])(struct model *, struct deed *) = {
        [DEED_SUBMIT] = client_submit, [DEED_GROUP] = client_group,     [DEED_GROUP_CHANGE] = client_group_change,
        [DEED_FINISH] = turn_finish,   [DEED_SUSPEND] = turn_suspend,   [DEED_WAIT] = turn_wait,
        [DEED_RESUME] = turn_resume,   [DEED_RENEW] = turn_renew,       [DEED_LOSE] = turn_lose,
        [DEED_ALTER] = client_alter,   [DEED_RELEASE] = client_release, [DEED_UPKEEP] = time_upkeep,
        [DEED_REFILL] = time_refill,
    };
    deed->op.err = OK;
    model->turn = deed->kind >= DEED_CLAIM && deed->kind <= DEED_RESUME ? &deed->turn.turn : NULL;
    if (deed->kind == DEED_CLAIM)
        turn_claim(model, deed, end_of(deed));
    else if (deed->kind == DEED_FINISH && deed->finish.written)
        deed->finish.written = false;
    else
        one[deed->kind](model, deed);
    model->turn = NULL;
}

void model_commit(struct model *model, int64_t now, struct deed *first)
{
    model->now = now;
    model->change_count = model->grouped = 0;
    for (struct deed *deed = first; deed; deed = deed->next)
        apply(model, deed);
    groups_counted(model);
}

void model_release(struct model *model)
{
    for (int i = 0; i < model->count; i++)
        free(model->rows[i]);
    for (int i = 0; i < model->group_count; i++)
        free(model->groups[i]);
    free(model->spare);
    free(model->rows);
    free(model->groups);
    free(model->follow_ups);
    free(model->changes);
    *model = (struct model){0};
}
