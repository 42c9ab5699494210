/* Children, and turns that wait in place: registering a wait and seeing what has
 * ended is one moment, and every end wakes. */
#include "base/clock.h"
#include "tests/store/support.h"

#include <stdlib.h>

static int64_t submit_child(struct fixture *f, const struct turn *parent, const char *step, enum err expected)
{
    struct submission s = plain(f);
    struct op_submit op;
    s.parent = parent->id;
    s.parent_lease = parent->lease;
    if (step)
        s.step = (struct span){step, strlen(step)};
    op_submit_init(&op, &s, 1);
    IS_OK(store_do(f->store, &op.op));
    cr_assert_eq(s.err, expected);
    return s.err == OK ? s.id : 0;
}

static struct op_wait wait_for(struct fixture *f, const struct turn *turn, bool any, const int64_t *ids, int count,
                               enum err expected)
{
    struct op_wait op;
    op_wait_init(&op, turn);
    op.ids = ids;
    op.count = count;
    op.any = any;
    cr_assert_eq(store_do(f->store, &op.turn.op), expected);
    return op;
}

static enum err resume(struct fixture *f, const struct turn *turn)
{
    struct op_resume op;
    op_resume_init(&op, turn);
    return store_do(f->store, &op.turn.op);
}

/* How often the listeners heard that it is woken. */
static int woken(struct fixture *f, int64_t id)
{
    int count = 0;
    pthread_mutex_lock(&f->lock);
    for (int i = 0; i < f->change_count; i++)
        count += f->changes[i].id == id && f->changes[i].woken;
    pthread_mutex_unlock(&f->lock);
    return count;
}

static int64_t waits(struct fixture *f)
{
    return ask(f, "SELECT COUNT(*) FROM waits WHERE ended = 0");
}

/* --- waiting ------------------------------------------------------------------------- */

/* Who asks anew for what it waits for: registered once, whatever it was before. */
STORE_TEST(a_wait_may_be_registered_again_and_stands_once)
{
    struct waited w;
    int64_t ids[] = {submit(f), submit(f)}, waiter = submit(f), nobody = INT64_C(1) << 40;
    started(&w, f, waiter, 1);
    cr_expect_not(wait_for(f, &w.turn, false, ids, 2, OK).met);
    wait_for(f, &w.turn, false, ids, 2, ERR_CONFLICT);
    struct op_wait op;
    op_wait_init(&op, &w.turn);
    op.again = true;
    op.ids = ids;
    op.count = 2;
    IS_OK(store_do(f->store, &op.turn.op));
    cr_expect(!op.met && waits(f) == 2 && status_of(f, waiter) == STATUS_WAITING);

    op.ids = &nobody;
    op.count = 1;
    cr_expect_eq(store_do(f->store, &op.turn.op), ERR_NOT_FOUND);
    cr_expect(waits(f) == 2 && status_of(f, waiter) == STATUS_WAITING, "what is refused changes nothing");

    op.ids = ids;
    op.count = 1;
    IS_OK(store_do(f->store, &op.turn.op));
    cr_expect(!op.met && waits(f) == 1);
    succeed(f, ids[1]);
    cr_expect_eq(woken(f, waiter), 0);
    succeed(f, ids[0]);
    cr_expect_eq(woken(f, waiter), 1);
    IS_OK(store_do(f->store, &op.turn.op));
    cr_expect(op.met && waits(f) == 0 && status_of(f, waiter) == STATUS_RUNNING);
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
    check_counters(f);
}

STORE_TEST(a_wait_ends_with_the_last_or_with_the_first_of_them)
{
    static const bool any[] = {false, true};
    for (int k = 0; k < 2; k++) {
        struct waited w;
        int64_t ids[] = {submit(f), submit(f), submit(f)}, waiter = submit(f);
        started(&w, f, waiter, 1);
        cr_expect_not(wait_for(f, &w.turn, any[k], ids, 3, OK).met);
        cr_expect_eq(status_of(f, waiter), STATUS_WAITING);
        cr_expect_eq(waits(f), 3);
        succeed(f, ids[1]);
        cr_expect_eq(woken(f, waiter), any[k]);
        fail_for_good(f, ids[0]);
        IS_OK(alter(f, ALTER_CANCEL, ids[2]));
        cr_expect_eq(woken(f, waiter), 1);
        cr_expect_eq(status_of(f, waiter), STATUS_WAITING, "until somebody has a slot for it");
        IS_OK(resume(f, &w.turn));
        cr_expect_eq(resume(f, &w.turn), ERR_CONFLICT);
        cr_expect_eq(waits(f), 0);
        IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
        check_counters(f);
    }
}

