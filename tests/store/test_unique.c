/* Places that only one may have. */
#include "base/clock.h"
#include "tests/store/support.h"

#include <stdio.h>

/* One of f->task that wants the place of that key. */
static struct submission unique(const struct fixture *f, struct particulars *of, uint8_t key,
                                enum unique_scope scope, enum unique_conflict on_conflict)
{
    struct submission s = plain(f);
    *of = (struct particulars){.unique = {.scope = scope, .key = {key}, .on_conflict = on_conflict}};
    s.particulars = of;
    return s;
}

static bool is_taken(struct fixture *f, int64_t id)
{
    return askf(f, "SELECT taken FROM uniques WHERE id = %lld", (long long)id) == 1;
}

STORE_TEST(the_second_of_a_place_gets_the_first)
{
    struct particulars a, b, c;
    struct submission first = unique(f, &a, 1, UNIQUE_UNFINISHED, UNIQUE_RETURN);
    struct submission second = unique(f, &b, 1, UNIQUE_UNFINISHED, UNIQUE_RETURN);
    struct submission other = unique(f, &c, 2, UNIQUE_UNFINISHED, UNIQUE_RETURN);
    first.args = SPAN("{\"x\":1}");
    first.labels = SPAN("{\"a\":\"b\"}");
    submit_all(f, &first, 1);
    submit_all(f, &second, 1);
    submit_all(f, &other, 1);
    cr_assert(!first.replayed && !b.first.replaced && second.replayed && b.first.returned && !other.replayed);
    cr_assert_eq(second.id, first.id);
    IS_SPAN(b.first.args, "{\"x\":1}");
    IS_SPAN(b.first.labels, "{\"a\":\"b\"}");
    cr_assert(b.first.args_are_known);
    succeed(f, first.id);
    cr_assert(!is_taken(f, first.id));
    buf_release(&b.first.text);
    submit_all(f, &second, 1);
    cr_assert(!second.replayed && second.id != first.id);
    IS_OK(alter(f, ALTER_DELETE, first.id));
    check_counters(f);
}

STORE_TEST(two_of_one_batch_meet)
{
    struct particulars of[3];
    struct submission s[3];
    for (int i = 0; i < 3; i++)
        s[i] = unique(f, &of[i], 1, UNIQUE_UNFINISHED, i == 2 ? UNIQUE_REJECT : UNIQUE_RETURN);
    submit_all(f, s, 3);
    IS_OK(s[0].err);
    IS_OK(s[1].err);
    cr_assert_eq(s[1].id, s[0].id);
    cr_assert(s[2].err == ERR_BUSY && s[2].not_unique);
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM invocations"), 1);
    check_counters(f);
    buf_release(&of[1].first.text);
    buf_release(&of[2].first.text);
}

/* Whose place is free again, and when. */
static const struct {
    const char *name;
    enum unique_scope scope;
    bool at_start, at_retry, at_end;
} scopes[] = {
    {"queued", UNIQUE_QUEUED, true, true, true},
    {"unfinished", UNIQUE_UNFINISHED, false, false, true},
    {"timed", UNIQUE_TIMED, false, false, false},
};

STORE_TEST(a_place_is_free_at_the_start_at_the_end_or_in_time)
{
    for (size_t i = 0; i < sizeof scopes / sizeof *scopes; i++) {
        struct particulars of;
        struct waited w;
        struct submission s = unique(f, &of, (uint8_t)(10 + i), scopes[i].scope, UNIQUE_RETURN);
        of.unique.for_ms = 3600000;
        submit_all(f, &s, 1);
        cr_assert(is_taken(f, s.id), "%s", scopes[i].name);
        started(&w, f, s.id, 1);
        cr_assert_eq(!is_taken(f, s.id), scopes[i].at_start, "%s", scopes[i].name);
        IS_OK(end(&w, f, FINISH_RETRY, STATUS_FAILED));
        cr_assert_eq(!is_taken(f, s.id), scopes[i].at_retry, "%s", scopes[i].name);
        started(&w, f, s.id, 2);
        IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
        cr_assert_eq(!is_taken(f, s.id), scopes[i].at_end, "%s", scopes[i].name);
    }
}

