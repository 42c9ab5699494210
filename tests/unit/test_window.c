#include "base/id.h"
#include "workers/queue/window.h"

#include <criterion/criterion.h>
#include <stdlib.h>

/* Only compared with NULL. */
static const struct task some_task = {.name = "some"};
static struct consumer consumer;
static const struct window_now at_0 = {0, 0};

static struct ready row(int task, int priority, int64_t id)
{
    return (struct ready){.task = task, .priority = priority, .id = id, .rank = id, .args = SPAN("")};
}

static void offer(struct window *window, int task, int priority, int64_t id)
{
    struct ready ready = row(task, priority, id);
    window_offer(window, &ready, 0);
}

static int64_t take(struct window *window)
{
    struct job *job = window_take(window, &consumer);
    int64_t id = job ? job->ready.id : 0;
    free(job);
    return id;
}

/* A lane of which nothing is on disk only. */
static struct lane *open_lane(struct window *window, int task)
{
    struct lane *lane = window_lane(window, task);
    struct op_refill nothing = {.task = task, .after_priority = lane->limit_priority, .limit = 1};
    window_set(window, lane, &some_task, &consumer, false);
    window_refilled(window, &nothing, at_0, NULL, NULL);
    return lane;
}

Test(window, the_lowest_number_comes_first_and_then_the_oldest_over_all_tasks)
{
    struct window window = {0};
    open_lane(&window, 1);
    open_lane(&window, 3);
    offer(&window, 1, 5, 10);
    offer(&window, 3, 1, 12);
    offer(&window, 3, 5, 9);
    offer(&window, 1, 1, 11);
    static const int64_t order[] = {11, 12, 9, 10, 0};
    for (int i = 0; i < 5; i++)
        cr_expect_eq(take(&window), order[i], "%d", i);
    window_release(&window);
    consumer_release(&consumer);
}

Test(window, what_is_paused_or_not_configured_holds_up_nobody)
{
    struct window window = {0};
    struct lane *paused = open_lane(&window, 1), *gone = open_lane(&window, 2);
    open_lane(&window, 3);
    for (int task = 1; task <= 3; task++)
        offer(&window, task, task, task);
    window_set(&window, paused, &some_task, &consumer, true);
    window_set(&window, gone, NULL, NULL, false);
    cr_expect_eq(take(&window), 3);
    cr_expect_eq(take(&window), 0);
    cr_expect(window_is_drained(&window, &consumer));
    window_set(&window, gone, &some_task, &consumer, false);
    window_set(&window, paused, &some_task, &consumer, false);
    cr_expect_not(window_is_drained(&window, &consumer));
    cr_expect_eq(take(&window), 1);
    cr_expect_eq(take(&window), 2);
    window_release(&window);
    consumer_release(&consumer);
}

Test(window, within_a_priority_the_rank_decides)
{
    static const struct {
        int priority;
        int64_t id, rank;
    } rows[] = {{1, 5, 5}, {1, 9, -9}, {1, 7, -7}, {0, 11, 11}, {1, 12, INT64_MIN + 3}, {1, 4, 4}};
    static const int64_t order[] = {11, 12, 9, 7, 4, 5};
    struct window window = {0};
    open_lane(&window, 1);
    for (int i = 0; i < 6; i++) {
        struct ready ready = row(1, rows[i].priority, rows[i].id);
        ready.rank = rows[i].rank;
        window_offer(&window, &ready, 0);
    }
    for (int i = 0; i < 6; i++)
        cr_expect_eq(take(&window), order[i]);
    window_release(&window);
    consumer_release(&consumer);
}

Test(window, a_lane_that_was_never_filled_leaves_everything_on_disk)
{
    struct window window = {0};
    struct lane *lane = window_lane(&window, 1);
    cr_expect_not(lane_is_low(&window, lane), "nobody can run it");
    window_set(&window, lane, &some_task, &consumer, false);
    offer(&window, 1, 0, 1);
    cr_expect_not(consumer_has_work(&consumer));
    cr_expect_not(window_is_drained(&window, &consumer));
    cr_expect(lane_is_low(&window, lane));
    window_release(&window);
    consumer_release(&consumer);
}

/* A burst of urgent ones trimmed the lane while a refill was on its way; what
 * the refill brought moved the limit past the trimmed ones, which were then
 * neither in memory nor asked for again. */
