#include "server/http/answer.h"
#include "server/http/freshness.h"
#include "server/http/problem.h"
#include "server/resources/statistics.h"

#include "base/json.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

/* --- problems ----------------------------------------------------------------------- */

static char *body_of(struct request *rq)
{
    cr_assert_eq(json_check(rq->answer.body.data, rq->answer.body.len, JSON_DEPTH_MAX, NULL), OK);
    return buf_take(&rq->answer.body);
}

static void end(struct request *rq)
{
    for (int i = 0; i < rq->answer.header_count; i++)
        free(rq->answer.headers[i].value);
    buf_release(&rq->answer.body);
}

Test(answer, a_problem_says_what_and_where)
{
    struct request rq = {.path = SPAN("/invocations/x%22")};
    cr_expect_eq(answer_problem(&rq, 409, "conflict", "it is \"%s\"", "running"), NEXT_ANSWER);
    cr_expect_eq(rq.answer.status, 409);
    cr_expect_str_eq(rq.answer.content_type, "application/problem+json");
    char *body = body_of(&rq);
    cr_expect_str_eq(body, "{\"type\":\"urn:errand:problem:conflict\",\"title\":\"Conflict\",\"status\":409,"
                           "\"detail\":\"it is \\\"running\\\"\",\"instance\":\"/invocations/x%22\"}");
    free(body);
    end(&rq);
}

Test(answer, all_faults_are_named_at_once)
{
    struct request rq = {.path = {NULL, 0}};
    struct faults faults = {0};
    faults_add(&faults, 0, "/args/x", "must be an integer");
    faults_add(&faults, 0, "/b", "unknown \"field\"");
    answer_faults(&rq, 422, "invalid-request", &faults);
    char *body = body_of(&rq);
    cr_expect_str_eq(body,
                     "{\"type\":\"urn:errand:problem:invalid-request\",\"title\":\"Invalid request\","
                     "\"status\":422,\"detail\":\"/args/x: must be an integer (and 1 "
                     "more)\",\"errors\":[{\"pointer\":\"/args/x\","
                     "\"detail\":\"must be an integer\"},{\"pointer\":\"/b\",\"detail\":\"unknown \\\"field\\\""
                     "\"}]}");
    cr_expect_eq(faults.count, 0);
    free(body);
    end(&rq);
}

Test(answer, a_problem_stays_json_whatever_it_is_about)
{
    struct request rq = {.path = SPAN("/\xFF\x01\"")};
    char *long_text = malloc(5000);
    memset(long_text, 'x', 4999);
    long_text[4999] = '\0';
    for (int i = 0; i + 1 < 4999; i += 2)
        memcpy(long_text + i, "\xC3\xA4", 2);
    answer_problem(&rq, 400, "invalid-json", "%s", long_text);
    free(body_of(&rq));
    answer_problem(&rq, 400, "invalid-json", "%s", "\xFF\x02");
    free(body_of(&rq));
    free(long_text);
    end(&rq);
}

Test(answer, a_fault_is_503_where_trying_again_may_help)
{
    struct request rq = {.path = {NULL, 0}};
    answer_fault(&rq, ERR_UNAVAILABLE);
    cr_expect_eq(rq.answer.status, 503);
    cr_expect_str_eq(rq.answer.headers[0].name, "Retry-After");
    answer_fault(&rq, ERR_DB);
    cr_expect_eq(rq.answer.status, 500);
    end(&rq);
}

Test(answer, headers_beyond_the_limit_are_dropped)
{
    struct request rq = {.path = {NULL, 0}};
    for (int i = 0; i < ANSWER_HEADERS_MAX + 3; i++)
        answer_header(&rq, "X", "y");
    cr_expect_eq(rq.answer.header_count, ANSWER_HEADERS_MAX);
    end(&rq);
}

Test(answer, an_unknown_kind_of_problem_has_a_title_too)
{
    cr_expect_str_eq(problem_title("not-found"), "Not found");
    cr_expect_str_eq(problem_title("never-heard-of"), "Problem");
}

/* --- tags ------------------------------------------------------------------------------ */

Test(etag, is_another_one_when_what_is_shown_is)
{
    char first[ETAG_BYTES], again[ETAG_BYTES], other[ETAG_BYTES];
    etag_of(SPAN("{\"id\":1}"), first);
    etag_of(SPAN("{\"id\":1}"), again);
    etag_of(SPAN("{\"id\":2}"), other);
    cr_expect_str_eq(first, again);
    cr_expect_str_neq(first, other);
    cr_expect_eq(first[0], '"');
    cr_expect_eq(strlen(first), 22);
    etag_of((struct span){NULL, 0}, other);
    cr_expect_eq(strlen(other), 22);
}

