#include "workers/runner_internal.h"

#include <criterion/criterion.h>
#include <stdlib.h>

/* Two tasks, one whose bodies run in this process and one whose bodies do not. */
static const struct task native = {.name = "native", .id = 1}, command = {.name = "command", .id = 2};
static struct queue queue;

static void make_queue(void)
{
    queue_init(&queue);
    queue_task_set(&queue, &native, IN_PROCESS, false);
    queue_task_set(&queue, &command, APART, false);
    for (int task = 1; task <= 2; task++)
        window_lane(&queue.window, task)->more = false;
}

static void release_queue(void)
{
    queue_release(&queue);
}

TestSuite(queue, .init = make_queue, .fini = release_queue);

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
        .ready =
            {.id = id, .rank = id, .task = 1, .attempt = attempt, .lease = lease_of(attempt), .args = SPAN("")},
    };
}

static void offer(enum status from, int64_t id, int attempt)
{
    struct change change = queued(from, id, attempt);
    queue_offer(&queue, &change, 0);
}

static void withdraw(int64_t id)
{
    struct change change = {.id = id, .task = 1, .from = STATUS_QUEUED, .withdrawn = true, .old_rank = id};
    queue_withdraw(&queue, &change);
}

static void offer_command(int64_t id, int priority)
{
    struct change change = queued(0, id, 0);
    change.task = change.ready.task = 2;
    change.ready.priority = priority;
    queue_offer(&queue, &change, 0);
}

/* The id of the job that comes next, 0 if none may start. */
static int64_t take(struct grant *grant)
{
    if (!queue_take(&queue, 0, grant))
        return 0;
    grant->turn.lease = lease_of(grant->turn.attempt);
    queue_claiming(&queue, grant);
    return grant->turn.id;
}

static void settle(struct grant *grant, enum err err)
{
    queue_settle(&queue, grant, err);
    free(grant->job);
    grant->job = NULL;
}

/* Its claim is written and its body has ended. */
static void done(struct grant *grant)
{
    settle(grant, OK);
    queue_left(&queue, grant);
}

static void offer_suspect(int64_t id)
{
    struct change change = queued(0, id, 1);
    change.ready.suspect = true;
    queue_offer(&queue, &change, 0);
}

/* --- claims on their way -------------------------------------------------------- */

/* A PATCH of the priority was committed just before the claim: the job came into
 * the window again, and a second slot ran it beside the first. */