STORE_TEST(what_has_ended_already_is_not_waited_for)
{
    struct waited w;
    int64_t ids[] = {submit(f), submit(f)}, waiter = submit(f);
    started(&w, f, waiter, 1);
    succeed(f, ids[0]);
    cr_expect(wait_for(f, &w.turn, true, ids, 2, OK).met);
    cr_expect_eq(status_of(f, waiter), STATUS_RUNNING);
    cr_expect_not(wait_for(f, &w.turn, false, ids, 2, OK).met);
    cr_expect_eq(waits(f), 1);
    wait_for(f, &w.turn, false, ids, 2, ERR_CONFLICT);
    succeed(f, ids[1]);
    cr_expect_eq(woken(f, waiter), 1);
    IS_OK(resume(f, &w.turn));
    cr_expect(wait_for(f, &w.turn, false, ids, 2, OK).met);
}

STORE_TEST(what_has_ended_stays_while_the_rest_is_waited_for)
{
    struct waited w;
    int64_t ids[] = {submit(f), submit(f), submit(f)};
    succeed(f, ids[0]);
    started(&w, f, submit(f), 1);
    wait_for(f, &w.turn, false, ids, 3, OK);
    succeed(f, ids[1]);
    for (int i = 0; i < 2; i++)
        cr_expect_eq(alter(f, ALTER_DELETE, ids[i]), ERR_CONFLICT);
    succeed(f, ids[2]);
    cr_expect_eq(woken(f, w.turn.id), 1);
    IS_OK(resume(f, &w.turn));
    for (int i = 0; i < 3; i++)
        IS_OK(alter(f, ALTER_DELETE, ids[i]));
}

STORE_TEST(a_wait_for_nothing_that_is_there_or_without_the_lease_is_refused)
{
    struct waited w;
    int64_t ids[] = {submit(f), 4711}, waiter = submit(f);
    started(&w, f, waiter, 1);
    cr_expect_eq(wait_for(f, &w.turn, false, ids, 2, ERR_NOT_FOUND).bad, 4711);
    struct turn stale = w.turn;
    stale.lease++;
    wait_for(f, &stale, false, ids, 1, ERR_CONFLICT);
    cr_expect_eq(waits(f), 0);
    cr_expect_eq(status_of(f, waiter), STATUS_RUNNING);
}

STORE_TEST(a_circle_of_waits_is_refused)
{
    struct waited w[3];
    int64_t ids[3];
    for (int i = 0; i < 3; i++)
        started(&w[i], f, ids[i] = submit(f), 1);
    cr_expect_eq(wait_for(f, &w[0].turn, false, &ids[0], 1, ERR_INVALID).bad, ids[0]);
    wait_for(f, &w[0].turn, false, &ids[1], 1, OK);
    wait_for(f, &w[1].turn, false, &ids[2], 1, OK);
    cr_expect_eq(wait_for(f, &w[2].turn, false, &ids[0], 1, ERR_INVALID).bad, ids[0]);
    cr_expect_eq(waits(f), 2);
    IS_OK(end(&w[2], f, FINISH_FINAL, STATUS_SUCCEEDED));
    cr_expect_eq(woken(f, ids[1]), 1);
    cr_expect_eq(woken(f, ids[0]), 0);
}

