/* What must hold after each step: design.md, sections 2 and 3; window.h and queue.h. */
#include "tests/sim/world.h"

#include <stdio.h>
#include <utlist.h>

static bool before(int priority_a, int64_t rank_a, int priority_b, int64_t rank_b)
{
    return priority_a != priority_b ? priority_a < priority_b : rank_a < rank_b;
}

/* --- lanes ---------------------------------------------------------------------------- */

static struct lane *lane_at(struct world *world, int task)
{
    struct window *window = &world->server.queue.window;
    return task < window->lane_count ? window->lanes[task] : NULL;
}

/* Is the job what the row says? */
static void check_job(struct world *world, const struct lane *lane, const struct entry *entry)
{
    const struct ready *ready = &entry->job->ready;
    struct row *row = model_row(&world->disk, entry->id);
    if (ready->id != entry->id || ready->task != lane->id)
        fault("lane %d has %lld, which is another's", lane->id, (long long)entry->id);
    if (lane->more && before(lane->limit_priority, lane->limit_rank, entry->priority, entry->rank))
        fault("%lld is beyond the limit of lane %d", (long long)entry->id, lane->id);
    if (!world->shape.alone) {
        if (row)
            row->mark = world->mark;
        return;
    }
    if (!row || row->status != STATUS_QUEUED)
        fault("lane %d has %lld, which is not queued", lane->id, (long long)entry->id);
    if (row->mark == world->mark)
        fault("lane %d has %lld twice", lane->id, (long long)entry->id);
    if (row->priority != entry->priority || row_rank(row) != entry->rank || row->attempt != ready->attempt ||
        row->failures != ready->failures)
        fault("lane %d has %lld as it was", lane->id, (long long)entry->id);
    row->mark = world->mark;
}

static void check_lane(struct world *world, const struct lane *lane)
{
    const struct window *window = &world->server.queue.window;
    int lane_max = window->limits ? window->limits->lane_max : window_limits.lane_max;
    for (int i = 0; i < lane->count; i++) {
        const struct entry *entry = &lane->heap[i], *above = &lane->heap[(i - 1) / 2];
        if (i && before(entry->priority, entry->rank, above->priority, above->rank))
            fault("lane %d is no heap", lane->id);
        check_job(world, lane, entry);
    }
    if (lane->count > 3 * lane_max)
        fault("lane %d has %d jobs, of %d", lane->id, lane->count, lane_max);
    const struct task_now *now = &world->tasks[lane->id];
    bool full = lane->room->limit && lane->room->out >= lane->room->limit;
    bool wanted = lane->count && now->configured && !now->paused && !full;
    if (wanted != (lane->place >= 0))
        fault("lane %d is%s to be taken from", lane->id, wanted ? "" : " not");
    const struct consumer *consumer = &world->server.queue.consumers[now->place];
    if (wanted && (lane->consumer != consumer || consumer->order[lane->place] != lane->id))
        fault("lane %d is not where it says", lane->id);
}

static void check_lanes(struct world *world)
{
    const struct window *window = &world->server.queue.window;
    int loaded = 0, ordered = 0, placed = 0;
    for (int i = 0; i < window->lane_count; i++) {
        if (!window->lanes[i])
            continue;
        check_lane(world, window->lanes[i]);
        loaded += window->lanes[i]->count > 0;
        placed += window->lanes[i]->place >= 0;
    }
    for (int i = 0; i < PLACES; i++)
        ordered += world->server.queue.consumers[i].order_count;
    if (loaded != window->loaded || ordered != placed)
        fault("%d lanes have jobs, not %d; %d are in order, not %d", loaded, window->loaded, placed, ordered);
}

/* --- rooms ------------------------------------------------------------------------------ */

/* Those that a room counts: out of it since its lane is there. */
static int out_of(struct world *world, const struct room *room)
{
    const struct run *run;
    int out = 0;
    DL_FOREACH (world->server.runs, run) {
        const struct grant *grant = &run->grant;
        bool counts = grant->in_flight && !grant->suspect && !grant->gave_way && grant->runs;
        bool stayed = run->moves == world->tasks[grant->turn.task].moves;
        out += counts && stayed && lane_at(world, grant->turn.task)->room == room;
    }
    return out;
}

static void check_rooms(struct world *world)
{
    for (int task = 1; task <= world->shape.tasks; task++) {
        const struct lane *lane = lane_at(world, task);
        if (!lane)
            continue;
        int out = out_of(world, lane->room);
        if (lane->room->out != out)
            fault("the room of task %d has %d out, and counts %d", task, out, lane->room->out);
    }
}

/* --- what is queued --------------------------------------------------------------------- */

static bool is_suspect(const struct queue *queue, int64_t id)
{
    for (int i = 0; i < queue->suspect_count; i++)
        if (queue->suspects[i]->ready.id == id)
            return true;
    return false;
}

