#include "base/clock.h"
#include "tests/store/support.h"

STORE_TEST(what_waits_is_cancelled_at_once)
{
    struct submission s[2] = {plain(f), plain(f)};
    s[1].run_at = clock_now_ms() + 100000;
    submit_all(f, s, 2);
    for (int i = 0; i < 2; i++) {
        IS_OK(alter(f, ALTER_CANCEL, s[i].id));
        struct invocation row = row_of(f, s[i].id);
        cr_assert_eq(row.status, STATUS_CANCELLED);
        cr_assert(row.finished_at && row.cancel_requested_at);
    }
    struct waited w;
    waited_init(&w, f, s[0].id, 1);
    queue_claim(&w, f);
    cr_assert_eq(wait_claimed(&w), ERR_CONFLICT);
    check_counters(f);
}

STORE_TEST(what_runs_hears_of_its_cancellation_after_it_is_on_disk)
{
    int64_t id = submit(f);
    struct waited w;
    started(&w, f, id, 1);
    IS_OK(alter(f, ALTER_CANCEL, id));
    cr_assert(f->changes[f->change_count - 1].cancel);
    int64_t at = row_of(f, id).cancel_requested_at;
    cr_assert(at);
    IS_OK(alter(f, ALTER_CANCEL, id));
    cr_assert_eq(row_of(f, id).cancel_requested_at, at, "the first request counts");
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_CANCELLED));
    cr_assert_eq(status_of(f, id), STATUS_CANCELLED);
    check_counters(f);
}

STORE_TEST(a_cancellation_wins_over_a_retry_a_failure_and_a_requeue)
{
    static const struct {
        enum finish_next next;
        enum status status, becomes;
    } rows[] = {
        {FINISH_RETRY, STATUS_FAILED, STATUS_CANCELLED},
        {FINISH_FINAL, STATUS_FAILED, STATUS_CANCELLED},
        {FINISH_REQUEUE, STATUS_CANCELLED, STATUS_CANCELLED},
        {FINISH_FINAL, STATUS_SUCCEEDED, STATUS_SUCCEEDED},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t id = submit(f);
        struct waited w;
        started(&w, f, id, 1);
        IS_OK(alter(f, ALTER_CANCEL, id));
        IS_OK(end(&w, f, rows[i].next, rows[i].status));
        cr_assert_eq(status_of(f, id), rows[i].becomes, "row %zu", i);
    }
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM errors"), 0);
    check_counters(f);
}

STORE_TEST(cancelling_what_is_final_changes_nothing_and_is_no_error)
{
    int64_t id = succeed(f, submit(f));
    struct op_alter op;
    op_alter_init(&op, ALTER_CANCEL, &id, 1);
    IS_OK(store_do(f->store, &op.op));
    cr_assert_eq(op.changed, 0);
    cr_assert_eq(op.status, STATUS_SUCCEEDED);
    cr_assert_eq(alter(f, ALTER_CANCEL, 12345), ERR_NOT_FOUND);
}

STORE_TEST(retry_takes_failed_and_cancelled_and_renews_the_budgets)
{
    struct submission s = plain(f);
    s.expires_at = clock_now_ms() + 1000000;
    s.max_retries = 1;
    submit_all(f, &s, 1);
    struct waited w;
    started(&w, f, s.id, 1);
    IS_OK(end(&w, f, FINISH_RETRY, STATUS_FAILED));
    started(&w, f, s.id, 2);
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_FAILED));
    IS_OK(alter(f, ALTER_RETRY, s.id));
    struct invocation row = row_of(f, s.id);
    cr_assert_eq(row.status, STATUS_QUEUED);
    cr_assert_eq(row.failures, 0);
    cr_assert_eq(row.attempt, 2, "attempts count on");
    cr_assert_eq(row.expires_at, 0);
    cr_assert_eq(row.finished_at, 0);
    cr_assert_null(row.error.p);
    cr_assert_eq(askf(f, "SELECT COUNT(*) FROM attempts WHERE id = %lld", (long long)s.id), 2);
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM errors"), 0);
    cr_assert_eq(f->changes[f->change_count - 1].ready.attempt, 2);
    IS_OK(alter(f, ALTER_CANCEL, s.id));
    IS_OK(alter(f, ALTER_RETRY, s.id));
    cr_assert_eq(row_of(f, s.id).cancel_requested_at, 0);
    started(&w, f, s.id, 3);
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
    cr_assert_eq(alter(f, ALTER_RETRY, s.id), ERR_CONFLICT);
    cr_assert_eq(alter(f, ALTER_RETRY, submit(f)), ERR_CONFLICT);
    check_counters(f);
}

