#include "base/clock.h"
#include "tests/store/support.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

STORE_TEST(promote_queues_what_is_due_and_says_when_the_next_is)
{
    int64_t now = clock_now_ms();
    struct submission s[3] = {plain(f), plain(f), plain(f)};
    s[0].run_at = now + 30;
    s[1].run_at = now + 100000;
    s[2].run_at = now + 30;
    s[2].priority = 9;
    submit_all(f, s, 3);
    struct op_upkeep op;
    do
        op = upkeep(f, UPKEEP_PROMOTE);
    while (op.next_at != s[1].run_at);
    cr_assert(!op.more);
    cr_assert_eq(status_of(f, s[0].id), STATUS_QUEUED);
    cr_assert_eq(status_of(f, s[1].id), STATUS_SCHEDULED);
    cr_assert_eq(status_of(f, s[2].id), STATUS_QUEUED);
    cr_assert_eq(f->changes[f->change_count - 1].ready.priority == 9 ||
                     f->changes[f->change_count - 2].ready.priority == 9,
                 true);
    check_counters(f);
}

STORE_TEST(promote_goes_in_steps)
{
    enum { N = 1200 };
    struct submission *s = xcalloc(N, sizeof *s);
    int64_t at = clock_now_ms() + 300;
    for (int i = 0; i < N; i++) {
        s[i] = plain(f);
        s[i].run_at = at;
    }
    submit_all(f, s, N);
    while (clock_now_ms() < at)
        usleep(1000);
    cr_assert(upkeep(f, UPKEEP_PROMOTE).more);
    cr_assert(upkeep(f, UPKEEP_PROMOTE).more);
    cr_assert(!upkeep(f, UPKEEP_PROMOTE).more);
    cr_assert_eq(count_of(f, f->task, STATUS_QUEUED), N);
    free(s);
    check_counters(f);
}

STORE_TEST(expire_fails_what_did_not_start)
{
    int64_t now = clock_now_ms();
    struct submission s[4] = {plain(f), plain(f), plain(f), plain(f)};
    s[0].expires_at = now + 40;
    s[1].expires_at = now + 40;
    s[1].run_at = now + 100000;
    s[2].expires_at = now + 100000;
    s[3].expires_at = now + 40;
    submit_all(f, s, 4);
    struct waited w;
    started(&w, f, s[3].id, 1);
    while (clock_now_ms() <= now + 40)
        usleep(1000);
    struct op_upkeep op = upkeep(f, UPKEEP_EXPIRE);
    cr_assert_eq(op.next_at, s[2].expires_at);
    for (int i = 0; i < 2; i++) {
        struct invocation row = row_of(f, s[i].id);
        cr_assert_eq(row.status, STATUS_FAILED);
        cr_assert_not_null(strstr(row.error.p, "\"expired\""));
    }
    cr_assert_eq(status_of(f, s[2].id), STATUS_QUEUED);
    cr_assert_eq(status_of(f, s[3].id), STATUS_RUNNING);
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM errors WHERE type = 'expired'"), 2);
    IS_OK(alter(f, ALTER_RETRY, s[0].id));
    cr_assert_eq(upkeep(f, UPKEEP_EXPIRE).next_at, s[2].expires_at);
    check_counters(f);
}

static void finish_with(struct fixture *f, int64_t id, int64_t finished_at, int64_t retention_ms)
{
    struct waited w;
    started(&w, f, id, 1);
    w.finish.finished_at = finished_at;
    w.finish.retention_ms = retention_ms;
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
}

STORE_TEST(prune_takes_what_is_past_its_retention)
{
    int64_t now = clock_now_ms(), ids[3] = {submit(f), submit(f), submit(f)};
    finish_with(f, ids[0], now - 86400000 - 1, 86400000);
    finish_with(f, ids[1], now, 86400000);
    struct op_upkeep op = upkeep(f, UPKEEP_PRUNE);
    cr_assert_eq(op.next_at, now + 86400000);
    cr_assert_eq(askf(f, "SELECT COUNT(*) FROM invocations WHERE id = %lld", (long long)ids[0]), 0);
    cr_assert_eq(status_of(f, ids[1]), STATUS_SUCCEEDED);
    cr_assert_eq(status_of(f, ids[2]), STATUS_QUEUED);
    check_counters(f);
}

STORE_TEST(prune_keeps_retain_max_and_the_youngest)
{
    int64_t now = clock_now_ms(), ids[10];
    for (int i = 0; i < 10; i++)
        finish_with(f, ids[i] = submit(f), now + i, 86400000);
    store_set_retain_max(f->store, 4);
    for (struct op_upkeep op = {.more = true}; op.more;)
        op = upkeep(f, UPKEEP_PRUNE);
    for (int i = 0; i < 10; i++)
        cr_assert_eq(askf(f, "SELECT COUNT(*) FROM invocations WHERE id = %lld", (long long)ids[i]), i >= 6);
    check_counters(f);
}

static int64_t file_size(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? (int64_t)st.st_size : -1;
}

