/* Turns that suspend: nothing is left of them, and each thing that they wait for
 * wakes them once, whenever it comes. */
#include "base/clock.h"
#include "base/id.h"
#include "store/step.h"
#include "store/suspend.h"
#include "tests/store/support.h"

#include <stdlib.h>
#include <unistd.h>

static enum err suspend_as(struct fixture *f, const struct turn *turn, struct suspension on, int64_t read,
                           int64_t *bad)
{
    struct op_suspend op;
    op_suspend_init(&op, turn);
    op.on = on;
    op.read_up_to = read;
    enum err err = store_do(f->store, &op.turn.op);
    if (bad)
        *bad = op.bad;
    return err;
}

static enum err suspend_on(struct fixture *f, const struct turn *turn, struct suspension on)
{
    return suspend_as(f, turn, on, 0, NULL);
}

static int64_t send(struct fixture *f, int64_t id)
{
    struct op_message_in op;
    op_message_in_init(&op, id);
    op.body = SPAN("\"yes\"");
    IS_OK(store_do(f->store, &op.op));
    return op.seq;
}

static struct suspended suspended(struct fixture *f, int64_t id)
{
    struct suspended out;
    IS_OK(reader_suspended(f->reader, id, &out));
    return out;
}

/* A turn of a new invocation. */
static struct turn turn_of(struct fixture *f, struct waited *w)
{
    started(w, f, submit(f), 1);
    return w->turn;
}

static const struct suspension on_message = {.inbox = true, .state = {"{\"n\": 1}", 8}};

STORE_TEST(nothing_is_left_of_a_turn_that_suspended_but_its_row)
{
    struct waited w;
    struct turn turn = turn_of(f, &w);
    int64_t until = clock_now_ms() + 3600000;
    struct buf state = {0};
    IS_OK(suspend_on(f, &turn, (struct suspension){.inbox = true, .until = until, .state = SPAN("{\"n\": 1.0}")}));
    cr_expect_eq(status_of(f, turn.id), STATUS_WAITING);
    cr_expect_eq(askf(f,
                      "SELECT COUNT(*) FROM invocations WHERE id = %lld AND lease IS NULL AND lease_until IS NULL "
                      "AND holder IS NULL AND worker IS NULL AND attempt = 1",
                      (long long)turn.id),
                 1);
    struct suspended s = suspended(f, turn.id);
    cr_expect_eq(s.turns, 1);
    cr_expect_eq(s.lease, turn.lease);
    cr_expect_eq(s.wakes_at, until);
    cr_expect_eq(s.by, WOKEN_BY_NOTHING);
    cr_expect_eq(s.targets.p, NULL);
    IS_OK(reader_state(f->reader, turn.id, &state));
    IS_SPAN(buf_span(&state), "{\"n\": 1.0}");
    buf_release(&state);
    IS_OK(suspend_on(f, &turn, on_message)); /* its answer was lost, and it is said again */
    cr_expect_eq(suspended(f, turn.id).turns, 1);
    cr_expect_eq(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED), ERR_CONFLICT);
    turn.lease++;
    cr_expect_eq(suspend_on(f, &turn, on_message), ERR_CONFLICT);
    check_counters(f);
}

/* Before it suspends, or after. */
STORE_TEST(each_thing_wakes_it_whenever_it_comes)
{
    enum { IDS, ANY, INBOX, UNTIL, WAYS };
    static const enum woken_by by[] = {WOKEN_BY_IDS, WOKEN_BY_IDS, WOKEN_BY_INBOX, WOKEN_BY_UNTIL};
    for (int i = 0; i < 2 * WAYS; i++) {
        struct waited w;
        int way = i / 2;
        bool before = i % 2;
        struct turn turn = turn_of(f, &w);
        int64_t ids[] = {submit(f), submit(f)};
        struct suspension on = {.ids = way <= ANY ? ids : NULL,
                                .count = way <= ANY ? 2 : 0,
                                .any = way == ANY,
                                .inbox = way == INBOX,
                                .until = way == UNTIL ? clock_now_ms() + (before ? -1 : 40) : 0};
        for (int when = 0; when < 2; when++) {
            if (when == !before) {
                if (way == IDS)
                    fail_for_good(f, ids[0]);
                if (way <= ANY)
                    succeed(f, ids[1]);
                if (way == INBOX)
                    send(f, turn.id);
                if (way == UNTIL && !before) {
                    usleep(60000);
                    upkeep(f, UPKEEP_WAKE);
                }
            } else {
                IS_OK(suspend_on(f, &turn, on));
                if (!before)
                    cr_expect_eq(status_of(f, turn.id), STATUS_WAITING);
            }
        }
        cr_expect_eq(status_of(f, turn.id), STATUS_QUEUED, "way %d, before %d", way, before);
        cr_expect_eq(suspended(f, turn.id).by, by[way]);
        cr_expect_eq(suspended(f, turn.id).wakes_at, 0);
        cr_expect_eq(ask(f, "SELECT COUNT(*) FROM waits"), 0);
        started(&w, f, turn.id, 1); /* no new attempt */
        IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
        cr_expect_eq(ask(f, "SELECT COUNT(*) FROM attempts"), 0);
        cr_expect_eq(ask(f, "SELECT COUNT(*) FROM invocations WHERE rank IS NOT NULL AND status = 5"), 0);
        IS_OK(alter(f, ALTER_CANCEL, ids[0]));
        IS_OK(alter(f, ALTER_CANCEL, ids[1]));
        check_counters(f);
    }
}

