#include "tests/sim/world.h"

#include <stdlib.h>

/* --- what clients ask ------------------------------------------------------------------ */

static int64_t some_id(struct world *world)
{
    return world->disk.count ? world->disk.rows[dice(&world->chance, world->disk.count)]->id : 1;
}

static int64_t some_group(struct world *world)
{
    return world->disk.group_count ? world->disk.groups[dice(&world->chance, world->disk.group_count)]->id : 1;
}

static struct submission draw_submission(struct world *world)
{
    struct chance *chance = &world->chance;
    struct submission s = {
        .task = 1 + dice(chance, world->shape.tasks),
        .priority = dice(chance, world->shape.priorities),
        .max_retries = dice(chance, 3),
        .retention_ms = dice(chance, 3000),
        .args = SPAN("{}"),
    };
    if (one_in(chance, 4))
        s.run_at = world->wall_ms + dice(chance, 2000) - 200;
    if (one_in(chance, 6))
        s.expires_at = world->wall_ms + dice(chance, 4000);
    return s;
}

static void draw_hold(struct world *world, struct deed *deed, struct submission *s)
{
    struct chance *chance = &world->chance;
    s->hold = one_in(chance, 3);
    s->release_by = s->hold && one_in(chance, 2) ? world->wall_ms + dice(chance, 4000) : 0;
    s->delay_ms = s->hold && one_in(chance, 3) ? dice(chance, 1000) : 0;
    s->expires_ms = s->hold && one_in(chance, 3) ? dice(chance, 4000) : 0;
    s->after_policy = dice(chance, 4);
    for (int tries = dice(chance, TIES_MAX + 1); tries; tries--) {
        int64_t id = some_id(world);
        bool twice = false;
        for (int i = 0; i < s->after_count; i++)
            twice |= deed->ids[i] == id;
        if (!twice)
            deed->ids[s->after_count++] = id;
    }
    s->after = deed->ids;
    if (one_in(chance, 5)) {
        s->group = some_group(world);
        s->delay_ms = s->expires_ms = 0;
    }
}

static void submit(struct world *world)
{
    struct deed *deed = deed_new(world, DEED_SUBMIT);
    deed->submission = draw_submission(world);
    if (world->shape.ties && one_in(&world->chance, 3))
        draw_hold(world, deed, &deed->submission);
    op_submit_init(&deed->submit, &deed->submission, 1);
    world_queue(world, deed);
}

static void submit_group(struct world *world)
{
    struct deed *deed = deed_new(world, DEED_GROUP);
    struct chance *chance = &world->chance;
    int count = dice(chance, MEMBERS_MAX + 1);
    deed->made = (struct group_submission){
        .mode = one_in(chance, 2) ? GROUP_CHAIN : GROUP_PARALLEL,
        .hold = one_in(chance, 3),
        .fail_fast = one_in(chance, 2),
        .retention_ms = dice(chance, 3000),
        .ids = deed->ids,
        .total = count,
    };
    deed->made.open = deed->made.mode == GROUP_PARALLEL && one_in(chance, 3);
    deed->made.release_by = deed->made.hold && one_in(chance, 2) ? world->wall_ms + dice(chance, 3000) : 0;
    for (int i = 0; i < count; i++) {
        deed->items[i] = draw_submission(world);
        deed->before[i] = i - 1;
        deed->items[i].after_members = &deed->before[i];
        deed->items[i].after_member_count = deed->made.mode == GROUP_CHAIN && i;
    }
    op_group_init(&deed->group, &deed->made, deed->items, count);
    world_queue(world, deed);
}

bool events_submit(struct world *world)
{
    bool room = world->disk.count + MEMBERS_MAX < world->shape.rows_max;
    if (room && world->shape.ties && one_in(&world->chance, 8))
        submit_group(world);
    else if (room)
        submit(world);
    return room;
}

static void alter(struct world *world)
{
    struct deed *deed = deed_new(world, DEED_ALTER);
    struct chance *chance = &world->chance;
    deed->ids[0] = some_id(world);
    op_alter_init(&deed->alter, (enum alter)dice(chance, 4), deed->ids, 1);
    deed->alter.set_priority = one_in(chance, 2);
    deed->alter.priority = dice(chance, world->shape.priorities);
    deed->alter.set_run_at = one_in(chance, 3);
    deed->alter.run_at = one_in(chance, 2) ? 0 : world->wall_ms + dice(chance, 1000);
    world_queue(world, deed);
}

static void change_held(struct world *world)
{
    bool group = world->disk.group_count && one_in(&world->chance, 2);
    struct deed *deed = deed_new(world, group ? DEED_GROUP_CHANGE : DEED_RELEASE);
    if (group)
        op_group_change_init(&deed->group_change, (enum group_change)dice(&world->chance, 3), some_group(world));
    else
        op_release_init(&deed->release, some_id(world));
    world_queue(world, deed);
}

/* --- the other server -------------------------------------------------------------------- */