Test(etag, is_compared_weakly_with_each_of_a_list)
{
    static const struct {
        const char *header;
        bool matches;
    } rows[] = {
        {"W/\"x-1\"", true},
        {"\"x-1\"", true},
        {"*", false},
        {"\"a\", W/\"x-1\"", true},
        {"W/\"a\",\"b\" ,\t\"x-1\"", true},
        {"\"a,W/\", \"x-1\"", true},
        {",, \"x-1\"", true},
        {"\"x-2\"", false},
        {"x-1", false},
        {"\"x-1", false},
        {"\"x-1x\"", false},
        {"W/x-1", false},
        {"", false},
        {"\"", false},
        {"W/", false},
        {"*, \"a\"", false},
        {NULL, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        cr_expect_eq(etag_matches(span_of(rows[i].header), SPAN("W/\"x-1\"")), rows[i].matches, "%s",
                     rows[i].header);
}

/* `*` asks whether there is anything at all, which no tag answers. */
Test(etag, any_is_a_star_alone)
{
    cr_expect(etag_is_any(SPAN("*")));
    cr_expect(etag_is_any(SPAN(" *\t")));
    cr_expect_not(etag_is_any(SPAN("*, \"a\"")));
    cr_expect_not(etag_is_any(SPAN("\"*\"")));
    cr_expect_not(etag_is_any(SPAN("")));
    cr_expect_not(etag_is_any((struct span){NULL, 0}));
}

/* --- pages that are kept ------------------------------------------------------------------ */

static void put(struct pages *pages, const char *key, uint64_t as_of, struct span body)
{
    pages_put(pages, span_of(key), as_of, &(struct page){"application/json", body, "\"tag\"", "<next>"});
}

Test(cache, a_page_is_found_while_nothing_changed)
{
    struct pages *pages = pages_new();
    struct page page;
    put(pages, "/a", 1, SPAN("one"));
    cr_expect(pages_find(pages, SPAN("/a"), 1, &page));
    cr_expect(span_is(page.body, "one"));
    cr_expect_str_eq(page.link, "<next>");
    cr_expect_not(pages_find(pages, SPAN("/a"), 2, &page));
    cr_expect_not(pages_find(pages, SPAN("/b"), 1, &page));
    put(pages, "/a", 2, SPAN("two"));
    cr_expect_not(pages_find(pages, SPAN("/a"), 1, &page));
    cr_expect(pages_find(pages, SPAN("/a"), 2, &page) && span_is(page.body, "two"));
    pages_free(pages);
}

Test(cache, the_page_that_was_not_used_the_longest_goes_first)
{
    struct pages *pages = pages_new();
    struct page page;
    char key[16];
    for (int i = 0; i < PAGES_MAX; i++) {
        snprintf(key, sizeof key, "/%d", i);
        put(pages, key, 1, SPAN("x"));
    }
    cr_expect(pages_find(pages, SPAN("/0"), 1, &page));
    put(pages, "/new", 1, SPAN("x"));
    cr_expect(pages_find(pages, SPAN("/0"), 1, &page));
    cr_expect_not(pages_find(pages, SPAN("/1"), 1, &page));
    cr_expect(pages_find(pages, SPAN("/2"), 1, &page));
    pages_free(pages);
}

Test(cache, is_bounded_in_bytes)
{
    struct pages *pages = pages_new();
    struct page page;
    char *bytes = calloc(1, PAGE_BYTES_MAX + 1);
    char key[16];
    int kept = 0;
    put(pages, "/large", 1, (struct span){bytes, PAGE_BYTES_MAX + 1});
    cr_expect_not(pages_find(pages, SPAN("/large"), 1, &page));
    for (int i = 0; i < PAGES_MAX; i++) {
        snprintf(key, sizeof key, "/%d", i);
        put(pages, key, 1, (struct span){bytes, PAGE_BYTES_MAX});
    }
    for (int i = 0; i < PAGES_MAX; i++) {
        snprintf(key, sizeof key, "/%d", i);
        kept += pages_find(pages, span_of(key), 1, &page);
    }
    cr_expect_eq(kept, PAGES_BYTES_MAX / PAGE_BYTES_MAX);
    free(bytes);
    pages_free(pages);
}

/* --- figures ---------------------------------------------------------------------------------- */

Test(statistics, count_what_was_submitted_finished_and_failed)
{
    static const struct change changes[] = {
        {.from = 0, .to = STATUS_QUEUED},
        {.from = 0, .to = STATUS_SCHEDULED},
        {.from = STATUS_QUEUED, .to = STATUS_RUNNING},
        {.from = STATUS_QUEUED, .to = STATUS_SUCCEEDED}, /* a claim and its finish in one */
        {.from = STATUS_RUNNING, .to = STATUS_FAILED},
        {.from = STATUS_RUNNING, .to = STATUS_SCHEDULED},
        {.from = STATUS_QUEUED, .to = STATUS_CANCELLED},
        {.from = STATUS_FAILED, .to = STATUS_QUEUED},
        {.from = STATUS_RUNNING, .to = STATUS_RUNNING},
        {.from = STATUS_SUCCEEDED, .to = 0},
        {.from = 0, .to = 0}, /* a refill */
    };
    struct statistics *statistics = statistics_new();
    struct statistics_view view;
    statistics_changed(statistics, changes, sizeof changes / sizeof *changes, 100000);
    statistics_read(statistics, 100900, &view);
    cr_expect_eq(view.submitted, 2);
    cr_expect_eq(view.finished, 3);
    cr_expect_eq(view.failed, 1);
    cr_expect_float_eq(view.submitted_rate, 0.2, 1e-9);
    statistics_changed(statistics, changes, 2, 105000);
    statistics_read(statistics, 109999, &view);
    cr_expect_float_eq(view.submitted_rate, 0.4, 1e-9);
    statistics_read(statistics, 110000, &view);
    cr_expect_float_eq(view.submitted_rate, 0.2, 1e-9);
    statistics_read(statistics, 500000, &view);
    cr_expect_float_eq(view.submitted_rate, 0, 1e-9);
    cr_expect_eq(view.submitted, 4);
    statistics_free(statistics);
}
