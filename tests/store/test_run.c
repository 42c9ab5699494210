#include "base/clock.h"
#include "tests/store/support.h"

#include <stdio.h>

STORE_TEST(a_claim_and_a_finish_in_two_batches)
{
    int64_t id = submit(f);
    struct waited w;
    started(&w, f, id, 1);
    struct invocation row = row_of(f, id);
    cr_assert_eq(row.status, STATUS_RUNNING);
    cr_assert_eq(row.attempt, 1);
    cr_assert_eq(row.started_at, w.claim.started_at);
    IS_SPAN(row.worker, "slot-1");
    w.finish.result = SPAN("{\"n\": 1.10}");
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
    row = row_of(f, id);
    cr_assert_eq(row.status, STATUS_SUCCEEDED);
    cr_assert_eq(row.finished_at, w.finish.finished_at);
    IS_SPAN(row.result, "{\"n\": 1.10}");
    cr_assert_eq(f->change_count, 3);
    cr_assert_eq(f->changes[2].prune_at, w.finish.finished_at + 86400000);
    check_counters(f);
}

STOPPED_TEST(a_claim_and_a_finish_in_one_batch_are_one_write)
{
    struct submission s = plain(f);
    struct op_submit op;
    struct parked parked;
    op_submit_init(&op, &s, 1);
    park(&op.op, &parked);
    fixture_start(f);
    store_queue(f->store, &op.op);
    wait_parked(&parked);
    store_stop(f->store);
    fixture_shut(f);
    fixture_open(f); /* not started: what follows comes in one batch */
    f->change_count = 0;
    struct waited w;
    waited_init(&w, f, s.id, 1);
    queue_claim(&w, f);
    w.finish.result = SPAN("[7]");
    queue_finish(&w, f);
    fixture_start(f);
    IS_OK(wait_claimed(&w));
    IS_OK(wait_finished(&w));
    cr_assert_eq(f->change_count, 1);
    cr_assert_eq(f->changes[0].from, STATUS_QUEUED);
    cr_assert_eq(f->changes[0].to, STATUS_SUCCEEDED);
    struct invocation row = row_of(f, s.id);
    cr_assert_eq(row.attempt, 1);
    cr_assert_eq(row.started_at, w.claim.started_at);
    IS_SPAN(row.result, "[7]");
    IS_SPAN(row.worker, "slot-1");
    check_counters(f);
}

/* From a done() the queue is not yet taken again: claim and finish meet. */
static struct waited *meeting;
static struct fixture *meeting_in;

static void claim_and_finish(struct op *op)
{
    struct parked *parked = op->owner;
    queue_claim(meeting, meeting_in);
    queue_finish(meeting, meeting_in);
    sem_post(&parked->done);
}

STORE_TEST(a_failure_that_meets_its_claim_is_retried_and_its_attempt_kept)
{
    struct submission s = plain(f);
    s.max_retries = 1;
    submit_all(f, &s, 1);
    struct waited w;
    waited_init(&w, f, s.id, 1);
    w.finish.next = FINISH_RETRY;
    w.finish.status = STATUS_FAILED;
    w.finish.run_at = clock_now_ms() + 60000;
    set_error(&w, "{\"type\":\"boom\"}", "boom");
    meeting = &w;
    meeting_in = f;
    struct op_pause op;
    struct parked parked;
    op_pause_init(&op, f->task, false);
    park(&op.op, &parked);
    op.op.done = claim_and_finish;
    store_queue(f->store, &op.op);
    wait_parked(&parked);
    IS_OK(wait_finished(&w));
    struct invocation row = row_of(f, s.id);
    cr_assert_eq(row.status, STATUS_SCHEDULED);
    cr_assert_eq(row.attempt, 1);
    cr_assert_eq(row.failures, 1);
    cr_assert_eq(row.run_at, w.finish.run_at);
    cr_assert_eq(askf(f, "SELECT COUNT(*) FROM attempts WHERE id = %lld AND attempt = 1", (long long)s.id), 1);
    check_counters(f);
}

