#include "tests/sim/world.h"

#include "workers/verdict.h"

#include <stdlib.h>
#include <utlist.h>

/* --- what any turn asks -------------------------------------------------------------- */

static int draw_ids(struct world *world, int64_t self, int64_t ids[TIES_MAX])
{
    int count = 0;
    for (int tries = 1 + dice(&world->chance, TIES_MAX); tries && world->disk.count; tries--) {
        const struct model *disk = &world->disk;
        bool group = disk->group_count && one_in(&world->chance, 4);
        int64_t id = group ? disk->groups[dice(&world->chance, disk->group_count)]->id
                           : disk->rows[dice(&world->chance, disk->count)]->id;
        bool twice = id == self && !one_in(&world->chance, 8); /* a circle */
        for (int i = 0; i < count; i++)
            twice |= ids[i] == id;
        if (!twice)
            ids[count++] = id;
    }
    return count;
}

static struct deed *new_wait(struct world *world, const struct turn *turn)
{
    struct deed *deed = deed_new(world, DEED_WAIT);
    op_wait_init(&deed->wait, turn);
    deed->wait.count = draw_ids(world, turn->id, deed->ids);
    deed->wait.ids = deed->ids;
    deed->wait.any = deed->wait.count && one_in(&world->chance, 3);
    deed->wait.timed = one_in(&world->chance, 4);
    return deed;
}

static struct deed *new_suspend(struct world *world, const struct turn *turn)
{
    struct deed *deed = deed_new(world, DEED_SUSPEND);
    op_suspend_init(&deed->suspend, turn);
    deed->suspend.on.count = draw_ids(world, turn->id, deed->ids);
    deed->suspend.on.ids = deed->ids;
    deed->suspend.on.any = one_in(&world->chance, 3);
    if (!deed->suspend.on.count || one_in(&world->chance, 3))
        deed->suspend.on.until = world->wall_ms + dice(&world->chance, 3000) - 500;
    return deed;
}

static void fail_as_decided(struct world *world, struct op_finish *finish, int failures, int max_retries)
{
    struct failure failure = {
        .type = SPAN("boom"),
        .error = SPAN("{\"type\":\"boom\"}"),
        .again = (enum again)dice(&world->chance, 3),
        .retry_after_ms = one_in(&world->chance, 3) ? dice(&world->chance, 2000) : -1,
        .failures = failures,
        .max_retries = max_retries,
    };
    double random = (double)dice(&world->chance, 1000) / 1000;
    int64_t now = world->wall_ms;
    verdict_on_failure(finish, &world->tasks[finish->turn.turn.task].task, &failure, now, random);
    bool again = finish->next == FINISH_RETRY;
    if (again != (failure.again != AGAIN_NEVER && failures < max_retries))
        fault("%lld is tried again after %d failures, of %d", (long long)finish->turn.turn.id, failures,
              max_retries);
    if (finish->run_at && (finish->run_at <= now || finish->run_at > now + 720000))
        fault("%lld is to be tried again in %lld ms", (long long)finish->turn.turn.id,
              (long long)(finish->run_at - now));
}

/* --- a body here ---------------------------------------------------------------------- */

static void give_slot(struct world *world, struct run *run)
{
    world->server.slots_free += run->slot;
    run->slot = false;
}

static void finished(void *context, struct deed *deed)
{
    struct world *world = context;
    struct run *run = deed->owner;
    const struct turn *turn = &run->grant.turn;
    world->tally.came_back += queue_settle(&world->server.queue, &run->grant, run->claim_err);
    const struct row *row = model_row(&world->disk, turn->id);
    if (deed->op.err == OK && run->claim_err == ERR_CONFLICT)
        fault("%lld ended under a lease that it never got", (long long)turn->id);
    if (deed->finish.next == FINISH_HAND_OVER && deed->op.err == OK && row_in_turn(row, turn->lease)) {
        struct lease *lease = lease_add(world, turn);
        lease->lease_until = row->lease_until;
        lease->cancelled = row->cancel_at != 0;
        world->tally.handed_over++;
    }
    DL_DELETE(world->server.runs, run);
    free(run->grant.job);
    free(run);
}

static void draw_end(struct world *world, struct run *run, struct op_finish *finish)
{
    const struct ready *ready = &run->grant.job->ready;
    int what = world->ending ? 0 : dice(&world->chance, 16);
    finish->status = STATUS_SUCCEEDED;
    finish->finished_at = world->wall_ms;
    if (run->stopped && what < 8)
        what = 8;
    if (what >= 8 && what < 13) {
        fail_as_decided(world, finish, ready->failures, ready->max_retries);
    } else if (what == 13) {
        finish->next = FINISH_LOST;
        finish->status = STATUS_FAILED;
        finish->pays = one_in(&world->chance, 2);
        finish->max_recoveries = MAX_RECOVERIES;
        finish->error = SPAN("{\"type\":\"worker_crashed\"}");
        finish->error_type = SPAN("worker_crashed");
    } else if (what == 14) {
        finish->next = FINISH_REQUEUE;
        finish->status = STATUS_CANCELLED;
    } else if (what == 15 && run->grant.in_flight && !run->suspended) {
        finish->next = FINISH_HAND_OVER;
        finish->lease_ms = LEASE_MS;
        finish->lease_until = world->wall_ms + LEASE_MS;
    }
}