/* Whoever has it out, before its claim is decided; then whatever comes anew waits for that. */
static const struct grant *claim_of(const struct queue *queue, const struct row *row)
{
    const struct grant *grant;
    DL_FOREACH (queue->claiming, grant)
        if (grant->turn.id == row->id && (grant->suspended || grant->turn.lease != row->lease))
            return grant;
    return NULL;
}

/* It is in memory in one place, or on disk beyond the limit: never nowhere, never twice. */
static void check_queued(struct world *world, const struct row *row)
{
    const struct queue *queue = &world->server.queue;
    const struct lane *lane = lane_at(world, row->task);
    const struct grant *grant = claim_of(queue, row);
    bool beyond =
        !lane || (lane->more && before(lane->limit_priority, lane->limit_rank, row->priority, row_rank(row)));
    bool in_lane = row->mark == world->mark, suspect = is_suspect(queue, row->id);
    bool given = grant && (grant->anew || (!grant->refused && !grant->suspended));
    int places = in_lane + suspect + (grant != NULL);
    if (!places && !beyond && !row->left_to_expire)
        fault("%lld is queued, and nowhere", (long long)row->id);
    if (!in_lane && !suspect && grant && !given)
        fault("%lld is lost when the last body of it ends", (long long)row->id);
    if (world->shape.alone && places > 1)
        fault("%lld is in %d places", (long long)row->id, places);
}

/* --- turns ------------------------------------------------------------------------------------ */

static bool is_held(struct world *world, const struct row *row)
{
    const struct run *run;
    const struct lease *lease;
    DL_FOREACH (world->server.runs, run)
        if (run->grant.turn.lease == row->lease)
            return true;
    DL_FOREACH (world->server.leases, lease)
        if (lease->turn.lease == row->lease)
            return true;
    for (int i = 0; i < world->other_count; i++)
        if (world->others[i].turn.lease == row->lease)
            return true;
    return row->holder != 1;
}

static void check_row(struct world *world, const struct row *row)
{
    if (row->status == STATUS_QUEUED)
        check_queued(world, row);
    bool turn = row->status == STATUS_RUNNING || (row->status == STATUS_WAITING && row->lease);
    if (turn && !is_held(world, row))
        fault("%lld runs under a lease that nobody has", (long long)row->id);
    if (row->failures > row->max_retries || row->recoveries > MAX_RECOVERIES)
        if (!status_is_final(row->status))
            fault("%lld has failed %d times and was recovered %d times", (long long)row->id, row->failures,
                  row->recoveries);
    if (status_is_final(row->status) && (row->follow || (!row->group && !row->prune_at)))
        fault("%lld is final, and not at its end", (long long)row->id);
    if (row->status == STATUS_HELD && row->held.there && !row->held.reasons)
        fault("%lld is held by nothing", (long long)row->id);
}

/* One body of an invocation at a time, but for native ones that were refused and run on. */
static void check_bodies(struct world *world)
{
    const struct run *run, *other;
    DL_FOREACH (world->server.runs, run) {
        if (run->ended || !world->shape.alone || (run->grant.in_process && run->grant.refused))
            continue;
        for (other = run->next; other; other = other->next)
            if (other->grant.turn.id == run->grant.turn.id && !other->ended &&
                !(other->grant.in_process && other->grant.refused))
                fault("%lld has two bodies", (long long)run->grant.turn.id);
    }
    int slots = 0;
    DL_FOREACH (world->server.runs, run)
        slots += run->slot;
    if (slots + world->server.slots_free != world->shape.slots)
        fault("%d slots are taken and %d free", slots, world->server.slots_free);
}

/* --- groups ------------------------------------------------------------------------------------- */

static void check_group(struct world *world, const struct group *group)
{
    int64_t counts[STATUS_SLOTS] = {0}, open = 0;
    if (group->state & GROUP_IS_GONE)
        return;
    for (int i = 0; i < world->disk.count; i++)
        if (world->disk.rows[i]->group == group->id)
            counts[world->disk.rows[i]->status]++;
    for (int s = 1; s < STATUS_SLOTS; s++) {
        open += status_is_final((enum status)s) ? 0 : counts[s];
        if (counts[s] != group->counts[s])
            fault("group %lld counts %lld as %s, not %lld", (long long)group->id, (long long)group->counts[s],
                  status_name((enum status)s), (long long)counts[s]);
    }
    bool over = !open && !(group->state & (GROUP_IS_HELD | GROUP_IS_OPEN));
    if (over != !!(group->state & GROUP_HAS_ENDED))
        fault("group %lld has%s ended", (long long)group->id, over ? " not" : "");
}

/* --- time ------------------------------------------------------------------------------------------ */