STORE_TEST(pruned_space_is_given_back)
{
    enum { N = 400, SIZE = 20000 };
    struct submission *s = xcalloc(N, sizeof *s);
    char *text = xmalloc(SIZE);
    memset(text, '5', SIZE);
    for (int i = 0; i < N; i++) {
        s[i] = plain(f);
        s[i].args = (struct span){text, SIZE};
    }
    submit_all(f, s, N);
    for (int i = 0; i < N; i++)
        finish_with(f, s[i].id, 1000, 0);
    fixture_again(f); /* checkpoints */
    int64_t before = file_size(f->url);
    for (struct op_upkeep op = {.more = true}; op.more;)
        op = upkeep(f, UPKEEP_PRUNE);
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM payloads"), 0);
    fixture_again(f);
    int64_t after = file_size(f->url);
    cr_assert_lt(after, before / 4, "%lld of %lld", (long long)after, (long long)before);
    free(s);
    free(text);
    check_integrity(f->url);
}

/* It was asked for its unused pages again and again, and gave none. */
STORE_TEST(a_file_that_gives_no_space_back_is_not_asked_for_ever)
{
    fixture_shut(f);
    sqlite3 *plain_file;
    cr_assert_eq(sqlite3_open(f->url, &plain_file), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(plain_file,
                              "PRAGMA journal_mode=DELETE; PRAGMA auto_vacuum=NONE; VACUUM; "
                              "CREATE TABLE filler (x); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 "
                              "FROM n WHERE i < 1000) INSERT INTO filler SELECT zeroblob(4000) FROM n; "
                              "DROP TABLE filler",
                              NULL, NULL, NULL),
                 SQLITE_OK, "%s", sqlite3_errmsg(plain_file));
    sqlite3_close(plain_file);
    fixture_open(f);
    fixture_start(f);
    cr_assert_eq(ask(f, "PRAGMA auto_vacuum"), 0);
    cr_assert_gt(ask(f, "PRAGMA freelist_count"), 500);
    int steps = 0;
    for (struct op_upkeep op = {.more = true}; op.more && steps < 100; steps++)
        op = upkeep(f, UPKEEP_PRUNE);
    cr_expect_lt(steps, 5);
}

static struct op_refill refill(struct fixture *f, int priority, int64_t rank, int limit)
{
    struct op_refill op;
    op_refill_init(&op);
    op.task = f->task;
    op.after_priority = priority;
    op.after_rank = rank;
    op.limit = limit;
    IS_OK(store_do(f->store, &op.op));
    return op;
}

STORE_TEST(refill_gives_lowest_priority_number_then_what_is_waited_for_then_oldest)
{
    enum { N = 60 };
    struct submission s[N];
    for (int i = 0; i < N; i++) {
        s[i] = plain(f);
        s[i].priority = i * 7 % 4;
        s[i].args = i % 3 ? SPAN("[1]") : SPAN("\"abc\"");
    }
    s[5].task = f->other;
    submit_all(f, s, N);
    exec_sql(f, "UPDATE invocations SET rank = -id WHERE args = '[1]'");
    int priority = -1, count = 0;
    int64_t rank = 0;
    for (;;) {
        struct op_refill op = refill(f, priority, rank, 7);
        for (int i = 0; i < op.count; i++) {
            const struct ready *r = &op.items[i];
            cr_assert(r->priority > priority || (r->priority == priority && r->rank > rank));
            cr_assert_eq(r->task, f->task);
            int n = 0;
            while (s[n].id != r->id)
                n++;
            cr_assert_eq(r->priority, s[n].priority);
            cr_assert(r->args.len == s[n].args.len && memcmp(r->args.p, s[n].args.p, r->args.len) == 0);
            priority = r->priority;
            cr_assert_eq(r->rank, span_is(r->args, "[1]") ? -r->id : r->id);
            rank = r->rank;
            count++;
        }
        bool full = op.count == 7;
        op_refill_release(&op);
        if (!full)
            break;
    }
    cr_assert_eq(count, N - 1);
}

STORE_TEST(refill_leaves_out_args_that_stand_outside)
{
    static char large[2000];
    memset(large, '3', sizeof large);
    struct submission s[2] = {plain(f), plain(f)};
    s[0].args = (struct span){large, sizeof large};
    s[1].args = (struct span){NULL, 0};
    submit_all(f, s, 2);
    struct op_refill op = refill(f, -1, 0, 10);
    cr_assert_eq(op.count, 2);
    cr_assert_null(op.items[0].args.p);
    cr_assert_not_null(op.items[1].args.p, "absent args are not outside");
    struct buf args = {0};
    IS_OK(reader_payload(f->reader, s[0].id, 1, &args));
    cr_assert_eq(args.len, sizeof large);
    cr_assert_eq(reader_payload(f->reader, s[1].id, 1, &args), ERR_NOT_FOUND);
    buf_release(&args);
    op_refill_release(&op);
}

/* The end that brings the number above retain_max does not count itself. */
STORE_TEST(the_end_that_makes_one_too_many_says_that_pruning_is_due)
{
    store_set_retain_max(f->store, 3);
    for (int i = 0; i < 4; i++) {
        int64_t id = submit(f);
        if (i < 3)
            succeed(f, id);
        else
            IS_OK(alter(f, ALTER_CANCEL, id));
    }
    cr_expect_leq(f->changes[f->change_count - 1].prune_at, clock_now_ms(), "cancelled");
    upkeep(f, UPKEEP_PRUNE);
    f->change_count = 0;
    succeed(f, submit(f));
    cr_expect_leq(f->changes[f->change_count - 1].prune_at, clock_now_ms(), "succeeded");
}