STORE_TEST(only_the_first_thing_wakes_it_and_what_comes_later_is_there)
{
    struct waited w;
    struct turn turn = turn_of(f, &w);
    int64_t id = submit(f);
    IS_OK(suspend_on(
        f, &turn, (struct suspension){.ids = &id, .count = 1, .inbox = true, .until = 1 + clock_now_ms() + 30}));
    send(f, turn.id);
    succeed(f, id);
    usleep(50000);
    upkeep(f, UPKEEP_WAKE);
    send(f, turn.id);
    cr_expect_eq(suspended(f, turn.id).by, WOKEN_BY_INBOX);
    cr_expect_eq(status_of(f, turn.id), STATUS_QUEUED);
    cr_expect_eq(count_of(f, f->task, STATUS_QUEUED), 1);
    char text[ID_TEXT_LEN + 1] = "";
    id_format(id, text);
    IS_SPAN(suspended(f, turn.id).targets, text);
    check_counters(f);
}

STORE_TEST(a_wait_that_nothing_else_ends_closes_no_circle)
{
    struct waited first, second;
    struct turn a = turn_of(f, &first), b = turn_of(f, &second);
    int64_t bad;
    IS_OK(suspend_on(f, &a, (struct suspension){.ids = &b.id, .count = 1}));
    cr_expect_eq(suspend_as(f, &b, (struct suspension){.ids = &a.id, .count = 1}, 0, &bad), ERR_INVALID);
    cr_expect_eq(bad, a.id);
    cr_expect_eq(suspend_as(f, &b, (struct suspension){.ids = &(int64_t){4711}, .count = 1}, 0, &bad),
                 ERR_NOT_FOUND);
    cr_expect_eq(bad, 4711);
    cr_expect_eq(status_of(f, b.id), STATUS_RUNNING, "the turn goes on");
    cr_expect_eq(askf(f, "SELECT COUNT(*) FROM waits WHERE waiter = %lld", (long long)b.id), 0);
    IS_OK(suspend_on(f, &b, (struct suspension){.ids = &a.id, .count = 1, .inbox = true}));
    send(f, b.id);
    started(&second, f, b.id, 1);
    IS_OK(end(&second, f, FINISH_FINAL, STATUS_SUCCEEDED));
    cr_expect_eq(status_of(f, a.id), STATUS_QUEUED);
}

STORE_TEST(a_cancellation_ends_what_suspends_or_has_suspended)
{
    struct waited w;
    struct turn turn = turn_of(f, &w);
    IS_OK(alter(f, ALTER_CANCEL, turn.id));
    IS_OK(suspend_on(f, &turn, on_message));
    cr_expect_eq(status_of(f, turn.id), STATUS_CANCELLED);

    turn = turn_of(f, &w);
    int64_t id = submit(f);
    IS_OK(suspend_on(f, &turn, (struct suspension){.ids = &id, .count = 1, .until = clock_now_ms() + 20}));
    IS_OK(alter(f, ALTER_CANCEL, turn.id));
    cr_expect_eq(status_of(f, turn.id), STATUS_CANCELLED);
    cr_expect_eq(ask(f, "SELECT COUNT(*) FROM waits"), 0);
    usleep(30000);
    cr_expect_not(upkeep(f, UPKEEP_WAKE).more);
    cr_expect_eq(upkeep(f, UPKEEP_WAKE).next_at, 0);
    cr_expect_eq(status_of(f, turn.id), STATUS_CANCELLED);
    IS_OK(alter(f, ALTER_RETRY, turn.id)); /* it starts with its state */
    cr_expect_eq(status_of(f, turn.id), STATUS_QUEUED);
    cr_expect_eq(suspended(f, turn.id).by, WOKEN_BY_NOTHING);
    check_counters(f);
}

