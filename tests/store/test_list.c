/* Lists against a model: every row is also kept here and filtered by force. */
#include "base/clock.h"
#include "base/id.h"
#include "tests/store/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { ROWS = 2000 };

struct model {
    int64_t id;
    int task;
    enum status status;
    int user, zone; /* labels; 0: none */
    const char *error, *worker;
    char key[16];
};

static struct model model[ROWS];
static const char *const error_types[] = {"timeout", "exit:1", "exit:12", "expired"};
static const char *const workers[] = {"slot-1", "slot-2"};

static void attempt(struct fixture *f, struct model *m, uint64_t *seed)
{
    char json[64];
    struct waited w;
    waited_init(&w, f, m->id, 1);
    waited_task(&w, m->task);
    w.claim.worker = span_of(m->worker = workers[dice(seed, 2)]);
    queue_claim(&w, f);
    IS_OK(wait_claimed(&w));
    if (m->status == STATUS_RUNNING)
        return;
    m->error = m->status == STATUS_FAILED ? error_types[dice(seed, 4)] : NULL;
    if (m->error) {
        snprintf(json, sizeof json, "{\"type\":\"%s\",\"message\":\"m\"}", m->error);
        set_error(&w, json, m->error);
    }
    IS_OK(end(&w, f, FINISH_FINAL, m->status));
}

static void fill(struct fixture *f, int priorities)
{
    static struct submission s[ROWS];
    static char labels[ROWS][64];
    uint64_t seed = 20240229;
    for (int i = 0; i < ROWS; i++) {
        struct model *m = &model[i];
        static const enum status statuses[] = {STATUS_SCHEDULED, STATUS_QUEUED,    STATUS_QUEUED,
                                               STATUS_RUNNING,   STATUS_SUCCEEDED, STATUS_SUCCEEDED,
                                               STATUS_FAILED,    STATUS_CANCELLED};
        *m = (struct model){.task = dice(&seed, 3) ? f->task : f->other, .status = statuses[dice(&seed, 8)]};
        m->user = (int)dice(&seed, 4);
        m->zone = (int)dice(&seed, 3);
        s[i] = plain(f);
        s[i].task = m->task;
        s[i].priority = (int)dice(&seed, (uint32_t)priorities);
        s[i].run_at = m->status == STATUS_SCHEDULED ? clock_now_ms() + 3600000 : 0;
        if (m->user || m->zone) {
            struct buf b = {0};
            buf_addf(&b, "{%s", m->user ? "\"user\":\"" : "");
            if (m->user)
                buf_addf(&b, "%d\"%s", m->user, m->zone ? "," : "");
            if (m->zone)
                buf_addf(&b, "\"zone\":\"z%d\"", m->zone);
            buf_addc(&b, '}');
            snprintf(labels[i], sizeof labels[i], "%s", buf_cstr(&b));
            s[i].labels = span_of(labels[i]);
            buf_release(&b);
        }
        if (i % 50 == 0) {
            snprintf(m->key, sizeof m->key, "key-%d", i);
            s[i].key_owner = SPAN("me");
            s[i].key = span_of(m->key);
        }
    }
    for (int i = 0; i < ROWS; i += 200) { /* in several milliseconds */
        submit_all(f, s + i, 200);
        usleep(3000);
    }
    for (int i = 0; i < ROWS; i++) {
        struct model *m = &model[i];
        m->id = s[i].id;
        if (m->status == STATUS_CANCELLED)
            IS_OK(alter(f, ALTER_CANCEL, m->id));
        else if (m->status == STATUS_RUNNING || m->status == STATUS_SUCCEEDED || m->status == STATUS_FAILED)
            attempt(f, m, &seed);
    }
    check_counters(f);
}

static bool error_fits(const char *pattern, const char *error)
{
    size_t n = strlen(pattern);
    if (!error)
        return false;
    return pattern[n - 1] == '*' ? strncmp(pattern, error, n - 1) == 0 : strcmp(pattern, error) == 0;
}

static bool fits(const struct filter *q, const struct model *m)
{
    if (q->statuses && !(q->statuses & 1u << m->status))
        return false;
    if (q->task && m->task != q->task)
        return false;
    if (q->worker.p && (!m->worker || !span_is(q->worker, m->worker)))
        return false;
    char pattern[32];
    snprintf(pattern, sizeof pattern, "%.*s", (int)q->error.len, q->error.p ? q->error.p : "");
    if (q->error.p && !error_fits(pattern, m->error))
        return false;
    for (int i = 0; i < q->label_count; i++) {
        char value[16];
        bool user = span_is(q->label_names[i], "user");
        snprintf(value, sizeof value, user ? "%d" : "z%d", user ? m->user : m->zone);
        if ((user ? m->user : m->zone) == 0 || !span_is(q->label_values[i], value))
            return false;
    }
    if (q->key.p && !span_is(q->key, m->key))
        return false;
    int64_t created = id_time_ms(m->id);
    return (!q->created_after || created > q->created_after) &&
           (!q->created_before || created < q->created_before);
}

