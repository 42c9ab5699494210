/* Turns that are run elsewhere: a lease that has a time is renewed, lost, and
 * found again. */
#include "base/clock.h"
#include "tests/store/support.h"

#include <stdlib.h>

enum { LENGTH_MS = 30000 };

static int64_t lend(struct waited *w, struct fixture *f, int64_t id, int attempt)
{
    waited_init(w, f, id, attempt);
    w->claim.lease_ms = LENGTH_MS;
    w->claim.lease_until = clock_now_ms() + LENGTH_MS;
    w->claim.worker = SPAN("far");
    queue_claim(w, f);
    cr_assert_eq(wait_claimed(w), OK);
    return w->claim.lease_until;
}

static struct op_renew renew(struct fixture *f, const struct turn *turn, int64_t until, enum err expected)
{
    struct op_renew op;
    op_renew_init(&op, turn);
    op.lease_until = until;
    cr_assert_eq(store_do(f->store, &op.turn.op), expected);
    return op;
}

static struct op_lose lose(struct fixture *f, const struct turn *turn, int64_t believed, bool pays,
                           enum err expected)
{
    struct op_lose op;
    op_lose_init(&op, turn);
    op.lease_until = believed;
    op.pays = pays;
    op.max_recoveries = 1;
    cr_assert_eq(store_do(f->store, &op.turn.op), expected);
    return op;
}

STORE_TEST(a_renewal_moves_the_time_and_one_of_another_lease_nothing)
{
    struct waited w;
    int64_t id = submit(f), until = lend(&w, f, id, 1);
    struct turn stale = w.turn;
    stale.lease++;
    renew(f, &stale, until + 1, ERR_CONFLICT);
    cr_expect_eq(ask(f, "SELECT lease_until FROM invocations"), until);
    renew(f, &w.turn, until + 5, OK);
    cr_expect_eq(ask(f, "SELECT lease_until FROM invocations"), until + 5);
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
    renew(f, &w.turn, until + 9, ERR_CONFLICT);
    cr_expect_eq(ask(f, "SELECT COUNT(*) FROM invocations WHERE lease_until IS NOT NULL"), 0);
}

STORE_TEST(after_a_cancellation_nothing_is_renewed_and_the_holder_is_told)
{
    struct waited w;
    int64_t id = submit(f), until = lend(&w, f, id, 1);
    IS_OK(alter(f, ALTER_CANCEL, id));
    cr_expect(renew(f, &w.turn, until + 5, OK).cancelled);
    cr_expect_eq(ask(f, "SELECT lease_until FROM invocations"), until);
    cr_expect_eq(lose(f, &w.turn, until, true, OK).became, STATUS_CANCELLED);
    cr_expect_eq(status_of(f, id), STATUS_CANCELLED);
    check_counters(f);
}

STORE_TEST(a_turn_of_this_process_needs_no_renewal)
{
    struct waited w;
    int64_t id = submit(f);
    started(&w, f, id, 1);
    cr_expect_not(renew(f, &w.turn, 1, OK).cancelled);
    cr_expect_eq(ask(f, "SELECT COUNT(*) FROM invocations WHERE lease_until IS NOT NULL"), 0);
}

STORE_TEST(a_lost_lease_is_queued_again_until_its_budget_is_spent)
{
    static const struct {
        bool pays;
        enum status became;
        int recoveries;
    } rows[] = {
        {false, STATUS_QUEUED, 0}, {true, STATUS_QUEUED, 1}, {false, STATUS_QUEUED, 1}, {true, STATUS_FAILED, 2}};
    int64_t id = submit(f);
    for (int i = 0; i < 4; i++) {
        struct waited w;
        int64_t until = lend(&w, f, id, i + 1);
        cr_expect_eq(lose(f, &w.turn, until, rows[i].pays, OK).became, rows[i].became, "%d", i);
        struct invocation row = row_of(f, id);
        cr_expect_eq(row.status, rows[i].became, "%d", i);
        cr_expect_eq(row.recoveries, rows[i].recoveries, "%d", i);
        cr_expect_eq(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED), ERR_CONFLICT, "%d: its report is refused", i);
        lose(f, &w.turn, until, true, ERR_CONFLICT);
        check_counters(f);
    }
    cr_expect(strstr(row_of(f, id).error.p, "\"lease_lost\""));
    cr_expect_eq(ask(f, "SELECT COUNT(*) FROM attempts WHERE error LIKE '%lease_lost%' AND worker = 'far'"), 3);
}