static bool is_there(struct fixture *f, int64_t id)
{
    return askf(f, "SELECT COUNT(*) FROM invocations WHERE id = %lld", (long long)id);
}

/* What had ended before it suspended, and what ends later: until the turn that gets it
 * has ended, too. */
STORE_TEST(what_it_asked_for_is_neither_deleted_nor_pruned_until_it_ends)
{
    struct waited w;
    struct turn turn = turn_of(f, &w);
    int64_t ids[] = {submit(f), submit(f)};
    succeed(f, ids[0]);
    IS_OK(suspend_on(f, &turn, (struct suspension){.ids = ids, .count = 2, .state = SPAN("1")}));
    cr_expect_eq(alter(f, ALTER_DELETE, ids[0]), ERR_CONFLICT);
    succeed(f, ids[1]);
    cr_expect_eq(status_of(f, turn.id), STATUS_QUEUED);
    exec_sql(f, "UPDATE invocations SET prune_at = 1 WHERE prune_at IS NOT NULL");
    upkeep(f, UPKEEP_PRUNE);
    cr_expect(is_there(f, ids[0]) && is_there(f, ids[1]));
    started(&w, f, turn.id, 1);
    IS_OK(end(&w, f, FINISH_REQUEUE, STATUS_QUEUED));
    cr_expect_eq(alter(f, ALTER_DELETE, ids[1]), ERR_CONFLICT);
    started(&w, f, turn.id, 2);
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
    cr_expect_eq(ask(f, "SELECT COUNT(*) FROM results_kept"), 0);
    IS_OK(alter(f, ALTER_DELETE, ids[1]));

    turn = turn_of(f, &w); /* a cancellation is an end, too */
    IS_OK(suspend_on(f, &turn, (struct suspension){.ids = ids, .count = 1, .inbox = true}));
    cr_expect_eq(status_of(f, turn.id), STATUS_QUEUED);
    IS_OK(alter(f, ALTER_CANCEL, turn.id));
    cr_expect_eq(ask(f, "SELECT COUNT(*) FROM results_kept"), 0);
    check_counters(f);
}

/* More of them than a step of pruning looks at, and all the oldest. */
STORE_TEST(what_is_kept_holds_up_no_pruning)
{
    enum { KEPT = 250, OTHERS = 5 };
    struct waited w;
    struct turn turn = turn_of(f, &w);
    int64_t ids[KEPT], others[OTHERS];
    for (int i = 0; i < KEPT; i++)
        succeed(f, ids[i] = submit(f));
    IS_OK(suspend_on(f, &turn, (struct suspension){.ids = ids, .count = KEPT}));
    for (int i = 0; i < OTHERS; i++)
        succeed(f, others[i] = submit(f));
    store_set_retain_max(f->store, 1);
    int steps = 0;
    for (struct op_upkeep op = {.more = true}; op.more && steps < 20; steps++)
        op = upkeep(f, UPKEEP_PRUNE);
    cr_expect_lt(steps, 20, "it goes on for ever");
    for (int i = 0; i < OTHERS; i++)
        cr_expect_not(is_there(f, others[i]));
    cr_expect_eq(ask(f, "SELECT COUNT(*) FROM invocations"), KEPT + 1);
    check_counters(f);
}