/* Its body is gone, one way or the other: so is its wait. */
STORE_TEST(a_waiting_turn_may_end_and_may_be_lost)
{
    static const struct {
        const char *name;
        enum finish_next next;
        enum status status, becomes;
    } rows[] = {
        {"succeeded", FINISH_FINAL, STATUS_SUCCEEDED, STATUS_SUCCEEDED},
        {"failed", FINISH_FINAL, STATUS_FAILED, STATUS_FAILED},
        {"to be retried", FINISH_RETRY, STATUS_FAILED, STATUS_QUEUED},
        {"interrupted", FINISH_REQUEUE, STATUS_CANCELLED, STATUS_QUEUED},
        {"the server died", 0, 0, STATUS_QUEUED},
    };
    int64_t target = submit(f);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct waited w;
        int64_t id = submit(f);
        started(&w, f, id, 1);
        wait_for(f, &w.turn, false, &target, 1, OK);
        if (rows[i].status) {
            cr_expect_eq(end(&w, f, rows[i].next, rows[i].status), OK, "%s", rows[i].name);
        } else {
            fixture_shut(f);
            fixture_open(f);
            IS_OK(store_recover(f->store, NULL, 0, NULL, NULL));
            fixture_start(f);
        }
        cr_expect_eq(status_of(f, id), rows[i].becomes, "%s", rows[i].name);
        cr_expect_eq(waits(f), 0, "%s", rows[i].name);
        cr_expect_eq(ask(f, "SELECT COUNT(*) FROM invocations WHERE waits_left IS NOT NULL"), 0, "%s",
                     rows[i].name);
        check_counters(f);
    }
    succeed(f, target);
}

STORE_TEST(a_cancelled_one_that_waits_is_told_and_ends_as_cancelled)
{
    struct waited w;
    int64_t target = submit(f), id = submit(f);
    started(&w, f, id, 1);
    wait_for(f, &w.turn, false, &target, 1, OK);
    IS_OK(alter(f, ALTER_CANCEL, id));
    cr_expect_eq(status_of(f, id), STATUS_WAITING);
    set_error(&w, "{\"type\":\"cancelled\"}", "cancelled");
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_FAILED));
    cr_expect_eq(status_of(f, id), STATUS_CANCELLED);
    check_counters(f);
}

/* --- what is waited for goes ahead ------------------------------------------------------ */

STORE_TEST(what_is_waited_for_goes_before_new_work_of_the_better_priority)
{
    static const struct {
        int waiter, target, becomes;
    } rows[] = {{1, 1, 1}, {0, 5, 0}, {5, 0, 0}};
    for (int i = 0; i < 3; i++) {
        struct waited w;
        struct submission s[] = {plain(f), plain(f)};
        s[0].priority = rows[i].waiter;
        s[1].priority = rows[i].target;
        submit_all(f, s, 2);
        started(&w, f, s[0].id, 1);
        wait_for(f, &w.turn, false, &s[1].id, 1, OK);
        cr_expect_eq(row_of(f, s[1].id).priority, rows[i].becomes, "%d", i);
        cr_expect_eq(askf(f, "SELECT rank FROM invocations WHERE id = %lld", (long long)s[1].id), -s[1].id, "%d",
                     i);
        const struct change *change = &f->changes[f->change_count - 2];
        cr_expect(change->withdrawn && change->old_priority == rows[i].target && change->old_rank == s[1].id);
        cr_expect(change->ready.rank == -s[1].id && change->ready.priority == rows[i].becomes);
    }
}

/* A retry of what somebody waits for is waited for still. */
STORE_TEST(a_retry_keeps_its_waiters)
{
    struct waited w, target;
    int64_t id = submit(f), waiter = submit(f);
    started(&w, f, waiter, 1);
    wait_for(f, &w.turn, false, &id, 1, OK);
    started(&target, f, id, 1);
    IS_OK(end(&target, f, FINISH_RETRY, STATUS_FAILED));
    cr_expect_eq(woken(f, waiter), 0);
    cr_expect_lt(askf(f, "SELECT rank FROM invocations WHERE id = %lld", (long long)id), 0);
    started(&target, f, id, 2);
    IS_OK(end(&target, f, FINISH_FINAL, STATUS_SUCCEEDED));
    cr_expect_eq(woken(f, waiter), 1);
}

/* One that is not queued yet goes ahead when it is. */
STORE_TEST(what_is_waited_for_before_it_is_due_goes_ahead_when_it_is)
{
    struct waited w;
    struct submission late = plain(f);
    late.run_at = clock_now_ms() + 5;
    late.priority = 4;
    submit_all(f, &late, 1);
    started(&w, f, submit(f), 1);
    wait_for(f, &w.turn, false, &late.id, 1, OK);
    while (status_of(f, late.id) == STATUS_SCHEDULED)
        upkeep(f, UPKEEP_PROMOTE);
    cr_expect_eq(row_of(f, late.id).priority, 1);
    cr_expect_eq(askf(f, "SELECT rank FROM invocations WHERE id = %lld", (long long)late.id), -late.id);
}

