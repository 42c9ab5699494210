#include "tests/sim/world.h"

#include <stdlib.h>

/* --- a world ---------------------------------------------------------------------- */

static struct shape draw_shape(struct chance *chance)
{
    struct shape shape = {
        .tasks = 1 + dice(chance, one_in(chance, 4) ? TASKS_MAX : 4),
        .rows_max = 8 + dice(chance, 56),
        .slots = 1 + dice(chance, 4),
        .limits = {.lane_max = 4 + dice(chance, 8), .lane_min = 4, .all_max = 4 + dice(chance, 60)},
        .alone = !one_in(chance, 4),
        .rough = one_in(chance, 2),
        .ties = one_in(chance, 2),
        .urge = 1 + dice(chance, 4),
        .priorities = 1 + dice(chance, 4),
    };
    if (one_in(chance, 200)) { /* the window's own limits want a backlog */
        shape.usual_limits = true;
        shape.rows_max = 6000;
        shape.tasks = 1 + dice(chance, 2);
        shape.urge = 8;
    }
    return shape;
}

static void draw_tasks(struct world *world)
{
    for (int i = 1; i <= world->shape.tasks; i++) {
        struct task_now *now = &world->tasks[i];
        *now = (struct task_now){
            .configured = true, .place = (enum place)dice(&world->chance, PLACES), .room = -1, .room_now = -1};
        now->limit = dice(&world->chance, 4);
        now->task.name = "some";
        atomic_store(&now->task.id, i);
        now->task.options.retry.backoff = BACKOFF_DEFAULT;
    }
    for (int i = 0; i < ROOMS; i++)
        world->room_limits[i] = 1 + dice(&world->chance, 3);
}

void world_open(struct world *world, uint64_t seed)
{
    *world = (struct world){.chance = chance_from(seed), .wall_ms = 1700000000000, .mono_us = 1};
    world->queued_tail = &world->queued;
    world->shape = draw_shape(&world->chance);
    world->disk.node = 1;
    draw_tasks(world);
    server_start(world);
}

static void deed_free(struct world *world, struct deed *deed)
{
    if (deed->kind == DEED_REFILL)
        op_refill_release(&deed->refill);
    deed->next = world->spare;
    world->spare = deed;
}

static void forget_queued(struct world *world)
{
    for (struct deed *next, *deed = world->queued; deed; deed = next) {
        next = deed->next;
        deed_free(world, deed);
    }
    world->queued = NULL;
    world->queued_tail = &world->queued;
}

void world_close(struct world *world)
{
    server_release(world);
    forget_queued(world);
    for (struct deed *next, *deed = world->spare; deed; deed = next) {
        next = deed->next;
        free(deed);
    }
    model_release(&world->disk);
}

/* --- the committer ------------------------------------------------------------------- */

struct deed *deed_new(struct world *world, enum deed_kind kind)
{
    struct deed *deed = world->spare;
    if (deed)
        world->spare = deed->next;
    else
        deed = xmalloc(sizeof *deed);
    deed->kind = kind;
    deed->next = NULL;
    deed->owner = NULL;
    deed->done = NULL;
    return deed;
}

void world_queue(struct world *world, struct deed *deed)
{
    deed->next = NULL;
    *world->queued_tail = deed;
    world->queued_tail = &deed->next;
}

static void answer(struct world *world, struct deed *first)
{
    for (struct deed *next, *deed = first; deed; deed = next) {
        next = deed->next;
        if (deed->done)
            deed->done(world, deed);
        deed_free(world, deed);
    }
}

/* Claims and ends are kept, and come before what is asked from now on; the rest is unknown. */
static void fail(struct world *world, struct deed *first)
{
    struct deed *answered = NULL, **tail = &answered;
    world->tally.failed_commits++;
    for (struct deed *next, *deed = first; deed; deed = next) {
        bool kept = deed->kind == DEED_CLAIM || deed->kind == DEED_RESUME ||
                    (deed->kind == DEED_FINISH && deed->finish.may_have_suspended);
        next = deed->next;
        deed->next = NULL;
        if (kept) {
            world_queue(world, deed);
            continue;
        }
        deed->op.err = ERR_UNAVAILABLE;
        *tail = deed;
        tail = &deed->next;
    }
    server_health(world, false);
    answer(world, answered);
}

void world_commit(struct world *world, bool fails)
{
    struct deed *first = world->queued;
    world->queued = NULL;
    world->queued_tail = &world->queued;
    if (fails) {
        fail(world, first);
        return;
    }
    if (world->commit)
        world->commit(world->context, first);
    else
        model_commit(&world->disk, world->wall_ms, first);
    server_health(world, true);
    server_hears(world, world->disk.changes, world->disk.change_count);
    answer(world, first);
}

/* --- a crash ---------------------------------------------------------------------------- */

/* What was running, as the journal has it. In the process: they may be suspects. */
static int casualties(struct world *world, struct casualty *list, int max)
{
    int count = 0, payer = one_in(&world->chance, 2) ? dice(&world->chance, 4) : -1;
    for (struct run *run = world->server.runs; run && count < max; run = run->next) {
        if (run->ended || run->pooled || (run->claims && !run->grant.in_process && one_in(&world->chance, 2)))
            continue;
        list[count] = (struct casualty){
            .id = run->grant.turn.id,
            .lease = run->grant.turn.lease,
            .attempt = run->grant.turn.attempt,
            .started_at = world->wall_ms,
            .pays = count == payer,
            .bystander = !run->grant.in_process,
            .refused = run->claimed && run->claim_err == ERR_CONFLICT,
        };
        count++;
    }
    return count;
}