/* What a turn was given of the inbox is read when it ends well, and not else. */
STORE_TEST(messages_come_again_until_a_turn_that_had_them_ends_well)
{
    struct waited w;
    struct turn turn = turn_of(f, &w);
    IS_OK(suspend_on(f, &turn, on_message));
    int64_t first = send(f, turn.id);
    started(&w, f, turn.id, 1);
    w.finish.run_at = 0;
    set_error(&w, "{\"type\":\"x\"}", "x");
    IS_OK(end(&w, f, FINISH_RETRY, STATUS_FAILED));
    cr_expect_eq(suspended(f, turn.id).by, WOKEN_BY_INBOX);
    started(&w, f, turn.id, 2);
    int64_t later = send(f, turn.id);
    IS_OK(suspend_as(f, &w.turn, on_message, first, NULL));
    cr_expect_eq(status_of(f, turn.id), STATUS_QUEUED, "the later one was not read");
    cr_expect_eq(askf(f, "SELECT inbox_read FROM invocations WHERE id = %lld", (long long)turn.id), first);
    cr_expect_eq(askf(f, "SELECT failures FROM invocations WHERE id = %lld", (long long)turn.id), 0);

    waited_init(&w, f, turn.id, 2);
    w.claim.resumes = true;
    w.claim.lease_until = clock_now_ms() + 60000;
    w.claim.lease_ms = 60000;
    queue_claim(&w, f);
    IS_OK(wait_claimed(&w));
    cr_expect_eq(suspended(f, turn.id).given, later);
    IS_OK(suspend_on(f, &w.turn, on_message));
    cr_expect_eq(status_of(f, turn.id), STATUS_WAITING);
    cr_expect_eq(askf(f, "SELECT inbox_read FROM invocations WHERE id = %lld", (long long)turn.id), later);
    cr_expect_eq(suspended(f, turn.id).turns, 3);
    check_counters(f);
}

/* What resumes, then what is waited for, then what is new. */
STORE_TEST(who_is_woken_goes_before_what_is_waited_for_and_what_is_new)
{
    struct waited w, waiter;
    int64_t target = submit(f);
    struct turn turn = turn_of(f, &w), other = turn_of(f, &waiter);
    IS_OK(suspend_on(f, &turn, on_message));
    IS_OK(suspend_on(f, &other, (struct suspension){.ids = &target, .count = 1}));
    send(f, turn.id);
    cr_expect_eq(ask(f, "SELECT id FROM invocations WHERE status = 2 ORDER BY COALESCE(rank, id) LIMIT 1"),
                 turn.id);
    cr_expect_lt(askf(f, "SELECT rank FROM invocations WHERE id = %lld", (long long)target), 0);
}

static int three(void *context, int task)
{
    (void)context, (void)task;
    return 3;
}

/* The process of before was between its suspension and its end. */
STORE_TEST(what_has_suspended_outlives_the_server)
{
    struct waited w, asleep;
    struct turn turn = turn_of(f, &w), still = turn_of(f, &asleep);
    IS_OK(suspend_on(f, &turn, on_message));
    IS_OK(suspend_on(f, &still, on_message));
    send(f, turn.id);
    struct casualty casualty = {.id = turn.id, .lease = turn.lease, .attempt = 1, .pays = true, .marked = true};
    struct op_finish late;
    op_finish_init(&late, &still);
    late.may_have_suspended = true;
    late.log = &(struct log_chunk){1, SPAN("late\n")};
    late.log_count = 1;
    IS_OK(store_do(f->store, &late.turn.op));
    cr_expect_eq(ask(f, "SELECT COUNT(*) FROM logs"), 1);
    fixture_shut(f);
    fixture_open(f);
    IS_OK(store_recover(f->store, &casualty, 1, three, NULL));
    fixture_start(f);
    cr_expect_eq(ask(f, "SELECT COUNT(*) FROM invocations WHERE deaths >= 2"), 0);
    cr_expect_eq(askf(f, "SELECT recoveries FROM invocations WHERE id = %lld", (long long)turn.id), 0);
    cr_expect_eq(status_of(f, turn.id), STATUS_QUEUED);
    cr_expect_eq(status_of(f, still.id), STATUS_WAITING);
    send(f, still.id);
    cr_expect_eq(status_of(f, still.id), STATUS_QUEUED);
    started(&w, f, turn.id, 1);
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
    IS_OK(alter(f, ALTER_DELETE, turn.id));
    cr_expect_eq(ask(f, "SELECT COUNT(*) FROM suspensions"), 1);
    check_counters(f);
}

/* --- again, from nothing ---------------------------------------------------------------- */

static struct submission child_of(struct fixture *f, const struct turn *parent, const char *step)
{
    struct submission s = plain(f);
    struct op_submit op;
    s.parent = parent->id;
    s.parent_lease = parent->lease;
    s.step = step ? (struct span){step, strlen(step)} : (struct span){NULL, 0};
    op_submit_init(&op, &s, 1);
    IS_OK(store_do(f->store, &op.op));
    IS_OK(s.err);
    return s;
}