struct page {
    int64_t ids[ROWS + 1];
    int count;
    int stop_at; /* refuse rows from this one on; 0: never */
    int in_page;
};

static bool collect(void *context, const struct invocation *row)
{
    struct page *page = context;
    if (page->stop_at && page->in_page == page->stop_at)
        return false;
    cr_assert_lt(page->count, ROWS);
    page->ids[page->count++] = row->id;
    page->in_page++;
    return true;
}

static int walk(struct fixture *f, struct list_query *query, struct page *page)
{
    int pages = 0;
    int64_t next;
    query->cursor = 0;
    page->count = 0;
    do {
        page->in_page = 0;
        IS_OK(reader_list(f->reader, query, collect, page, &next));
        query->cursor = next;
        pages++;
        cr_assert_lt(pages, 2 * ROWS, "a list must end");
    } while (next);
    return pages;
}

static void check(struct fixture *f, struct list_query *query, const char *what)
{
    static struct page page;
    page.stop_at = 0;
    walk(f, query, &page);
    int n = 0;
    for (int i = 0; i < ROWS; i++) {
        const struct model *m = &model[query->oldest_first ? i : ROWS - 1 - i];
        if (!fits(&query->filter, m))
            continue;
        cr_assert(n < page.count && page.ids[n] == m->id, "%s: row %d of %d is another", what, n, page.count);
        n++;
    }
    cr_assert_eq(n, page.count, "%s: %d rows, %d expected", what, page.count, n);
}

/* Every combination of every choice of each filter, in both orders. */
static void check_all(struct fixture *f)
{
    static const unsigned statuses[] = {0,
                                        1u << STATUS_QUEUED,
                                        1u << STATUS_FAILED,
                                        1u << STATUS_SUCCEEDED,
                                        1u << STATUS_QUEUED | 1u << STATUS_RUNNING | 1u << STATUS_SCHEDULED,
                                        1u << STATUS_CANCELLED | 1u << STATUS_SUCCEEDED};
    const int tasks[] = {0, f->task, f->other, 99};
    static const char *const errors[] = {NULL, "exit:1", "exit:*", "*", "none"};
    static const char *const of_workers[] = {NULL, "slot-2"};
    int64_t first = id_time_ms(model[0].id), last = id_time_ms(model[ROWS - 1].id), span = (last - first) / 3;
    for (int k = 0; k < 6 * 4 * 5 * 2 * 3 * 3 * 2; k++) {
        int rest = k;
        struct list_query query = {.limit = 1 + k % 3 * 150};
        struct filter *q = &query.filter;
        q->statuses = statuses[rest % 6];
        rest /= 6;
        q->task = tasks[rest % 4];
        rest /= 4;
        q->error = span_of(errors[rest % 5]);
        rest /= 5;
        q->worker = span_of(of_workers[rest % 2]);
        rest /= 2;
        if (rest % 3) {
            q->label_names[0] = SPAN("user");
            q->label_values[0] = SPAN("2");
            q->label_names[1] = SPAN("zone");
            q->label_values[1] = SPAN("z1");
            q->label_count = rest % 3;
        }
        rest /= 3;
        q->created_after = rest % 3 ? first + span : 0;
        q->created_before = rest % 3 == 2 ? last - span : 0;
        rest /= 3;
        query.oldest_first = rest % 2;
        char what[64];
        if (query.limit == 1 && k % 16)
            query.limit = 17; /* one a page is slow, a few combinations show it */
        snprintf(what, sizeof what, "combination %d", k);
        check(f, &query, what);
    }
}

STORE_TEST(every_combination_of_filters_lists_what_a_model_says)
{
    fill(f, 5);
    check_all(f);
    for (int i = 0; i < ROWS; i += 50) {
        struct list_query query = {.limit = 10};
        query.filter.key_owner = SPAN("me");
        query.filter.key = span_of(model[i].key);
        check(f, &query, "by key");
        query.filter.task = f->other;
        check(f, &query, "by key and task");
        query.filter.task = 0;
        query.filter.key_owner = SPAN("you");
        int64_t next;
        struct page none = {.count = 0};
        IS_OK(reader_list(f->reader, &query, collect, &none, &next));
        cr_assert_eq(none.count, 0);
    }
}

