/* A turn is a lease: who does not have it changes nothing, who has it may say
 * the same thing twice, and a fault is not a lost lease. */
#include "base/clock.h"
#include "tests/store/support.h"

/* A claim that was refused, whose body went on, ended under the number of the
 * next one: its result was written over that one's. */
STORE_TEST(a_stale_run_does_not_end_the_next_one)
{
    int64_t id = submit(f);
    struct waited stale, second;
    waited_init(&stale, f, id, 1);
    waited_init(&second, f, id, 1);
    IS_OK(alter(f, ALTER_CANCEL, id));
    queue_claim(&stale, f);
    cr_assert_eq(wait_claimed(&stale), ERR_CONFLICT);
    IS_OK(alter(f, ALTER_RETRY, id));
    started(&second, f, id, 1);
    stale.finish.result = SPAN("\"of the first\"");
    cr_assert_eq(end(&stale, f, FINISH_FINAL, STATUS_SUCCEEDED), ERR_CONFLICT);
    second.finish.result = SPAN("\"of the second\"");
    IS_OK(end(&second, f, FINISH_FINAL, STATUS_SUCCEEDED));
    IS_SPAN(row_of(f, id).result, "\"of the second\"");
    cr_assert_eq(end(&stale, f, FINISH_FINAL, STATUS_FAILED), ERR_CONFLICT);
    cr_assert_eq(status_of(f, id), STATUS_SUCCEEDED);
    check_counters(f);
}

STORE_TEST(leases_are_random_and_never_nothing)
{
    (void)f;
    int64_t all[1000];
    for (int i = 0; i < 1000; i++) {
        all[i] = lease_new();
        cr_assert_neq(all[i], 0);
        for (int k = 0; k < i; k++)
            cr_assert_neq(all[i], all[k]);
    }
}

static enum err again(struct waited *w, struct fixture *f, bool claim)
{
    if (claim) {
        queue_claim(w, f);
        return wait_claimed(w);
    }
    queue_finish(w, f);
    return wait_finished(w);
}

/* A commit whose outcome is not known is tried again as a whole. */
STORE_TEST(what_was_written_already_is_written_once)
{
    static const struct {
        const char *name;
        enum finish_next next;
        enum status status, becomes;
        bool large;
    } rows[] = {
        {"succeeded", FINISH_FINAL, STATUS_SUCCEEDED, STATUS_SUCCEEDED, false},
        {"with a large result", FINISH_FINAL, STATUS_SUCCEEDED, STATUS_SUCCEEDED, true},
        {"failed", FINISH_FINAL, STATUS_FAILED, STATUS_FAILED, false},
        {"cancelled", FINISH_FINAL, STATUS_CANCELLED, STATUS_CANCELLED, false},
        {"to be retried", FINISH_RETRY, STATUS_FAILED, STATUS_QUEUED, false},
        {"interrupted", FINISH_REQUEUE, STATUS_CANCELLED, STATUS_QUEUED, false},
    };
    static char large[3000];
    memset(large, '7', sizeof large);
    struct log_chunk chunks[] = {{1, SPAN("one ")}, {2, SPAN("two")}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t id = submit(f), total;
        struct waited w;
        struct buf out = {0};
        started(&w, f, id, 1);
        cr_expect_eq(again(&w, f, true), OK, "%s: the claim", rows[i].name);
        struct op_log log = log_of(&w, 0, chunks, 2);
        IS_OK(store_do(f->store, &log.turn.op));
        cr_expect_eq(store_do(f->store, &log.turn.op), OK, "%s: the log", rows[i].name);
        struct log_chunk last = {1, SPAN(" three")};
        w.finish.log = &last;
        w.finish.log_count = 1;
        w.finish.log_from = 2;
        w.finish.result = rows[i].large ? (struct span){large, sizeof large} : SPAN("1");
        IS_OK(end(&w, f, rows[i].next, rows[i].status));
        cr_expect_eq(again(&w, f, true), OK, "%s: the claim, after the end", rows[i].name);
        cr_expect_eq(again(&w, f, false), OK, "%s: the end", rows[i].name);
        struct invocation row = row_of(f, id);
        cr_expect_eq(row.status, rows[i].becomes, "%s", rows[i].name);
        cr_expect_eq(row.attempt, 1);
        cr_expect_eq(row.failures, rows[i].next == FINISH_RETRY);
        IS_OK(reader_log(f->reader, id, 0, 0, 1000, &out, &total));
        IS_SPAN(buf_span(&out), "one two three");
        buf_release(&out);
        cr_expect_eq(askf(f, "SELECT COUNT(*) FROM attempts WHERE id = %lld", (long long)id),
                     rows[i].becomes == STATUS_QUEUED);
        check_counters(f);
    }
}

