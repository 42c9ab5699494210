/* What a server does with its queue, told as workers/ does it: runner.c (take_change), run.c,
 * report.c, lending.c, leases.c and dispatcher.c. */
#include "tests/sim/world.h"

#include <stdio.h>
#include <stdlib.h>
#include <utlist.h>

static const int rooms[ROOMS]; /* their addresses are their names */

/* --- life ------------------------------------------------------------------------- */

static void load_task(struct world *world, int i)
{
    struct queue *queue = &world->server.queue;
    struct task_now *now = &world->tasks[i];
    bool shares = now->room >= 0 && now->place == IN_FLIGHT;
    int room = shares ? now->room : -1;
    now->moves += room != now->room_now;
    now->room_now = room;
    queue_task_set(queue, &now->task, now->place, now->paused);
    queue_task_room(queue, i, shares ? &rooms[now->room] : NULL);
    if (shares)
        queue_room_limit(queue, &rooms[now->room], world->room_limits[now->room]);
    else
        queue_task_limit(queue, i, now->place == IN_FLIGHT ? now->limit : 0);
}

void server_load_tasks(struct world *world)
{
    struct server *server = &world->server;
    queue_tasks_begin(&server->queue);
    for (int i = 1; i <= world->shape.tasks; i++)
        if (world->tasks[i].configured)
            load_task(world, i);
    queue_tasks_end(&server->queue);
    timers_set(&server->timers, TIMER_REFILL, 0);
}

void server_gate(struct world *world)
{
    world->server.queue.closed = !world->server.healthy || world->server.paused;
}

/* Turns elsewhere have outlived the last server. */
static void find_leases(struct world *world)
{
    for (int i = 0; i < world->disk.count; i++) {
        const struct row *row = world->disk.rows[i];
        if (!status_in_turn(row->status) || !row->lease_until || row->holder != world->disk.node)
            continue;
        struct turn turn = {row->id, row->lease, row->task, row->attempt, row->group};
        struct lease *lease = lease_add(world, &turn);
        lease->lease_until = row->lease_until;
        lease->waits = row->status == STATUS_WAITING;
        lease->woken = lease->waits && !row->waits_left;
        lease->cancelled = row->cancel_at != 0;
        lease->failures = row->failures;
        lease->max_retries = row->max_retries;
    }
}

void server_start(struct world *world)
{
    struct server *server = &world->server;
    *server = (struct server){.slots_free = world->shape.slots, .healthy = true};
    queue_init(&server->queue);
    if (!world->shape.usual_limits)
        server->queue.window.limits = &world->shape.limits;
    timers_init(&server->timers, WORLD_TIMERS, UPKEEPS);
    server_load_tasks(world);
    server_gate(world);
    find_leases(world);
}

void server_release(struct world *world)
{
    struct server *server = &world->server;
    struct run *run, *next;
    struct lease *lease, *next_lease;
    DL_FOREACH_SAFE (server->runs, run, next) {
        free(run->grant.anew);
        free(run->grant.job);
        free(run);
    }
    server->runs = NULL;
    DL_FOREACH_SAFE (server->leases, lease, next_lease)
        free(lease);
    for (struct deed *deed = world->queued; deed; deed = deed->next)
        if (deed->kind == DEED_CLAIM && deed->claim.lease_until) { /* a lending's */
            struct grant *grant = deed->owner;
            free(grant->anew);
            free(grant->job);
            free(grant);
        }
    queue_release(&server->queue);
    deadlines_release(&server->deadlines);
}

/* --- what the store reports ------------------------------------------------------------ */

void server_look(struct world *world, int task)
{
    if (queue_is_low(&world->server.queue, task))
        timers_set(&world->server.timers, TIMER_REFILL, 0);
}