static void end_body(struct world *world, struct run *run)
{
    struct deed *deed = deed_new(world, DEED_FINISH);
    bool late = !run->claims;
    op_finish_init(&deed->finish, &run->grant.turn);
    draw_end(world, run, &deed->finish);
    if (late) { /* no child ever had it */
        deed->finish.next = FINISH_UNSTARTED;
        deed->finish.status = STATUS_QUEUED;
        run_claim(world, run);
    }
    deed->finish.retention_ms = run->grant.job->ready.retention_ms;
    deed->finish.may_have_suspended = true;
    deed->owner = run;
    deed->done = finished;
    give_slot(world, run);
    queue_left(&world->server.queue, &run->grant);
    run->ended = run->finish_queued = true;
    world_queue(world, deed);
}

static void waiting(void *context, struct deed *deed)
{
    struct world *world = context;
    struct run *run = deed->owner;
    run->asked = NULL;
    if (deed->op.err != OK || deed->wait.met)
        return;
    run->waits = true;
    run->tires = deed->wait.timed;
    world->tally.waited++;
    world->tally.gave_way += run->grant.in_flight;
    give_slot(world, run);
    queue_gives_way(&world->server.queue, &run->grant, true);
}

static void resumed(void *context, struct deed *deed)
{
    struct run *run = deed->owner;
    (void)context;
    run->asked = NULL;
    run->waits = false;
    run->stopped |= deed->op.err == ERR_CONFLICT;
}

static void suspended(void *context, struct deed *deed)
{
    struct world *world = context;
    struct run *run = deed->owner;
    run->asked = NULL;
    world->tally.suspended += deed->op.err == OK;
}

static void ask(struct world *world, struct run *run, struct deed *deed, void (*done)(void *, struct deed *))
{
    deed->owner = run;
    deed->done = done;
    run->asked = deed;
    world_queue(world, deed);
}

static bool goes_on(struct world *world, struct run *run)
{
    bool takes_slot = !run->grant.in_flight;
    if (takes_slot && !world->server.slots_free)
        return false;
    struct deed *deed = deed_new(world, DEED_RESUME);
    op_resume_init(&deed->resume, &run->grant.turn);
    run->slot = takes_slot;
    world->server.slots_free -= takes_slot;
    queue_gives_way(&world->server.queue, &run->grant, false);
    ask(world, run, deed, resumed);
    return true;
}

/* It has waited for long enough. */
static bool may_tire(struct world *world)
{
    return world->ending || one_in(&world->chance, 16);
}

static bool body_acts(struct world *world, struct run *run)
{
    bool ties = world->shape.ties && !world->ending && !run->stopped && !run->suspended;
    if (run->asked || run->ended)
        return false;
    if (run->pooled && !run->stopped && !world->ending && !one_in(&world->chance, 6))
        return false; /* no child has room yet */
    if (run->pooled && !run->stopped) {
        run_begins(world, run);
        return true;
    }
    if (run->waits && !run->stopped)
        return (run->woken || (run->tires && may_tire(world))) && goes_on(world, run);
    if (ties && one_in(&world->chance, 6)) {
        run->woken = false;
        ask(world, run, new_wait(world, &run->grant.turn), waiting);
    } else if (ties && one_in(&world->chance, 4)) {
        ask(world, run, new_suspend(world, &run->grant.turn), suspended);
    } else {
        end_body(world, run);
    }
    return true;
}

bool bodies_act(struct world *world)
{
    struct run *run, *next;
    int count = 0;
    bool some = false;
    DL_FOREACH (world->server.runs, run)
        count++;
    int which = world->ending || !count ? -1 : dice(&world->chance, count);
    DL_FOREACH_SAFE (world->server.runs, run, next)
        if (which < 0 || which-- == 0) {
            some |= body_acts(world, run);
            if (!world->ending)
                break;
        }
    return some;
}

/* --- workers elsewhere --------------------------------------------------------------------- */

static void watch(struct world *world, struct lease *lease, int64_t for_us)
{
    deadlines_remove(&world->server.deadlines, &lease->deadline);
    deadlines_add(&world->server.deadlines, &lease->deadline, world->mono_us + for_us);
}

struct lease *lease_add(struct world *world, const struct turn *turn)
{
    struct lease *lease = xcalloc(1, sizeof *lease);
    lease->turn = *turn;
    DL_APPEND(world->server.leases, lease);
    watch(world, lease, LEASE_MS * 1000);
    return lease;
}

void lease_free(struct world *world, struct lease *lease)
{
    deadlines_remove(&world->server.deadlines, &lease->deadline);
    DL_DELETE(world->server.leases, lease);
    free(lease);
}

