#include "base/clock.h"
#include "base/id.h"
#include "tests/store/support.h"

#include <stdio.h>
#include <stdlib.h>

STORE_TEST(a_submission_is_queued_and_read_back)
{
    struct submission s = plain(f);
    s.priority = 7;
    s.max_retries = 3;
    s.timeout_ms = 60000;
    s.expires_at = clock_now_ms() + 100000;
    s.labels = SPAN("{\"user\":\"7\",\"caf\\u00e9\":\"x\"}");
    submit_all(f, &s, 1);
    IS_OK(s.err);
    struct invocation row = row_of(f, s.id);
    cr_assert_eq(row.status, STATUS_QUEUED);
    cr_assert_eq(row.task, f->task);
    cr_assert_eq(row.priority, 7);
    cr_assert_eq(row.max_retries, 3);
    cr_assert_eq(row.timeout_ms, 60000);
    cr_assert_eq(row.retention_ms, 86400000);
    cr_assert_eq(row.expires_at, s.expires_at);
    cr_assert_eq(row.attempt, 0);
    cr_assert_eq(row.run_at, 0);
    cr_assert_eq(row.has_progress, false);
    cr_assert_null(row.worker.p);
    cr_assert_null(row.result.p);
    cr_assert_null(row.key.p);
    IS_SPAN(row.labels, "{\"user\":\"7\",\"caf\\u00e9\":\"x\"}");
    cr_assert_eq(askf(f, "SELECT COUNT(*) FROM labels WHERE name = 'caf\xc3\xa9' AND value = 'x' AND id = %lld",
                      (long long)s.id),
                 1);
    cr_assert_eq(f->change_count, 1);
    cr_assert_eq(f->changes[0].from, 0);
    cr_assert_eq(f->changes[0].to, STATUS_QUEUED);
    cr_assert_eq(f->changes[0].ready.max_retries, 3);
    cr_assert_eq(f->changes[0].expires_at, s.expires_at);
    cr_assert(llabs(id_time_ms(s.id) - clock_now_ms()) < 5000);
    check_counters(f);
}

static void comes_back(struct fixture *f, struct span args)
{
    struct submission s = plain(f);
    s.args = args;
    submit_all(f, &s, 1);
    IS_OK(s.err);
    struct invocation row = row_of(f, s.id);
    cr_assert_eq(row.args.len, args.len);
    cr_assert(args.len == 0 || memcmp(row.args.p, args.p, args.len) == 0);
    cr_assert_eq(row.args.p == NULL, args.p == NULL);
}

