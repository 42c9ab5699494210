/* Results that answer the next submissions. */
#include "base/clock.h"
#include "tests/store/support.h"

static struct submission cached(const struct fixture *f, struct particulars *of, uint8_t key)
{
    struct submission s = plain(f);
    *of = (struct particulars){.cached = {.key = {key}, .for_ms = 3600000}};
    s.particulars = of;
    return s;
}

static int64_t run_with(struct fixture *f, int64_t id, struct span result)
{
    struct waited w;
    started(&w, f, id, 1);
    w.finish.result = result;
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
    return id;
}

STORE_TEST(a_success_answers_the_next_of_its_key)
{
    struct particulars a, b, c;
    struct submission first = cached(f, &a, 1), second = cached(f, &b, 1), other = cached(f, &c, 2);
    submit_all(f, &first, 1);
    run_with(f, first.id, SPAN("{\"n\":1}"));
    f->change_count = 0;
    submit_all(f, &second, 1);
    submit_all(f, &other, 1);
    cr_assert_neq(second.id, first.id);
    cr_assert(!second.replayed && second.status == STATUS_SUCCEEDED && other.status == STATUS_QUEUED);
    struct invocation row = row_of(f, second.id);
    cr_assert_eq(row.status, STATUS_SUCCEEDED);
    IS_SPAN(row.result, "{\"n\":1}");
    cr_assert_eq(row.cached_from, first.id);
    cr_assert(row.finished_at && row.attempt == 0 && !row.started_at);
    cr_assert_eq(f->changes[0].to, STATUS_SUCCEEDED);
    cr_assert(f->changes[0].prune_at > 0);
    int64_t hits;
    IS_OK(reader_cache_hits(f->reader, f->task, &hits));
    cr_assert_eq(hits, 1);
    check_counters(f);
    buf_release(&b.cached.result);
}

static const struct {
    const char *name;
    enum status status;
    bool keeps;
} ends[] = {{"succeeded", STATUS_SUCCEEDED, true},
            {"failed", STATUS_FAILED, false},
            {"cancelled", STATUS_CANCELLED, false}};

STORE_TEST(only_a_success_is_kept)
{
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        struct particulars of;
        struct waited w;
        struct submission s = cached(f, &of, (uint8_t)(1 + i));
        submit_all(f, &s, 1);
        started(&w, f, s.id, 1);
        IS_OK(end(&w, f, FINISH_RETRY, STATUS_FAILED));
        started(&w, f, s.id, 2);
        IS_OK(end(&w, f, FINISH_FINAL, ends[i].status));
        cr_assert_eq(askf(f, "SELECT COUNT(*) FROM cached_results WHERE source = %lld", (long long)s.id),
                     ends[i].keeps, "%s", ends[i].name);
    }
}

/* The source is pruned: its copy has a result of its own, and what is kept answers on. */
STORE_TEST(a_copy_needs_its_source_no_more)
{
    static char large[4000];
    struct particulars a, b, c;
    struct submission first = cached(f, &a, 1), second = cached(f, &b, 1), third = cached(f, &c, 1);
    memset(large, '7', sizeof large);
    first.retention_ms = 1;
    submit_all(f, &first, 1);
    run_with(f, first.id, (struct span){large, sizeof large});
    submit_all(f, &second, 1);
    exec_sql(f, "UPDATE invocations SET prune_at = 1 WHERE id = (SELECT MIN(id) FROM invocations)");
    upkeep(f, UPKEEP_PRUNE);
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM invocations"), 1);
    cr_assert_eq(row_of(f, second.id).result.len, sizeof large);
    submit_all(f, &third, 1);
    cr_assert_eq(row_of(f, third.id).result.len, sizeof large);
    check_counters(f);
    buf_release(&b.cached.result);
    buf_release(&c.cached.result);
}

STORE_TEST(what_is_deleted_answers_nobody)
{
    struct particulars a, b;
    struct submission first = cached(f, &a, 1), second = cached(f, &b, 1);
    submit_all(f, &first, 1);
    run_with(f, first.id, SPAN("1"));
    IS_OK(alter(f, ALTER_DELETE, first.id));
    submit_all(f, &second, 1);
    cr_assert_eq(second.status, STATUS_QUEUED);
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM cached_results") + ask(f, "SELECT COUNT(*) FROM cached_from"), 0);
}

STORE_TEST(what_is_past_its_time_answers_nobody_and_goes)
{
    struct particulars a, b;
    struct submission first = cached(f, &a, 1), second = cached(f, &b, 1);
    submit_all(f, &first, 1);
    run_with(f, first.id, SPAN("1"));
    struct op_upkeep op = upkeep(f, UPKEEP_CACHE);
    cr_assert(op.next_at > clock_now_ms() + 3500000);
    exec_sql(f, "UPDATE cached_results SET until_at = 5");
    submit_all(f, &second, 1);
    cr_assert_eq(second.status, STATUS_QUEUED);
    op = upkeep(f, UPKEEP_CACHE);
    cr_assert(op.next_at == 0 && !op.more);
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM cached_results"), 0);
}

STORE_TEST(a_full_task_still_gives_what_it_kept)
{
    struct particulars a, b;
    struct submission first = cached(f, &a, 1), second = cached(f, &b, 1);
    submit_all(f, &first, 1);
    run_with(f, first.id, (struct span){NULL, 0});
    submit(f);
    second.max_queued = 1;
    submit_all(f, &second, 1);
    IS_OK(second.err);
    cr_assert_eq(second.status, STATUS_SUCCEEDED);
    cr_assert_null(row_of(f, second.id).result.p);
}

STORE_TEST(a_copy_leaves_its_unique_place_at_once)
{
    struct particulars a, b;
    struct submission first = cached(f, &a, 1), second = cached(f, &b, 1);
    a.unique.scope = b.unique.scope = UNIQUE_UNFINISHED;
    submit_all(f, &first, 1);
    run_with(f, first.id, SPAN("1"));
    submit_all(f, &second, 1);
    cr_assert_eq(second.status, STATUS_SUCCEEDED);
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM uniques WHERE taken = 1"), 0);
    buf_release(&b.cached.result);
}