STOPPED_TEST(a_claim_and_a_finish_of_what_is_gone_are_conflicts)
{
    fixture_start(f);
    int64_t id = submit(f);
    IS_OK(alter(f, ALTER_CANCEL, id));
    fixture_shut(f);
    fixture_open(f);
    struct waited w;
    waited_init(&w, f, id, 1);
    queue_claim(&w, f);
    queue_finish(&w, f);
    fixture_start(f);
    cr_assert_eq(wait_claimed(&w), ERR_CONFLICT);
    cr_assert_eq(wait_finished(&w), ERR_CONFLICT);
    cr_assert_eq(status_of(f, id), STATUS_CANCELLED);
    check_counters(f);
}

STORE_TEST(a_stale_attempt_changes_nothing)
{
    int64_t id = submit(f);
    struct waited first, second, stale;
    started(&first, f, id, 1);
    waited_init(&stale, f, id, 1);
    queue_claim(&stale, f);
    cr_assert_eq(wait_claimed(&stale), ERR_CONFLICT, "it runs already");
    IS_OK(end(&first, f, FINISH_RETRY, STATUS_FAILED));
    waited_init(&stale, f, id, 1);
    queue_claim(&stale, f);
    cr_assert_eq(wait_claimed(&stale), ERR_CONFLICT, "the first attempt was");
    started(&second, f, id, 2);
    waited_init(&stale, f, id, 1);
    cr_assert_eq(end(&stale, f, FINISH_FINAL, STATUS_SUCCEEDED), ERR_CONFLICT);
    cr_assert_eq(end(&stale, f, FINISH_RETRY, STATUS_FAILED), ERR_CONFLICT);
    cr_assert_eq(end(&stale, f, FINISH_REQUEUE, STATUS_FAILED), ERR_CONFLICT);
    struct op_progress progress = progress_of(&stale, 0.5, (struct span){NULL, 0});
    cr_assert_eq(store_do(f->store, &progress.turn.op), ERR_CONFLICT);
    struct log_chunk chunk = {1, SPAN("late")};
    struct op_log log = log_of(&stale, 0, &chunk, 1);
    cr_assert_eq(store_do(f->store, &log.turn.op), ERR_CONFLICT);
    cr_assert_eq(status_of(f, id), STATUS_RUNNING);
    IS_OK(end(&second, f, FINISH_FINAL, STATUS_SUCCEEDED));
    cr_assert_eq(end(&stale, f, FINISH_FINAL, STATUS_FAILED), ERR_CONFLICT);
    cr_assert_eq(status_of(f, id), STATUS_SUCCEEDED);
    check_counters(f);
}

/* A log that came after its invocation was deleted stayed for ever. */
STORE_TEST(a_log_of_what_was_deleted_leaves_nothing)
{
    struct waited w;
    int64_t id = submit(f);
    started(&w, f, id, 1);
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
    IS_OK(alter(f, ALTER_DELETE, id));
    struct log_chunk chunk = {1, SPAN("late")};
    struct op_log log = log_of(&w, 0, &chunk, 1);
    cr_assert_eq(store_do(f->store, &log.turn.op), ERR_CONFLICT);
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM logs"), 0);
}

struct attempts_seen {
    int count;
    struct attempt_row rows[10];
    char errors[10][100];
};

static void see_attempt(void *context, const struct attempt_row *row)
{
    struct attempts_seen *seen = context;
    seen->rows[seen->count] = *row;
    snprintf(seen->errors[seen->count], 100, "%.*s", (int)row->error.len, row->error.p ? row->error.p : "");
    seen->count++;
}

