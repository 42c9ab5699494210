#include "workers/runner_internal.h"

#include <criterion/criterion.h>
#include <stdlib.h>

/* A runner without threads, store and journal: what the scheduler decides. */
static const struct task some_task = {.name = "some"};
static struct runner runner;

static void make_runner(void)
{
    runner = (struct runner){.healthy = true};
    pthread_mutex_init(&runner.lock, NULL);
    pthread_cond_init(&runner.work, NULL);
    pthread_cond_init(&runner.tick, NULL);
    struct lane *lane = window_lane(&runner.window, 1);
    window_set(&runner.window, lane, &some_task, false);
    lane->more = false;
}

static void release_runner(void)
{
    window_release(&runner.window);
    for (int i = 0; i < runner.alone_count; i++)
        free(runner.alone[i]);
    free(runner.alone);
}

TestSuite(scheduler, .init = make_runner, .fini = release_runner);

/* The lease of the n-th start; a row bears that of its last. */
static int64_t lease_of(int attempt)
{
    return attempt ? 100 + attempt : 0;
}

static struct change queued(enum status from, int64_t id, int attempt)
{
    return (struct change){
        .id = id,
        .task = 1,
        .from = from,
        .to = STATUS_QUEUED,
        .ready = {.id = id, .task = 1, .attempt = attempt, .lease = lease_of(attempt), .args = SPAN("")},
    };
}

static void offer(enum status from, int64_t id, int attempt)
{
    struct change change = queued(from, id, attempt);
    schedule_offer_locked(&runner, &change, 0);
}

static void withdraw(int64_t id)
{
    struct change change = {.id = id, .task = 1, .from = STATUS_QUEUED, .withdrawn = true};
    schedule_withdraw_locked(&runner, &change);
}

/* The id of the job that comes next, 0 if none may start. */
static int64_t take(struct run *run)
{
    bool alone;
    struct job *job = schedule_take_locked(&runner, &alone);
    if (!job)
        return 0;
    *run = (struct run){.runner = &runner, .job = job};
    int attempt = job->ready.attempt + 1;
    run->turn = (struct turn){job->ready.id, lease_of(attempt), job->ready.task, attempt};
    runner.running++;
    schedule_claim_locked(&runner, run);
    return job->ready.id;
}

static void settle(struct run *run, enum err err)
{
    schedule_settle_locked(&runner, run, err);
    free(run->job);
}

static void add_alone(int64_t id)
{
    struct ready ready = queued(0, id, 1).ready;
    runner.alone = xrealloc(runner.alone, sizeof *runner.alone * (size_t)(runner.alone_count + 1));
    runner.alone[runner.alone_count++] = job_new(&ready, 0);
}

/* --- claims on their way -------------------------------------------------------- */

/* A PATCH of the priority was committed just before the claim: the job came into
 * the window again, and a second slot ran it beside the first. */
Test(scheduler, what_changes_between_taking_and_claim_is_not_given_out_twice)
{
    struct run run, other;
    offer(0, 7, 0);
    cr_assert_eq(take(&run), 7);
    withdraw(7);
    offer(STATUS_QUEUED, 7, 0);
    cr_expect_eq(take(&other), 0);
    settle(&run, OK);
    cr_expect_eq(take(&other), 0, "its claim was written");
}

/* Cancelled and retried before its claim, it would otherwise wait for the next
 * start of the server. */
Test(scheduler, what_came_anew_while_its_claim_was_refused_is_given_out)
{
    static const enum status from[] = {STATUS_CANCELLED, STATUS_SCHEDULED, STATUS_QUEUED};
    struct run run;
    for (int i = 0; i < 3; i++) {
        offer(0, 7 + i, 0);
        cr_assert_eq(take(&run), 7 + i);
        withdraw(7 + i);
        offer(from[i], 7 + i, 0);
        settle(&run, ERR_CONFLICT);
        cr_assert_eq(take(&run), 7 + i);
        settle(&run, OK);
    }
}

Test(scheduler, what_was_withdrawn_while_its_claim_was_refused_is_not)
{
    struct run run;
    offer(0, 7, 0);
    cr_assert_eq(take(&run), 7);
    offer(STATUS_QUEUED, 7, 0);
    withdraw(7);
    settle(&run, ERR_CONFLICT);
    cr_expect_eq(take(&run), 0);
}

/* Merged with its claim, a failure that is retried at once comes back before
 * the claim is settled. */