static void tell_runs(struct world *world, const struct change *change)
{
    struct run *run;
    bool stops = change->cancel || (change->from == STATUS_WAITING && status_is_final(change->to));
    bool in_vain = change->withdrawn && change->to != STATUS_QUEUED;
    DL_FOREACH (world->server.runs, run) {
        if (run->grant.turn.id != change->id || run->ended)
            continue;
        run->stopped |= stops || (in_vain && !run->claims);
        run->woken |= change->woken;
        bool ends_early = status_in_turn(change->from) && change->to == STATUS_CANCELLED;
        if (ends_early && !run->grant.refused)
            queue_suspended(&world->server.queue, &run->grant);
        if (change->suspended) {
            run->suspended = true;
            queue_suspended(&world->server.queue, &run->grant);
        }
    }
}

static void tell_leases(struct world *world, const struct change *change)
{
    struct lease *lease, *next;
    bool over = status_in_turn(change->from) && (!status_in_turn(change->to) || change->suspended);
    DL_FOREACH_SAFE (world->server.leases, lease, next) {
        if (lease->turn.id != change->id)
            continue;
        lease->cancelled |= change->cancel;
        lease->woken |= change->woken;
        if (over)
            lease_free(world, lease);
    }
}

static void set_timers(struct world *world, const struct change *change)
{
    struct timers *timers = &world->server.timers;
    if (change->wakes_at)
        timers_set(timers, UPKEEP_WAKE, change->wakes_at);
    if (change->follow_up)
        timers_set(timers, UPKEEP_FOLLOW_UP, 0);
    if (change->due_at)
        timers_set(timers, UPKEEP_PROMOTE, change->due_at);
    if (change->expires_at)
        timers_set(timers, UPKEEP_EXPIRE, change->expires_at);
    if (change->release_by)
        timers_set(timers, UPKEEP_RELEASE_BY, change->release_by);
    if (change->prune_at)
        timers_set(timers, UPKEEP_PRUNE, change->prune_at);
}

static void take_change(struct world *world, const struct change *change)
{
    struct queue *queue = &world->server.queue;
    if (change->refill) {
        queue_refilled(queue, change->refill, (struct window_now){world->mono_us, world->wall_ms});
        world->tally.refills++;
        return;
    }
    if (change->withdrawn) {
        queue_withdraw(queue, change);
        server_look(world, change->task);
    }
    tell_runs(world, change);
    if (change->to == STATUS_QUEUED)
        queue_offer(queue, change, world->mono_us);
    set_timers(world, change);
    tell_leases(world, change);
}

/* TRACE=1 */
static void trace(const struct world *world, const struct change *change)
{
    const char *from = status_name(change->from), *to = status_name(change->to);
    printf("%ld: %lld of %d: %s to %s%s%s%s%s", world->step, (long long)change->id, change->task,
           from ? from : "-", to ? to : "-", change->withdrawn ? ", withdrawn" : "",
           change->cancel ? ", cancelled" : "", change->woken ? ", woken" : "",
           change->suspended ? ", suspended" : "");
    if (change->to == STATUS_QUEUED)
        printf(", %d/%lld, attempt %d", change->ready.priority, (long long)change->ready.rank,
               change->ready.attempt);
    if (change->refill)
        printf("refill of %d, %d of %d", change->refill->task, change->refill->count, change->refill->limit);
    putchar('\n');
}

void server_hears(struct world *world, const struct change *changes, int count)
{
    for (int i = 0; i < count; i++) {
        if (world->traced)
            trace(world, &changes[i]);
        take_change(world, &changes[i]);
    }
}

void server_health(struct world *world, bool healthy)
{
    if (world->server.healthy == healthy)
        return;
    world->server.healthy = healthy;
    server_gate(world);
    if (healthy)
        timers_set(&world->server.timers, TIMER_REFILL, 0);
}

/* --- a body here ---------------------------------------------------------------------------- */

static void settle(struct world *world, struct run *run)
{
    world->tally.came_back += queue_settle(&world->server.queue, &run->grant, run->claim_err);
}