STORE_TEST(retries_keep_their_attempts_with_their_errors)
{
    struct submission s = plain(f);
    s.max_retries = 2;
    submit_all(f, &s, 1);
    struct waited w;
    started(&w, f, s.id, 1);
    set_error(&w, "{\"type\":\"one\"}", "one");
    w.finish.run_at = clock_now_ms() + 20;
    IS_OK(end(&w, f, FINISH_RETRY, STATUS_FAILED));
    cr_assert_eq(status_of(f, s.id), STATUS_SCHEDULED);
    cr_assert_eq(f->changes[f->change_count - 1].due_at, w.finish.run_at);
    while (status_of(f, s.id) == STATUS_SCHEDULED)
        upkeep(f, UPKEEP_PROMOTE);
    const struct change *promoted = &f->changes[f->change_count - 1];
    cr_assert_eq(promoted->ready.failures, 1);
    cr_assert_eq(promoted->ready.attempt, 1);
    started(&w, f, s.id, 2);
    set_error(&w, "{\"type\":\"two\"}", "two");
    IS_OK(end(&w, f, FINISH_RETRY, STATUS_FAILED));
    cr_assert_eq(status_of(f, s.id), STATUS_QUEUED, "without run_at at once");
    started(&w, f, s.id, 3);
    struct attempts_seen seen = {0};
    IS_OK(reader_attempts(f->reader, s.id, see_attempt, &seen));
    cr_assert_eq(seen.count, 3);
    cr_assert_eq(seen.rows[2].status, STATUS_RUNNING);
    set_error(&w, "{\"type\":\"three\"}", "three");
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_FAILED));
    seen = (struct attempts_seen){0};
    IS_OK(reader_attempts(f->reader, s.id, see_attempt, &seen));
    static const char *const errors[] = {"{\"type\":\"one\"}", "{\"type\":\"two\"}", "{\"type\":\"three\"}"};
    cr_assert_eq(seen.count, 3);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(seen.rows[i].attempt, i + 1);
        cr_assert_eq(seen.rows[i].status, STATUS_FAILED);
        cr_assert_str_eq(seen.errors[i], errors[i]);
    }
    cr_assert_eq(reader_attempts(f->reader, 1, see_attempt, &seen), ERR_NOT_FOUND);
    struct invocation row = row_of(f, s.id);
    cr_assert_eq(row.failures, 2, "the last failure spends nothing");
    check_counters(f);
}

STORE_TEST(closing_requeues_without_a_budget_paying)
{
    int64_t id = submit(f);
    struct waited w;
    started(&w, f, id, 1);
    IS_OK(end(&w, f, FINISH_REQUEUE, STATUS_CANCELLED));
    struct invocation row = row_of(f, id);
    cr_assert_eq(row.status, STATUS_QUEUED);
    cr_assert_eq(row.failures, 0);
    cr_assert_eq(row.recoveries, 0);
    cr_assert_eq(row.attempt, 1);
    cr_assert_null(row.worker.p);
    started(&w, f, id, 2);
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
    check_counters(f);
}

STORE_TEST(progress_is_seen_and_forgotten_with_the_attempt)
{
    int64_t id = submit(f);
    struct waited w;
    started(&w, f, id, 1);
    uint64_t before = store_version(f->store);
    struct op_progress op = progress_of(&w, 0.25, SPAN("a quarter"));
    IS_OK(store_do(f->store, &op.turn.op));
    cr_assert_gt(store_version(f->store), before);
    struct invocation row = row_of(f, id);
    cr_assert(row.has_progress && row.progress == 0.25);
    IS_SPAN(row.progress_note, "a quarter");
    IS_OK(end(&w, f, FINISH_RETRY, STATUS_FAILED));
    cr_assert(!row_of(f, id).has_progress);
}

static void write_log(struct fixture *f, const struct waited *w, int64_t number, int stream, const char *text)
{
    struct log_chunk chunk = {stream, span_of(text)};
    struct op_log op = log_of(w, number, &chunk, 1);
    IS_OK(store_do(f->store, &op.turn.op));
}

STORE_TEST(a_log_is_one_run_of_bytes_whatever_its_pieces)
{
    int64_t id = submit(f);
    struct waited w;
    started(&w, f, id, 1);
    write_log(f, &w, 0, 1, "hello ");
    write_log(f, &w, 1, 2, "wor");
    write_log(f, &w, 2, 1, "ld");
    struct log_chunk last = {2, SPAN("!\n")};
    w.finish.log = &last;
    w.finish.log_count = 1;
    w.finish.log_from = 3;
    IS_OK(end(&w, f, FINISH_RETRY, STATUS_FAILED));
    started(&w, f, id, 2);
    write_log(f, &w, 0, 1, "again");
    static const char whole[] = "hello world!\nagain";
    int64_t size = (int64_t)strlen(whole), total;
    struct buf out = {0};
    for (int64_t from = 0; from <= size + 1; from++)
        for (int64_t limit = 0; limit <= size + 1; limit++) {
            out.len = 0;
            IS_OK(reader_log(f->reader, id, 0, from, limit, &out, &total));
            int64_t expected = from >= size ? 0 : limit < size - from ? limit : size - from;
            cr_assert_eq(total, size);
            cr_assert_eq((int64_t)out.len, expected);
            cr_assert(expected == 0 || memcmp(out.data, whole + from, out.len) == 0);
        }
    out.len = 0;
    IS_OK(reader_log(f->reader, id, 2, 1, 100, &out, &total));
    IS_SPAN(buf_span(&out), "gain");
    cr_assert_eq(total, 5);
    int64_t seq = 0;
    out.len = 0;
    IS_OK(reader_log_after(f->reader, id, 0, &seq, 1, &out));
    IS_SPAN(buf_span(&out), "hello ");
    IS_OK(reader_log_after(f->reader, id, 0, &seq, 1000, &out));
    IS_SPAN(buf_span(&out), whole);
    IS_OK(reader_log_after(f->reader, id, 0, &seq, 1000, &out));
    IS_SPAN(buf_span(&out), whole);
    write_log(f, &w, 1, 1, "+");
    out.len = 0;
    IS_OK(reader_log_after(f->reader, id, 2, &seq, 1000, &out));
    IS_SPAN(buf_span(&out), "+");
    buf_release(&out);
}

