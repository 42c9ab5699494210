#include "workers/queue/window.h"

#include "base/id.h"

#include <stdlib.h>

const struct window_limits window_limits = {.lane_max = 2048, .lane_min = 64, .all_max = 16384};

static bool before(int priority_a, int64_t rank_a, int priority_b, int64_t rank_b)
{
    return priority_a != priority_b ? priority_a < priority_b : rank_a < rank_b;
}

static bool entry_before(const struct entry *a, const struct entry *b)
{
    return before(a->priority, a->rank, b->priority, b->rank);
}

/* --- a lane's heap ------------------------------------------------------------- */

static void sift_up(struct lane *lane, int i)
{
    struct entry moving = lane->heap[i];
    while (i > 0 && entry_before(&moving, &lane->heap[(i - 1) / 2])) {
        lane->heap[i] = lane->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    lane->heap[i] = moving;
}

static void sift_down(struct lane *lane, int i)
{
    struct entry moving = lane->heap[i];
    for (;;) {
        int child = 2 * i + 1;
        if (child >= lane->count)
            break;
        if (child + 1 < lane->count && entry_before(&lane->heap[child + 1], &lane->heap[child]))
            child++;
        if (!entry_before(&lane->heap[child], &moving))
            break;
        lane->heap[i] = lane->heap[child];
        i = child;
    }
    lane->heap[i] = moving;
}

static void heap_remove(struct lane *lane, int i)
{
    lane->heap[i] = lane->heap[--lane->count];
    if (i < lane->count) {
        sift_down(lane, i);
        sift_up(lane, i);
    }
}

static int compare_entries(const void *a, const void *b)
{
    return entry_before(a, b) ? -1 : 1;
}

/* Leaves the first `room` jobs in memory and the rest to the disk. Of one that is there twice, as
 * another server had it meanwhile, both go: a refill brings what is beyond the limit, not what is at it. */
static void lane_trim(struct lane *lane, int room)
{
    qsort(lane->heap, (size_t)lane->count, sizeof *lane->heap, compare_entries); /* sorted is a heap */
    while (room > 1 && !entry_before(&lane->heap[room - 1], &lane->heap[room]))
        room--;
    for (int i = room; i < lane->count; i++)
        free(lane->heap[i].job);
    lane->count = room;
    lane->more = true;
    lane->limit_priority = lane->heap[room - 1].priority;
    lane->limit_rank = lane->heap[room - 1].rank;
}

/* --- the heap of lanes ------------------------------------------------------------ */

static bool lane_before(const struct window *window, int a, int b)
{
    return entry_before(&window->lanes[a]->heap[0], &window->lanes[b]->heap[0]);
}

static void place(struct window *window, struct consumer *c, int i, int id)
{
    c->order[i] = id;
    window->lanes[id]->place = i;
}

static void order_up(struct window *window, struct consumer *c, int i)
{
    int id = c->order[i];
    while (i > 0 && lane_before(window, id, c->order[(i - 1) / 2])) {
        place(window, c, i, c->order[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    place(window, c, i, id);
}

static void order_down(struct window *window, struct consumer *c, int i)
{
    int id = c->order[i];
    for (;;) {
        int child = 2 * i + 1;
        if (child >= c->order_count)
            break;
        if (child + 1 < c->order_count && lane_before(window, c->order[child + 1], c->order[child]))
            child++;
        if (!lane_before(window, c->order[child], id))
            break;
        place(window, c, i, c->order[child]);
        i = child;
    }
    place(window, c, i, id);
}

static void order_add(struct window *window, struct consumer *c, struct lane *lane)
{
    if (c->order_count == c->order_cap) {
        c->order_cap = c->order_cap ? c->order_cap * 2 : 16;
        c->order = xrealloc(c->order, (size_t)c->order_cap * sizeof *c->order);
    }
    place(window, c, c->order_count++, lane->id);
    order_up(window, c, lane->place);
}

static void order_remove(struct window *window, struct consumer *c, struct lane *lane)
{
    int hole = lane->place, last = c->order[--c->order_count];
    lane->place = -1;
    if (last == lane->id)
        return;
    place(window, c, hole, last);
    order_up(window, c, hole);
    order_down(window, c, window->lanes[last]->place);
}

bool window_is_full(const struct lane *lane)
{
    const struct room *room = lane->room;
    return room->limit && room->out >= room->limit;
}

/* Puts the lane where it belongs after its first job or its right to run changed. */
static void reorder(struct window *window, struct lane *lane)
{
    bool wanted = lane->count > 0 && lane->consumer && !lane->paused && !window_is_full(lane);
    if (wanted && lane->place < 0) {
        order_add(window, lane->consumer, lane);
    } else if (wanted) {
        order_up(window, lane->consumer, lane->place);
        order_down(window, lane->consumer, lane->place);
    } else if (lane->place >= 0) {
        order_remove(window, lane->consumer, lane);
    }
}

/* --- lanes --------------------------------------------------------------------------- */

void window_release(struct window *window)
{
    for (int i = 0; i < window->lane_count; i++) {
        struct lane *lane = window->lanes[i];
        if (!lane)
            continue;
        for (int k = 0; k < lane->count; k++)
            free(lane->heap[k].job);
        free(lane->heap);
        free(lane);
    }
    for (struct room *room = window->rooms, *next; room; room = next) {
        next = room->next;
        free(room);
    }
    free(window->lanes);
    *window = (struct window){0};
}

bool window_comes_first(const struct window *window, const struct consumer *a, const struct consumer *b)
{
    return lane_before(window, a->order[0], b->order[0]);
}

void consumer_release(struct consumer *consumer)
{
    free(consumer->order);
    *consumer = (struct consumer){0};
}

struct lane *window_lane(struct window *window, int task)
{
    if (task >= window->lane_count) {
        size_t count = (size_t)task + 1;
        window->lanes = xrealloc(window->lanes, count * sizeof *window->lanes);
        while (window->lane_count <= task)
            window->lanes[window->lane_count++] = NULL;
    }
    struct lane *lane = window->lanes[task];
    if (!lane) {
        lane = window->lanes[task] = xcalloc(1, sizeof *lane);
        *lane = (struct lane){.id = task, .more = true, .limit_priority = -1, .place = -1};
        lane->room = &lane->own_room;
        lane->own_room.lanes = lane;
    }
    return lane;
}

void window_set(struct window *window, struct lane *lane, const struct task *task, struct consumer *consumer,
                bool paused)
{
    if (lane->place >= 0 && lane->consumer != consumer)
        order_remove(window, lane->consumer, lane);
    lane->task = task;
    lane->consumer = consumer;
    lane->paused = paused;
    reorder(window, lane);
}

/* --- rooms --------------------------------------------------------------------------- */

static void reorder_room(struct window *window, const struct room *room)
{
    for (struct lane *lane = room->lanes; lane; lane = lane->roommate)
        reorder(window, lane);
}

struct room *window_room(const struct window *window, const void *of)
{
    struct room *room = window->rooms;
    while (room && room->of != of)
        room = room->next;
    return room;
}

static void forget_room(struct window *window, struct room *room)
{
    struct room **at = &window->rooms;
    while (*at != room)
        at = &(*at)->next;
    *at = room->next;
    free(room);
}

static void leave_room(struct window *window, struct lane *lane)
{
    struct room *room = lane->room;
    struct lane **at = &room->lanes;
    while (*at != lane)
        at = &(*at)->roommate;
    *at = lane->roommate;
    room->out -= lane->out;
    lane->out = 0;
    if (room->of && !room->lanes)
        forget_room(window, room);
    else
        reorder_room(window, room);
}

static struct room *add_room(struct window *window, const void *of)
{
    struct room *room = xcalloc(1, sizeof *room);
    *room = (struct room){.of = of, .limit = -1, .next = window->rooms};
    window->rooms = room;
    return room;
}

void window_enter(struct window *window, struct lane *lane, const void *of)
{
    if (lane->room->of == of)
        return;
    leave_room(window, lane);
    lane->own_room = (struct room){0};
    lane->stay++;
    struct room *room = of ? window_room(window, of) : &lane->own_room;
    lane->room = room ? room : add_room(window, of);
    lane->roommate = lane->room->lanes;
    lane->room->lanes = lane;
    reorder(window, lane);
}

void window_limit(struct window *window, struct room *room, int limit)
{
    room->limit = limit;
    reorder_room(window, room);
}

void window_count_out(struct window *window, struct lane *lane, int more)
{
    lane->out += more;
    lane->room->out += more;
    reorder_room(window, lane->room);
}

/* --- what is in a lane --------------------------------------------------------------- */

int lane_room(const struct window *window)
{
    const struct window_limits *limits = window->limits ? window->limits : &window_limits;
    int share = limits->all_max / (window->loaded > 0 ? window->loaded : 1);
    return share > limits->lane_max ? limits->lane_max : share < limits->lane_min ? limits->lane_min : share;
}

bool lane_is_low(const struct window *window, const struct lane *lane)
{
    return lane->more && !lane->refilling && lane->consumer && lane->count < lane_room(window) / 4;
}

struct job *job_new(const struct ready *ready, int64_t offered_us)
{
    size_t len = ready->args.len;
    struct job *job = xmalloc(sizeof *job + len + 1);
    job->ready = *ready;
    job->offered_us = offered_us;
    if (ready->args.p) {
        memcpy(job->args, ready->args.p, len);
        job->ready.args.p = job->args;
    }
    job->args[len] = '\0';
    return job;
}

static void push(struct window *window, struct lane *lane, const struct ready *ready, int64_t offered_us)
{
    if (lane->count == lane->cap) {
        lane->cap = lane->cap ? lane->cap * 2 : 16;
        lane->heap = xrealloc(lane->heap, (size_t)lane->cap * sizeof *lane->heap);
    }
    window->loaded += lane->count == 0;
    lane->heap[lane->count] = (struct entry){ready->id, ready->rank, ready->priority, job_new(ready, offered_us)};
    sift_up(lane, lane->count++);
}

void window_offer(struct window *window, const struct ready *ready, int64_t offered_us)
{
    struct lane *lane = window_lane(window, ready->task);
    if (lane->more && before(lane->limit_priority, lane->limit_rank, ready->priority, ready->rank))
        return;
    push(window, lane, ready, offered_us);
    int room = lane_room(window);
    if (lane->count >= 2 * room)
        lane_trim(lane, room);
    reorder(window, lane);
}

void window_withdraw(struct window *window, int task, int priority, int64_t rank, int64_t id)
{
    struct lane *lane = window_lane(window, task);
    if (lane->more && before(lane->limit_priority, lane->limit_rank, priority, rank))
        return;
    for (int i = 0; i < lane->count; i++) {
        if (lane->heap[i].id != id)
            continue;
        free(lane->heap[i].job);
        heap_remove(lane, i);
        window->loaded -= lane->count == 0;
        reorder(window, lane);
        return;
    }
}

static struct job *take_first(struct window *window, struct lane *lane)
{
    struct job *job = lane->heap[0].job;
    heap_remove(lane, 0);
    window->loaded -= lane->count == 0;
    reorder(window, lane);
    return job;
}

struct job *window_take(struct window *window, struct consumer *consumer)
{
    return consumer->order_count ? take_first(window, window->lanes[consumer->order[0]]) : NULL;
}

struct job *window_take_of(struct window *window, struct consumer *consumer, const int *tasks, int count)
{
    struct lane *first = NULL;
    for (int i = 0; i < count; i++) {
        struct lane *lane = tasks[i] < window->lane_count ? window->lanes[tasks[i]] : NULL;
        bool wanted = lane && lane->consumer == consumer && lane->place >= 0;
        if (wanted && (!first || lane_before(window, lane->id, first->id)))
            first = lane;
    }
    return first ? take_first(window, first) : NULL;
}

/* What was on disk has waited since it was submitted or due. What was started
 * before and is due at no time was put back some time, which nobody knows. */
static int64_t eligible_us(const struct ready *ready, struct window_now now)
{
    int64_t since_ms = ready->run_at ? ready->run_at : ready->attempt ? now.wall_ms : id_time_ms(ready->id);
    return since_ms < now.wall_ms ? now.mono_us - (now.wall_ms - since_ms) * 1000 : now.mono_us;
}

void window_refilled(struct window *window, const struct op_refill *refill, struct window_now now,
                     bool (*skip)(void *, const struct ready *), void *context)
{
    struct lane *lane = window_lane(window, refill->task);
    if (refill->after_priority != lane->limit_priority || refill->after_rank != lane->limit_rank)
        return;
    for (int i = 0; i < refill->count; i++)
        if (!skip || !skip(context, &refill->items[i]))
            push(window, lane, &refill->items[i], eligible_us(&refill->items[i], now));
    lane->more = refill->count == refill->limit;
    if (lane->more) {
        lane->limit_priority = refill->items[refill->count - 1].priority;
        lane->limit_rank = refill->items[refill->count - 1].rank;
    }
    reorder(window, lane);
}

bool window_is_drained(const struct window *window, const struct consumer *consumer)
{
    for (int i = 0; i < window->lane_count; i++) {
        const struct lane *lane = window->lanes[i];
        if (lane && lane->consumer == consumer && !lane->paused && (lane->count || lane->more || lane->refilling))
            return false;
    }
    return true;
}