/* A body that could not begin was no attempt: what it would have cost it costs later. */
STORE_TEST(what_never_began_is_queued_as_it_was)
{
    struct submission s = plain(f);
    s.expires_at = clock_now_ms() + 3600000;
    submit_all(f, &s, 1);
    int64_t id = s.id;
    struct waited w;
    for (int i = 0; i < 3; i++) {
        started(&w, f, id, 1);
        IS_OK(end(&w, f, FINISH_UNSTARTED, STATUS_QUEUED));
        cr_expect_eq(again(&w, f, false), OK);
        struct invocation row = row_of(f, id);
        cr_expect_eq(row.status, STATUS_QUEUED);
        cr_expect_eq(row.attempt, 0);
        cr_expect_eq(row.failures, 0);
        cr_expect_eq(row.started_at, 0);
        cr_expect_eq(row.expires_at, s.expires_at, "it has not started, so it may expire");
        cr_expect_eq(askf(f, "SELECT COUNT(*) FROM attempts WHERE id = %lld", (long long)id), 0);
        check_counters(f);
    }
    started(&w, f, id, 1);
    IS_OK(alter(f, ALTER_CANCEL, id));
    IS_OK(end(&w, f, FINISH_UNSTARTED, STATUS_QUEUED));
    cr_expect_eq(status_of(f, id), STATUS_CANCELLED);
    check_counters(f);
}

/* Two holders of one token, or one that changed its mind: the first word counts. */
STORE_TEST(another_end_of_the_same_turn_is_refused)
{
    static char large[3000], other[3000];
    memset(large, '7', sizeof large);
    memset(other, '8', sizeof other);
    const struct span results[] = {SPAN("1"), SPAN("2"), {large, sizeof large}, {other, sizeof other}};
    for (int i = 0; i < 4; i++) {
        struct waited w;
        started(&w, f, submit(f), 1);
        w.finish.result = results[i];
        IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
        for (int k = 0; k < 4; k++) {
            w.finish.result = results[k];
            cr_expect_eq(again(&w, f, false), k == i ? OK : ERR_CONFLICT, "%d after %d", k, i);
        }
        set_error(&w, "{\"type\":\"late\"}", "late");
        cr_expect_eq(end(&w, f, FINISH_FINAL, STATUS_FAILED), ERR_CONFLICT);
    }
    static const enum finish_next nexts[] = {FINISH_FINAL, FINISH_RETRY};
    for (int i = 0; i < 2; i++) {
        struct waited w;
        started(&w, f, submit(f), 1);
        set_error(&w, "{\"type\":\"a\"}", "a");
        IS_OK(end(&w, f, nexts[i], STATUS_FAILED));
        cr_expect_eq(end(&w, f, nexts[i], STATUS_FAILED), OK);
        set_error(&w, "{\"type\":\"b\"}", "b");
        cr_expect_eq(end(&w, f, nexts[i], STATUS_FAILED), ERR_CONFLICT);
    }
}