STORE_TEST(a_start_and_its_end_in_one_batch_free_the_place)
{
    struct particulars of;
    struct waited w;
    struct submission s = unique(f, &of, 1, UNIQUE_QUEUED, UNIQUE_RETURN);
    submit_all(f, &s, 1);
    waited_init(&w, f, s.id, 1);
    w.claim.flags = (unsigned)askf(f, "SELECT flags FROM invocations WHERE id = %lld", (long long)s.id);
    together(f, &w.claim.turn.op, &w.finish.turn.op);
    IS_OK(wait_claimed(&w));
    IS_OK(wait_finished(&w));
    cr_assert_eq(status_of(f, s.id), STATUS_SUCCEEDED);
    cr_assert(!is_taken(f, s.id));
}

STORE_TEST(a_cancellation_frees_the_place)
{
    struct particulars of;
    struct submission s = unique(f, &of, 1, UNIQUE_UNFINISHED, UNIQUE_RETURN);
    submit_all(f, &s, 1);
    IS_OK(alter(f, ALTER_CANCEL, s.id));
    cr_assert(!is_taken(f, s.id));
}

STORE_TEST(a_place_for_a_time_is_free_after_it)
{
    struct particulars a, b;
    struct submission first = unique(f, &a, 1, UNIQUE_TIMED, UNIQUE_RETURN);
    struct submission second = unique(f, &b, 1, UNIQUE_TIMED, UNIQUE_RETURN);
    a.unique.for_ms = 3600000;
    b.unique.for_ms = 1;
    submit_all(f, &first, 1);
    exec_sql(f, "UPDATE uniques SET until_at = 5");
    submit_all(f, &second, 1);
    cr_assert(!second.replayed, "its time was over");
    cr_assert(!is_taken(f, first.id) && is_taken(f, second.id));
}

STORE_TEST(a_retry_takes_its_place_again_or_is_refused)
{
    struct particulars a, b;
    struct submission first = unique(f, &a, 1, UNIQUE_UNFINISHED, UNIQUE_RETURN);
    struct submission second = unique(f, &b, 1, UNIQUE_UNFINISHED, UNIQUE_RETURN);
    submit_all(f, &first, 1);
    fail_for_good(f, first.id);
    IS_OK(alter(f, ALTER_RETRY, first.id));
    cr_assert(is_taken(f, first.id));
    submit_all(f, &second, 1);
    cr_assert(second.replayed);
    buf_release(&b.first.text);
    IS_OK(alter(f, ALTER_CANCEL, first.id));
    submit_all(f, &second, 1);
    cr_assert(!second.replayed);
    cr_assert_eq(alter(f, ALTER_RETRY, first.id), ERR_BUSY);
    cr_assert_eq(status_of(f, first.id), STATUS_CANCELLED);
    succeed(f, second.id);
    IS_OK(alter(f, ALTER_RETRY, first.id));
    struct waited w;
    started(&w, f, first.id, 2);
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
    cr_assert(!is_taken(f, first.id), "its end after a retry frees the place, too");
    check_counters(f);
}

STORE_TEST(a_replacement_gives_the_waiting_one_its_arguments_and_its_time)
{
    static char large[3000];
    struct particulars a, b;
    struct submission first = unique(f, &a, 1, UNIQUE_UNFINISHED, UNIQUE_REPLACE);
    struct submission second = unique(f, &b, 1, UNIQUE_UNFINISHED, UNIQUE_REPLACE);
    memset(large, '4', sizeof large);
    submit_all(f, &first, 1);
    second.args = (struct span){large, sizeof large};
    f->change_count = 0;
    submit_all(f, &second, 1);
    cr_assert(second.replayed && b.first.replaced && !b.first.returned);
    cr_assert_eq(second.id, first.id);
    cr_assert_eq(row_of(f, first.id).args.len, sizeof large);
    cr_assert_eq(f->change_count, 1);
    cr_assert(f->changes[0].withdrawn && f->changes[0].to == STATUS_QUEUED);
    buf_release(&b.first.text);
    second.args = SPAN("5");
    second.run_at = clock_now_ms() + 60000;
    submit_all(f, &second, 1);
    struct invocation row = row_of(f, first.id);
    IS_SPAN(row.args, "5");
    cr_assert_eq(row.status, STATUS_SCHEDULED);
    cr_assert_eq(row.run_at, second.run_at);
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM payloads"), 0);
    buf_release(&b.first.text);
    second.run_at = 0;
    submit_all(f, &second, 1);
    struct waited w;
    started(&w, f, first.id, 1);
    buf_release(&b.first.text);
    submit_all(f, &second, 1);
    cr_assert(second.err == ERR_BUSY && second.not_unique, "it has started");
    buf_release(&b.first.text);
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
    check_counters(f);
}