STORE_TEST(one_that_is_retried_counts_as_unfinished_until_the_waiter_is_woken)
{
    struct waited w, again;
    int64_t ids[] = {submit(f), submit(f)}, waiter = submit(f);
    started(&w, f, waiter, 1);
    wait_for(f, &w.turn, false, ids, 2, OK);
    fail_for_good(f, ids[0]);
    IS_OK(alter(f, ALTER_RETRY, ids[0]));
    succeed(f, ids[1]);
    cr_expect_eq(woken(f, waiter), 0);
    started(&again, f, ids[0], 2);
    IS_OK(end(&again, f, FINISH_FINAL, STATUS_FAILED));
    cr_expect_eq(woken(f, waiter), 1);
    IS_OK(alter(f, ALTER_RETRY, ids[0]));
    cr_expect_eq(ask(f, "SELECT SUM(waits_left) FROM invocations"), 0, "who is woken stays so");
    check_counters(f);
}

STORE_TEST(a_wait_that_time_ends_closes_no_circle)
{
    struct waited w[2];
    int64_t ids[2];
    struct op_wait op;
    for (int i = 0; i < 2; i++)
        started(&w[i], f, ids[i] = submit(f), 1);
    op_wait_init(&op, &w[0].turn);
    op.ids = &ids[1];
    op.count = 1;
    op.timed = true;
    IS_OK(store_do(f->store, &op.turn.op));
    cr_expect_not(wait_for(f, &w[1].turn, false, &ids[0], 1, OK).met);
}

/* More than one transaction may touch: the rest follows in steps. */
STORE_TEST(a_thousand_waiters_are_woken_in_steps)
{
    enum { N = 1100, AT_ONCE = 500 };
    static struct waited w[N];
    struct submission s[N];
    int64_t target = submit(f);
    for (int i = 0; i < N; i++)
        s[i] = plain(f);
    submit_all(f, s, N);
    for (int i = 0; i < N; i++) {
        started(&w[i], f, s[i].id, 1);
        wait_for(f, &w[i].turn, false, &target, 1, OK);
    }
    succeed(f, target);
    cr_expect_eq(waits(f), N - AT_ONCE);
    cr_expect(upkeep(f, UPKEEP_FOLLOW_UP).more);
    cr_expect_eq(waits(f), N - 2 * AT_ONCE);
    cr_expect_not(upkeep(f, UPKEEP_FOLLOW_UP).more);
    cr_expect_eq(ask(f, "SELECT COUNT(*) FROM invocations WHERE waits_left = 0"), N);
}

STORE_TEST(ends_of_one_moment_wake_no_more_than_one_step_does)
{
    enum { N = 300, TARGETS = 4, AT_ONCE = 500 };
    static struct waited w[N];
    struct submission s[N];
    int64_t targets[TARGETS];
    struct op_alter op;
    for (int i = 0; i < TARGETS; i++)
        targets[i] = submit(f);
    for (int i = 0; i < N; i++)
        s[i] = plain(f);
    submit_all(f, s, N);
    for (int i = 0; i < N; i++) {
        started(&w[i], f, s[i].id, 1);
        wait_for(f, &w[i].turn, false, targets, TARGETS, OK);
    }
    op_alter_init(&op, ALTER_CANCEL, targets, TARGETS);
    IS_OK(store_do(f->store, &op.op));
    cr_expect_eq(waits(f), N * TARGETS - AT_ONCE);
    for (struct op_upkeep step = {.more = true}; step.more;)
        step = upkeep(f, UPKEEP_FOLLOW_UP);
    cr_expect_eq(ask(f, "SELECT COUNT(*) FROM invocations WHERE waits_left = 0"), N);
    check_counters(f);
}