/* ... and then whoever came in between is not undone. */
STORE_TEST(an_end_that_comes_again_after_a_retry_changes_nothing)
{
    int64_t id = submit(f);
    struct waited w, next;
    started(&w, f, id, 1);
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_FAILED));
    IS_OK(alter(f, ALTER_RETRY, id));
    cr_assert_eq(again(&w, f, false), ERR_CONFLICT, "nothing there says so any more");
    cr_assert_eq(status_of(f, id), STATUS_QUEUED);
    started(&next, f, id, 2);
    cr_assert_eq(again(&w, f, false), ERR_CONFLICT, "another has the lease now");
    IS_OK(end(&next, f, FINISH_FINAL, STATUS_SUCCEEDED));
    check_counters(f);
}

STORE_TEST(whose_lease_was_taken_away_is_not_told_that_it_ended_well)
{
    int64_t id = submit(f);
    struct waited w;
    started(&w, f, id, 1);
    fixture_shut(f);
    fixture_open(f);
    IS_OK(store_recover(f->store, NULL, 0, NULL, NULL));
    fixture_start(f);
    cr_assert_eq(status_of(f, id), STATUS_QUEUED);
    cr_assert_eq(again(&w, f, false), ERR_CONFLICT);
    cr_assert_eq(status_of(f, id), STATUS_QUEUED);
    cr_assert_eq(row_of(f, id).attempt, 1);
    check_counters(f);
}

/* --- a claim believes what its body was told ---------------------------------------- */

STORE_TEST(a_claim_that_believes_what_is_not_so_is_refused_and_the_row_told_again)
{
    int64_t id = submit(f);
    struct waited w;
    waited_init(&w, f, id, 2); /* its body would be told that it is the second */
    f->change_count = 0;
    queue_claim(&w, f);
    cr_assert_eq(wait_claimed(&w), ERR_CONFLICT);
    cr_assert_eq(status_of(f, id), STATUS_QUEUED);
    cr_assert_eq(f->change_count, 1, "who hands out work would never hear of it again");
    cr_assert_eq(f->changes[0].from, STATUS_QUEUED);
    cr_assert_eq(f->changes[0].to, STATUS_QUEUED);
    cr_assert_eq(f->changes[0].ready.id, id);
    waited_init(&w, f, id, 1);
    w.claim.failures = 1;
    queue_claim(&w, f);
    cr_assert_eq(wait_claimed(&w), ERR_CONFLICT);
    started(&w, f, id, 1);
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
    check_counters(f);
}

/* --- what follows ------------------------------------------------------------------------ */

STORE_TEST(an_end_looks_only_where_something_follows)
{
    static const struct {
        const char *name;
        enum finish_next next;
        enum status status, becomes;
    } rows[] = {
        {"a success stays one", FINISH_FINAL, STATUS_SUCCEEDED, STATUS_SUCCEEDED},
        {"a failure does not", FINISH_FINAL, STATUS_FAILED, STATUS_CANCELLED},
        {"nor one to be retried", FINISH_RETRY, STATUS_FAILED, STATUS_CANCELLED},
        {"nor an interruption", FINISH_REQUEUE, STATUS_QUEUED, STATUS_CANCELLED},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t id = submit(f);
        struct waited w;
        started(&w, f, id, 1);
        cr_assert_eq(askf(f, "SELECT follow FROM invocations WHERE id = %lld", (long long)id), 0);
        IS_OK(alter(f, ALTER_CANCEL, id));
        cr_assert_eq(askf(f, "SELECT follow FROM invocations WHERE id = %lld", (long long)id), 1);
        IS_OK(end(&w, f, rows[i].next, rows[i].status));
        cr_expect_eq(status_of(f, id), rows[i].becomes, "%s", rows[i].name);
        cr_expect_eq(askf(f, "SELECT follow FROM invocations WHERE id = %lld", (long long)id), 0);
        cr_expect_eq(askf(f, "SELECT COUNT(*) FROM errors WHERE id = %lld", (long long)id), 0);
    }
    check_counters(f);
}