STORE_TEST(patch_moves_between_scheduled_and_queued)
{
    int64_t id = submit(f);
    struct op_alter op;
    op_alter_init(&op, ALTER_PATCH, &id, 1);
    op.set_priority = true;
    op.priority = 99;
    op.set_run_at = true;
    op.run_at = clock_now_ms() + 100000;
    IS_OK(store_do(f->store, &op.op));
    struct invocation row = row_of(f, id);
    cr_assert_eq(row.status, STATUS_SCHEDULED);
    cr_assert_eq(row.priority, 99);
    cr_assert_eq(row.run_at, op.run_at);
    const struct change *change = &f->changes[f->change_count - 1];
    cr_assert_eq(change->old_priority, 1);
    cr_assert_eq(change->due_at, op.run_at);
    op_alter_init(&op, ALTER_PATCH, &id, 1);
    op.set_run_at = true;
    IS_OK(store_do(f->store, &op.op));
    row = row_of(f, id);
    cr_assert_eq(row.status, STATUS_QUEUED);
    cr_assert_eq(row.run_at, 0);
    cr_assert_eq(row.priority, 99, "what is not set stays");
    struct waited w;
    started(&w, f, id, 1);
    cr_assert_eq(store_do(f->store, &op.op), ERR_CONFLICT);
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
    cr_assert_eq(store_do(f->store, &op.op), ERR_CONFLICT);
    check_counters(f);
}

STORE_TEST(delete_takes_final_ones_with_all_that_is_theirs)
{
    static char large[3000];
    memset(large, '1', sizeof large);
    struct submission s = plain(f);
    s.args = (struct span){large, sizeof large};
    s.labels = SPAN("{\"a\":\"b\"}");
    submit_all(f, &s, 1);
    cr_assert_eq(alter(f, ALTER_DELETE, s.id), ERR_CONFLICT);
    struct waited w;
    started(&w, f, s.id, 1);
    struct log_chunk chunk = {1, SPAN("x")};
    w.finish.log = &chunk;
    w.finish.log_count = 1;
    IS_OK(end(&w, f, FINISH_RETRY, STATUS_FAILED));
    started(&w, f, s.id, 2);
    cr_assert_eq(alter(f, ALTER_DELETE, s.id), ERR_CONFLICT);
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_FAILED));
    IS_OK(alter(f, ALTER_DELETE, s.id));
    cr_assert_eq(f->changes[f->change_count - 1].to, 0);
    struct invocation row;
    cr_assert_eq(reader_get(f->reader, s.id, VIEW_BASIC, &row), ERR_NOT_FOUND);
    cr_assert_eq(alter(f, ALTER_DELETE, s.id), ERR_NOT_FOUND);
    check_counters(f);
}

STORE_TEST(many_ids_have_an_outcome_each)
{
    int64_t ids[4] = {submit(f), succeed(f, submit(f)), 99, fail_for_good(f, submit(f))};
    enum err errs[4];
    struct op_alter op;
    op_alter_init(&op, ALTER_RETRY, ids, 4);
    op.errs = errs;
    IS_OK(store_do(f->store, &op.op));
    cr_assert_eq(op.changed, 1);
    cr_assert_eq(errs[0], ERR_CONFLICT);
    cr_assert_eq(errs[1], ERR_CONFLICT);
    cr_assert_eq(errs[2], ERR_NOT_FOUND);
    cr_assert_eq(errs[3], OK);
    check_counters(f);
}

STORE_TEST(pauses_are_kept)
{
    struct op_pause op;
    op_pause_init(&op, f->task, true);
    IS_OK(store_do(f->store, &op.op));
    op_pause_init(&op, 0, true);
    IS_OK(store_do(f->store, &op.op));
    op_pause_init(&op, 999, true);
    cr_assert_eq(store_do(f->store, &op.op), ERR_NOT_FOUND);
    for (int round = 0; round < 2; round++) {
        bool paused;
        int64_t counts[STATUS_SLOTS];
        cr_assert(store_task_counts(f->store, f->task, &paused, counts) && paused);
        cr_assert(store_task_counts(f->store, f->other, &paused, counts) && !paused);
        cr_assert(store_paused(f->store));
        fixture_again(f);
    }
    op_pause_init(&op, 0, false);
    IS_OK(store_do(f->store, &op.op));
    fixture_again(f);
    cr_assert(!store_paused(f->store));
}