Test(queue, what_changes_between_taking_and_claim_is_not_given_out_twice)
{
    struct grant run, other;
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
Test(queue, what_came_anew_while_its_claim_was_refused_is_given_out)
{
    static const enum status from[] = {STATUS_CANCELLED, STATUS_SCHEDULED, STATUS_QUEUED};
    struct grant run;
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

Test(queue, what_was_withdrawn_while_its_claim_was_refused_is_not)
{
    struct grant run;
    offer(0, 7, 0);
    cr_assert_eq(take(&run), 7);
    offer(STATUS_QUEUED, 7, 0);
    withdraw(7);
    settle(&run, ERR_CONFLICT);
    cr_expect_eq(take(&run), 0);
}

/* Written together with its claim, a failure that is retried at once comes back before
 * the claim is settled. */
Test(queue, the_next_attempt_need_not_wait_for_the_claim_of_the_last)
{
    struct grant run, next;
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
    struct lane *lane = window_lane(&queue.window, 1);
    lane->more = true;
    lane->limit_priority = -1;
    lane->limit_rank = 0;
    struct op_refill op = {.task = 1, .after_priority = -1, .limit = count + 1, .items = items, .count = count};
    queue_refilled(&queue, &op, (struct window_now){0, 0});
}

Test(queue, a_refill_leaves_out_claims_on_their_way_and_takes_later_attempts)
{
    struct grant first, second, next;
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
Test(queue, a_refill_takes_what_a_refused_body_still_runs)
{
    struct grant refused, next;
    offer(0, 7, 0);
    cr_assert_eq(take(&refused), 7);
    settle(&refused, ERR_CONFLICT);
    struct ready again = queued(0, 7, 0).ready;
    refill(&again, 1);
    cr_expect_eq(take(&next), 7);
    settle(&next, OK);
}

/* --- suspects ------------------------------------------------------------------------ */

static int64_t take_in_flight(struct grant *grant)
{
    static int64_t leases = -1;
    if (!queue_take_in_flight(&queue, --leases, grant))
        return 0;
    queue_claiming(&queue, grant);
    return grant->turn.id;
}

/* One at a time used to run in the process, and nothing else there beside it. */
Test(queue, a_suspect_takes_no_slot_and_holds_up_nobody)
{
    struct grant first, second, beside;
    offer_suspect(3);
    offer_suspect(4);
    offer(0, 7, 0);
    cr_expect_eq(take(&beside), 7);
    cr_expect_not(beside.suspect);
    cr_expect(queue_has_work_in_flight(&queue));
    cr_expect_eq(take_in_flight(&first), 3);
    cr_expect(first.suspect && first.in_flight && !first.in_process);
    queue_begins(&queue, &first);
    cr_expect_eq(take_in_flight(&second), 4);
    cr_expect_not(queue_has_work_in_flight(&queue));
    cr_expect_eq(take_in_flight(&second), 0);
    queue_gives_way(&queue, &first, true);
    queue_gives_way(&queue, &first, false);
    done(&beside);
    done(&first);
    done(&second);
}

/* All of them were given out at once, and those for whom there was no child went on over a pause
 * of their task. */
Test(queue, one_suspect_of_a_task_waits_for_a_child_and_the_others_in_the_queue)
{
    static const struct task other = {.name = "other", .id = 3};
    struct grant first, second, third;
    struct change change = queued(0, 5, 1);
    change.task = change.ready.task = 3;
    change.ready.suspect = true;
    queue_task_set(&queue, &other, IN_PROCESS, false);
    window_lane(&queue.window, 3)->more = false;
    offer_suspect(3);
    offer_suspect(4);
    queue_offer(&queue, &change, 0);
    cr_expect_eq(take(&first), 0);
    cr_expect_eq(take_in_flight(&first), 3);
    cr_expect(queue_has_work_in_flight(&queue));
    cr_expect_eq(take_in_flight(&third), 5, "another task's");
    cr_expect_not(queue_has_work_in_flight(&queue));
    cr_expect_eq(take_in_flight(&second), 0);
    done(&first);
    cr_expect_eq(take_in_flight(&second), 4, "it has ended before a child had it");
    done(&second);
    done(&third);
}

Test(queue, a_suspect_that_is_withdrawn_is_not_given_out)
{
    struct grant grant;
    offer_suspect(3);
    cr_expect_eq(take(&grant), 0);
    withdraw(3);
    cr_expect_eq(take_in_flight(&grant), 0);
}

Test(queue, what_runs_in_children_is_no_suspect)
{
    struct grant grant;
    struct change change = queued(0, 3, 1);
    change.task = change.ready.task = 2;
    change.ready.suspect = true;
    queue_offer(&queue, &change, 0);
    cr_expect_eq(take(&grant), 3);
    cr_expect_not(grant.suspect);
    done(&grant);
}

/* A reload that took the task away while one of it was to run apart ended the
 * server: it was started without a task. */
Test(queue, a_suspect_that_may_not_run_waits_like_any_other)
{
    struct grant grant;
    offer_suspect(3);
    cr_expect_eq(take(&grant), 0);
    queue_tasks_begin(&queue);
    queue_tasks_end(&queue);
    cr_expect_eq(queue.suspect_count, 0);
    cr_expect_eq(take_in_flight(&grant), 0);
    queue_task_set(&queue, &native, IN_PROCESS, false);
    cr_expect_eq(take(&grant), 0);
    cr_expect_eq(take_in_flight(&grant), 3);
    done(&grant);
    offer_suspect(4);
    cr_expect_eq(take(&grant), 0);
    queue_task_pause(&queue, 1, true);
    cr_expect_eq(take_in_flight(&grant), 0);
    queue_task_pause(&queue, 1, false);
    cr_expect_eq(take(&grant), 0);
    cr_expect_eq(take_in_flight(&grant), 4);
    done(&grant);
}

/* A reload may give it another kind, which knows of no other way to run. */
Test(queue, a_suspect_whose_task_runs_elsewhere_by_now_waits_for_that)
{
    struct grant grant;
    offer_suspect(3);
    cr_expect_eq(take(&grant), 0);
    queue_tasks_begin(&queue);
    queue_task_set(&queue, &native, APART, false);
    queue_tasks_end(&queue);
    cr_expect_eq(take_in_flight(&grant), 0);
    cr_expect_eq(take(&grant), 3);
    cr_expect_not(grant.suspect);
    done(&grant);
}

/* --- order over consumers --------------------------------------------------------------- */

Test(queue, one_order_holds_over_all_that_take)
{
    static const int64_t expected[] = {6, 2, 3, 4, 5};
    struct grant grant;
    offer(0, 2, 0);
    offer_command(3, 0);
    offer(0, 4, 0);
    offer_command(5, 1);
    offer_command(6, -1);
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        int64_t id = take(&grant);
        cr_expect_eq(id, expected[i], "%zu: %lld", i, (long long)id);
        done(&grant);
    }
    cr_expect_eq(take(&grant), 0);
}

Test(queue, nothing_starts_while_it_is_closed)
{
    struct grant grant;
    offer(0, 7, 0);
    offer_suspect(3);
    queue.closed = true;
    cr_expect_not(queue_has_work(&queue));
    cr_expect_eq(take(&grant), 0);
    queue.closed = false;
    cr_expect_eq(take(&grant), 7);
    done(&grant);
    queue.closed = true;
    cr_expect_not(queue_has_work_in_flight(&queue));
    cr_expect_eq(take_in_flight(&grant), 0);
    queue.closed = false;
    cr_expect_eq(take_in_flight(&grant), 3);
    done(&grant);
}

/* --- whether anything starts -------------------------------------------------------- */

Test(queue, it_is_closed_while_paused_unhealthy_or_closing)
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
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct runner runner = {.paused = rows[i].paused,
                                .healthy = rows[i].healthy,
                                .closing = rows[i].closing,
                                .policy = rows[i].policy};
        runner_gate_locked(&runner);
        cr_expect_eq(!runner.queue.closed, rows[i].starts, "row %zu", i);
    }
}