/* The body would have run with arguments that were replaced, and its result counted. */
STORE_TEST(a_claim_that_believes_in_replaced_arguments_is_refused)
{
    struct particulars a, b;
    struct waited w;
    struct submission first = unique(f, &a, 1, UNIQUE_UNFINISHED, UNIQUE_REPLACE);
    struct submission second = unique(f, &b, 1, UNIQUE_UNFINISHED, UNIQUE_REPLACE);
    submit_all(f, &first, 1);
    waited_init(&w, f, first.id, 1);
    w.claim.flags = (unsigned)askf(f, "SELECT flags FROM invocations WHERE id = %lld", (long long)first.id);
    second.args = SPAN("2");
    submit_all(f, &second, 1);
    queue_claim(&w, f);
    cr_assert_eq(wait_claimed(&w), ERR_CONFLICT);
    IS_SPAN(row_of(f, first.id).args, "2");
    cr_assert_eq(status_of(f, first.id), STATUS_QUEUED);
    started(&w, f, first.id, 1);
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
    buf_release(&b.first.text);
}

STORE_TEST(a_debounce_begins_anew_until_its_longest_wait_is_over)
{
    struct particulars a, b;
    struct submission first = unique(f, &a, 1, UNIQUE_QUEUED, UNIQUE_REPLACE);
    struct submission second = unique(f, &b, 1, UNIQUE_QUEUED, UNIQUE_REPLACE);
    a.unique.debounce_ms = b.unique.debounce_ms = 60000;
    b.unique.max_wait_ms = 90000;
    int64_t before = clock_now_ms();
    submit_all(f, &first, 1);
    cr_assert_eq(status_of(f, first.id), STATUS_SCHEDULED);
    int64_t at = row_of(f, first.id).run_at;
    cr_assert(at >= before + 60000 && at <= clock_now_ms() + 60000);
    exec_sql(f, "UPDATE uniques SET first_at = first_at - 50000");
    submit_all(f, &second, 1);
    cr_assert_eq(second.id, first.id);
    cr_assert_eq(row_of(f, first.id).run_at, askf(f, "SELECT first_at + 90000 FROM uniques"));
    buf_release(&b.first.text);
    exec_sql(f, "UPDATE uniques SET first_at = first_at - 50000");
    second.run_at = 0;
    submit_all(f, &second, 1);
    cr_assert_eq(status_of(f, first.id), STATUS_QUEUED, "it has waited long enough");
    buf_release(&b.first.text);
    check_counters(f);
}

static struct submission keyed(struct fixture *f, struct particulars *of, const char *key, uint8_t body)
{
    struct submission s = unique(f, of, 1, UNIQUE_UNFINISHED, UNIQUE_RETURN);
    s.key = span_of(key);
    s.key_digest[0] = s.key_digest_sent[0] = body;
    return s;
}