STORE_TEST(a_retry_amid_the_wakes_keeps_the_rest_waiting)
{
    enum { N = 600, AT_ONCE = 500 };
    static struct waited w[N];
    struct waited again;
    struct submission s[N];
    int64_t target = submit(f);
    for (int i = 0; i < N; i++)
        s[i] = plain(f);
    submit_all(f, s, N);
    for (int i = 0; i < N; i++) {
        started(&w[i], f, s[i].id, 1);
        wait_for(f, &w[i].turn, false, &target, 1, OK);
    }
    fail_for_good(f, target);
    cr_expect_eq(ask(f, "SELECT COUNT(*) FROM invocations WHERE waits_left = 0"), AT_ONCE);
    IS_OK(alter(f, ALTER_RETRY, target));
    cr_expect_not(upkeep(f, UPKEEP_FOLLOW_UP).more);
    cr_expect_eq(ask(f, "SELECT COUNT(*) FROM invocations WHERE waits_left = 0"), AT_ONCE);
    started(&again, f, target, 2);
    IS_OK(end(&again, f, FINISH_FINAL, STATUS_SUCCEEDED));
    while (upkeep(f, UPKEEP_FOLLOW_UP).more)
        ;
    cr_expect_eq(ask(f, "SELECT COUNT(*) FROM invocations WHERE waits_left = 0"), N);
}

/* --- children ------------------------------------------------------------------------------ */

STORE_TEST(a_step_is_one_child_over_all_attempts)
{
    struct waited w;
    int64_t parent = submit(f);
    started(&w, f, parent, 1);
    int64_t left = submit_child(f, &w.turn, "left", OK), right = submit_child(f, &w.turn, "right", OK);
    cr_expect_eq(submit_child(f, &w.turn, "left", OK), left);
    cr_expect_neq(submit_child(f, &w.turn, NULL, OK), submit_child(f, &w.turn, NULL, OK));
    IS_OK(end(&w, f, FINISH_RETRY, STATUS_FAILED));
    submit_child(f, &w.turn, "left", ERR_CONFLICT);
    started(&w, f, parent, 2);
    cr_expect_eq(submit_child(f, &w.turn, "right", OK), right);
    cr_expect_eq(ask(f, "SELECT COUNT(*) FROM children"), 4);
    check_counters(f);
}

STORE_TEST(a_cancellation_reaches_the_children_and_theirs_but_not_the_detached)
{
    struct waited top, middle;
    int64_t parent = submit(f), other = submit(f);
    started(&top, f, parent, 1);
    int64_t child = submit_child(f, &top.turn, NULL, OK), done = submit_child(f, &top.turn, NULL, OK);
    started(&middle, f, child, 1);
    int64_t grandchild = submit_child(f, &middle.turn, "one", OK);
    struct submission s = plain(f);
    s.parent = parent;
    s.parent_lease = top.turn.lease;
    s.detached = true;
    submit_all(f, &s, 1);
    succeed(f, done);
    IS_OK(alter(f, ALTER_CANCEL, parent));
    cr_expect_not(upkeep(f, UPKEEP_FOLLOW_UP).more);
    cr_expect_eq(row_of(f, child).status, STATUS_RUNNING);
    cr_expect(row_of(f, child).cancel_requested_at);
    cr_expect_eq(status_of(f, grandchild), STATUS_CANCELLED);
    cr_expect_eq(status_of(f, done), STATUS_SUCCEEDED);
    cr_expect_eq(status_of(f, s.id), STATUS_QUEUED);
    cr_expect_eq(status_of(f, other), STATUS_QUEUED);
    check_counters(f);
}

STORE_TEST(a_step_stays_while_its_parent_may_ask_for_it)
{
    struct waited w;
    int64_t parent = submit(f);
    started(&w, f, parent, 1);
    int64_t step = submit_child(f, &w.turn, "one", OK), plain_child = submit_child(f, &w.turn, NULL, OK);
    succeed(f, step);
    succeed(f, plain_child);
    cr_expect_eq(alter(f, ALTER_DELETE, step), ERR_CONFLICT);
    exec_sql(f, "UPDATE invocations SET prune_at = 1 WHERE prune_at IS NOT NULL");
    upkeep(f, UPKEEP_PRUNE);
    cr_expect_eq(status_of(f, step), STATUS_SUCCEEDED);
    cr_expect_eq(askf(f, "SELECT COUNT(*) FROM invocations WHERE id = %lld", (long long)plain_child), 0);
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
    IS_OK(alter(f, ALTER_DELETE, step));
    cr_expect_eq(ask(f, "SELECT COUNT(*) FROM children"), 0);
    check_counters(f);
}