Test(window, a_refill_from_beyond_a_limit_that_a_trim_took_back_loses_nothing)
{
    struct window window = {0};
    struct lane *lane = window_lane(&window, 1);
    struct ready late = row(1, 7, 900000);
    window_set(&window, lane, &some_task, &consumer, false);

    struct op_refill first = {.task = 1, .after_priority = -1, .limit = 1, .count = 1};
    struct ready early = row(1, 5, 1);
    first.items = &early;
    window_refilled(&window, &first, at_0, NULL, NULL);
    struct op_refill second = {
        .task = 1, .after_priority = 5, .after_rank = 1, .limit = 64, .count = 1, .items = &late};

    int burst = 2 * lane_room(&window);
    for (int i = 0; i < burst; i++)
        offer(&window, 1, 0, 1000 + i);
    cr_assert_lt(lane->count, burst, "nothing was trimmed");
    window_refilled(&window, &second, at_0, NULL, NULL);
    cr_expect(lane->more);
    cr_expect_eq(lane->limit_priority, 0);
    window_release(&window);
    consumer_release(&consumer);
}

/* After a backlog on disk, and after a restart, it read as if nothing had waited. */
Test(window, what_comes_from_disk_has_waited_since_it_was_eligible)
{
    static const struct window_now now = {50000000, 1700000000000};
    static const struct {
        int attempt;
        int64_t age_ms, run_at;
        int64_t wanted_us;
    } rows[] = {
        {0, 7000, 0, 43000000},                    /* submitted 7 s ago */
        {0, 7000, 1700000000000 - 2000, 48000000}, /* due 2 s ago */
        {1, 7000, 1700000000000 - 1000, 49000000}, /* its retry was */
        {1, 7000, 0, 50000000},                    /* put back, who knows when */
        {0, -7000, 0, 50000000},                   /* the clock was set back */
        {0, 100000, 0, -50000000},                 /* before the machine was started */
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct window window = {0};
        struct id_source ids = {0};
        struct ready ready = row(1, 0, id_next(&ids, now.wall_ms - rows[i].age_ms));
        ready.attempt = rows[i].attempt;
        ready.run_at = rows[i].run_at;
        window_set(&window, window_lane(&window, 1), &some_task, &consumer, false);
        struct op_refill refill = {.task = 1, .after_priority = -1, .limit = 64, .count = 1, .items = &ready};
        window_refilled(&window, &refill, now, NULL, NULL);
        struct job *job = window_take(&window, &consumer);
        cr_expect_eq(job->offered_us, rows[i].wanted_us, "row %zu: %lld", i, (long long)job->offered_us);
        free(job);
        window_release(&window);
        consumer_release(&consumer);
    }
}

/* --- against a model: all rows in an array, looked through in full ------------------ */

/* Many loaded lanes make each of them short, so that bursts trim them. */
enum { ROWS = 20000, TASKS = 4, STEPS = 5000, LATEST = 200, OTHER_LANES = 256 };

struct fact {
    struct ready ready;
    bool queued;   /* on disk */
    bool claiming; /* taken, and not yet written */
    bool held;     /* in memory: found by a look at the heaps */
};

struct model {
    struct window window;
    struct fact *facts; /* by id - 1 */
    int count;
    bool runs[TASKS];
    struct op_refill refills[TASKS];
    unsigned random;
};

static int below(struct model *m, int n)
{
    m->random = m->random * 1103515245 + 12345;
    return (int)(m->random >> 8) % n;
}

static bool key_before(const struct ready *a, const struct ready *b)
{
    return a->priority != b->priority ? a->priority < b->priority : a->rank < b->rank;
}

static int compare(const void *a, const void *b)
{
    const struct ready *x = a, *y = b;
    return key_before(x, y) ? -1 : key_before(y, x);
}

/* What the claims in flight leave to others: in the program queue.c's. */
static bool is_claiming(void *context, const struct ready *ready)
{
    struct model *m = context;
    return m->facts[ready->id - 1].claiming;
}

static void ask_refill(struct model *m, int task)
{
    struct lane *lane = window_lane(&m->window, task);
    if (!lane_is_low(&m->window, lane))
        return;
    m->refills[task] = (struct op_refill){
        .task = task,
        .after_priority = lane->limit_priority,
        .after_rank = lane->limit_rank,
        .limit = lane_room(&m->window),
    };
    lane->refilling = true;
}

/* The op is applied: it reads, and is heard of, at one point. */
static void end_refill(struct model *m, int task)
{
    struct lane *lane = window_lane(&m->window, task);
    struct op_refill *refill = &m->refills[task];
    struct ready after = {.priority = refill->after_priority, .rank = refill->after_rank};
    if (!lane->refilling)
        return;
    struct ready *found = malloc(sizeof *found * ROWS);
    int n = 0;
    for (int i = 0; i < m->count; i++) {
        const struct fact *fact = &m->facts[i];
        if (fact->queued && fact->ready.task == task && key_before(&after, &fact->ready))
            found[n++] = fact->ready;
    }
    qsort(found, (size_t)n, sizeof *found, compare);
    refill->items = found;
    refill->count = n < refill->limit ? n : refill->limit;
    window_refilled(&m->window, refill, at_0, is_claiming, m);
    lane->refilling = false;
    free(found);
}

