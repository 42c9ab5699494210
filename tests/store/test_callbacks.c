/* Deliveries: made by ends, due in lines, reported by who believes right. */
#include "base/clock.h"
#include "store/internal.h"
#include "store/callback.h"
#include "store/suspend.h"
#include "store/transition.h"
#include "tests/store/support.h"

#include <stdio.h>
#include <stdlib.h>

static int64_t submit_with(struct fixture *f, const char *place)
{
    struct submission s = plain(f);
    char url[100];
    snprintf(url, sizeof url, "http://%s/", place);
    s.callback = span_of(url);
    s.callback_place = span_of(place);
    submit_all(f, &s, 1);
    return s.id;
}

/* What is due, while those are under way. */
static struct op_due due(struct fixture *f, const struct delivery *busy, int busy_count, int room, int per_place)
{
    struct op_due op;
    op_due_init(&op);
    op.busy = busy;
    op.busy_count = busy_count;
    op.room = room;
    op.room_per_place = per_place;
    IS_OK(store_do(f->store, &op.op));
    return op;
}

static int count_due(struct fixture *f)
{
    struct op_due op = due(f, NULL, 0, 100, 100);
    op_due_release(&op);
    return op.count;
}

static enum err report(struct fixture *f, const struct delivery *delivery, enum delivery_status status,
                       int64_t next_at)
{
    struct op_delivered op;
    op_delivered_init(&op, delivery);
    op.status = status;
    op.next_at = next_at;
    op.last_status = status == DELIVERY_DELIVERED ? 200 : 500;
    op.last_error = status == DELIVERY_DELIVERED ? (struct span){NULL, 0} : SPAN("{\"type\":\"http:500\"}");
    return store_do(f->store, &op.op);
}

static int64_t delivery_of(struct fixture *f, int64_t id, const char *column)
{
    return askf(f, "SELECT %s FROM deliveries WHERE owner = %lld ORDER BY n DESC LIMIT 1", column, (long long)id);
}

STORE_TEST(an_end_makes_one_delivery_due_and_says_so)
{
    int64_t id = submit_with(f, "a:80");
    cr_expect_eq(count_due(f), 0);
    f->change_count = 0;
    succeed(f, id);
    int heard = 0;
    for (int i = 0; i < f->change_count; i++)
        heard += f->changes[i].callback;
    cr_expect_eq(heard, 1);
    struct op_due op = due(f, NULL, 0, 10, 10);
    cr_assert_eq(op.count, 1);
    cr_expect_eq(op.items[0].owner, id);
    cr_expect_eq(op.items[0].n, 1);
    cr_expect_eq(op.items[0].kind, CALLBACK_INVOCATION);
    cr_expect_eq(op.items[0].event, STATUS_SUCCEEDED);
    cr_expect_eq(op.items[0].attempt, 1);
    cr_expect_eq(op.items[0].at, row_of(f, id).finished_at);
    IS_SPAN(op.items[0].url, "http://a:80/");
    IS_SPAN(op.items[0].place, "a:80");
    IS_OK(report(f, &op.items[0], DELIVERY_DELIVERED, 0));
    op_due_release(&op);
    cr_expect_eq(count_due(f), 0);
    cr_expect_eq(delivery_of(f, id, "status"), DELIVERY_DELIVERED);
    cr_expect_eq(delivery_of(f, id, "attempts"), 1);
    cr_expect_eq(ask(f, "SELECT COUNT(*) FROM callback_places"), 0);
    check_counters(f);
}

static void fail_now(struct fixture *f, int64_t id)
{
    fail_for_good(f, id);
}

static void cancel_now(struct fixture *f, int64_t id)
{
    IS_OK(alter(f, ALTER_CANCEL, id));
}

/* Its first attempt is tried again, and it waits in between: its end still looks for it. */
static void retry_and_suspend(struct fixture *f, int64_t id)
{
    struct waited w;
    started(&w, f, id, 1);
    IS_OK(end(&w, f, FINISH_RETRY, STATUS_FAILED));
    started(&w, f, id, 2);
    struct op_suspend op;
    op_suspend_init(&op, &w.turn);
    op.on = (struct suspension){.until = clock_now_ms() + 2};
    IS_OK(store_do(f->store, &op.turn.op));
    while (status_of(f, id) == STATUS_WAITING)
        upkeep(f, UPKEEP_WAKE);
    waited_init(&w, f, id, 2);
    w.claim.failures = 0;
    w.claim.resumes = true;
    queue_claim(&w, f);
    IS_OK(wait_claimed(&w));
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
}