STORE_TEST(more_streams_than_can_be_merged_list_the_same)
{
    fill(f, 128);
    for (int order = 0; order < 2; order++) {
        struct list_query query = {.limit = 100, .oldest_first = order};
        query.filter.statuses = 1u << STATUS_QUEUED;
        check(f, &query, "queued of 2 tasks in 128 priorities");
        query.filter.task = f->task;
        check(f, &query, "queued of a task in 128 priorities");
        query.filter.statuses |= 1u << STATUS_FAILED;
        check(f, &query, "queued and failed");
    }
}

STORE_TEST(a_deadline_gives_short_pages_that_complete)
{
    fill(f, 5);
    struct list_query query = {.limit = 1000, .scan_until_us = 1};
    query.filter.worker = SPAN("slot-1");
    check(f, &query, "with a deadline that has passed");
    query.oldest_first = true;
    static struct page page;
    page.stop_at = 0;
    int pages = walk(f, &query, &page);
    cr_assert_geq(pages, ROWS / 256);
    query.filter.worker = SPAN("nobody");
    cr_assert_geq(walk(f, &query, &page), ROWS / 256);
    cr_assert_eq(page.count, 0);
}

/* A first row that was refused ended the list. */
STORE_TEST(a_refused_row_comes_first_on_the_next_page)
{
    for (int i = 0; i < 10; i++)
        submit(f);
    for (int order = 0; order < 2; order++) {
        struct list_query query = {.limit = 100, .oldest_first = order};
        static struct page page;
        page.stop_at = 3;
        cr_assert_eq(walk(f, &query, &page), 4);
        cr_assert_eq(page.count, 10);
        int64_t next = 0;
        page.count = page.in_page = 0;
        page.stop_at = 1;
        query.cursor = 0;
        page.in_page = 1; /* refuses at once */
        IS_OK(reader_list(f->reader, &query, collect, &page, &next));
        cr_assert_neq(next, 0);
    }
}

static void *churn(void *context)
{
    struct fixture *f = context;
    struct waited w;
    for (int i = 0; i < ROWS; i++)
        if (model[i].status == STATUS_QUEUED && i % 3) {
            struct waited *v = &w;
            waited_init(v, f, model[i].id, 1);
            waited_task(v, model[i].task);
            queue_claim(v, f);
            wait_claimed(v);
        }
    return NULL;
}

/* Streams were opened at different moments, so that a row on its way from
 * queued to running stood in none of them. */
STORE_TEST(paging_while_rows_change_their_status_neither_skips_nor_doubles)
{
    fill(f, 5);
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, churn, f), 0);
    static struct page page;
    for (int round = 0; round < 60; round++) {
        /* All of these stay in these two: each must be seen, once. */
        struct list_query query = {.limit = 1 + round * 7, .oldest_first = round % 2};
        query.filter.statuses = 1u << STATUS_QUEUED | 1u << STATUS_RUNNING;
        page.stop_at = 0;
        walk(f, &query, &page);
        int n = 0;
        for (int i = 0; i < ROWS; i++)
            n += model[i].status == STATUS_QUEUED || model[i].status == STATUS_RUNNING;
        cr_assert_eq(page.count, n);
        for (int i = 1; i < n; i++)
            cr_assert(query.oldest_first ? page.ids[i] > page.ids[i - 1] : page.ids[i] < page.ids[i - 1]);
    }
    pthread_join(thread, NULL);
}

Test(store, what_is_surely_short_is_read_at_once)
{
    static const struct {
        struct filter filter;
        bool indexed;
    } rows[] = {
        {{.task = 0}, true},
        {{.task = 3}, true},
        {{.task = -1}, true},
        {{.statuses = 1u << STATUS_FAILED}, true},
        {{.statuses = 1u << STATUS_SUCCEEDED}, false},
        {{.task = 3, .statuses = 1u << STATUS_QUEUED}, true},
        {{.task = 3, .statuses = 1u << STATUS_FAILED}, false},
        {{.error = {"timeout", 7}}, true},
        {{.error = {"exit:*", 6}}, false},
        {{.worker = {"w", 1}}, false},
        {{.key = {"k", 1}, .worker = {"w", 1}}, true},
        {{.label_count = 1}, true},
        {{.label_count = 2}, false},
        {{.label_count = 1, .task = 2}, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        cr_expect_eq(filter_is_indexed(&rows[i].filter), rows[i].indexed, "row %zu", i);
}