/* Whoever asks for what is run elsewhere hears whether all that is queued was looked at. */
Test(queue, what_is_run_elsewhere_fills_until_its_refill_is_there)
{
    static const struct task far = {.name = "far", .id = 3}, away = {.name = "away", .id = 4};
    const int tasks[] = {1, 3}, others[] = {1, 2, 4, 9};
    queue_task_set(&queue, &far, ELSEWHERE, false);
    queue_task_set(&queue, &away, ELSEWHERE, true);
    cr_expect(queue_fills_elsewhere(&queue, NULL, 0));
    cr_expect(queue_fills_elsewhere(&queue, tasks, 2));
    cr_expect_not(queue_fills_elsewhere(&queue, others, 4), "a paused one, others' kinds, none");
    struct op_refill op;
    op_refill_init(&op);
    cr_assert(queue_wants_refill(&queue, 3, &op));
    op_refill_release(&op);
    queue_refilled(&queue, &(struct op_refill){.task = 3, .after_priority = -1, .limit = 8},
                   (struct window_now){0, 0});
    cr_expect(queue_fills_elsewhere(&queue, NULL, 0), "its commit is not told yet");
    queue_refill_done(&queue, 3);
    cr_expect_not(queue_fills_elsewhere(&queue, NULL, 0));
    queue_task_set(&queue, &away, ELSEWHERE, false);
    cr_expect(queue_fills_elsewhere(&queue, NULL, 0));
    queue.closed = true;
    cr_expect_not(queue_fills_elsewhere(&queue, NULL, 0));
}

