#include "tests/sim/model_internal.h"

#include <stdlib.h>

enum { HELD_MS = 60000 };

struct group *model_group(const struct model *model, int64_t id)
{
    for (int i = 0; i < model->group_count; i++)
        if (model->groups[i]->id == id)
            return model->groups[i];
    return NULL;
}

static void touch(struct model *model, int64_t id)
{
    model_note(model, id, 0, 0, 0)->group = id;
}

/* --- making one ------------------------------------------------------------------------ */

enum err group_joins(struct model *model, struct submission *s)
{
    struct group *group = model_group(model, s->group);
    bool there = group && !(group->state & GROUP_IS_GONE);
    if (there && group->state & GROUP_IS_OPEN) {
        s->index = group->total++;
        s->held_by_group = group->state & GROUP_IS_HELD;
        return OK;
    }
    s->group_closed = there;
    s->missing = there ? 0 : s->group;
    return there ? ERR_CONFLICT : ERR_NOT_FOUND;
}

static struct group *group_add(struct model *model, const struct group_submission *g)
{
    struct group *group = xcalloc(1, sizeof *group);
    if (model->group_count == model->group_cap) {
        model->group_cap = model->group_cap ? model->group_cap * 2 : 16;
        model->groups = xrealloc(model->groups, (size_t)model->group_cap * sizeof *model->groups);
    }
    group->id = g->id;
    group->state =
        (g->hold ? GROUP_IS_HELD : 0) | (g->open ? GROUP_IS_OPEN : 0) | (g->fail_fast ? GROUP_FAILS_FAST : 0);
    group->total = g->total;
    group->retention_ms = g->retention_ms;
    group->release_by = g->release_by;
    return model->groups[model->group_count++] = group;
}

void client_group(struct model *model, struct deed *deed)
{
    struct group_submission *g = deed->group.group;
    g->id = id_take(model);
    for (int i = 0; i < g->total; i++)
        g->ids[i] = id_take(model);
    group_add(model, g);
    for (int i = 0; i < g->total; i++) {
        struct submission *s = &deed->group.items[i];
        s->group = g->id;
        s->index = i;
        s->preset_id = g->ids[i];
        s->member_ids = g->ids;
        s->held_by_group = g->hold;
        s->may_have_dependents = g->mode != GROUP_PARALLEL;
        row_insert(model, s);
    }
    touch(model, g->id);
    model->changes[model->change_count - 1].release_by = g->release_by;
}

/* --- changing one ---------------------------------------------------------------------------- */

static void stop(struct model *model, struct group *group, unsigned reason)
{
    group->state = (group->state | GROUP_IS_STOPPED | reason) & ~(unsigned)(GROUP_IS_OPEN | GROUP_IS_HELD);
    group->release_by = 0;
    enum why why = group->state & GROUP_WAS_LATE     ? WHY_GROUP_LATE
                   : group->state & GROUP_HAS_FAILED ? WHY_FAIL_FAST
                                                     : WHY_NONE;
    for (int i = 0; i < model->count; i++)
        if (model->rows[i]->group == group->id)
            row_cancel(model, model->rows[i], STATUS_ANY & ~STATUS_FINALS, why);
    touch(model, group->id);
}

static enum err release(struct model *model, struct group *group)
{
    bool held = group->state & GROUP_IS_HELD;
    if (group->state & GROUP_WAS_LATE)
        return ERR_CONFLICT;
    group->state &= ~(unsigned)(GROUP_IS_HELD | GROUP_IS_OPEN);
    group->release_by = 0;
    for (int i = 0; i < model->count && held && !(group->state & GROUP_IS_STOPPED); i++) {
        struct row *row = model->rows[i];
        if (row->group != group->id || row->status != STATUS_HELD)
            continue;
        if (row->flags & FLAG_HOLDS)
            held_let_go(model, row, HOLD_PROMISE);
        else
            held_release(model, row, 0, 0);
    }
    touch(model, group->id);
    return OK;
}

void client_group_change(struct model *model, struct deed *deed)
{
    struct group *group = model_group(model, deed->group_change.id);
    if (!group || group->state & GROUP_IS_GONE) {
        deed->op.err = ERR_NOT_FOUND;
        return;
    }
    switch (deed->group_change.what) {
    case GROUP_RELEASE: deed->op.err = release(model, group); break;
    case GROUP_CLOSE:
        touch(model, group->id);
        group->state &= ~(unsigned)GROUP_IS_OPEN;
        break;
    case GROUP_CANCEL:
        if (!(group->state & GROUP_HAS_ENDED))
            stop(model, group, 0);
        break;
    case GROUP_ABANDON: break;
    }
}

/* --- counting ------------------------------------------------------------------------------------ */

static void end(struct model *model, struct group *group)
{
    group->state |= GROUP_HAS_ENDED;
    group->finished_at = model->now;
    group->prune_at = model->now + group->retention_ms;
    group->release_by = 0;
    struct change *change = model_note(model, group->id, 0, 0, 0);
    change->group = group->id;
    change->group_final = true;
    change->prune_at = group->prune_at;
    waits_wake(model, group->id);
}