/* FOLLOW_LEASE stays when a leased turn ends for now. */
STORE_TEST(a_retried_turn_leaves_nothing_to_follow)
{
    static const enum finish_next nexts[] = {FINISH_RETRY, FINISH_REQUEUE};
    for (int i = 0; i < 2; i++) {
        int64_t id = submit(f);
        struct waited w;
        waited_init(&w, f, id, 1);
        w.claim.lease_until = clock_now_ms() + 60000;
        queue_claim(&w, f);
        IS_OK(wait_claimed(&w));
        IS_OK(end(&w, f, nexts[i], STATUS_FAILED));
        cr_expect_eq(status_of(f, id), STATUS_QUEUED);
        cr_expect_eq(askf(f, "SELECT follow FROM invocations WHERE id = %lld", (long long)id), 0, "follow is %lld",
                     (long long)askf(f, "SELECT follow FROM invocations WHERE id = %lld", (long long)id));
    }
}

/* --- faults --------------------------------------------------------------------------------- */

/* A violated constraint in a finish read as "the lease was lost". */
STORE_TEST(a_fault_in_an_end_is_no_lost_lease)
{
    if (strcmp(f->driver, "sqlite") != 0)
        return;
    int64_t id = submit(f);
    struct waited w;
    started(&w, f, id, 1);
    exec_sql(f, "CREATE TRIGGER fault BEFORE INSERT ON errors BEGIN SELECT RAISE(ABORT, 'a fault'); END");
    cr_assert_eq(end(&w, f, FINISH_FINAL, STATUS_FAILED), ERR_DB);
    cr_assert_eq(status_of(f, id), STATUS_RUNNING, "nothing of it was written");
    check_counters(f);
    exec_sql(f, "DROP TRIGGER fault");
    IS_OK(again(&w, f, false));
    cr_assert_eq(status_of(f, id), STATUS_FAILED);
    check_counters(f);
}

STORE_TEST(a_fault_in_one_write_of_two_does_not_lose_the_other)
{
    if (strcmp(f->driver, "sqlite") != 0)
        return;
    int64_t id = submit(f);
    struct waited w;
    exec_sql(f, "CREATE TRIGGER fault BEFORE UPDATE ON invocations WHEN new.status = 5 "
                "BEGIN SELECT RAISE(ABORT, 'a fault'); END");
    waited_init(&w, f, id, 1);
    together(f, &w.claim.turn.op, &w.finish.turn.op);
    IS_OK(wait_claimed(&w));
    cr_assert_eq(wait_finished(&w), ERR_DB);
    cr_assert_eq(status_of(f, id), STATUS_RUNNING);
    exec_sql(f, "DROP TRIGGER fault");
    IS_OK(again(&w, f, false));
    cr_assert_eq(status_of(f, id), STATUS_SUCCEEDED);
    check_counters(f);
}

/* --- what stands beside a row ------------------------------------------------------------------ */

/* Progress of a body with large arguments wrote them anew each time. */
STORE_TEST(progress_stands_beside_its_row_and_goes_with_it)
{
    int64_t id = submit(f);
    struct waited w;
    started(&w, f, id, 1);
    for (int i = 1; i <= 3; i++) {
        struct op_progress op = progress_of(&w, i / 4.0, i == 2 ? SPAN("two") : (struct span){NULL, 0});
        IS_OK(store_do(f->store, &op.turn.op));
    }
    struct invocation row = row_of(f, id);
    cr_assert(row.has_progress && row.progress == 0.75);
    cr_assert_null(row.progress_note.p);
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM invocations WHERE progress IS NOT NULL"), 0);
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM details"), 1);
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_FAILED));
    cr_assert(row_of(f, id).has_progress, "what it reached is worth knowing");
    IS_OK(alter(f, ALTER_RETRY, id));
    cr_assert(!row_of(f, id).has_progress);
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM details"), 0);
    check_counters(f);
}