STORE_TEST(arguments_come_back_byte_for_byte_on_both_sides_of_the_inline_limit)
{
    static const char *const rows[] = {
        "null",
        "1.10",
        "9223372036854775807",
        "123456789012345678901234567890",
        "{\"b\":1,\"a\":2}",
        "  [1, 2]\n",
        "\"\\u0000\\ud83d\\ude00\"",
        "\"\xf0\x9f\x98\x80\"",
        "1e400",
        "-0",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        comes_back(f, span_of(rows[i]));
    comes_back(f, (struct span){NULL, 0});
    static const size_t sizes[] = {INLINE_MAX - 1, INLINE_MAX, INLINE_MAX + 1, 5000, 3000000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char *text = xmalloc(sizes[i]);
        for (size_t k = 0; k < sizes[i]; k++)
            text[k] = (char)('a' + k % 26);
        text[0] = text[sizes[i] - 1] = '"';
        comes_back(f, (struct span){text, sizes[i]});
        free(text);
    }
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM payloads"), 3);
}

STORE_TEST(a_later_run_at_is_scheduled_and_a_past_one_is_queued)
{
    struct submission s[2] = {plain(f), plain(f)};
    s[0].run_at = clock_now_ms() + 60000;
    s[1].run_at = clock_now_ms() - 1;
    submit_all(f, s, 2);
    cr_assert_eq(s[0].status, STATUS_SCHEDULED);
    cr_assert_eq(status_of(f, s[0].id), STATUS_SCHEDULED);
    cr_assert_eq(f->changes[0].due_at, s[0].run_at);
    cr_assert_eq(s[1].status, STATUS_QUEUED);
    check_counters(f);
}

STORE_TEST(a_key_replays_the_same_and_refuses_another)
{
    struct submission s = plain(f), again, other, elsewhere;
    s.key_owner = SPAN("shop");
    s.key = SPAN("order-1");
    s.key_digest[0] = s.key_digest_sent[0] = 1;
    again = other = elsewhere = s;
    other.key_digest[0] = other.key_digest_sent[0] = 2;
    elsewhere.key_owner = SPAN("bank");
    submit_all(f, &s, 1);
    submit_all(f, &again, 1);
    submit_all(f, &other, 1);
    submit_all(f, &elsewhere, 1);
    cr_assert(!s.replayed && again.replayed);
    IS_OK(again.err);
    cr_assert_eq(again.id, s.id);
    cr_assert_eq(again.status, STATUS_QUEUED);
    cr_assert_eq(other.err, ERR_MISMATCH);
    cr_assert_neq(elsewhere.id, s.id);
    int64_t id;
    uint8_t digest[32];
    IS_OK(reader_find_key(f->reader, SPAN("shop"), SPAN("order-1"), &id, digest));
    cr_assert_eq(id, s.id);
    cr_assert_eq(digest[0], 1);
    cr_assert_eq(reader_find_key(f->reader, SPAN("shop"), SPAN("order-2"), &id, digest), ERR_NOT_FOUND);
    succeed(f, s.id);
    submit_all(f, &again, 1);
    cr_assert_eq(again.status, STATUS_SUCCEEDED);
    IS_OK(alter(f, ALTER_DELETE, s.id));
    submit_all(f, &again, 1);
    cr_assert(!again.replayed, "a key lives as long as its invocation");
    check_counters(f);
}

STORE_TEST(nobodys_key_replays_too)
{
    struct submission s = plain(f), again;
    s.key = SPAN("k");
    again = s;
    submit_all(f, &s, 1);
    submit_all(f, &again, 1);
    cr_assert(again.replayed);
    cr_assert_eq(again.id, s.id);
}

STOPPED_TEST(two_of_one_key_in_one_batch_meet)
{
    struct submission s[3] = {plain(f), plain(f), plain(f)};
    struct op_submit ops[3];
    struct parked parked[3];
    for (int i = 0; i < 3; i++) {
        s[i].key_owner = SPAN("");
        s[i].key = SPAN("same");
        s[i].key_digest[0] = s[i].key_digest_sent[0] = i == 2;
        op_submit_init(&ops[i], &s[i], 1);
        park(&ops[i].op, &parked[i]);
        store_queue(f->store, &ops[i].op);
    }
    fixture_start(f);
    for (int i = 0; i < 3; i++)
        wait_parked(&parked[i]);
    IS_OK(s[0].err);
    IS_OK(s[1].err);
    cr_assert(s[1].replayed);
    cr_assert_eq(s[0].id, s[1].id);
    cr_assert_eq(s[2].err, ERR_MISMATCH);
    cr_assert_eq(f->change_count, 1);
    check_counters(f);
}

STORE_TEST(max_queued_refuses_what_is_above_it_but_finds_what_was_accepted)
{
    struct submission s[5];
    for (int i = 0; i < 5; i++) {
        s[i] = plain(f);
        s[i].max_queued = 3;
        s[i].key_owner = SPAN("");
        s[i].key = i == 0 ? SPAN("a") : (struct span){NULL, 0};
    }
    s[2].run_at = clock_now_ms() + 100000; /* scheduled ones count */
    submit_all(f, s, 5);
    cr_assert_eq(s[2].err, OK);
    cr_assert_eq(s[3].err, ERR_LIMIT);
    cr_assert_eq(s[4].err, ERR_LIMIT);
    struct submission again = s[0];
    submit_all(f, &again, 1);
    IS_OK(again.err);
    cr_assert(again.replayed);
    struct submission elsewhere = plain(f);
    elsewhere.task = f->other;
    elsewhere.max_queued = 3;
    submit_all(f, &elsewhere, 1);
    IS_OK(elsewhere.err);
    succeed(f, s[0].id);
    submit_all(f, &s[4], 1);
    IS_OK(s[4].err);
    check_counters(f);
}

/* Side by side they are one statement, sixteen or four at a time. */
static void submit_in_one_batch(struct fixture *f, struct submission *items, int count)
{
    struct op_submit ops[64];
    struct parked parked[64];
    for (int i = 0; i < count; i++) {
        op_submit_init(&ops[i], &items[i], 1);
        park(&ops[i].op, &parked[i]);
        if (i)
            ops[i - 1].op.next = &ops[i].op;
    }
    store_queue_list(f->store, &ops[0].op, &ops[count - 1].op, count);
    for (int i = 0; i < count; i++) {
        wait_parked(&parked[i]);
        items[i].err = ops[i].op.err != OK ? ops[i].op.err : items[i].err;
    }
}

STORE_TEST(submissions_of_one_batch_keep_their_order_and_what_they_say)
{
    enum { COUNT = 43 };
    struct submission items[COUNT];
    char args[COUNT][8];
    for (int i = 0; i < COUNT; i++) {
        items[i] = plain(f);
        snprintf(args[i], sizeof args[i], "[%d]", i);
        items[i].args = span_of(args[i]);
        items[i].priority = i % 5;
        items[i].run_at = i % 7 == 3 ? clock_now_ms() + 1000000 : 0;
        items[i].expires_at = i % 6 == 5 ? clock_now_ms() + 2000000 : 0;
        if (i == 20)
            items[i].labels = SPAN("{\"user\":\"7\"}");
        if (i == 40)
            items[i].key = SPAN("k");
    }
    submit_in_one_batch(f, items, COUNT);
    for (int i = 0; i < COUNT; i++) {
        IS_OK(items[i].err);
        cr_assert(!i || items[i].id > items[i - 1].id);
        struct invocation row = row_of(f, items[i].id);
        IS_SPAN(row.args, args[i]);
        cr_assert_eq(row.status, items[i].run_at ? STATUS_SCHEDULED : STATUS_QUEUED);
        cr_assert_eq(row.status, items[i].status);
        cr_assert_eq(row.priority, i % 5);
        cr_assert_eq(row.run_at, items[i].run_at);
        cr_assert_eq(row.expires_at, items[i].expires_at);
        cr_assert_eq(f->changes[i].id, items[i].id);
    }
    cr_assert_eq(f->change_count, COUNT);
    check_counters(f);
}

STORE_TEST(a_faulty_submission_of_a_batch_fails_alone)
{
    enum { COUNT = 40, FAULTY = 21 };
    struct submission items[COUNT];
    exec_sql(f, "CREATE TRIGGER fault BEFORE INSERT ON invocations WHEN new.priority = 99 "
                "BEGIN SELECT RAISE(ABORT, 'a fault'); END");
    for (int i = 0; i < COUNT; i++) {
        items[i] = plain(f);
        items[i].priority = i == FAULTY ? 99 : 1;
    }
    submit_in_one_batch(f, items, COUNT);
    for (int i = 0; i < COUNT; i++)
        cr_assert_eq(items[i].err, i == FAULTY ? ERR_DB : OK, "%d", i);
    cr_assert_eq(count_of(f, f->task, STATUS_QUEUED), COUNT - 1);
    cr_assert_eq(f->change_count, COUNT - 1);
    check_counters(f);
}

STORE_TEST(an_empty_list_of_submissions_is_fine)
{
    struct op_submit op;
    op_submit_init(&op, NULL, 0);
    IS_OK(store_do(f->store, &op.op));
}

STORE_TEST(alone_commits_on_the_callers_thread_or_is_queued)
{
    struct submission s = plain(f);
    struct op_submit op;
    struct parked parked;
    for (int i = 0; i < 50; i++) {
        op_submit_init(&op, &s, 1);
        park(&op.op, &parked);
        bool here = store_queue_alone(f->store, &op.op);
        if (here)
            cr_assert_eq(sem_trywait(&parked.done), 0);
        else
            wait_parked(&parked);
        IS_OK(op.op.err);
    }
    cr_assert_eq(count_of(f, f->task, STATUS_QUEUED), 50);
}

/* Ids: last_id was kept only when the row with the last id given was deleted;
 * a replay uses an id up, so that the highest row's could come again. */
STORE_TEST(ids_never_go_back_when_the_highest_are_deleted)
{
    struct submission s = plain(f), again;
    s.key_owner = SPAN("");
    s.key = SPAN("k");
    again = s;
    int64_t low = submit(f);
    submit_all(f, &s, 1);
    submit_all(f, &again, 1); /* uses an id up */
    succeed(f, s.id);
    IS_OK(alter(f, ALTER_DELETE, s.id));
    cr_assert(s.id > low);
    cr_assert_geq(ask(f, "SELECT CAST(value AS BIGINT) FROM meta WHERE name = 'last_id'"), s.id);
    fixture_again(f);
    cr_assert_gt(submit(f), s.id);
}

STORE_TEST(ids_never_go_back_when_all_is_pruned)
{
    int64_t highest = 0;
    for (int i = 0; i < 5; i++) {
        struct submission s = plain(f);
        s.retention_ms = 0;
        submit_all(f, &s, 1);
        struct waited w;
        started(&w, f, s.id, 1);
        w.finish.retention_ms = 0;
        w.finish.finished_at = w.claim.started_at;
        IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
        highest = s.id;
    }
    struct op_upkeep op = upkeep(f, UPKEEP_PRUNE);
    cr_assert_eq(op.next_at, 0);
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM invocations"), 0);
    cr_assert_geq(ask(f, "SELECT CAST(value AS BIGINT) FROM meta WHERE name = 'last_id'"), highest);
    fixture_again(f);
    cr_assert_gt(submit(f), highest);
}

STORE_TEST(ids_grow_in_the_order_of_the_batch)
{
    enum { N = 5000 };
    struct submission *s = xcalloc(N, sizeof *s);
    for (int i = 0; i < N; i++)
        s[i] = plain(f);
    submit_all(f, s, N); /* more than a millisecond's sequence */
    for (int i = 1; i < N; i++)
        cr_assert_gt(s[i].id, s[i - 1].id);
    free(s);
    check_counters(f);
}