static void submit(struct model *m, int task, int priority)
{
    if (m->count == ROWS)
        return;
    struct fact *fact = &m->facts[m->count++];
    *fact = (struct fact){.ready = row(task, priority, m->count), .queued = true};
    window_offer(&m->window, &fact->ready, 0);
}

/* One of the latest that is queued and not taken, or NULL. */
static struct fact *some_queued(struct model *m)
{
    if (!m->count)
        return NULL;
    struct fact *fact = &m->facts[m->count - 1 - below(m, m->count < LATEST ? m->count : LATEST)];
    return fact->queued && !fact->claiming ? fact : NULL;
}

static void change_one(struct model *m, bool cancel)
{
    struct fact *fact = some_queued(m);
    if (!fact)
        return;
    window_withdraw(&m->window, fact->ready.task, fact->ready.priority, fact->ready.rank, fact->ready.id);
    fact->queued = !cancel;
    fact->ready.priority = below(m, 4);
    fact->ready.rank = below(m, 4) ? fact->ready.rank : -fact->ready.id; /* somebody waits for it */
    if (!cancel)
        window_offer(&m->window, &fact->ready, 0);
}

static void take_one(struct model *m)
{
    struct job *job = window_take(&m->window, &consumer);
    if (!job)
        return;
    struct fact *fact = &m->facts[job->ready.id - 1];
    cr_assert(fact->queued && !fact->claiming, "%d was taken twice or after its cancellation", (int)job->ready.id);
    cr_assert(m->runs[fact->ready.task], "its task may not run");
    cr_assert_eq(job->ready.priority, fact->ready.priority);
    fact->claiming = true;
    free(job);
}

static void write_claims(struct model *m)
{
    for (int i = 0; i < m->count; i++)
        if (m->facts[i].claiming)
            m->facts[i].queued = m->facts[i].claiming = false;
}

static void step(struct model *m)
{
    int task = 1 + below(m, TASKS - 1);
    switch (below(m, 16)) {
    case 0: { /* a burst, now and then larger than two lanes */
        int priority = below(m, 3);
        for (int n = below(m, 8) == 0 ? 300 : below(m, 30); n > 0; n--)
            submit(m, task, priority);
        return;
    }
    case 1:
    case 2: change_one(m, true); return;
    case 3:
    case 4: change_one(m, false); return;
    case 5: write_claims(m); return;
    case 6:
        m->runs[task] = !m->runs[task];
        if (m->runs[task] || below(m, 2))
            window_set(&m->window, window_lane(&m->window, task), &some_task, &consumer, !m->runs[task]);
        else
            window_set(&m->window, window_lane(&m->window, task), NULL, NULL, true);
        return;
    case 7:
    case 8: end_refill(m, task); return;
    case 9:
    case 10: ask_refill(m, task); return;
    default:
        for (int n = below(m, 50); n > 0; n--)
            take_one(m);
    }
}

/* In memory stands what is queued, not taken, and within the lane's limit:
 * all of it, once, and nothing else. */
static void check(struct model *m)
{
    int loaded = 0, held = 0, wanted = 0;
    for (int i = 0; i < m->count; i++)
        m->facts[i].held = false;
    for (int task = 1; task < TASKS; task++) {
        const struct lane *lane = window_lane(&m->window, task);
        loaded += lane->count > 0;
        held += lane->count;
        for (int i = 0; i < lane->count; i++) {
            struct fact *fact = &m->facts[lane->heap[i].id - 1];
            cr_assert_not(fact->held, "%d stands there twice", (int)lane->heap[i].id);
            fact->held = true;
        }
    }
    for (int i = 0; i < m->count; i++) {
        const struct fact *fact = &m->facts[i];
        const struct lane *lane = window_lane(&m->window, fact->ready.task);
        struct ready limit = {.priority = lane->limit_priority, .rank = lane->limit_rank};
        bool within = !lane->more || !key_before(&limit, &fact->ready);
        bool expected = fact->queued && !fact->claiming && within;
        cr_assert_eq(fact->held, expected, "%d is %sthere", i + 1, expected ? "not " : "");
        wanted += expected;
    }
    cr_assert_eq(held, wanted);
    cr_assert_eq(m->window.loaded, loaded + OTHER_LANES);
}