/* Commits at once, and this server hears of it. */
static void commit_as_other(struct world *world, struct deed *deed)
{
    world->disk.node = 2;
    deed->next = NULL;
    model_commit(&world->disk, world->wall_ms, deed);
    world->disk.node = 1;
    server_hears(world, world->disk.changes, world->disk.change_count);
    world->tally.others++;
    deed->next = world->spare;
    world->spare = deed;
}

static void other_starts(struct world *world)
{
    struct row *row = world->disk.count ? world->disk.rows[dice(&world->chance, world->disk.count)] : NULL;
    if (!row || row->status != STATUS_QUEUED || world->other_count == OTHERS_MAX)
        return;
    struct turn turn = {row->id, draw_token(&world->chance), row->task, row->attempt + 1, row->group};
    struct deed *deed = deed_new(world, DEED_CLAIM);
    op_claim_init(&deed->claim, &turn);
    deed->claim.failures = row->failures;
    world->others[world->other_count++].turn = turn;
    commit_as_other(world, deed);
}

static void other_ends(struct world *world)
{
    if (!world->other_count)
        return;
    struct turn turn = world->others[--world->other_count].turn;
    struct deed *deed = deed_new(world, DEED_FINISH);
    op_finish_init(&deed->finish, &turn);
    deed->finish.next = one_in(&world->chance, 2) ? FINISH_FINAL : FINISH_REQUEUE;
    deed->finish.status = STATUS_SUCCEEDED;
    deed->finish.finished_at = world->wall_ms;
    commit_as_other(world, deed);
}

static void other_acts(struct world *world)
{
    if (one_in(&world->chance, 2))
        other_starts(world);
    else
        other_ends(world);
}

/* --- who runs what ------------------------------------------------------------------------- */

static struct task_now *some_task(struct world *world, int *task)
{
    *task = 1 + dice(&world->chance, world->shape.tasks);
    return &world->tasks[*task];
}

static void pause_one(struct world *world)
{
    int task;
    struct task_now *now = some_task(world, &task);
    if (!now->configured)
        return;
    now->paused = one_in(&world->chance, 4);
    queue_task_pause(&world->server.queue, task, now->paused);
}

static void reload(struct world *world)
{
    int task;
    struct task_now *now = some_task(world, &task);
    struct chance *chance = &world->chance;
    now->configured = !one_in(chance, 8);
    now->place = one_in(chance, 3) ? (enum place)dice(chance, PLACES) : now->place;
    now->room = one_in(chance, 2) ? dice(chance, ROOMS + 1) - 1 : now->room;
    now->limit = dice(chance, 4);
    world->tally.reloads++;
    server_load_tasks(world);
}

static void change_room(struct world *world)
{
    int which = dice(&world->chance, ROOMS);
    world->room_limits[which] = one_in(&world->chance, 4) ? -1 : dice(&world->chance, 4);
    server_load_tasks(world);
}

/* --- time -------------------------------------------------------------------------------------- */

static void time_passes(struct world *world)
{
    static const int spans[] = {2, 20, 200, 200, 3000, 60000};
    int ms = dice(&world->chance, spans[dice(&world->chance, 6)]);
    world->wall_ms += ms;
    world->mono_us += ms * 1000 + dice(&world->chance, 1000);
    if (!world->shape.rough || !one_in(&world->chance, 40))
        return;
    world->wall_ms += dice(&world->chance, 7200000) - 3600000;
    server_clock_set(world);
}

/* --- which of them ------------------------------------------------------------------------------- */

static void rarely(struct world *world)
{
    switch (dice(&world->chance, 8)) {
    case 0: pause_one(world); break;
    case 1: reload(world); break;
    case 2: change_room(world); break;
    case 3:
        world->server.paused = one_in(&world->chance, 4);
        server_gate(world);
        break;
    case 4:
        if (world->shape.rough)
            world_commit(world, true);
        break;
    case 5:
        if (world->shape.rough && one_in(&world->chance, 2)) {
            world_crash(world);
            world->crash_step = world->step + dice(&world->chance, 60); /* one is often not alone */
        }
        break;
    default:
        if (world->shape.ties)
            change_held(world);
        break;
    }
}

/* False: there was nothing to do. */
static bool happens(struct world *world)
{
    int what = dice(&world->chance, 46 + 4 * world->shape.urge);
    if (what >= 8 && what < 14)
        return server_start_one(world);
    if (what >= 14 && what < 18)
        return server_start_in_flight(world);
    if (what >= 18 && what < 22)
        return server_lend(world);
    if (what >= 22 && what < 32)
        return bodies_act(world);
    if (what >= 32 && what < 36)
        return workers_act(world);
    if (what < 8)
        world_commit(world, false);
    else if (what < 39)
        server_act(world);
    else if (what < 42)
        time_passes(world);
    else if (what < 43)
        return server_expire_lease(world);
    else if (what < 45)
        alter(world);
    else if (what < 46)
        rarely(world);
    else if (what < 48 && !world->shape.alone)
        other_acts(world);
    else
        return events_submit(world);
    return true;
}

void events_happen(struct world *world)
{
    if (world->step == world->crash_step)
        world_crash(world);
    for (int tries = 0; tries < 6 && !happens(world); tries++)
        continue;
}