static struct lease *lease_of(struct world *world, const struct deed *deed)
{
    struct lease *lease;
    DL_SEARCH_SCALAR(world->server.leases, lease, turn.lease, deed->turn.turn.lease);
    if (lease)
        lease->asked = NULL;
    return lease;
}

static void reported(void *context, struct deed *deed)
{
    struct world *world = context;
    struct lease *lease = lease_of(world, deed);
    if (lease && deed->op.err != ERR_UNAVAILABLE)
        lease_free(world, lease);
}

static void lease_waits(void *context, struct deed *deed)
{
    struct lease *lease = lease_of(context, deed);
    if (lease && deed->op.err == OK) {
        lease->waits = !deed->wait.met;
        lease->tires = deed->wait.timed;
    }
}

static void lease_resumed(void *context, struct deed *deed)
{
    struct lease *lease = lease_of(context, deed);
    if (lease)
        lease->waits = false;
}

static void lease_suspended(void *context, struct deed *deed)
{
    struct world *world = context;
    lease_of(world, deed);
    world->tally.suspended += deed->op.err == OK;
}

static void renewed(void *context, struct deed *deed)
{
    struct world *world = context;
    struct lease *lease = lease_of(world, deed);
    if (!lease || deed->op.err != OK || deed->renew.cancelled)
        return;
    lease->lease_until = deed->renew.lease_until;
    watch(world, lease, LEASE_MS * 1000);
}

static void lost(void *context, struct deed *deed)
{
    struct world *world = context;
    struct lease *lease = lease_of(world, deed);
    world->tally.lost += deed->op.err == OK;
    if (lease && deed->op.err == ERR_CONFLICT)
        lease_free(world, lease);
    else if (lease)
        watch(world, lease, 1000000);
}

static void say(struct world *world, struct lease *lease, struct deed *deed, void (*done)(void *, struct deed *))
{
    deed->done = done;
    lease->asked = deed;
    world_queue(world, deed);
}

static void report_end(struct world *world, struct lease *lease)
{
    struct deed *deed = deed_new(world, DEED_FINISH);
    op_finish_init_once(&deed->finish, &lease->turn);
    deed->finish.finished_at = world->wall_ms;
    deed->finish.status = STATUS_SUCCEEDED;
    if (!world->ending && one_in(&world->chance, 3))
        fail_as_decided(world, &deed->finish, lease->failures, lease->max_retries);
    const struct row *row = model_row(&world->disk, lease->turn.id);
    deed->finish.retention_ms = row ? row->retention_ms : 0;
    say(world, lease, deed, reported);
}

static void renew(struct world *world, struct lease *lease)
{
    struct deed *deed = deed_new(world, DEED_RENEW);
    op_renew_init(&deed->renew, &lease->turn);
    deed->renew.lease_until = world->wall_ms + LEASE_MS;
    say(world, lease, deed, renewed);
}

static void resume(struct world *world, struct lease *lease)
{
    struct deed *deed = deed_new(world, DEED_RESUME);
    op_resume_init(&deed->resume, &lease->turn);
    say(world, lease, deed, lease_resumed);
}

static bool worker_acts(struct world *world, struct lease *lease)
{
    bool ties = world->shape.ties && !world->ending && !lease->cancelled;
    bool goes_on = lease->woken || (lease->tires && may_tire(world));
    if (lease->asked || (lease->waits && world->ending && !goes_on))
        return false;
    if (lease->waits && goes_on)
        resume(world, lease);
    else if (lease->waits || (!world->ending && one_in(&world->chance, 3)))
        renew(world, lease);
    else if (ties && one_in(&world->chance, 6)) {
        lease->woken = false;
        say(world, lease, new_wait(world, &lease->turn), lease_waits);
    } else if (ties && one_in(&world->chance, 4)) {
        say(world, lease, new_suspend(world, &lease->turn), lease_suspended);
    } else {
        report_end(world, lease);
    }
    return true;
}

bool workers_act(struct world *world)
{
    struct lease *lease, *next;
    bool some = false;
    int skip = dice(&world->chance, 4);
    DL_FOREACH_SAFE (world->server.leases, lease, next)
        if (world->ending || skip-- == 0)
            some |= worker_acts(world, lease);
    return some;
}

bool server_expire_lease(struct world *world)
{
    struct deadline *first = deadlines_first(&world->server.deadlines);
    if (!first || first->at_us > world->mono_us)
        return false;
    struct lease *lease;
    DL_FOREACH (world->server.leases, lease)
        if (&lease->deadline == first)
            break;
    if (lease->asked) {
        watch(world, lease, 1000);
        return true;
    }
    struct deed *deed = deed_new(world, DEED_LOSE);
    op_lose_init(&deed->lose, &lease->turn);
    deed->lose.lease_until = lease->lease_until;
    deed->lose.pays = one_in(&world->chance, 2);
    deed->lose.max_recoveries = MAX_RECOVERIES;
    deadlines_remove(&world->server.deadlines, first);
    say(world, lease, deed, lost);
    return true;
}