static void claimed(void *context, struct deed *deed)
{
    struct world *world = context;
    struct run *run = deed->owner;
    run->claimed = true;
    run->claim_err = deed->op.err;
    world->tally.refused += deed->op.err == ERR_CONFLICT;
    if (deed->op.err == OK && run->finish_queued)
        return;
    settle(world, run);
    run->stopped |= deed->op.err == ERR_CONFLICT;
}

void run_claim(struct world *world, struct run *run)
{
    struct deed *deed = deed_new(world, DEED_CLAIM);
    op_claim_init(&deed->claim, &run->grant.turn);
    deed->claim.failures = run->grant.job->ready.failures;
    deed->claim.resumes = run->grant.job->ready.resumes;
    deed->claim.started_at = world->wall_ms;
    deed->owner = run;
    deed->done = claimed;
    run->claims = true;
    world_queue(world, deed);
}

/* A child has it. */
void run_begins(struct world *world, struct run *run)
{
    run->pooled = false;
    queue_begins(&world->server.queue, &run->grant);
    run_claim(world, run);
}

static void begin(struct world *world, const struct grant *grant)
{
    struct server *server = &world->server;
    struct run *run = xcalloc(1, sizeof *run);
    run->grant = *grant;
    run->slot = !grant->in_flight;
    server->slots_free -= run->slot;
    queue_claiming(&server->queue, &run->grant);
    DL_APPEND(server->runs, run);
    world->tally.taken++;
    world->tally.suspects += grant->suspect;
    run->pooled = grant->suspect || (grant->in_flight && world->tasks[grant->turn.task].room_now >= 0);
    run->moves = world->tasks[grant->turn.task].moves;
    if (!run->pooled)
        run_claim(world, run);
}

static bool is_expired(struct world *world, const struct grant *grant)
{
    int64_t expires_at = grant->job->ready.expires_at;
    bool expired = expires_at && expires_at <= world->wall_ms;
    struct row *row = expired ? model_row(&world->disk, grant->turn.id) : NULL;
    if (row && row->attempt == grant->job->ready.attempt)
        row->left_to_expire = true;
    world->tally.expired += expired;
    return expired;
}

static bool take(struct world *world, bool (*take_one)(struct queue *, int64_t, struct grant *), unsigned places)
{
    struct queue *queue = &world->server.queue;
    for (;;) {
        struct grant grant;
        const struct job *best = audit_best(world, places, NULL, 0);
        if (!take_one(queue, draw_token(&world->chance), &grant)) {
            if (best && !queue->closed)
                fault("%lld may run, and is not given out", (long long)best->ready.id);
            return false;
        }
        audit_taken(world, &grant, best, "this server");
        server_look(world, grant.turn.task);
        if (!is_expired(world, &grant)) {
            begin(world, &grant);
            return true;
        }
        queue_left(queue, &grant);
        free(grant.job);
    }
}

bool server_start_one(struct world *world)
{
    return world->server.slots_free > 0 && take(world, queue_take, 1u << IN_PROCESS | 1u << APART);
}

bool server_start_in_flight(struct world *world)
{
    return take(world, queue_take_in_flight, 1u << IN_FLIGHT);
}

/* --- elsewhere --------------------------------------------------------------------------------- */

static void lent(void *context, struct deed *deed)
{
    struct world *world = context;
    struct grant *grant = deed->owner;
    if (err_is_fault(deed->op.err))
        queue_put_back(&world->server.queue, grant);
    else
        world->tally.came_back += queue_settle(&world->server.queue, grant, deed->op.err);
    world->tally.refused += deed->op.err == ERR_CONFLICT;
    if (deed->op.err == OK) {
        struct lease *lease = lease_add(world, &grant->turn);
        lease->lease_until = deed->claim.lease_until;
        lease->failures = grant->job->ready.failures;
        lease->max_retries = grant->job->ready.max_retries;
    }
    free(grant->job);
    free(grant);
}