static void succeed_in_one_batch(struct fixture *f, int64_t id)
{
    struct waited w;
    waited_init(&w, f, id, 1);
    together(f, &w.claim.turn.op, &w.finish.turn.op);
    IS_OK(wait_finished(&w));
}

STORE_TEST(whatever_its_way_to_the_end)
{
    static void (*const ways[])(struct fixture * f, int64_t id) = {fail_now, cancel_now, retry_and_suspend,
                                                                   succeed_in_one_batch};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        int64_t id = submit_with(f, "a:80");
        ways[i](f, id);
        cr_expect(status_is_final(status_of(f, id)), "%zu", i);
        cr_expect_eq(delivery_of(f, id, "event"), (int64_t)status_of(f, id), "%zu", i);
        cr_expect_eq(delivery_of(f, id, "n"), 1, "%zu", i);
        cr_expect_eq(delivery_of(f, id, "attempt"), row_of(f, id).attempt, "%zu", i);
    }
    int64_t id = submit(f);
    succeed(f, id);
    cr_expect_eq(delivery_of(f, id, "n"), -1);
}

STORE_TEST(a_retry_that_ends_again_makes_one_more_and_only_the_last_stay)
{
    int64_t id = submit_with(f, "a:80");
    IS_OK(alter(f, ALTER_CANCEL, id));
    for (int i = 2; i <= DELIVERIES_MAX + 3; i++) {
        IS_OK(alter(f, ALTER_RETRY, id));
        IS_OK(alter(f, ALTER_CANCEL, id));
        cr_assert_eq(delivery_of(f, id, "n"), i);
    }
    cr_expect_eq(askf(f, "SELECT COUNT(*) FROM deliveries WHERE owner = %lld", (long long)id), DELIVERIES_MAX);
    IS_OK(alter(f, ALTER_DELETE, id));
    cr_expect_eq(ask(f, "SELECT COUNT(*) FROM deliveries"), 0);
    cr_expect_eq(ask(f, "SELECT COUNT(*) FROM callbacks"), 0);
    cr_expect_eq(ask(f, "SELECT COUNT(*) FROM callback_places"), 1, "its line is empty, and goes when it is due");
    cr_expect_eq(count_due(f), 0);
    cr_expect_eq(ask(f, "SELECT COUNT(*) FROM callback_places"), 0);
    check_counters(f);
}

STORE_TEST(each_place_has_a_line_of_its_own)
{
    int64_t other;
    for (int i = 0; i < 50; i++)
        succeed(f, submit_with(f, "dead:80"));
    other = submit_with(f, "well:80");
    succeed(f, other);
    struct op_due first = due(f, NULL, 0, 6, 4);
    cr_assert_eq(first.count, 5);
    cr_expect_eq(first.items[4].owner, other);
    for (int i = 1; i < 4; i++)
        cr_expect_lt(first.items[i - 1].owner, first.items[i].owner, "in the order in which they ended");
    struct op_due second = due(f, first.items, 4, 2, 4); /* the line is full */
    cr_assert_eq(second.count, 1);
    cr_expect_eq(second.items[0].owner, other);
    struct op_due third = due(f, first.items, 5, 1, 4);
    cr_expect_eq(third.count, 0);
    cr_expect_eq(third.next_at, 0, "nothing is known to come: who is under way will say so");
    IS_OK(report(f, &first.items[2], DELIVERY_FAILED, 0));
    struct delivery busy[] = {first.items[0], first.items[1], first.items[3]};
    struct op_due fourth = due(f, busy, 3, 10, 4);
    cr_assert_eq(fourth.count, 2, "one of each");
    cr_expect_gt(fourth.items[0].owner, first.items[3].owner);
    op_due_release(&first);
    op_due_release(&second);
    op_due_release(&third);
    op_due_release(&fourth);
}

