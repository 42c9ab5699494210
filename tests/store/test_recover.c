#include "base/clock.h"
#include "tests/store/support.h"

#include <signal.h>
#include <stdlib.h>

static int three(void *context, int task)
{
    (void)context;
    (void)task;
    return 3;
}

/* Closes while things run, and recovers with these casualties. */
static int die(struct fixture *f, const struct casualty *casualties, int count, int64_t alone[10])
{
    fixture_shut(f);
    fixture_open(f);
    IS_OK(store_recover(f->store, casualties, count, three, NULL));
    fixture_start(f);
    check_counters(f);
    alone[0] = ask(f, "SELECT MIN(id) FROM invocations WHERE deaths >= 2 AND status = 2");
    return (int)ask(f, "SELECT COUNT(*) FROM invocations WHERE deaths >= 2 AND status = 2");
}

STORE_TEST(who_kills_the_server_pays_until_the_budget_is_spent)
{
    int64_t id = submit(f), alone[10];
    for (int i = 1; i <= 4; i++) {
        struct waited w;
        started(&w, f, id, i);
        cr_assert_eq(die(f, &(struct casualty){.id = id, .lease = w.turn.lease, .pays = true}, 1, alone), 0);
        struct invocation row = row_of(f, id);
        cr_assert_eq(row.status, i < 4 ? STATUS_QUEUED : STATUS_FAILED);
        cr_assert_eq(row.recoveries, i);
        cr_assert_eq(row.failures, 0);
        if (i < 4)
            cr_assert_null(row.worker.p, "what is queued has no worker");
    }
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM errors WHERE type = 'worker_crashed'"), 1);
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM attempts WHERE status = 6"), 3);
    IS_OK(alter(f, ALTER_RETRY, id));
    cr_assert_eq(row_of(f, id).recoveries, 0);
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM attempts"), 4);
}

STORE_TEST(nobody_pays_for_an_unmarked_death_but_two_make_it_run_alone)
{
    int64_t id = submit(f), beside = submit(f), alone[10];
    struct waited w, v;
    for (int i = 1; i <= 2; i++) {
        started(&w, f, id, i);
        started(&v, f, beside, i);
        int n = die(f, &(struct casualty){.id = id, .lease = w.turn.lease}, 1, alone);
        cr_assert_eq(n, i == 2);
        cr_assert_eq(row_of(f, id).recoveries, 0);
        cr_assert_eq(status_of(f, beside), STATUS_QUEUED);
    }
    cr_assert_eq(alone[0], id);
    cr_assert_eq(askf(f, "SELECT deaths FROM invocations WHERE id = %lld", (long long)beside), 0);
}

STORE_TEST(a_casualty_whose_claim_was_not_on_disk_counts_as_started)
{
    int64_t id = submit(f), alone[10];
    for (int i = 1; i <= 4; i++) {
        die(f, &(struct casualty){.id = id, .lease = lease_new(), .pays = true}, 1, alone);
        struct invocation row = row_of(f, id);
        cr_assert_eq(row.attempt, i);
        cr_assert_eq(row.status, i < 4 ? STATUS_QUEUED : STATUS_FAILED);
    }
    IS_OK(alter(f, ALTER_RETRY, id));
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM attempts"), 4, "the last attempt is kept too");
    struct waited w;
    started(&w, f, id, 5);
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
    check_counters(f);
}

STORE_TEST(an_unwritten_start_does_not_borrow_the_time_of_the_one_before)
{
    int64_t id = submit(f), alone[10];
    struct waited w;
    started(&w, f, id, 1);
    IS_OK(end(&w, f, FINISH_RETRY, STATUS_FAILED));
    die(f, &(struct casualty){.id = id, .lease = lease_new(), .pays = true}, 1, alone);
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM attempts WHERE attempt = 2 AND started_at IS NULL"), 1);
}