void world_crash(struct world *world)
{
    struct casualty list[64];
    int count = casualties(world, list, 64);
    world->tally.crashes++;
    server_release(world);
    forget_queued(world);
    model_recover(&world->disk, world->wall_ms, list, count, MAX_RECOVERIES);
    if (world->recover)
        world->recover(world->context, list, count);
    server_start(world);
}

/* --- steps ----------------------------------------------------------------------------------- */

void world_step(struct world *world)
{
    world->step++;
    events_happen(world);
    bool small = world->disk.count <= 64 || world->step % 256 == 0;
    if (small)
        audit(world);
}

/* Everything may run, nothing holds, and the clock goes on. */
static void let_all_go(struct world *world)
{
    world->ending = true;
    world->server.paused = false;
    world->other_count = 0;
    for (int i = 1; i <= world->shape.tasks; i++) {
        world->tasks[i].configured = true;
        world->tasks[i].paused = false;
        world->tasks[i].limit = 2;
    }
    for (int i = 0; i < ROOMS; i++)
        world->room_limits[i] = 2;
    server_load_tasks(world);
    server_gate(world);
}

static void queue_releases(struct world *world)
{
    for (int i = 0; i < world->disk.count; i++) {
        if (world->disk.rows[i]->status != STATUS_HELD)
            continue;
        struct deed *deed = deed_new(world, DEED_RELEASE);
        op_release_init(&deed->release, world->disk.rows[i]->id);
        world_queue(world, deed);
    }
    for (int i = 0; i < world->disk.group_count; i++) {
        struct deed *deed = deed_new(world, DEED_GROUP_CHANGE);
        op_group_change_init(&deed->group_change, GROUP_RELEASE, world->disk.groups[i]->id);
        world_queue(world, deed);
    }
}

static bool all_final(const struct world *world)
{
    for (int i = 0; i < world->disk.count; i++)
        if (!status_is_final(world->disk.rows[i]->status))
            return false;
    return true;
}

/* Until nothing more can be done at this moment. */
static void run_on(struct world *world)
{
    bool some = true;
    for (int i = 0; i < 100000 && some; i++) {
        some = server_start_one(world) | server_start_in_flight(world) | server_lend(world);
        some |= bodies_act(world) | workers_act(world) | server_expire_lease(world);
        server_act(world);
        some |= world->queued != NULL;
        world_commit(world, false);
        if (world->disk.count <= 64)
            audit(world);
    }
    if (some)
        fault("it goes on for ever");
}

static void check_empty(struct world *world)
{
    struct queue *queue = &world->server.queue;
    if (queue->claiming)
        fault("%lld is still given out", (long long)queue->claiming->turn.id);
    if (world->server.runs || world->server.leases)
        fault("a turn is still there");
    if (world->server.slots_free != world->shape.slots)
        fault("%d slots are free, of %d", world->server.slots_free, world->shape.slots);
    if (world->shape.alone && !queue_is_drained(queue))
        fault("the queue is not drained");
}

/* An other server's turns are over when it has gone: here they are taken back. */
static void take_back_others(struct world *world)
{
    world->disk.node = 2;
    model_recover(&world->disk, world->wall_ms, NULL, 0, MAX_RECOVERIES);
    world->disk.node = 1;
    server_hears(world, world->disk.changes, world->disk.change_count);
}

/* Is it, or is somebody in it, still to end? */
static bool is_open(const struct world *world, int64_t id)
{
    const struct row *row = model_row(&world->disk, id);
    bool open = row && !status_is_final(row->status);
    for (int i = 0; i < world->disk.count && !row && !open; i++)
        open = world->disk.rows[i]->group == id && !status_is_final(world->disk.rows[i]->status);
    return open;
}

static bool waits_in_vain(const struct world *world, const struct row *row)
{
    bool waits = row->status == STATUS_WAITING, held = row->status == STATUS_HELD;
    for (int i = 0; i < row->wait_count; i++)
        if (waits && !row->waits[i].state && is_open(world, row->waits[i].id))
            return true;
    for (int i = 0; i < row->after_count; i++)
        if (held && !row->after[i].state && is_open(world, row->after[i].id))
            return true;
    return false;
}

/* A circle that no wait has closed, but a retry, or a new member of an open group that comes after
 * who waits for the group: nobody refuses those, and a cancellation has to end them. */
static void cancel_circle(struct world *world)
{
    const struct row *first = NULL;
    for (int i = 0; i < world->disk.count; i++) {
        const struct row *row = world->disk.rows[i];
        if (status_is_final(row->status))
            continue;
        if (!world->shape.ties || !waits_in_vain(world, row))
            fault("%lld of task %d stays %s", (long long)row->id, row->task, status_name(row->status));
        first = first ? first : row;
    }
    if (!first)
        return;
    struct deed *deed = deed_new(world, DEED_ALTER);
    deed->ids[0] = first->id;
    op_alter_init(&deed->alter, ALTER_CANCEL, deed->ids, 1);
    world->tally.circles++;
    world_queue(world, deed);
}

void world_end(struct world *world)
{
    world_commit(world, false);
    let_all_go(world);
    take_back_others(world);
    queue_releases(world);
    world->wall_ms += INT64_C(30) * 86400000; /* however often the clock was set back */
    server_clock_set(world);
    for (int i = 0; i < 1000 && (i < 20 || !all_final(world)); i++) {
        run_on(world);
        world->wall_ms += 60000;
        world->mono_us += 60000000;
        if (i >= 20 && i % 20 == 0)
            cancel_circle(world);
    }
    if (!all_final(world))
        fault("not all of it ends");
    check_empty(world);
}