static void reopen(struct model *model, struct group *group)
{
    group->state &= ~(unsigned)(GROUP_HAS_ENDED | GROUP_IS_STOPPED | GROUP_HAS_FAILED);
    group->finished_at = group->prune_at = 0;
    waits_again(model, group->id);
}

static int64_t unfinished(const struct group *group)
{
    int64_t count = 0;
    for (int s = 1; s < STATUS_SLOTS; s++)
        count += status_is_final((enum status)s) ? 0 : group->counts[s];
    return count;
}

static void follow(struct model *model, struct group *group, int64_t more_failed)
{
    bool over = !unfinished(group) && !(group->state & (GROUP_IS_HELD | GROUP_IS_OPEN));
    if (over && !(group->state & GROUP_HAS_ENDED))
        end(model, group);
    else if (unfinished(group) && group->state & GROUP_HAS_ENDED)
        reopen(model, group);
    else if (group->state & GROUP_FAILS_FAST && !(group->state & GROUP_IS_STOPPED) && more_failed > 0 &&
             unfinished(group))
        stop(model, group, GROUP_HAS_FAILED);
}

static int compare_ids(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* The changes `from` up to `to`, of one group. */
static void count_one(struct model *model, struct group *group, int from, int to)
{
    int64_t failed = group->counts[STATUS_FAILED];
    for (int i = from; i < to; i++) {
        const struct change *change = &model->changes[i];
        if (change->group != group->id || change->from == change->to)
            continue;
        if (change->from)
            group->counts[change->from]--;
        if (change->to)
            group->counts[change->to]++;
        group->ends += change->to && status_is_final(change->to);
    }
    follow(model, group, group->counts[STATUS_FAILED] - failed);
}

/* What follows from that changes more. */
void groups_counted(struct model *model)
{
    while (model->grouped < model->change_count) {
        int from = model->grouped, to = model->change_count, count = 0;
        int64_t *ids = xmalloc((size_t)(to - from) * sizeof *ids);
        model->grouped = to;
        for (int i = from; i < to; i++)
            if (model->changes[i].group)
                ids[count++] = model->changes[i].group;
        if (count)
            qsort(ids, (size_t)count, sizeof *ids, compare_ids);
        for (int i = 0; i < count; i++) {
            struct group *group = i && ids[i] == ids[i - 1] ? NULL : model_group(model, ids[i]);
            if (group && !(group->state & GROUP_IS_GONE))
                count_one(model, group, from, to);
        }
        free(ids);
    }
}

/* --- what time asks -------------------------------------------------------------------------------- */

/* The first by that time; NULL: none has one. */
static struct group *first_by(const struct model *model, bool prune)
{
    struct group *first = NULL;
    int64_t least = INT64_MAX;
    for (int i = 0; i < model->group_count; i++) {
        int64_t at = prune ? model->groups[i]->prune_at : model->groups[i]->release_by;
        if (at && at < least) {
            least = at;
            first = model->groups[i];
        }
    }
    return first;
}

void groups_late(struct model *model, struct op_upkeep *op)
{
    struct group *group;
    while ((group = first_by(model, false)) && group->release_by <= model->now)
        stop(model, group, GROUP_WAS_LATE);
    op->next_at = group ? group->release_by : 0;
}

void groups_pruned(struct model *model)
{
    struct group *group;
    while ((group = first_by(model, true)) && group->prune_at <= model->now) {
        if (row_is_kept(model, group->id)) {
            group->prune_at = model->now + HELD_MS;
            continue;
        }
        group->state |= GROUP_IS_GONE;
        group->prune_at = group->release_by = 0;
        model_follow_up(model, FOLLOW_UP_GROUP_REMOVE, group->id);
        touch(model, group->id);
        model->changes[model->change_count - 1].follow_up = true;
    }
}

static void forget(struct model *model, struct group *group)
{
    for (int i = 0; i < model->group_count; i++)
        if (model->groups[i] == group) {
            memmove(model->groups + i, model->groups + i + 1,
                    (size_t)(--model->group_count - i) * sizeof *model->groups);
            break;
        }
    free(group);
}

static void leave(struct model *model, struct row *row)
{
    row->group = 0;
    row->left_group = true;
    row->prune_at = status_is_final(row->status) ? model->now + HELD_MS : 0;
    if (row->prune_at)
        model_note(model, row->id, row->task, row->status, row->status)->prune_at = row->prune_at;
}

/* Its members go, but for those that somebody needs. */
void group_gone(struct model *model, int64_t id)
{
    for (int i = 0; i < model->count;) {
        struct row *row = model->rows[i];
        bool mine = row->group == id, final = status_is_final(row->status);
        if (mine && (!final || row_is_kept(model, row->id))) { /* not final: it was retried since */
            leave(model, row);
            mine = false;
        }
        if (mine)
            row_remove(model, row);
        else
            i++;
    }
    struct group *group = model_group(model, id);
    if (group)
        forget(model, group);
}