static void check_timer(struct world *world, int which, int64_t due_at, const char *what, int64_t id)
{
    const struct timers *timers = &world->server.timers;
    if (!due_at || timers->under_way[which] || timers->at[which] <= due_at)
        return;
    if (timers->at[which] <= world->wall_ms + UPKEEP_AGAIN_MS)
        return; /* it has failed, and is tried again */
    fault("%lld is to %s at %lld, and nobody looks before %lld", (long long)id, what, (long long)due_at,
          (long long)timers->at[which]);
}

static void check_timers(struct world *world, const struct row *row)
{
    bool waits = row->status == STATUS_SCHEDULED || row->status == STATUS_QUEUED;
    check_timer(world, UPKEEP_PROMOTE, row->status == STATUS_SCHEDULED ? row->run_at : 0, "be queued", row->id);
    check_timer(world, UPKEEP_EXPIRE, waits ? row->expires_at : 0, "expire", row->id);
    check_timer(world, UPKEEP_PRUNE, row->left_group ? 0 : row->prune_at, "go", row->id);
    check_timer(world, UPKEEP_WAKE, row->suspension.wakes_at, "wake", row->id);
    check_timer(world, UPKEEP_RELEASE_BY, row->status == STATUS_HELD ? row->held.release_by : 0, "be released",
                row->id);
}

/* Who is looked at next is the first whose time comes. */
static void check_deadlines(struct world *world)
{
    const struct deadline *first = deadlines_first(&world->server.deadlines);
    const struct lease *lease;
    DL_FOREACH (world->server.leases, lease)
        if (lease->deadline.place && (!first || lease->deadline.at_us < first->at_us))
            fault("the lease of %lld runs out before the first", (long long)lease->turn.id);
}

/* --- all of it -------------------------------------------------------------------------------------- */

void audit(struct world *world)
{
    world->mark++;
    check_lanes(world);
    check_rooms(world);
    for (int i = 0; i < world->disk.count; i++) {
        check_row(world, world->disk.rows[i]);
        if (world->shape.alone)
            check_timers(world, world->disk.rows[i]);
    }
    check_bodies(world);
    check_deadlines(world);
    for (int i = 0; i < world->disk.group_count; i++)
        check_group(world, world->disk.groups[i]);
    if (world->disk.follow_up_count)
        check_timer(world, UPKEEP_FOLLOW_UP, 1, "be followed up", world->disk.follow_ups->id);
}

/* --- what is given out ------------------------------------------------------------------------------- */

static bool is_one_of(int task, const int *tasks, int count)
{
    for (int i = 0; tasks && i < count; i++)
        if (tasks[i] == task)
            return true;
    return !tasks;
}

/* By what the world knows of the task and its room, whatever the lane says. */
static bool may_give(struct world *world, const struct lane *lane, unsigned places)
{
    const struct task_now *now = &world->tasks[lane->id];
    if (!now->configured || now->paused || !(places & 1u << now->place))
        return false;
    bool shares = now->room >= 0;
    int limit = now->place != IN_FLIGHT ? 0 : shares ? world->room_limits[now->room] : now->limit;
    return !limit || out_of(world, lane->room) < limit;
}

const struct job *audit_best(struct world *world, unsigned places, const int *tasks, int count)
{
    const struct window *window = &world->server.queue.window;
    const struct entry *best = NULL;
    for (int i = 1; i < window->lane_count; i++) {
        const struct lane *lane = window->lanes[i];
        if (!lane || !is_one_of(i, tasks, count) || !may_give(world, lane, places))
            continue;
        for (int k = 0; k < lane->count; k++) {
            const struct entry *entry = &lane->heap[k];
            bool aside = entry->job->ready.suspect && world->tasks[i].place == IN_PROCESS;
            if (!aside && (!best || before(entry->priority, entry->rank, best->priority, best->rank)))
                best = entry;
        }
    }
    return best ? best->job : NULL;
}

void audit_taken(struct world *world, const struct grant *grant, const struct job *best, const char *by)
{
    const struct task_now *now = &world->tasks[grant->turn.task];
    if (world->traced)
        printf("%ld: %s takes %lld, attempt %d%s\n", world->step, by, (long long)grant->turn.id,
               grant->turn.attempt, grant->suspect ? ", a suspect" : "");
    if (world->server.queue.closed)
        fault("%s was given %lld, and nothing is to start", by, (long long)grant->turn.id);
    if (!now->configured || now->paused)
        fault("%s was given %lld, whose task does not run", by, (long long)grant->turn.id);
    if (!grant->suspect && grant->job != best)
        fault("%s was given %lld, and %lld comes first", by, (long long)grant->turn.id,
              best ? (long long)best->ready.id : 0LL);
    if (grant->suspect && now->place != IN_PROCESS)
        fault("%s was given %lld as a suspect", by, (long long)grant->turn.id);
}