static void fail_turn(struct fixture *f, struct waited *w, enum finish_next next)
{
    set_error(w, "{\"type\":\"x\"}", "x");
    IS_OK(end(w, f, next, STATUS_FAILED));
}

STORE_TEST(a_fresh_retry_finds_nothing_of_what_was)
{
    struct waited w;
    struct turn turn = turn_of(f, &w);
    struct op_step step;
    op_step_init(&step, &turn);
    step.name = SPAN("a");
    step.value = SPAN("1");
    IS_OK(store_do(f->store, &step.turn.op));
    int64_t named = child_of(f, &turn, "b").id, unnamed = child_of(f, &turn, NULL).id,
            done = child_of(f, &turn, "c").id;
    succeed(f, done);
    IS_OK(suspend_on(f, &turn, on_message));
    IS_OK(alter(f, ALTER_CANCEL, turn.id));
    struct op_alter retry;
    op_alter_init(&retry, ALTER_RETRY, &turn.id, 1);
    retry.fresh = true;
    IS_OK(store_do(f->store, &retry.op));
    started(&w, f, turn.id, 2);
    struct submission again = child_of(f, &w.turn, "b");
    cr_expect_neq(again.id, named);
    while (upkeep(f, UPKEEP_FOLLOW_UP).more)
        ;
    cr_expect_eq(status_of(f, named), STATUS_CANCELLED);
    cr_expect_eq(status_of(f, unnamed), STATUS_CANCELLED);
    cr_expect_eq(status_of(f, done), STATUS_SUCCEEDED);
    cr_expect_eq(status_of(f, again.id), STATUS_QUEUED, "a cancellation reaches none that comes later");
    cr_expect_eq(ask(f, "SELECT COUNT(*) FROM steps"), 0);
    cr_expect_eq(ask(f, "SELECT COUNT(*) FROM suspensions"), 0);
    cr_expect_eq(ask(f, "SELECT COUNT(*) FROM payloads"), 0);
    check_counters(f);
}

/* Cancelled and retried at once: its children of before are cancelled, those of now are not. */
STORE_TEST(a_cancellation_on_its_way_to_children_reaches_none_that_a_retry_makes)
{
    struct waited w;
    struct turn turn = turn_of(f, &w);
    int64_t before = child_of(f, &turn, NULL).id;
    IS_OK(suspend_on(f, &turn, on_message));
    IS_OK(alter(f, ALTER_CANCEL, turn.id));
    IS_OK(alter(f, ALTER_RETRY, turn.id));
    started(&w, f, turn.id, 2);
    int64_t after = child_of(f, &w.turn, NULL).id;
    while (upkeep(f, UPKEEP_FOLLOW_UP).more)
        ;
    cr_expect_eq(status_of(f, before), STATUS_CANCELLED);
    cr_expect_eq(status_of(f, after), STATUS_QUEUED);
}

/* Only success is kept for good. */
STORE_TEST(a_step_that_failed_runs_again_after_a_failure_of_its_parent)
{
    struct waited w;
    struct turn turn = turn_of(f, &w);
    int64_t bad = child_of(f, &turn, "bad").id, good = child_of(f, &turn, "good").id;
    fail_for_good(f, bad);
    succeed(f, good);
    cr_expect_eq(child_of(f, &turn, "bad").status, STATUS_FAILED, "it has not failed itself");
    fail_turn(f, &w, FINISH_REQUEUE); /* as after a recovery */
    started(&w, f, turn.id, 2);
    cr_expect_eq(child_of(f, &w.turn, "bad").status, STATUS_FAILED);
    fail_turn(f, &w, FINISH_RETRY);
    started(&w, f, turn.id, 3);
    struct submission again = child_of(f, &w.turn, "bad");
    cr_expect_eq(again.id, bad);
    cr_expect_eq(again.status, STATUS_QUEUED);
    cr_expect_eq(child_of(f, &w.turn, "good").status, STATUS_SUCCEEDED);
    started(&w, f, bad, 2);
    fail_turn(f, &w, FINISH_FINAL);
    cr_expect_eq(askf(f, "SELECT asked FROM children WHERE id = %lld", (long long)bad), 1,
                 "once for each failure");
    check_counters(f);
}
