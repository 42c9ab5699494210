/* A pool: how many children there are to be, and which of them gets a body.
 *
 * Children are started for work that waits, one each time a child would be full, up to
 * max; those that die are replaced, more and more seldom if they die before they were given
 * anything. */
#include "workers/kinds/pool/internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdlib.h>
#include <utlist.h>

enum {
    AGAIN_FIRST_MS = 100,
    AGAIN_LAST_MS = 30000,
    GRACE_MS = 5000, /* where there was no body yet */
    LINES_MAX = 10,  /* of a pool's in the log, in ten seconds */
    LINES_US = 10 * 1000 * 1000,
};

struct pool *pool_new(struct pool_definition *of)
{
    struct pool *pool = xcalloc(1, sizeof *pool);
    pool->of = of;
    pool->is = &of->is;
    pool->name = of->name;
    pool->grace_ms = GRACE_MS;
    atomic_init(&pool->room, -1);
    atomic_init(&pool->failing, false);
    return pool;
}

void pool_free(struct pool *pool)
{
    pool_definition_free(pool->of);
    free(pool);
}

bool pool_is_over(const struct pool *pool)
{
    return pool->ends && !pool->children && !pool->pending && !pool->leaving;
}

void pool_close(struct pool *pool)
{
    struct child *child;
    pool->ends = true;
    DL_FOREACH (pool->children, child)
        child_retire(child);
}

/* Children of whose bodies each ends it would fill the log. */
bool pool_may_log(struct pool *pool, int *left_out)
{
    int64_t now_us = clock_mono_us();
    if (now_us - pool->lines_us > LINES_US) {
        pool->lines_us = now_us;
        pool->lines = 0;
    }
    bool may = pool->lines++ < LINES_MAX;
    *left_out = may ? pool->lines_left_out : 0;
    pool->lines_left_out = may ? 0 : pool->lines_left_out + 1;
    return may;
}

/* --- of use, or not ------------------------------------------------------------------- */

void pool_is_well(struct pool *pool, const struct child *by)
{
    if (!pool->in_a_row || by->ready_us <= pool->lost_us)
        return;
    pool->in_a_row = 0;
    pool->start_us = 0;
    if (atomic_exchange(&pool->failing, false))
        log_info("a pool's children are well again", LOG_STR("pool", pool->name));
}

/* The first is replaced at once. */
static void wait_a_while(struct pool *pool)
{
    int doublings = pool->in_a_row < 10 ? pool->in_a_row : 10;
    int64_t ms = (int64_t)AGAIN_FIRST_MS << doublings;
    pool->start_us = clock_mono_us() + (ms < AGAIN_LAST_MS ? ms : AGAIN_LAST_MS) * 1000;
}

void pool_lost_child(struct pool *pool)
{
    minder_look_at(0);
    if (!pool->in_a_row)
        pool->start_us = clock_mono_us() + AGAIN_FIRST_MS * 1000;
}

void pool_lost_useless(struct pool *pool, const char *how, struct span said)
{
    minder_look_at(0);
    wait_a_while(pool);
    pool->lost_us = clock_mono_us();
    post_lock();
    reason_set(&pool->why, said.len ? "%s; what it printed last: %.*s" : "%s", how, (int)said.len, said.p);
    post_unlock();
    if (++pool->in_a_row < FAILING_AFTER || atomic_exchange(&pool->failing, true))
        return;
    log_error("a pool's children end before they have done anything; they are started more and more seldom",
              LOG_STR("pool", pool->name), LOG_INT("in_a_row", pool->in_a_row), LOG_STR("how", how),
              LOG_SPAN("said", said));
}

/* --- who gets a body ---------------------------------------------------------------------- */

/* The one with the most room: bodies spread over the children. */
static struct child *roomiest(struct pool *pool)
{
    struct child *child, *best = NULL;
    DL_FOREACH (pool->children, child)
        if (child_room(child) > 0 && (!best || child_room(child) > child_room(best)))
            best = child;
    return best;
}

/* One in which nothing runs, or the one with the fewest, which gets no more until nothing does. */
static struct child *for_alone(struct pool *pool)
{
    struct child *child, *best = NULL;
    DL_FOREACH (pool->children, child)
        if (child->state == CHILD_READY && !child->alone && (!best || child_running(child) < child_running(best)))
            best = child;
    return best;
}

/* True: a child has it. */
static bool give_alone(struct body *body, int64_t now_us)
{
    struct pool *pool = body->pool;
    struct child *child;
    DL_FOREACH (pool->children, child)
        if (child->alone == body)
            break;
    if (child && child->state != CHILD_READY) { /* it ends before it has come to it */
        child->alone = NULL;
        child = NULL;
    }
    if (!child)
        child = for_alone(pool);
    if (!child)
        return false;
    child->alone = body;
    if (child_running(child))
        return false;
    DL_DELETE(pool->pending, body);
    body_begin(body, child, now_us);
    return true;
}

static void give_bodies(struct pool *pool, int64_t now_us)
{
    struct body *body, *next;
    DL_FOREACH_SAFE (pool->pending, body, next) {
        if (body->alone) {
            give_alone(body, now_us);
            continue;
        }
        struct child *child = roomiest(pool);
        if (!child)
            continue;
        DL_DELETE(pool->pending, body);
        body_begin(body, child, now_us);
    }
}