STORE_TEST(what_is_tried_later_is_due_then)
{
    int64_t id = submit_with(f, "a:80"), soon = clock_now_ms() + 50, later = clock_now_ms() + 3600000;
    succeed(f, id);
    struct op_due op = due(f, NULL, 0, 10, 10);
    cr_assert_eq(op.count, 1);
    IS_OK(report(f, &op.items[0], DELIVERY_PENDING, soon));
    struct op_due none = due(f, NULL, 0, 10, 10);
    cr_expect(none.count == 1 || none.next_at == soon);
    op_due_release(&none);
    while (count_due(f) == 0)
        ;
    cr_expect_geq(clock_now_ms(), soon);
    cr_expect_eq(report(f, &op.items[0], DELIVERY_DELIVERED, 0), ERR_CONFLICT, "it believes in a try too few");
    op_due_release(&op);
    op = due(f, NULL, 0, 10, 10);
    cr_assert_eq(op.count, 1);
    cr_expect_eq(op.items[0].attempts, 1);
    IS_OK(report(f, &op.items[0], DELIVERY_PENDING, later));
    op_due_release(&op);
    succeed(f, submit_with(f, "a:80"));
    op = due(f, NULL, 0, 10, 10);
    cr_assert_eq(op.count, 1, "a new one does not wait for it");
    struct op_due rest = due(f, op.items, 1, 10, 10);
    cr_expect_eq(rest.next_at, later);
    op_due_release(&rest);
    op_due_release(&op);
}

static enum err report_silence(struct fixture *f, const struct delivery *delivery)
{
    struct op_delivered op;
    op_delivered_init(&op, delivery);
    op.status = DELIVERY_PENDING;
    op.next_at = clock_now_ms();
    op.silent = true;
    op.rest_max_ms = 3000;
    return store_do(f->store, &op.op);
}

/* Else a few dead ones with much before them have all the room. */
STORE_TEST(a_place_that_does_not_answer_rests_and_is_asked_for_one_at_a_time)
{
    static const int64_t rests_ms[] = {1000, 2000, 3000, 3000};
    int64_t id = 0;
    for (int i = 0; i < 5; i++)
        succeed(f, id = submit_with(f, "dead:80"));
    for (int i = 0; i < 4; i++) {
        struct op_due op = due(f, NULL, 0, 10, 4);
        cr_assert_eq(op.count, i ? 1 : 4, "%d", i);
        int64_t now = clock_now_ms();
        IS_OK(report_silence(f, &op.items[0]));
        int64_t rest = ask(f, "SELECT next_at FROM callback_places") - now;
        cr_expect(rest >= rests_ms[i] && rest < rests_ms[i] + 500, "%d: %lld", i, (long long)rest);
        succeed(f, submit_with(f, "dead:80"));
        succeed(f, submit_with(f, "well:80"));
        struct op_due other = due(f, NULL, 0, 10, 4);
        cr_assert_eq(other.count, 1, "a new one does not end the rest");
        IS_SPAN(other.items[0].place, "well:80");
        cr_expect_gt(other.next_at, clock_now_ms());
        IS_OK(report(f, &other.items[0], DELIVERY_DELIVERED, 0));
        op_due_release(&other);
        op_due_release(&op);
        exec_sql(f, "UPDATE callback_places SET next_at = 1, rest_until = 1");
    }
    struct op_due op = due(f, NULL, 0, 10, 4);
    struct op_delivered heard;
    op_delivered_init(&heard, &op.items[0]);
    heard.status = DELIVERY_DELIVERED;
    heard.answered = true;
    IS_OK(store_do(f->store, &heard.op));
    op_due_release(&op);
    op = due(f, NULL, 0, 10, 4);
    cr_expect_eq(op.count, 4, "it answers again");
    IS_OK(report_silence(f, &op.items[0]));
    struct op_repeat repeat;
    op_repeat_init(&repeat, id, 1);
    IS_OK(store_do(f->store, &repeat.op));
    op_due_release(&op);
    op = due(f, NULL, 0, 10, 4);
    cr_expect_eq(op.count, 1, "who repeats one does not wait");
    op_due_release(&op);
}