Test(window, it_holds_what_the_model_holds, .timeout = 120)
{
    for (unsigned seed = 1; seed <= 6; seed++) {
        struct model m = {.facts = calloc(ROWS, sizeof(struct fact)), .random = seed};
        for (int task = 1; task < TASKS; task++) {
            m.runs[task] = true;
            window_set(&m.window, window_lane(&m.window, task), &some_task, &consumer, false);
        }
        for (int task = TASKS; task < TASKS + OTHER_LANES; task++) {
            struct lane *lane = open_lane(&m.window, task);
            offer(&m.window, task, 0, 1);
            window_set(&m.window, lane, NULL, NULL, false);
        }
        for (int i = 0; i < STEPS; i++) {
            step(&m);
            if (i % 40 == 0)
                check(&m);
        }
        for (int task = 1; task < TASKS; task++) {
            m.runs[task] = true;
            window_set(&m.window, window_lane(&m.window, task), &some_task, &consumer, false);
        }
        for (int rounds = 0; !window_is_drained(&m.window, &consumer); rounds++) {
            cr_assert_lt(rounds, ROWS, "it does not drain");
            for (int n = 0; n < 500; n++)
                take_one(&m);
            write_claims(&m);
            for (int task = 1; task < TASKS; task++) {
                ask_refill(&m, task);
                end_refill(&m, task);
            }
        }
        for (int i = 0; i < m.count; i++)
            cr_assert_not(m.facts[i].queued && !m.facts[i].claiming, "%d was forgotten", i + 1);
        window_release(&m.window);
        consumer_release(&consumer);
        free(m.facts);
    }
}

/* --- rooms ------------------------------------------------------------------------------- */

static struct lane *lane_in(struct window *window, int task, const void *of)
{
    struct lane *lane = open_lane(window, task);
    window_enter(window, lane, of);
    return lane;
}

Test(window, lanes_of_one_room_share_its_limit_and_their_order)
{
    struct window window = {0};
    const char *of = "a name";
    struct lane *one = lane_in(&window, 1, of), *two = lane_in(&window, 2, of);
    open_lane(&window, 3);
    struct room *room = window_room(&window, of);
    for (int task = 1; task <= 3; task++)
        for (int i = 0; i < 2; i++)
            offer(&window, task, 4 - task, task * 10 + i);
    cr_expect_eq(take(&window), 30, "a room that is new has place for none");
    cr_expect_eq(take(&window), 31);
    cr_expect_eq(take(&window), 0);
    window_limit(&window, room, 2);
    cr_expect_eq(take(&window), 20, "the lowest number first, whose lane it is");
    window_count_out(&window, two, 1);
    cr_expect_eq(take(&window), 21);
    window_count_out(&window, two, 1);
    cr_expect_eq(take(&window), 0);
    window_count_out(&window, two, -1);
    cr_expect_eq(take(&window), 10, "what ended made place for another lane");
    window_count_out(&window, one, 1);
    cr_expect_eq(take(&window), 0);
    window_release(&window);
    consumer_release(&consumer);
}

Test(window, a_lane_that_enters_another_room_has_nothing_out_of_it)
{
    struct window window = {0};
    const char *old = "old", *new = "new";
    struct lane *one = lane_in(&window, 1, old), *two = lane_in(&window, 2, old);
    window_limit(&window, window_room(&window, old), 1);
    window_count_out(&window, two, 1);
    offer(&window, 1, 1, 10);
    window_enter(&window, one, new);
    window_limit(&window, window_room(&window, new), 1);
    cr_expect_eq(take(&window), 10);
    window_enter(&window, two, NULL);
    cr_expect_null(window_room(&window, old), "nobody is in it");
    offer(&window, 2, 1, 20);
    cr_expect_eq(take(&window), 20, "its own has no limit");
    window_enter(&window, one, NULL);
    cr_expect_null(window.rooms);
    window_release(&window);
    consumer_release(&consumer);
}

/* What it left there was counted for ever, and its roommates had less and less place. */
Test(window, a_lane_that_leaves_a_room_takes_along_what_it_has_out)
{
    struct window window = {0};
    const char *old = "old", *new = "new";
    struct lane *one = lane_in(&window, 1, old);
    lane_in(&window, 2, old);
    window_limit(&window, window_room(&window, old), 1);
    window_count_out(&window, one, 1);
    offer(&window, 2, 1, 20);
    cr_expect_eq(take(&window), 0);
    window_enter(&window, one, new);
    cr_expect_eq(take(&window), 20);
    window_release(&window);
    consumer_release(&consumer);
}

/* Another server started one and put it back: this one has it twice, as it was and as it is. The
 * limit of a trim fell between the two, and no refill brought what was at it. */
Test(window, a_trim_cuts_between_no_two_of_the_same)
{
    static const struct window_limits limits = {.lane_max = 4, .lane_min = 4, .all_max = 4};
    struct window window = {.limits = &limits};
    struct lane *lane = open_lane(&window, 1);
    for (int id = 1; id <= 4; id++)
        offer(&window, 1, 1, id);
    for (int id = 4; id <= 7; id++)
        offer(&window, 1, 1, id);
    cr_expect_eq(lane->count, 3);
    cr_expect_eq(lane->limit_rank, 3, "a refill brings what is beyond: the fourth, as it is");
    window_release(&window);
    consumer_release(&consumer);
}