/* What takes no slot: of each task as many as it says, whatever another has out. */
Test(queue, of_what_is_in_flight_no_more_are_out_than_their_task_says)
{
    static const struct task two = {.name = "two", .id = 3}, one = {.name = "one", .id = 4};
    struct grant grants[4], other;
    queue_task_set(&queue, &two, IN_FLIGHT, false);
    queue_task_set(&queue, &one, IN_FLIGHT, false);
    queue_task_limit(&queue, 3, 2);
    queue_task_limit(&queue, 4, 1);
    window_lane(&queue.window, 3)->more = window_lane(&queue.window, 4)->more = false;
    for (int i = 0; i < 6; i++) {
        struct change change = queued(0, 10 + i, 0);
        change.task = change.ready.task = i < 4 ? 3 : 4;
        queue_offer(&queue, &change, 0);
    }
    cr_expect_not(queue_has_work(&queue), "slots have none of it");
    static const int64_t ids[] = {10, 11, 14};
    for (int i = 0; i < 3; i++) {
        cr_assert(queue_take_in_flight(&queue, 1 + i, &grants[i]));
        cr_expect_eq(grants[i].turn.id, ids[i]);
        queue_claiming(&queue, &grants[i]);
    }
    cr_expect_not(queue_has_work_in_flight(&queue));
    cr_expect_not(queue_take_in_flight(&queue, 9, &other));
    done(&grants[1]);
    cr_assert(queue_take_in_flight(&queue, 4, &grants[3]));
    cr_expect_eq(grants[3].turn.id, 12);
    queue_claiming(&queue, &grants[3]);
    queue_task_limit(&queue, 3, 3); /* a reload */
    cr_assert(queue_take_in_flight(&queue, 5, &grants[1]));
    cr_expect_eq(grants[1].turn.id, 13);
    queue_claiming(&queue, &grants[1]);
    cr_expect_not(queue_is_drained(&queue));
    for (int i = 0; i < 4; i++)
        done(&grants[i]);
    queue.closed = true;
    cr_expect_not(queue_has_work_in_flight(&queue));
    cr_expect_not(queue_take_in_flight(&queue, 6, &other));
}

/* Its claim is on its way; a cancellation and a retry come first, then the claim, and the turn
 * suspends, all in one commit. What the retry had queued was given out a second time. */
Test(queue, what_was_queued_before_a_turn_that_has_suspended_is_no_new_job)
{
    struct grant grant;
    offer(0, 10, 0);
    cr_assert_eq(take(&grant), 10);
    withdraw(10);
    offer(STATUS_CANCELLED, 10, 0);
    queue_suspended(&queue, &grant);
    queue_settle(&queue, &grant, OK);
    queue_left(&queue, &grant);
    settle(&grant, OK);
    struct grant other;
    cr_expect_eq(take(&other), 0);
}

/* A reload put it into another room, and back: what was out before was counted when it ended. */
Test(queue, what_was_out_before_a_task_left_its_room_is_not_counted_when_it_ends)
{
    static const struct task two = {.name = "two", .id = 3};
    struct grant grants[2], other;
    queue_task_set(&queue, &two, IN_FLIGHT, false);
    queue_task_limit(&queue, 3, 1);
    window_lane(&queue.window, 3)->more = false;
    for (int i = 0; i < 3; i++) {
        struct change change = queued(0, 10 + i, 0);
        change.task = change.ready.task = 3;
        queue_offer(&queue, &change, 0);
    }
    cr_assert(queue_take_in_flight(&queue, 1, &grants[0]));
    queue_claiming(&queue, &grants[0]);
    queue_task_room(&queue, 3, &two);
    queue_task_room(&queue, 3, NULL);
    queue_task_limit(&queue, 3, 1);
    done(&grants[0]);
    cr_assert(queue_take_in_flight(&queue, 2, &grants[1]));
    queue_claiming(&queue, &grants[1]);
    cr_expect_not(queue_take_in_flight(&queue, 3, &other), "one at a time");
    done(&grants[1]);
}