static int64_t send_message(struct fixture *f, int64_t id)
{
    struct op_message_in op;
    op_message_in_init(&op, id);
    op.body = SPAN("1");
    IS_OK(store_do(f->store, &op.op));
    return op.seq;
}

static struct op_wait wait_for_message(struct fixture *f, const struct turn *turn, int64_t after_seq,
                                       const int64_t *ids, int count)
{
    struct op_wait op;
    op_wait_init(&op, turn);
    op.any = op.inbox = true;
    op.after_seq = after_seq;
    op.ids = ids;
    op.count = count;
    IS_OK(store_do(f->store, &op.turn.op));
    return op;
}

/* The message itself is what whoever minds the body hears. */
STORE_TEST(a_wait_for_a_message_is_met_by_one_that_no_turn_has_read)
{
    struct waited w;
    struct op_messages_read read;
    int64_t id = submit(f), other = submit(f);
    started(&w, f, id, 1);
    cr_expect_not(wait_for_message(f, &w.turn, 0, NULL, 0).met);
    cr_expect_eq(status_of(f, id), STATUS_WAITING);
    f->change_count = 0;
    int64_t seq = send_message(f, id);
    cr_expect(f->changes[0].message && f->changes[0].to == STATUS_WAITING && f->changes[0].last_seq == seq);
    cr_expect_eq(status_of(f, id), STATUS_WAITING, "until somebody has a slot for it");
    IS_OK(resume(f, &w.turn));
    cr_expect(wait_for_message(f, &w.turn, 0, NULL, 0).met);
    cr_expect_eq(status_of(f, id), STATUS_RUNNING);
    cr_expect(wait_for_message(f, &w.turn, 0, &other, 1).met, "whatever else it waits for");
    cr_expect_eq(waits(f), 0);
    cr_expect_not(wait_for_message(f, &w.turn, seq, NULL, 0).met, "that one it has");
    IS_OK(resume(f, &w.turn));
    op_messages_read_init(&read, &w.turn);
    read.up_to_seq = seq;
    IS_OK(store_do(f->store, &read.turn.op));
    cr_expect_not(wait_for_message(f, &w.turn, 0, &other, 1).met);
    succeed(f, other);
    cr_expect_eq(woken(f, id), 1);
    IS_OK(resume(f, &w.turn));
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
    check_counters(f);
}

/* Whatever it waited for: the next turn is another. */
STORE_TEST(a_wait_for_a_message_goes_with_the_server)
{
    struct waited w;
    int64_t id = submit(f);
    started(&w, f, id, 1);
    wait_for_message(f, &w.turn, 0, NULL, 0);
    fixture_shut(f);
    fixture_open(f);
    IS_OK(store_recover(f->store, NULL, 0, NULL, NULL));
    fixture_start(f);
    cr_expect_eq(status_of(f, id), STATUS_QUEUED);
    started(&w, f, id, 2);
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
    check_counters(f);
}

STORE_TEST(a_cancelled_one_makes_no_more_children_and_a_second_cancellation_reaches_them_again)
{
    struct waited w;
    int64_t parent = submit(f);
    started(&w, f, parent, 1);
    int64_t child = submit_child(f, &w.turn, "one", OK);
    for (int i = 0; i < 2; i++) {
        IS_OK(alter(f, ALTER_CANCEL, parent));
        submit_child(f, &w.turn, "late", ERR_CONFLICT);
        upkeep(f, UPKEEP_FOLLOW_UP);
        cr_expect_eq(status_of(f, child), STATUS_CANCELLED, "%d", i);
        set_error(&w, "{\"type\":\"stopped\"}", "stopped");
        IS_OK(end(&w, f, FINISH_FINAL, STATUS_FAILED));
        cr_expect_eq(status_of(f, parent), STATUS_CANCELLED);
        IS_OK(alter(f, ALTER_RETRY, child));
        IS_OK(alter(f, ALTER_RETRY, parent));
        started(&w, f, parent, i + 2);
    }
}