STORE_TEST(an_unwritten_start_has_the_time_that_the_casualty_brings)
{
    int64_t id = submit(f), alone[10];
    struct casualty casualty = {.id = id, .pays = true};
    for (int i = 1; i <= 4; i++) {
        casualty.lease = lease_new();
        casualty.started_at = 1000 * i;
        die(f, &casualty, 1, alone);
        cr_assert_eq(row_of(f, id).started_at, 1000 * i);
    }
    cr_assert_eq(status_of(f, id), STATUS_FAILED);
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM attempts WHERE started_at = 1000 * attempt"), 3);
}

STORE_TEST(a_written_start_keeps_its_own_time)
{
    int64_t id = submit(f), alone[10];
    struct waited w;
    started(&w, f, id, 1);
    int64_t started_at = row_of(f, id).started_at;
    die(f, &(struct casualty){.id = id, .lease = w.turn.lease, .started_at = 1000}, 1, alone);
    cr_assert_eq(row_of(f, id).started_at, started_at);
    cr_assert_eq(askf(f, "SELECT COUNT(*) FROM attempts WHERE started_at = %lld", (long long)started_at), 1);
}

/* The error read as after kill -9. */
STORE_TEST(the_error_says_how_it_brought_the_server_down)
{
    static const struct {
        bool marked;
        int signal;
        const char *error;
    } rows[] = {
        {true, SIGSEGV,
         "{\"type\":\"worker_crashed\",\"message\":\"it brought the server down with SIGSEGV\",\"signal\":11}"},
        {true, 0, "{\"type\":\"worker_crashed\",\"message\":\"it ended the server with exit()\"}"},
        {true, -1, "{\"type\":\"worker_crashed\",\"message\":\"it brought the server down\"}"},
        {false, 0, "{\"type\":\"worker_crashed\",\"message\":\"the server stopped while it ran\"}"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t id = submit(f), alone[10];
        struct casualty casualty = {.id = id, .pays = true, .marked = rows[i].marked, .signal = rows[i].signal};
        for (int attempt = 1; attempt <= 4; attempt++) {
            struct waited w;
            started(&w, f, id, attempt);
            casualty.lease = w.turn.lease;
            die(f, &casualty, 1, alone);
        }
        IS_SPAN(row_of(f, id).error, rows[i].error);
        cr_assert_eq(askf(f, "SELECT COUNT(*) FROM attempts WHERE id = %lld AND error = '%s'", (long long)id,
                          rows[i].error),
                     3, "%s", rows[i].error);
    }
}

STORE_TEST(a_bystander_counts_nothing_but_its_start)
{
    int64_t id = submit(f), alone[10];
    for (int i = 1; i <= 3; i++) {
        struct casualty casualty = {.id = id, .lease = lease_new(), .started_at = 1000 * i, .bystander = true};
        cr_assert_eq(die(f, &casualty, 1, alone), 0);
        struct invocation row = row_of(f, id);
        cr_assert_eq(row.status, STATUS_QUEUED);
        cr_assert_eq(row.attempt, i);
        cr_assert_eq(row.started_at, 1000 * i);
        cr_assert_eq(row.recoveries, 0);
    }
    cr_assert_eq(ask(f, "SELECT SUM(deaths) FROM invocations"), 0);
}

static void expect_log(struct fixture *f, int64_t id, int attempt, const char *text)
{
    struct buf log = {0};
    int64_t total;
    IS_OK(reader_log(f->reader, id, attempt, 0, -1, &log, &total));
    IS_SPAN(buf_span(&log), text);
    buf_release(&log);
}

STORE_TEST(what_is_left_of_a_log_follows_what_is_there)
{
    int64_t id = submit(f), alone[10];
    struct waited w;
    struct parked parked;
    started(&w, f, id, 1);
    struct log_chunk chunks[] = {{2, SPAN("one ")}, {1, SPAN("two ")}};
    struct op_log op = log_of(&w, 0, chunks, 2);
    park(&op.turn.op, &parked);
    store_queue(f->store, &op.turn.op);
    wait_parked(&parked);
    die(f, &(struct casualty){.id = id, .lease = w.turn.lease, .log = SPAN("three")}, 1, alone);
    die(f, &(struct casualty){.id = id, .lease = lease_new(), .log = SPAN("four")}, 1, alone);
    expect_log(f, id, 1, "one two three");
    expect_log(f, id, 2, "four");
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM logs WHERE stream = 2"), 3);
}

STORE_TEST(what_is_left_of_a_turn_that_lost_its_lease_is_not_stored)
{
    int64_t id = submit(f), alone[10];
    struct waited w;
    started(&w, f, id, 1);
    die(f, &(struct casualty){.id = id, .lease = w.turn.lease + 1, .log = SPAN("stale")}, 1, alone);
    expect_log(f, id, 0, "");
}

STORE_TEST(a_casualty_that_is_final_or_gone_changes_nothing)
{
    int64_t id = succeed(f, submit(f)), alone[10];
    struct casualty casualties[] = {{.id = id, .lease = 1, .pays = true},
                                    {.id = 4711, .lease = 2, .pays = true, .marked = true}};
    cr_assert_eq(die(f, casualties, 2, alone), 0);
    cr_assert_eq(status_of(f, id), STATUS_SUCCEEDED);
}

STORE_TEST(a_cancelled_one_does_not_run_again)
{
    int64_t id = submit(f), alone[10];
    struct waited w;
    started(&w, f, id, 1);
    IS_OK(alter(f, ALTER_CANCEL, id));
    die(f, &(struct casualty){.id = id, .lease = w.turn.lease}, 1, alone);
    cr_assert_eq(status_of(f, id), STATUS_CANCELLED);
    cr_assert(row_of(f, id).finished_at);
}

/* It became failed when its budget was spent, though it was to be cancelled. */
STORE_TEST(a_cancellation_wins_over_a_spent_budget)
{
    int64_t id = submit(f), alone[10];
    struct waited w;
    for (int i = 1; i <= 4; i++) {
        started(&w, f, id, i);
        if (i == 4)
            IS_OK(alter(f, ALTER_CANCEL, id));
        die(f, &(struct casualty){.id = id, .lease = w.turn.lease, .pays = true}, 1, alone);
    }
    cr_assert_eq(status_of(f, id), STATUS_CANCELLED);
}

static int no_recoveries(void *context, int task)
{
    (void)context;
    (void)task;
    return 0;
}

static void die_and_recover(struct fixture *f, const struct casualty *casualties, int count)
{
    fixture_shut(f);
    fixture_open(f);
    IS_OK(store_recover(f->store, casualties, count, no_recoveries, NULL));
    fixture_start(f);
}

/* A journal from before there were leases, a claim that was on its way. */
STORE_TEST(a_casualty_of_an_old_journal_counts)
{
    int64_t id = submit(f);
    struct casualty c = {.id = id, .attempt = 1, .pays = true};
    die_and_recover(f, &c, 1);
    cr_expect_eq(status_of(f, id), STATUS_FAILED, "it paid nothing: status %d", status_of(f, id));
}

/* Two casualties of one row, whose claims both are not written. */
STORE_TEST(of_two_casualties_of_one_row_the_one_that_pays_pays)
{
    for (int order = 0; order < 2; order++) {
        int64_t id = submit(f);
        struct waited w;
        started(&w, f, id, 1);
        IS_OK(end(&w, f, FINISH_REQUEUE, STATUS_QUEUED)); /* so that a lease stands in the row */
        struct casualty c[2] = {{.id = id, .lease = 77, .attempt = 2, .pays = order == 0},
                                {.id = id, .lease = 78, .attempt = 2, .pays = order == 1}};
        die_and_recover(f, c, 2);
        cr_expect_eq(status_of(f, id), STATUS_FAILED, "order %d: status %d", order, status_of(f, id));
    }
}
