/* Times by which invocations must be final. */
#include "base/clock.h"
#include "store/suspend.h"
#include "tests/store/support.h"

#include <stdio.h>

static struct submission by(const struct fixture *f, struct particulars *of, int64_t in_ms)
{
    struct submission s = plain(f);
    *of = (struct particulars){.deadline_at = clock_now_ms() + in_ms};
    s.particulars = of;
    return s;
}

static void let_it_come(struct fixture *f, int64_t id)
{
    char sql[100];
    snprintf(sql, sizeof sql, "UPDATE deadlines SET at = 5 WHERE id = %lld", (long long)id);
    exec_sql(f, sql);
    upkeep(f, UPKEEP_DEADLINE);
}

static void failed_late(struct fixture *f, int64_t id)
{
    struct invocation row = row_of(f, id);
    cr_assert_eq(row.status, STATUS_FAILED, "%d", row.status);
    IS_SPAN(row.error, "{\"type\":\"deadline\",\"message\":\"it was not done by its deadline\"}");
    cr_assert_eq(row.cancel_requested_at, 0);
    cr_assert_eq(askf(f, "SELECT COUNT(*) FROM errors WHERE id = %lld AND type = 'deadline'", (long long)id), 1);
}

STORE_TEST(what_waits_to_start_fails_at_its_deadline)
{
    struct particulars of[2];
    struct submission s[2] = {by(f, &of[0], 60000), by(f, &of[1], 60000)};
    s[1].run_at = clock_now_ms() + 120000;
    submit_all(f, s, 2);
    cr_assert_eq(f->changes[0].deadline_at, of[0].deadline_at);
    cr_assert_eq(row_of(f, s[0].id).deadline, of[0].deadline_at);
    cr_assert_eq(upkeep(f, UPKEEP_DEADLINE).next_at,
                 of[0].deadline_at < of[1].deadline_at ? of[0].deadline_at : of[1].deadline_at);
    f->change_count = 0;
    let_it_come(f, s[0].id);
    cr_assert(f->changes[0].is_late && f->changes[0].withdrawn);
    let_it_come(f, s[1].id);
    failed_late(f, s[0].id);
    failed_late(f, s[1].id);
    check_counters(f);
}

/* How a turn that was stopped at the deadline ends, whatever it says. */
static const struct {
    const char *name;
    enum finish_next next;
    enum status status, wanted;
} ends[] = {
    {"cancelled", FINISH_FINAL, STATUS_CANCELLED, STATUS_FAILED},
    {"failed", FINISH_FINAL, STATUS_FAILED, STATUS_FAILED},
    {"to be retried", FINISH_RETRY, STATUS_FAILED, STATUS_FAILED},
    {"interrupted", FINISH_REQUEUE, STATUS_FAILED, STATUS_FAILED},
    {"lost", FINISH_LOST, STATUS_FAILED, STATUS_FAILED},
    {"succeeded first", FINISH_FINAL, STATUS_SUCCEEDED, STATUS_SUCCEEDED},
};

STORE_TEST(what_runs_is_stopped_and_ends_as_failed)
{
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        struct particulars of;
        struct waited w;
        struct submission s = by(f, &of, 60000);
        submit_all(f, &s, 1);
        started(&w, f, s.id, 1);
        f->change_count = 0;
        let_it_come(f, s.id);
        cr_assert(f->changes[0].cancel, "%s: the body hears of it", ends[i].name);
        cr_assert_eq(status_of(f, s.id), STATUS_RUNNING);
        IS_OK(end(&w, f, ends[i].next, ends[i].status));
        if (ends[i].wanted == STATUS_FAILED)
            failed_late(f, s.id);
        else
            cr_assert_eq(status_of(f, s.id), ends[i].wanted, "%s", ends[i].name);
    }
    check_counters(f);
}

STORE_TEST(whoever_cancelled_before_it_has_cancelled)
{
    struct particulars of;
    struct waited w;
    struct submission s = by(f, &of, 60000);
    submit_all(f, &s, 1);
    started(&w, f, s.id, 1);
    IS_OK(alter(f, ALTER_CANCEL, s.id));
    let_it_come(f, s.id);
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_FAILED));
    cr_assert_eq(status_of(f, s.id), STATUS_CANCELLED);
}