/* Numbers of dropped pieces came again, so that who followed missed the rest. */
STORE_TEST(a_follower_misses_nothing_when_stdout_is_dropped)
{
    int64_t id = submit(f);
    struct waited w;
    started(&w, f, id, 1);
    write_log(f, &w, 0, 1, "result");
    write_log(f, &w, 1, 1, "result");
    int64_t seq = 0, total;
    struct buf out = {0};
    IS_OK(reader_log_after(f->reader, id, 0, &seq, 1000, &out));
    struct log_chunk last = {2, SPAN("warning\n")};
    w.finish.log = &last;
    w.finish.log_count = 1;
    w.finish.log_from = 2;
    w.finish.drop_stdout = true;
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
    out.len = 0;
    IS_OK(reader_log_after(f->reader, id, 0, &seq, 1000, &out));
    IS_SPAN(buf_span(&out), "warning\n");
    out.len = 0;
    IS_OK(reader_log(f->reader, id, 0, 0, 1000, &out, &total));
    IS_SPAN(buf_span(&out), "warning\n");
    buf_release(&out);
}

/* The committer lingered over a claim, a caller took it along with its own op,
 * and the committer, which found nothing, took that for the end. */
STORE_TEST(what_has_started_does_not_expire_any_more)
{
    struct submission s = plain(f);
    s.expires_at = clock_now_ms() + 3600000;
    submit_all(f, &s, 1);
    struct waited w;
    waited_init(&w, f, s.id, 1);
    started(&w, f, s.id, 1);
    w.finish.finished_at = clock_now_ms();
    w.finish.run_at = clock_now_ms() + 7200000;
    IS_OK(end(&w, f, FINISH_RETRY, STATUS_FAILED));
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM invocations WHERE status = 1 AND expires_at IS NULL"), 1);
}

static void spin(int64_t us)
{
    for (int64_t until = clock_mono_us() + us; clock_mono_us() < until;)
        ;
}

STORE_TEST(a_caller_that_takes_a_claim_along_does_not_end_the_committer)
{
    for (int i = 0; i < 8; i++) { /* later, commits here may be known as too slow for the caller's thread */
        struct waited w;
        waited_init(&w, f, submit(f), 1);
        queue_claim(&w, f);
        spin(150); /* it lingers by now */
        struct submission s = plain(f);
        struct op_submit op;
        struct parked parked;
        op_submit_init(&op, &s, 1);
        park(&op.op, &parked);
        if (!store_queue_alone(f->store, &op.op))
            wait_parked(&parked);
        IS_OK(op.op.err);
        IS_OK(wait_claimed(&w));
        spin(1000); /* and has lingered long enough */
        IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
    }
}

STORE_TEST(ops_after_stop_are_answered)
{
    store_stop(f->store);
    struct submission s = plain(f);
    struct op_submit op;
    struct parked parked;
    op_submit_init(&op, &s, 1);
    park(&op.op, &parked);
    cr_assert(!store_queue_alone(f->store, &op.op));
    wait_parked(&parked);
    cr_assert_eq(op.op.err, ERR_UNAVAILABLE);
    struct waited w;
    waited_init(&w, f, 1, 1);
    cr_assert_eq(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED), ERR_UNAVAILABLE);
}