STORE_TEST(a_key_that_was_answered_so_is_a_further_key_of_it)
{
    struct particulars a, b, c, d;
    struct submission first = keyed(f, &a, "k1", 1), second = keyed(f, &b, "k2", 2);
    submit_all(f, &first, 1);
    submit_all(f, &second, 1);
    cr_assert_eq(second.id, first.id);
    succeed(f, first.id);
    struct submission again = keyed(f, &c, "k2", 2), another = keyed(f, &d, "k2", 3);
    submit_all(f, &again, 1);
    submit_all(f, &another, 1);
    IS_OK(again.err);
    cr_assert(again.replayed && c.first.returned);
    cr_assert_eq(again.id, first.id);
    cr_assert_eq(another.err, ERR_MISMATCH);
    struct submission elsewhere = plain(f);
    elsewhere.task = f->other;
    elsewhere.key = SPAN("k2");
    elsewhere.key_digest[0] = 9;
    submit_all(f, &elsewhere, 1);
    cr_assert_eq(elsewhere.err, ERR_MISMATCH, "keys are the owner's, not the task's");
    struct list_query query = {.filter = {.key = SPAN("k2")}, .limit = 10};
    int64_t next, found;
    uint8_t digest[32];
    bool find(void *context, const struct invocation *row)
    {
        *(int64_t *)context = row->id;
        return true;
    }
    IS_OK(reader_list(f->reader, &query, find, &found, &next));
    cr_assert_eq(found, first.id);
    IS_OK(reader_find_key(f->reader, SPAN(""), SPAN("k2"), &found, digest));
    cr_assert(found == first.id && digest[0] == 2);
    IS_OK(alter(f, ALTER_DELETE, first.id));
    submit_all(f, &elsewhere, 1);
    cr_assert(elsewhere.err == OK && !elsewhere.replayed, "a key lives as long as its invocation");
    check_counters(f);
    buf_release(&b.first.text);
    buf_release(&c.first.text);
    buf_release(&d.first.text);
}

STORE_TEST(one_that_was_not_made_leaves_no_place)
{
    struct particulars a, b;
    struct submission s = unique(f, &a, 1, UNIQUE_UNFINISHED, UNIQUE_RETURN), full;
    submit(f);
    s.max_queued = 1;
    submit_all(f, &s, 1);
    cr_assert_eq(s.err, ERR_LIMIT);
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM uniques"), 0);
    s.max_queued = 0;
    submit_all(f, &s, 1);
    full = unique(f, &b, 1, UNIQUE_UNFINISHED, UNIQUE_RETURN);
    full.max_queued = 1;
    submit_all(f, &full, 1);
    cr_assert(full.err == OK && full.id == s.id, "who has the place is found while the task is full");
    buf_release(&b.first.text);
}

STORE_TEST(a_child_meets_who_has_the_place)
{
    struct particulars a, b;
    struct waited w;
    struct submission first = unique(f, &a, 1, UNIQUE_UNFINISHED, UNIQUE_RETURN);
    struct submission child = unique(f, &b, 1, UNIQUE_UNFINISHED, UNIQUE_RETURN);
    submit_all(f, &first, 1);
    started(&w, f, submit(f), 1);
    child.parent = w.turn.id;
    child.parent_lease = w.turn.lease;
    submit_all(f, &child, 1);
    IS_OK(child.err);
    cr_assert_eq(child.id, first.id);
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM children"), 0);
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
    buf_release(&b.first.text);
}

/* Many of one commit, each answered with one that is long. */
STORE_TEST(what_is_copied_of_the_first_has_a_bound)
{
    enum { COUNT = 8, SIZE = 1000000 };
    static struct particulars of[COUNT + 1];
    static struct submission s[COUNT + 1];
    char *large = xmalloc(SIZE);
    memset(large, '1', SIZE);
    s[0] = unique(f, &of[0], 1, UNIQUE_UNFINISHED, UNIQUE_RETURN);
    s[0].args = (struct span){large, SIZE};
    for (int i = 1; i <= COUNT; i++)
        s[i] = unique(f, &of[i], 1, UNIQUE_UNFINISHED, UNIQUE_RETURN);
    submit_all(f, s, COUNT + 1);
    int known = 0;
    for (int i = 1; i <= COUNT; i++) {
        cr_assert_eq(s[i].id, s[0].id);
        known += of[i].first.args_are_known;
        buf_release(&of[i].first.text);
    }
    cr_assert_eq(known, 4);
    free(large);
}