/* --- how many ------------------------------------------------------------------------------ */

static int seats(const struct pool *pool)
{
    const struct child *child;
    int count = 0;
    DL_FOREACH (pool->children, child)
        if (child->state == CHILD_READY)
            count += child_is_taken(child) ? child_running(child) : pool->is->capacity;
    return count;
}

static int room_to_come(const struct pool *pool)
{
    const struct child *child;
    int count = 0;
    DL_FOREACH (pool->children, child)
        count += child->state == CHILD_STARTING ? pool->is->capacity
                 : child_room(child) > 0        ? child_room(child)
                                                : 0;
    return count;
}

static int alive(const struct pool *pool)
{
    const struct child *child;
    int count = 0;
    DL_FOREACH (pool->children, child)
        count += child->state == CHILD_STARTING || child->state == CHILD_READY;
    return count;
}

static int target_of(const struct pool *pool, int wanted, bool at_once)
{
    const struct pool_settings *is = pool->is;
    int target = wanted > pool->target ? wanted : pool->target;
    if (at_once && target < is->workers.first)
        target = is->workers.first;
    if (target && target < is->workers.min)
        target = is->workers.min;
    return target;
}

/* Those that are to be: as many as there were, and more for what waits. Of a pool that is
 * outdated only those for what it has. */
static void set_target(struct pool *pool)
{
    const struct body *body;
    int pending = 0, count = alive(pool), capacity = pool->is->capacity;
    DL_COUNT(pool->pending, body, pending);
    post_lock();
    bool outdated = pool->outdated, at_once = pool->served && pool->is->start == POOL_START_EAGER;
    int waiting = pending + (outdated ? 0 : pool->wanted);
    pool->wanted = 0;
    post_unlock();
    int missing = waiting - room_to_come(pool);
    int more = missing > 0 ? (missing + capacity - 1) / capacity : 0;
    pool->target = outdated ? count + more : target_of(pool, more ? count + more : 0, at_once);
    if (pool->target > pool->is->workers.max)
        pool->target = pool->is->workers.max;
}

static void start_children(struct pool *pool, int64_t now_us)
{
    int count = alive(pool);
    while (count < pool->target && !pool->ends) {
        if (pool->start_us > now_us) {
            minder_look_at(pool->start_us);
            return;
        }
        if (!child_start(pool, now_us)) {
            pool_lost_useless(pool, "it cannot be started, as the server's log says", SPAN(""));
            minder_look_at(pool->start_us);
            return;
        }
        count++;
        if (pool->in_a_row) /* one is tried first */
            pool->start_us = now_us + AGAIN_LAST_MS * 1000;
    }
}

/* Above min, and with nothing to do for long. */
static void end_idle(struct pool *pool, int64_t now_us)
{
    struct child *child;
    int count = alive(pool);
    if (!pool->is->workers.idle_ms)
        return;
    DL_FOREACH (pool->children, child) {
        if (child->state != CHILD_READY || child->body_count || count <= pool->is->workers.min)
            continue;
        int64_t until_us = child->idle_us + pool->is->workers.idle_ms * 1000;
        if (until_us > now_us) {
            minder_look_at(until_us);
            continue;
        }
        child_retire(child);
        count--;
        pool->target = count;
    }
}

/* Of another configuration: whoever has nothing to do, and will have nothing. */
static void end_unneeded(struct pool *pool)
{
    struct child *child;
    if (pool->pending)
        return;
    DL_FOREACH (pool->children, child)
        if (!child->body_count)
            child_retire(child);
}

static void tell_room(struct pool *pool)
{
    int room = seats(pool);
    room = room && !pool->ends ? room : -1;
    if (room == atomic_load(&pool->room))
        return;
    atomic_store(&pool->room, room);
    int waiting = minder_tell_room(pool, room);
    post_lock();
    pool->wanted = waiting > pool->wanted ? waiting : pool->wanted;
    post_unlock();
    if (waiting)
        minder_look_at(0);
}

/* No child comes to run them. Where there is a host they are queued again, perhaps for the pool of
 * another configuration; but those of a pool that is not served would be here again at once, and stay
 * until there is another. Where there is no host somebody waits, and is told. */
static void leave_pending(struct pool *pool)
{
    const struct span why = SPAN("the children of its pool end before they have done anything");
    struct body *body, *next;
    bool failing = atomic_load(&pool->failing), fails = pool->ends || (failing && !minder_has_host());
    post_lock();
    bool elsewhere = pool->served ? atomic_load(&pool->room) < 0 : pool->outdated;
    post_unlock();
    DL_FOREACH_SAFE (pool->pending, body, next) {
        if (fails)
            body_fail_pending(body, why);
        else if (failing && elsewhere)
            body_put_back(body, why);
    }
}

void pool_settle(struct pool *pool, int64_t now_us)
{
    post_lock();
    bool outdated = pool->outdated;
    post_unlock();
    if (!pool->ends)
        give_bodies(pool, now_us);
    if (outdated)
        end_unneeded(pool);
    else
        end_idle(pool, now_us);
    set_target(pool);
    start_children(pool, now_us);
    tell_room(pool);
    leave_pending(pool);
}