static void lend(struct world *world, const struct grant *taken)
{
    struct grant *grant = xmalloc(sizeof *grant);
    struct deed *deed = deed_new(world, DEED_CLAIM);
    *grant = *taken;
    op_claim_init_awaited(&deed->claim, &grant->turn);
    deed->claim.failures = grant->job->ready.failures;
    deed->claim.resumes = grant->job->ready.resumes;
    deed->claim.lease_ms = LEASE_MS;
    deed->claim.lease_until = world->wall_ms + LEASE_MS;
    deed->claim.started_at = world->wall_ms;
    deed->owner = grant;
    deed->done = lent;
    queue_claiming(&world->server.queue, grant);
    world->tally.taken++;
    world_queue(world, deed);
}

/* Somebody asks for some of the tasks, or for all. */
bool server_lend(struct world *world)
{
    int tasks[2] = {1 + dice(&world->chance, world->shape.tasks), 1 + dice(&world->chance, world->shape.tasks)};
    bool all = world->ending || one_in(&world->chance, 2);
    for (;;) {
        struct grant grant;
        const struct job *best = audit_best(world, 1u << ELSEWHERE, all ? NULL : tasks, 2);
        int64_t token = draw_token(&world->chance);
        if (!queue_take_elsewhere(&world->server.queue, all ? NULL : tasks, 2, token, &grant)) {
            if (best && !world->server.queue.closed)
                fault("%lld may be lent, and is not", (long long)best->ready.id);
            return false;
        }
        audit_taken(world, &grant, best, "a worker elsewhere");
        server_look(world, grant.turn.task);
        if (!is_expired(world, &grant)) {
            lend(world, &grant);
            return true;
        }
        free(grant.job);
    }
}

/* --- what time asks ---------------------------------------------------------------------------- */

static void upkeep_done(void *context, struct deed *deed)
{
    struct world *world = context;
    struct timers *timers = &world->server.timers;
    int what = (int)deed->upkeep.what;
    timers_done(timers, what);
    if (deed->op.err != OK) {
        timers_set(timers, what, world->wall_ms + UPKEEP_AGAIN_MS);
    } else if (deed->upkeep.more) {
        timers_set(timers, what, 0);
    } else if (deed->upkeep.next_at) {
        timers_set(timers, what, deed->upkeep.next_at);
    }
}

static void refill_done(void *context, struct deed *deed)
{
    struct world *world = context;
    queue_refill_done(&world->server.queue, deed->refill.task);
    if (deed->op.err == OK)
        server_look(world, deed->refill.task);
    else
        timers_set(&world->server.timers, TIMER_REFILL, world->mono_us + UPKEEP_AGAIN_MS * 1000);
}

static void refill_all(struct world *world)
{
    struct queue *queue = &world->server.queue;
    for (int task = 1; task < queue->window.lane_count; task++) {
        if (!world->server.healthy || !queue_is_low(queue, task))
            continue;
        struct deed *deed = deed_new(world, DEED_REFILL);
        op_refill_init(&deed->refill);
        queue_wants_refill(queue, task, &deed->refill);
        deed->done = refill_done;
        world_queue(world, deed);
    }
    timers_done(&world->server.timers, TIMER_REFILL);
}

void server_clock_set(struct world *world)
{
    for (int i = 0; i < UPKEEPS; i++)
        timers_set(&world->server.timers, i, 0);
}

void server_act(struct world *world)
{
    int which;
    while ((which = timers_take(&world->server.timers, world->wall_ms, world->mono_us)) != TIMER_NEVER) {
        if (which == TIMER_REFILL) {
            refill_all(world);
            continue;
        }
        struct deed *deed = deed_new(world, DEED_UPKEEP);
        op_upkeep_init(&deed->upkeep, (enum upkeep)which);
        deed->done = upkeep_done;
        world_queue(world, deed);
    }
}