STORE_TEST(what_has_suspended_fails_at_its_deadline)
{
    struct particulars of;
    struct waited w;
    struct op_suspend op;
    struct submission s = by(f, &of, 60000);
    submit_all(f, &s, 1);
    started(&w, f, s.id, 1);
    op_suspend_init(&op, &w.turn);
    op.on = (struct suspension){.inbox = true};
    IS_OK(store_do(f->store, &op.turn.op));
    cr_assert_eq(status_of(f, s.id), STATUS_WAITING);
    let_it_come(f, s.id);
    failed_late(f, s.id);
    check_counters(f);
}

STORE_TEST(a_suspension_after_the_deadline_is_its_end)
{
    struct particulars of;
    struct waited w;
    struct op_suspend op;
    struct submission s = by(f, &of, 60000);
    submit_all(f, &s, 1);
    started(&w, f, s.id, 1);
    let_it_come(f, s.id);
    op_suspend_init(&op, &w.turn);
    op.on = (struct suspension){.inbox = true};
    IS_OK(store_do(f->store, &op.turn.op));
    failed_late(f, s.id);
}

STORE_TEST(a_turn_that_is_lost_after_it_has_failed)
{
    struct particulars of;
    struct waited w;
    struct submission s = by(f, &of, 60000);
    submit_all(f, &s, 1);
    started(&w, f, s.id, 1);
    let_it_come(f, s.id);
    fixture_shut(f);
    fixture_open(f);
    IS_OK(store_recover(f->store, NULL, 0, NULL, NULL));
    fixture_start(f);
    failed_late(f, s.id);
    check_counters(f);
}

STORE_TEST(a_retry_has_as_long_as_it_had_at_first)
{
    struct particulars of;
    struct submission s = by(f, &of, 60000);
    submit_all(f, &s, 1);
    let_it_come(f, s.id);
    failed_late(f, s.id);
    int64_t before = clock_now_ms();
    IS_OK(alter(f, ALTER_RETRY, s.id));
    struct invocation row = row_of(f, s.id);
    cr_assert_eq(row.status, STATUS_QUEUED);
    cr_assert(row.deadline >= before + 59000 && row.deadline <= clock_now_ms() + 60000, "%lld",
              (long long)(row.deadline - before));
    let_it_come(f, s.id);
    failed_late(f, s.id);
}

STORE_TEST(a_final_one_is_left_alone)
{
    struct particulars of;
    struct submission s = by(f, &of, 60000);
    submit_all(f, &s, 1);
    succeed(f, s.id);
    let_it_come(f, s.id);
    cr_assert_eq(status_of(f, s.id), STATUS_SUCCEEDED);
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM deadlines WHERE open = 1"), 0);
    IS_OK(alter(f, ALTER_DELETE, s.id));
    check_counters(f);
}

/* Whose deadline a child has: in thousands of milliseconds from now, 0: none. */
static const struct {
    const char *name;
    bool detached;
    int parent, own, wanted;
} kin[] = {
    {"its parent's", false, 60, 0, 60},
    {"its own, which is nearer", false, 60, 30, 30},
    {"its parent's, which is nearer", false, 60, 90, 60},
    {"a detached one's own", true, 60, 90, 90},
    {"a detached one has none", true, 60, 0, 0},
    {"its own", false, 0, 90, 90},
};

STORE_TEST(a_childs_deadline_is_at_most_its_parents)
{
    for (size_t i = 0; i < sizeof kin / sizeof *kin; i++) {
        struct particulars of_parent, of_child;
        struct waited w;
        struct submission parent = by(f, &of_parent, kin[i].parent * 1000);
        struct submission child = by(f, &of_child, kin[i].own * 1000);
        if (!kin[i].parent)
            parent.particulars = NULL;
        if (!kin[i].own)
            child.particulars = NULL;
        submit_all(f, &parent, 1);
        started(&w, f, parent.id, 1);
        child.parent = w.turn.id;
        child.parent_lease = w.turn.lease;
        child.detached = kin[i].detached;
        submit_all(f, &child, 1);
        IS_OK(child.err);
        int64_t at = row_of(f, child.id).deadline, now = clock_now_ms();
        cr_assert(kin[i].wanted ? at > now + kin[i].wanted * 1000 - 5000 && at <= now + kin[i].wanted * 1000 : !at,
                  "%s: %lld", kin[i].name, (long long)(at - now));
        if (child.particulars != &of_child)
            submission_release(&child);
    }
}