Test(scheduler, the_next_attempt_need_not_wait_for_the_claim_of_the_last)
{
    struct run run, next;
    offer(0, 7, 0);
    cr_assert_eq(take(&run), 7);
    offer(STATUS_QUEUED, 7, 1);
    settle(&run, OK);
    cr_expect_eq(take(&next), 7);
    cr_expect_eq(next.turn.attempt, 2);
    settle(&next, OK);
}

static void refill(struct ready *items, int count)
{
    struct lane *lane = window_lane(&runner.window, 1);
    lane->more = true;
    lane->limit_priority = -1;
    lane->limit_id = 0;
    struct op_refill op = {.task = 1, .after_priority = -1, .limit = count + 1, .items = items, .count = count};
    schedule_refilled_locked(&runner, &op, 0);
}

Test(scheduler, a_refill_leaves_out_claims_on_their_way_and_takes_later_attempts)
{
    struct run first, second, next;
    offer(0, 7, 0);
    offer(0, 8, 0);
    cr_assert_eq(take(&first), 7);
    cr_assert_eq(take(&second), 8);
    struct ready items[] = {queued(0, 7, 0).ready, queued(0, 8, 1).ready};
    refill(items, 2);
    cr_expect_eq(take(&next), 8);
    settle(&first, OK);
    settle(&second, OK);
    settle(&next, OK);
    cr_expect_eq(take(&next), 0);
}

/* The body of a refused claim may go on for minutes: what came anew under its
 * id was left out of refills as long, and forgotten. */
Test(scheduler, a_refill_takes_what_a_refused_body_still_runs)
{
    struct run refused, next;
    offer(0, 7, 0);
    cr_assert_eq(take(&refused), 7);
    settle(&refused, ERR_CONFLICT);
    struct ready again = queued(0, 7, 0).ready;
    refill(&again, 1);
    cr_expect_eq(take(&next), 7);
    settle(&next, OK);
}

/* --- alone ------------------------------------------------------------------------ */

/* The slots that were free took the next jobs as soon as the last of those that
 * are to run alone had been taken. */
Test(scheduler, what_runs_alone_has_nothing_beside_it)
{
    struct run alone, beside;
    offer(0, 7, 0);
    add_alone(3);
    cr_expect_eq(take(&alone), 3);
    cr_expect_not(schedule_has_work_locked(&runner));
    cr_expect_eq(take(&beside), 0);
    settle(&alone, OK);
    runner.running = 0;
    runner.alone_runs = false;
    cr_expect_eq(take(&beside), 7);
    settle(&beside, OK);
}

Test(scheduler, one_that_is_to_run_alone_waits_until_nothing_runs)
{
    struct run run;
    add_alone(3);
    runner.running = 1;
    cr_expect_eq(take(&run), 0);
    runner.running = 0;
    cr_expect_eq(take(&run), 3);
    settle(&run, OK);
}

/* A reload that took the task away while one of it was to run alone ended the
 * server: it was started without a task. */
Test(scheduler, one_that_is_to_run_alone_and_may_not_run_waits_like_any_other)
{
    struct run run;
    struct lane *lane = window_lane(&runner.window, 1);
    add_alone(3);
    window_set(&runner.window, lane, NULL, false);
    schedule_release_alone_locked(&runner);
    cr_expect_eq(runner.alone_count, 0);
    cr_expect_eq(take(&run), 0);
    window_set(&runner.window, lane, &some_task, false);
    cr_expect_eq(take(&run), 3);
    settle(&run, OK);
}

/* --- whether anything starts -------------------------------------------------------- */

Test(scheduler, nothing_starts_while_paused_unhealthy_or_closing)
{
    static const struct {
        bool paused, healthy, closing;
        enum close_policy policy;
        bool starts;
    } rows[] = {
        {false, true, false, CLOSE_JOIN, true},   {true, true, false, CLOSE_JOIN, false},
        {false, false, false, CLOSE_JOIN, false}, {false, true, true, CLOSE_JOIN, true},
        {false, true, true, CLOSE_CANCEL, false}, {false, true, true, CLOSE_KILL, false},
        {true, true, true, CLOSE_JOIN, false},
    };
    offer(0, 7, 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        runner.paused = rows[i].paused;
        runner.healthy = rows[i].healthy;
        runner.closing = rows[i].closing;
        runner.policy = rows[i].policy;
        cr_expect_eq(schedule_has_work_locked(&runner), rows[i].starts, "row %zu", i);
    }
}