/* Two servers, or one whose first word was lost. */
STORE_TEST(of_two_who_believe_the_same_one_counts)
{
    succeed(f, submit_with(f, "a:80"));
    struct op_due op = due(f, NULL, 0, 10, 10);
    IS_OK(report(f, &op.items[0], DELIVERY_PENDING, clock_now_ms()));
    cr_expect_eq(report(f, &op.items[0], DELIVERY_FAILED, 0), ERR_CONFLICT);
    cr_expect_eq(delivery_of(f, op.items[0].owner, "attempts"), 1);
    cr_expect_eq(delivery_of(f, op.items[0].owner, "status"), DELIVERY_PENDING);
    op_due_release(&op);
}

STORE_TEST(one_is_repeated_with_all_its_tries)
{
    int64_t id = submit_with(f, "a:80");
    struct op_repeat repeat;
    succeed(f, id);
    struct op_due op = due(f, NULL, 0, 10, 10);
    IS_OK(report(f, &op.items[0], DELIVERY_FAILED, 0));
    op_due_release(&op);
    cr_expect_eq(count_due(f), 0);
    op_repeat_init(&repeat, id, 1);
    IS_OK(store_do(f->store, &repeat.op));
    op = due(f, NULL, 0, 10, 10);
    cr_assert_eq(op.count, 1);
    cr_expect_eq(op.items[0].n, 1);
    cr_expect_eq(op.items[0].attempts, 0);
    op_due_release(&op);
    op_repeat_init(&repeat, id, 2);
    cr_expect_eq(store_do(f->store, &repeat.op), ERR_NOT_FOUND);
    op_repeat_init(&repeat, 7, 1);
    cr_expect_eq(store_do(f->store, &repeat.op), ERR_NOT_FOUND);
}

STORE_TEST(what_is_to_be_told_is_not_pruned)
{
    struct submission s = plain(f);
    s.callback = SPAN("http://a/");
    s.callback_place = SPAN("a:80");
    s.retention_ms = 0;
    submit_all(f, &s, 1);
    succeed(f, s.id);
    upkeep(f, UPKEEP_PRUNE);
    cr_expect_eq(status_of(f, s.id), STATUS_SUCCEEDED);
    struct op_due op = due(f, NULL, 0, 10, 10);
    IS_OK(report(f, &op.items[0], DELIVERY_DELIVERED, 0));
    op_due_release(&op);
    exec_sql(f, "UPDATE invocations SET prune_at = 1");
    upkeep(f, UPKEEP_PRUNE);
    cr_expect_eq(ask(f, "SELECT COUNT(*) FROM invocations"), 0);
    cr_expect_eq(ask(f, "SELECT COUNT(*) FROM deliveries"), 0);
    cr_expect_eq(ask(f, "SELECT COUNT(*) FROM callbacks"), 0);
}

STORE_TEST(deliveries_outlive_the_server)
{
    succeed(f, submit_with(f, "a:80"));
    struct op_due op = due(f, NULL, 0, 10, 10);
    op_due_release(&op);
    fixture_again(f);
    cr_expect_eq(count_due(f), 1);
}

/* Of what else has an id: a group, when there are some. */
static enum err note_other(struct tx *tx, struct op *op)
{
    (void)op;
    struct callback callback = {77, (enum callback_kind)9, SPAN("http://b/"), SPAN("b:80")};
    enum err err = callback_note(tx, &callback);
    for (int event = 1; event <= 2 && err == OK; event++)
        err = callback_due(tx, &(struct callback_end){.owner = 77, .event = event, .at = tx->now});
    return err == OK ? callback_due(tx, &(struct callback_end){.owner = 78}) : err;
}

STORE_TEST(what_else_ends_has_callbacks_too)
{
    static const struct op_class class = {.name = "test", .apply = note_other, .several = op_is_several};
    struct op op = {0};
    op_init(&op, &class);
    IS_OK(store_do(f->store, &op));
    struct op_due found = due(f, NULL, 0, 10, 10);
    cr_assert_eq(found.count, 2);
    cr_expect_eq(found.items[0].owner, 77);
    cr_expect_eq((int)found.items[0].kind, 9);
    cr_expect_eq(found.items[1].event, 2);
    op_due_release(&found);
}