/* Its body died with the process that it was in: here, so its lease has no time. */
STORE_TEST(a_turn_whose_process_died_is_queued_again_until_its_budget_is_spent)
{
    static const struct {
        bool pays;
        enum status became;
        int recoveries;
    } rows[] = {
        {false, STATUS_QUEUED, 0}, {true, STATUS_QUEUED, 1}, {false, STATUS_QUEUED, 1}, {true, STATUS_FAILED, 1}};
    int64_t id = submit(f);
    for (int i = 0; i < 4; i++) {
        struct waited w;
        started(&w, f, id, i + 1);
        w.finish.pays = rows[i].pays;
        w.finish.max_recoveries = 1;
        set_error(&w, "{\"type\":\"worker_crashed\"}", "worker_crashed");
        IS_OK(end(&w, f, FINISH_LOST, STATUS_FAILED));
        struct invocation row = row_of(f, id);
        cr_expect_eq(row.status, rows[i].became, "%d", i);
        cr_expect_eq(row.recoveries, rows[i].recoveries, "%d", i);
        cr_expect_eq(row.failures, 0, "%d: it is no failure", i);
        IS_OK(end(&w, f, FINISH_LOST, STATUS_FAILED)); /* said twice */
        cr_expect_eq(row_of(f, id).recoveries, rows[i].recoveries, "%d", i);
        check_counters(f);
    }
    cr_expect_eq(ask(f, "SELECT COUNT(*) FROM attempts WHERE error LIKE '%worker_crashed%'"), 3);
}

STORE_TEST(one_that_is_cancelled_and_dies_with_its_process_is_cancelled)
{
    struct waited w;
    int64_t id = submit(f);
    started(&w, f, id, 1);
    IS_OK(alter(f, ALTER_CANCEL, id));
    IS_OK(end(&w, f, FINISH_LOST, STATUS_FAILED));
    cr_expect_eq(status_of(f, id), STATUS_CANCELLED);
    check_counters(f);
}

/* Its end was on its way when the renewal came first. */
STORE_TEST(one_that_was_renewed_meanwhile_is_not_lost)
{
    struct waited w;
    int64_t id = submit(f), until = lend(&w, f, id, 1);
    renew(f, &w.turn, until + 5, OK);
    lose(f, &w.turn, until, true, ERR_CONFLICT);
    cr_expect_eq(status_of(f, id), STATUS_RUNNING);
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
}

STORE_TEST(what_could_not_be_handed_over_costs_nothing)
{
    struct waited w;
    int64_t id = submit(f);
    lend(&w, f, id, 1);
    IS_OK(end(&w, f, FINISH_UNSTARTED, STATUS_QUEUED));
    struct invocation row = row_of(f, id);
    cr_expect_eq(row.status, STATUS_QUEUED);
    cr_expect(row.attempt == 0 && row.recoveries == 0 && row.failures == 0);
    cr_expect_eq(ask(f, "SELECT COUNT(*) FROM attempts"), 0);
    lend(&w, f, id, 1);
    check_counters(f);
}

STORE_TEST(a_turn_is_read_by_its_lease_alone)
{
    struct waited w;
    struct turn_row row;
    int64_t id = submit(f);
    cr_expect_eq(reader_turn(f->reader, id, 1, &row), ERR_CONFLICT, "it was never started");
    cr_expect_eq(reader_turn(f->reader, id + 1, 1, &row), ERR_NOT_FOUND);
    int64_t until = lend(&w, f, id, 1);
    cr_expect_eq(reader_turn(f->reader, id, w.turn.lease + 1, &row), ERR_CONFLICT);
    IS_OK(reader_turn(f->reader, id, w.turn.lease, &row));
    cr_expect(row.elsewhere && row.status == STATUS_RUNNING && !row.cancelled && row.turn.attempt == 1);
    cr_expect(row.lease_until == until && row.lease_ms == LENGTH_MS && row.turn.task == f->task);
    IS_SPAN(row.worker, "far");
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
    IS_OK(reader_turn(f->reader, id, w.turn.lease, &row));
    cr_expect_eq(row.status, STATUS_SUCCEEDED, "its holder ended it");
}

static void note_lease(void *context, const struct turn_row *row)
{
    int64_t *sum = context;
    *sum += row->turn.id;
}

STORE_TEST(leases_that_have_a_time_outlive_the_server)
{
    struct waited here, far, ended;
    int64_t sum = 0, ids[] = {submit(f), submit(f), submit(f)};
    started(&here, f, ids[0], 1);
    lend(&far, f, ids[1], 1);
    lend(&ended, f, ids[2], 1);
    IS_OK(end(&ended, f, FINISH_FINAL, STATUS_SUCCEEDED));
    fixture_shut(f);
    fixture_open(f);
    IS_OK(store_recover(f->store, NULL, 0, NULL, NULL));
    fixture_start(f);
    cr_expect_eq(status_of(f, ids[0]), STATUS_QUEUED);
    cr_expect_eq(status_of(f, ids[1]), STATUS_RUNNING);
    IS_OK(reader_leases(f->reader, note_lease, &sum));
    cr_expect_eq(sum, ids[1]);
    IS_OK(end(&far, f, FINISH_FINAL, STATUS_SUCCEEDED));
    cr_expect_eq(status_of(f, ids[1]), STATUS_SUCCEEDED);
    check_counters(f);
}
