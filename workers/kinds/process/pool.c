/* A pool: how many children there are to be, and which of them gets a body.
 *
 * Children are started for work that waits, one each time a child would be full, up to
 * max; those that die are replaced, more and more seldom if they die before they were given
 * anything. */
#include "workers/kinds/process/process.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdlib.h>
#include <utlist.h>

enum { AGAIN_FIRST_MS = 100, AGAIN_LAST_MS = 30000, GRACE_MS = 5000 /* where there was no body yet */ };

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

/* --- of use, or not ------------------------------------------------------------------- */

void pool_is_well(struct pool *pool)
{
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

void pool_lost_child(struct pool *pool, bool of_use)
{
    minder_look_at(0);
    if (of_use && !pool->in_a_row)
        pool->start_us = clock_mono_us() + AGAIN_FIRST_MS * 1000;
    if (of_use)
        return;
    wait_a_while(pool);
    if (++pool->in_a_row < FAILING_AFTER || atomic_exchange(&pool->failing, true))
        return;
    log_error("a pool's children end before they have done anything; they are started more and more seldom",
              LOG_STR("pool", pool->name), LOG_INT("in_a_row", pool->in_a_row));
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

/* Those that are to be: as many as there were, and more for what waits. */
static void set_target(struct pool *pool)
{
    const struct body *body;
    int pending = 0, count = alive(pool);
    DL_COUNT(pool->pending, body, pending);
    post_lock();
    int waiting = pending + pool->wanted;
    pool->wanted = 0;
    bool at_once = pool->served && pool->is->start == START_EAGER;
    post_unlock();
    int missing = waiting - room_to_come(pool);
    int more = missing > 0 ? (missing + pool->is->capacity - 1) / pool->is->capacity : 0;
    if (more && pool->target < count + more)
        pool->target = count + more;
    if (at_once && pool->target < pool->is->workers.first)
        pool->target = pool->is->workers.first;
    if (pool->target && pool->target < pool->is->workers.min)
        pool->target = pool->is->workers.min;
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
            pool_lost_child(pool, false);
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

/* Where no host waits, somebody does: it is told. */
static void fail_pending(struct pool *pool)
{
    struct body *body, *next;
    bool hopeless = atomic_load(&pool->failing) && !pool->served;
    if (!hopeless && !pool->ends)
        return;
    DL_FOREACH_SAFE (pool->pending, body, next) {
        body_fail_pending(body, SPAN("the children of its pool end before they have done anything"));
    }
}

void pool_settle(struct pool *pool, int64_t now_us)
{
    if (!pool->ends)
        give_bodies(pool, now_us);
    fail_pending(pool);
    end_idle(pool, now_us);
    set_target(pool);
    start_children(pool, now_us);
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
