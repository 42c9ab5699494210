/* Groups over HTTP: made, shown, changed, and their results. */
#include "tests/e2e/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

SUITE(groups);

#define CONFIG "slots: 4\n" TASKS "  far: {kind: remote}\n"

static struct reply *make(struct server *s, const char *body)
{
    return EXPECT(ask(s, "POST", "/groups", "Content-Type: application/json\r\n", quoted(body)), 201);
}

static struct reply *make_lines(struct server *s, const char *body)
{
    return ask(s, "POST", "/groups", "Content-Type: application/x-ndjson\r\n", quoted(body));
}

static char *id_of(struct reply *r)
{
    return strdup(text_of(r, "id"));
}

static struct reply *ended(struct server *s, const char *id)
{
    struct reply *r;
    WAIT_UNTIL((r = EXPECT(get(s, "/groups/%s?wait=20", id), 200),
                !strstr(text_of(r, "status"), "running") && !strstr(text_of(r, "status"), "held")));
    return r;
}

static int count_of(struct reply *r, const char *path)
{
    return cJSON_GetArraySize(field(r, path));
}

/* How many invocations of a task there are, up to a thousand. */
static int rows(struct server *s, const char *task)
{
    return count_of(EXPECT(get(s, "/invocations?task=%s&limit=1000", task), 200), "items");
}

/* --- what it is ------------------------------------------------------------------------ */

Test(groups, its_members_run_and_its_results_come_in_the_order_of_submission)
{
    struct server *s = serve(CONFIG);
    struct reply *r =
        make(s, "{'task': 'echo', 'args': [[1, 2], {'x': 3}, 4, 'five', null], 'labels': {'a': 'b'}}");
    char *id = id_of(r);
    REQUIRE(header(r, "Location") && strcmp(header(r, "Location"), format("/groups/%s", id)) == 0, "%s", r->head);
    EXPECT_TEXT(EXPECT_NUMBER(r, "total", 5), "mode", "parallel");
    cr_expect_eq(count_of(r, "invocations"), 5);
    char *first = strdup(text_of(r, "invocations.0"));
    EXPECT_NUMBER(EXPECT_TEXT(ended(s, id), "status", "succeeded"), "counts.succeeded", 5);
    r = EXPECT(get(s, "/groups/%s/results", id), 200);
    static const char *const results[] = {"[1, 2]", "{\"x\": 3}", "4", "\"five\"", "null"};
    for (int i = 0; i < 5; i++) {
        EXPECT_NUMBER(r, format("items.%d.index", i), i);
        EXPECT_HAS(r, format("\"result\":%s,", results[i]));
    }
    EXPECT_NULL(EXPECT_NULL(EXPECT_TEXT(r, "items.0.id", first), "next"), "items.0.error");
    r = EXPECT(get(s, "/invocations/%s", first), 200);
    EXPECT_NUMBER(EXPECT_TEXT(EXPECT_TEXT(r, "group", id), "labels.a", "b"), "index", 0);
    cr_expect_eq(count_of(EXPECT(get(s, "/invocations?group=%s", id), 200), "items"), 5);
    cr_expect_eq(count_of(EXPECT(get(s, "/invocations?group=0123456789ABC"), 200), "items"), 0);
    EXPECT_PROBLEM(get(s, "/invocations?group=me"), 400, "invalid-query");
    EXPECT_PROBLEM(get(s, "/groups/0123456789ABC"), 404, "not-found");
    EXPECT_PROBLEM(get(s, "/groups/%s", first), 404, "not-found");
    EXPECT_PROBLEM(get(s, "/groups/me/results"), 404, "not-found");
}

/* A fault of others: an empty group hung. */
Test(groups, an_empty_one_is_final_at_once)
{
    struct server *s = serve(CONFIG);
    static const char *const bodies[] = {"{'task': 'echo', 'args': []}", "{'invocations': []}",
                                         "{'task': 'echo', 'args': [], 'mode': 'chain'}",
                                         "{'invocations': [], 'mode': 'graph'}"};
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        struct reply *r = make(s, bodies[i]);
        EXPECT_NUMBER(EXPECT_TEXT(r, "status", "succeeded"), "total", 0);
        cr_expect(field(r, "finished_at") && !cJSON_IsNull(field(r, "finished_at")), "%s", r->body);
        EXPECT_HAS(EXPECT(get(s, "/groups/%s/results", text_of(r, "id")), 200), "{\"items\":[],\"next\":null}");
        r = EXPECT(ask(s, "GET", format("/groups/%s/results", text_of(r, "id")),
                       "Accept: application/x-ndjson\r\n", NULL),
                   200);
        cr_expect_str_eq(r->body, "");
    }
    struct reply *r = make(s, "{'task': 'echo', 'args': [], 'hold': true}");
    EXPECT_TEXT(r, "status", "held");
    EXPECT_TEXT(EXPECT(post(s, format("/groups/%s/release", text_of(r, "id")), NULL), 200), "status", "succeeded");
}

/* A fault that this service grew from: one failure poisoned the runner for every later batch. */
Test(groups, one_failure_spoils_neither_its_other_results_nor_a_later_group)
{
    struct server *s = serve(CONFIG);
    char *id =
        id_of(make(s, "{'invocations': [{'task': 'echo', 'args': 1}, {'task': 'fail', 'args': {'type': 'bad'}},"
                      "{'task': 'echo', 'args': 3}]}"));
    EXPECT_NUMBER(EXPECT_TEXT(ended(s, id), "status", "failed"), "counts.succeeded", 2);
    struct reply *r = EXPECT(get(s, "/groups/%s/results", id), 200);
    EXPECT_NUMBER(EXPECT_TEXT(EXPECT_NUMBER(r, "items.0.result", 1), "items.1.status", "failed"), "items.2.result",
                  3);
    REQUIRE(cJSON_IsObject(field(r, "items.1.error")), "%s", r->body);
    char *later = id_of(make(s, "{'task': 'echo', 'args': [1, 2, 3]}"));
    EXPECT_TEXT(ended(s, later), "status", "succeeded");
    /* Its retry opens it again; each end counts. */
    char *failed = strdup(text_of(r, "items.1.id"));
    EXPECT(post(s, format("/invocations/%s/retry", failed), NULL), 200);
    final(s, failed);
    EXPECT_TEXT(ended(s, id), "status", "failed");
}

Test(groups, fail_fast_cancels_the_rest)
{
    struct server *s = serve(CONFIG);
    char *go = file_in(s, "never");
    struct reply *r = make(s, format("{'fail_fast': true, 'invocations': [{'task': 'hold', 'args': '%s'},"
                                     "{'task': 'fail'}, {'task': 'echo', 'delay': '1h'}]}",
                                     go));
    r = EXPECT_TEXT(ended(s, text_of(r, "id")), "status", "failed");
    EXPECT_NUMBER(EXPECT_NUMBER(r, "counts.failed", 1), "counts.cancelled", 2);
    r = EXPECT(get(s, "/groups/%s/results", text_of(r, "id")), 200);
    EXPECT_TEXT(r, "items.2.error.type", "fail_fast");
}

/* A batch goes through the same gate as one: none bypasses what is to be unique. */
Test(groups, a_member_that_is_not_unique_is_cancelled_as_a_duplicate)
{
    struct server *s = serve("slots: 2\ntasks:\n  once: {kind: native, module: $NATIVE, function: hold, "
                             "unique: {per: args, on_conflict: reject}}\n");
    char *go = file_in(s, "go");
    struct reply *r = make(s, format("{'task': 'once', 'args': ['%s', '%s', '%s2']}", go, go, go));
    char *id = id_of(r);
    touch(go);
    touch(format("%s2", go));
    r = EXPECT_TEXT(ended(s, id), "status", "cancelled");
    EXPECT_NUMBER(EXPECT_NUMBER(r, "counts.succeeded", 2), "counts.cancelled", 1);
    r = EXPECT(get(s, "/groups/%s/results", id), 200);
    EXPECT_TEXT(EXPECT_TEXT(r, "items.0.status", "succeeded"), "items.1.error.type", "duplicate");
}

Test(groups, members_are_answered_with_kept_results_but_not_what_others_come_after)
{
    struct server *s = serve("slots: 2\ntasks:\n  kept: {kind: native, module: $NATIVE, function: echo, "
                             "cache_results: 1h}\n");
    final(s, submit(s, "{'task': 'kept', 'args': 1}"));
    struct reply *r = make(s, "{'task': 'kept', 'args': [1, 2, 1]}");
    EXPECT_NUMBER(EXPECT_TEXT(ended(s, text_of(r, "id")), "status", "succeeded"), "counts.succeeded", 3);
    EXPECT_NUMBER(get(s, "/tasks/kept"), "cache_hits", 2);
    r = make(s, "{'task': 'kept', 'args': [1, 1], 'mode': 'chain'}");
    EXPECT_NUMBER(EXPECT_TEXT(ended(s, text_of(r, "id")), "status", "succeeded"), "counts.succeeded", 2);
    EXPECT_NUMBER(get(s, "/tasks/kept"), "cache_hits", 2);
}

Test(groups, a_chain_runs_link_by_link_and_stops_at_a_failure)
{
    struct server *s = serve(CONFIG);
    char *go = file_in(s, "go");
    struct reply *r = make(s, format("{'mode': 'chain', 'invocations': [{'task': 'hold', 'args': '%s'},"
                                     "{'task': 'echo', 'args': 2}, {'task': 'echo', 'args': 3}]}",
                                     go));
    char *id = id_of(r), *second = strdup(text_of(r, "invocations.1"));
    AWAIT_STATUS(s, text_of(r, "invocations.0"), "running");
    EXPECT_TEXT(EXPECT_TEXT(get(s, "/invocations/%s", second), "status", "held"), "hold", "dependency");
    touch(go);
    EXPECT_NUMBER(EXPECT_TEXT(ended(s, id), "status", "succeeded"), "counts.succeeded", 3);
    id = id_of(make(s, "{'mode': 'chain', 'invocations': [{'task': 'echo'}, {'task': 'fail'}, {'task': 'echo'},"
                       "{'task': 'echo'}]}"));
    EXPECT_NUMBER(EXPECT_TEXT(ended(s, id), "status", "failed"), "counts.cancelled", 2);
    EXPECT_TEXT(get(s, "/groups/%s/results", id), "items.3.error.type", "dependency");
}

Test(groups, members_of_a_graph_come_after_those_that_they_name)
{
    struct server *s = serve(CONFIG);
    char *go = file_in(s, "go");
    struct reply *r =
        make(s, format("{'invocations': [{'task': 'echo', 'name': 'last', 'after': ['left', 'right']},"
                       "{'task': 'hold', 'name': 'left', 'args': '%s'},"
                       "{'task': 'echo', 'name': 'right'},"
                       "{'task': 'echo', 'name': 'else', 'after': ['right']}]}",
                       go));
    EXPECT_TEXT(r, "mode", "graph");
    char *id = id_of(r), *last = strdup(text_of(r, "invocations.0"));
    EXPECT_TEXT(final(s, text_of(r, "invocations.3")), "status", "succeeded");
    EXPECT_TEXT(get(s, "/invocations/%s", last), "status", "held");
    touch(go);
    EXPECT_TEXT(ended(s, id), "status", "succeeded");
    EXPECT_TEXT(get(s, "/groups/%s/results", id), "items.0.name", "last");
    EXPECT_PROBLEM(post(s, "/groups",
                        "{'invocations': [{'task': 'echo', 'name': 'a', 'after': ['b']},"
                        "{'task': 'echo', 'name': 'b', 'after': ['a']}]}"),
                   422, "invalid-request");
    r = EXPECT_PROBLEM(post(s, "/groups", "{'invocations': [{'task': 'echo', 'name': 'a', 'after': ['no']}]}"),
                       422, "invalid-request");
    cr_expect(faults_mention(r, "/invocations/0/after/0"), "%s", r->body);
}

/* The arguments are made when it starts: of the result before it, and of what all share. */
Test(groups, a_member_gets_the_results_that_it_names_and_what_all_share)
{
    struct server *s = serve(CONFIG);
    char *id = id_of(make(s, "{'task': 'echo', 'mode': 'chain', 'args': [{'a': [7, 8]}, {'b': {'$result': true,"
                             "'path': 'a.1'}}, [{'$result': true}]]}"));
    EXPECT_TEXT(ended(s, id), "status", "succeeded");
    struct reply *r = EXPECT(get(s, "/groups/%s/results", id), 200);
    EXPECT_NUMBER(r, "items.1.result.b", 8);
    EXPECT_NUMBER(r, "items.2.result.0.b", 8);
    id = id_of(make(s, "{'invocations': [{'name': 'l', 'task': 'echo', 'args': 1}, {'name': 'r', 'task': 'echo',"
                       "'args': 2}, {'task': 'add', 'args': [{'$result': 'l'}, {'$result': 'r'}],"
                       "'after': ['l', 'r']}]}"));
    EXPECT_TEXT(ended(s, id), "status", "succeeded");
    r = EXPECT(get(s, "/groups/%s/results", id), 200);
    EXPECT_NUMBER(EXPECT_NUMBER(r, "items.2.result.x", 1), "items.2.result.y", 2);
    r = make(s, "{'task': 'add', 'common_args': {'x': 1, 'y': 2}, 'args': [{}, {'y': 3}, [4]]}");
    EXPECT_NUMBER(r, "common_args.x", 1);
    id = id_of(r);
    EXPECT_TEXT(ended(s, id), "status", "succeeded");
    r = EXPECT(get(s, "/groups/%s/results", id), 200);
    EXPECT_NUMBER(EXPECT_NUMBER(r, "items.0.result.y", 2), "items.1.result.y", 3);
    EXPECT_NUMBER(EXPECT_NUMBER(r, "items.2.result.x", 4), "items.2.result.y", 2);
}

/* --- open, held, cancelled ------------------------------------------------------------------ */

Test(groups, an_open_one_takes_more_until_it_is_closed)
{
    struct server *s = serve(CONFIG);
    char *id = id_of(make(s, "{'task': 'echo', 'args': [1], 'open': true}"));
    char *more = submit(s, "{'task': 'echo', 'args': 2, 'group': '%s'}", id);
    EXPECT_NUMBER(EXPECT_TEXT(final(s, more), "group", id), "index", 1);
    EXPECT_NUMBER(EXPECT_TEXT(get(s, "/groups/%s", id), "status", "running"), "total", 2);
    EXPECT_TEXT(EXPECT(post(s, format("/groups/%s/close", id), NULL), 200), "status", "succeeded");
    EXPECT_PROBLEM(post(s, "/tasks", "{'task': 'echo', 'group': '%s'}", id), 409, "conflict");
    char *closed = id_of(make(s, "{'task': 'echo', 'args': [1]}"));
    EXPECT_PROBLEM(post(s, "/tasks", "{'task': 'echo', 'group': '%s'}", closed), 409, "conflict");
    struct reply *r =
        EXPECT_PROBLEM(post(s, "/tasks", "{'task': 'echo', 'group': '0123456789ABC'}"), 422, "invalid-request");
    EXPECT_HAS(r, "0123456789ABC");
    r = EXPECT(ask(s, "POST", "/invocations", "Content-Type: application/x-ndjson\r\n",
                   quoted(format("{'task': 'echo', 'group': '%s'}\n{'task': 'echo'}\n", closed))),
               200);
    EXPECT_HAS(EXPECT_HAS(r, "{\"index\":0,\"status\":409"), "{\"index\":1,\"status\":201");
    EXPECT_TEXT(ended(s, closed), "status", "succeeded");
}

Test(groups, a_held_one_runs_when_it_is_released)
{
    struct server *s = serve(CONFIG);
    struct reply *r = make(s, "{'task': 'count', 'args': [1, 2, 3], 'hold': true, 'release_by': '1h'}");
    EXPECT_NUMBER(EXPECT_TEXT(r, "status", "held"), "counts.held", 3);
    char *id = id_of(r), *first = strdup(text_of(r, "invocations.0"));
    EXPECT_TEXT(EXPECT_TEXT(get(s, "/invocations/%s", first), "status", "held"), "hold", "promise");
    restart(s);
    EXPECT_TEXT(get(s, "/groups/%s", id), "status", "held");
    EXPECT(post(s, format("/groups/%s/release", id), NULL), 200);
    EXPECT_TEXT(ended(s, id), "status", "succeeded");
    EXPECT_TEXT(EXPECT(post(s, format("/groups/%s/release", id), NULL), 200), "status", "succeeded");
    id = id_of(make(s, "{'task': 'count', 'args': [1, 2], 'hold': true, 'release_by': '50ms'}"));
    EXPECT_NUMBER(EXPECT_TEXT(ended(s, id), "status", "cancelled"), "counts.cancelled", 2);
    EXPECT_TEXT(get(s, "/groups/%s/results", id), "items.1.error.type", "not_released");
    EXPECT_PROBLEM(post(s, format("/groups/%s/release", id), NULL), 409, "conflict");
}

Test(groups, a_cancellation_reaches_all_that_is_not_final)
{
    struct server *s = serve(CONFIG);
    struct reply *r =
        make(s, format("{'task': 'hold', 'args': ['%s', '%s', '%s', '%s', '%s', '%s']}", file_in(s, "a"),
                       file_in(s, "a"), file_in(s, "a"), file_in(s, "a"), file_in(s, "a"), file_in(s, "a")));
    char *id = id_of(r);
    AWAIT_STATUS(s, text_of(r, "invocations.0"), "running");
    int status = post(s, format("/groups/%s/cancel", id), NULL)->status;
    cr_expect(status == 200 || status == 202, "%d", status);
    EXPECT_NUMBER(EXPECT_TEXT(ended(s, id), "status", "cancelled"), "counts.cancelled", 6);
    EXPECT_TEXT(EXPECT(post(s, format("/groups/%s/cancel", id), NULL), 200), "status", "cancelled");
    EXPECT_PROBLEM(post(s, "/groups/0123456789ABC/cancel", NULL), 404, "not-found");
    EXPECT_PROBLEM(post(s, format("/groups/%s/cancel", id), "{'x': 1}"), 422, "invalid-request");
}

/* --- results --------------------------------------------------------------------------------- */

Test(groups, pages_of_results_are_in_either_order)
{
    struct server *s = serve(CONFIG);
    char *go = file_in(s, "go");
    char *id = id_of(make(s, format("{'invocations': [{'task': 'hold', 'args': '%s'}, {'task': 'echo', 'args': 1},"
                                    "{'task': 'echo', 'args': 2}, {'task': 'echo', 'args': 3}]}",
                                    go)));
    WAIT_UNTIL(number_of(get(s, "/groups/%s", id), "counts.succeeded") == 3);
    struct reply *r = EXPECT(get(s, "/groups/%s/results?limit=2", id), 200);
    EXPECT_NULL(EXPECT_TEXT(r, "items.0.status", "running"), "items.0.result");
    REQUIRE(header(r, "Link") && strstr(header(r, "Link"), "rel=\"next\""), "%s", r->head);
    r = EXPECT(get(s, "/groups/%s/results?limit=2&cursor=%s", id, text_of(r, "next")), 200);
    EXPECT_NULL(EXPECT_NUMBER(EXPECT_NUMBER(r, "items.0.index", 2), "items.1.index", 3), "next");
    r = EXPECT(get(s, "/groups/%s/results?order=completion", id), 200);
    cr_expect_eq(count_of(r, "items"), 3);
    touch(go);
    ended(s, id);
    char *cursor = strdup("");
    int seen = 0;
    for (struct reply *page = NULL; !page || cursor[0]; seen++) {
        page = EXPECT(get(s, "/groups/%s/results?order=completion&limit=1&cursor=%s", id, cursor), 200);
        cr_assert_eq(count_of(page, "items"), 1);
        if (seen == 3)
            EXPECT_NUMBER(page, "items.0.index", 0);
        cursor = strdup(text_of(page, "next"));
    }
    cr_expect_eq(seen, 4);
    static const char *const bad[] = {"order=x",  "limit=0", "limit=1001",
                                      "cursor=!", "wait=1",  "order=completion&order=completion"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        EXPECT_PROBLEM(get(s, "/groups/%s/results?%s", id, bad[i]), 400, "invalid-query");
}

static struct client *follow(struct server *s, const char *id, const char *query)
{
    struct client *client = client_open(s);
    client_ask(client, "GET", format("/groups/%s/results%s", id, query), "Accept: application/x-ndjson\r\n", NULL,
               0);
    REQUIRE(client_receive_head(client)->status == 200);
    return client;
}

/* The lines up to the one that says `part`. */
static char *hear(struct client *client, const char *part)
{
    char *heard = strdup(""), *piece;
    while (!strstr(heard, part) && (piece = client_receive_piece(client)))
        heard = format("%s%s", heard, piece);
    return heard;
}

Test(groups, lines_of_results_come_as_members_end)
{
    struct server *s = serve(CONFIG);
    char *a = file_in(s, "a"), *b = file_in(s, "b");
    struct reply *r = make(s, format("{'task': 'hold', 'args': ['%s', '%s', '%s']}", a, b, b));
    char *id = id_of(r);
    struct client *submission = follow(s, id, ""), *completion = follow(s, id, "?order=completion");
    cr_expect_not(client_hears(completion, 100));
    touch(b);
    char *heard = hear(completion, "\"index\":2");
    if (!strstr(heard, "\"index\":1"))
        heard = format("%s%s", heard, hear(completion, "\"index\":1"));
    cr_expect_not(strstr(heard, "\"index\":0"), "%s", heard);
    cr_expect_not(client_hears(submission, 100), "the first has not ended");
    touch(a);
    cr_expect(strstr(hear(completion, "\"index\":0"), "\"status\":\"succeeded\""));
    cr_expect_null(client_receive_piece(completion), "the group is final");
    heard = hear(submission, "\"index\":2");
    cr_expect(strstr(heard, "\"index\":0") < strstr(heard, "\"index\":1"), "%s", heard);
    cr_expect_null(client_receive_piece(submission));
    /* Who was cut off goes on behind a line. */
    r = ask(s, "GET", format("/groups/%s/results", id), "Accept: application/x-ndjson\r\n", NULL);
    char *line = strstr(r->body, "\"cursor\":\"");
    REQUIRE(line, "%s", r->body);
    char *cursor = strndup(line + 10, strcspn(line + 10, "\""));
    r = ask(s, "GET", format("/groups/%s/results?cursor=%s", id, cursor), "Accept: application/x-ndjson\r\n",
            NULL);
    cr_expect(!strstr(r->body, "\"index\":0") && strstr(r->body, "\"index\":1"), "%s", r->body);
}

Test(groups, lines_end_with_the_server_and_who_leaves_gives_its_place_back)
{
    struct server *s = serve("limits: {streams: 2}\n" CONFIG);
    char *id = id_of(make(s, "{'task': 'far', 'args': [1]}"));
    struct client *one = follow(s, id, "");
    follow(s, id, "");
    EXPECT_PROBLEM(ask(s, "GET", format("/groups/%s/results", id), "Accept: application/x-ndjson\r\n", NULL), 429,
                   "too-many-streams");
    client_close(one);
    struct client *third = NULL;
    WAIT_UNTIL(
        (third = client_open(s),
         client_ask(third, "GET", format("/groups/%s/results", id), "Accept: application/x-ndjson\r\n", NULL, 0),
         client_receive_head(third)->status == 200));
    cr_expect_eq(terminate(s), 0);
    cr_expect_null(client_receive_piece(third));
}

/* Each result is in memory once, however many there are and however slowly they are read. */
Test(groups, large_results_pass_through_little_memory)
{
    struct server *s = serve(CONFIG);
    enum { COUNT = 60, BYTES = 700000 };
    struct reply *r = EXPECT(post(s, "/groups", "{'task': 'echo', 'args': [], 'open': true}"), 201);
    char *id = id_of(r), *big = malloc(BYTES + 1);
    memset(big, 'x', BYTES);
    big[BYTES] = '\0';
    for (int i = 0; i < COUNT; i++)
        submit(s, "{'task': 'echo', 'args': '%s', 'group': '%s'}", big, id);
    EXPECT(post(s, format("/groups/%s/close", id), NULL), 200);
    ended(s, id);
    get(s, "/groups/%s/results?limit=1", id);
    int64_t before = resident_kb(s);
    for (int i = 0; i < 3; i++) {
        r = ask(s, "GET", format("/groups/%s/results", id), "Accept: application/x-ndjson\r\n", NULL);
        cr_expect_gt(r->length, (size_t)COUNT * BYTES);
    }
    r = EXPECT(get(s, "/groups/%s/results?limit=1000", id), 200);
    cr_expect_geq(count_of(r, "items"), 10);
    cr_expect_leq(r->length, (size_t)9 << 20, "a page ends early");
    cr_expect(text_of(r, "next")[0]);
    REQUIRE_GROWTH_BELOW(30000, before, resident_kb(s));
}

/* --- asking --------------------------------------------------------------------------------------- */

Test(groups, a_wait_is_over_when_it_is_final_and_what_is_known_is_304)
{
    struct server *s = serve(CONFIG);
    char *go = file_in(s, "go");
    struct reply *r = EXPECT(ask(s, "POST", "/groups", "Content-Type: application/json\r\nPrefer: wait=20\r\n",
                                 "{\"task\": \"echo\", \"args\": [1, 2]}"),
                             201);
    EXPECT_TEXT(r, "status", "succeeded");
    cr_expect_str_eq(header(r, "Preference-Applied"), "wait=20");
    r = EXPECT(ask(s, "POST", "/groups", "Content-Type: application/json\r\nPrefer: return=minimal\r\n",
                   quoted(format("{'task': 'hold', 'args': ['%s']}", go))),
               201);
    char *id = id_of(r);
    cr_expect_eq(cJSON_GetArraySize(r->parsed), 2, "%s", r->body);
    struct client *client = client_open(s);
    client_ask(client, "GET", format("/groups/%s?wait=30", id), NULL, NULL, 0);
    cr_expect_not(client_hears(client, 100));
    touch(go);
    EXPECT_TEXT(client_receive(client, false), "status", "succeeded");
    EXPECT_TEXT(get(s, "/groups/%s?wait=1ms", id), "status", "succeeded");
    r = EXPECT(get(s, "/groups/%s?view=full", id), 200);
    cr_expect_eq(count_of(r, "invocations"), 1);
    EXPECT(ask(s, "GET", format("/groups/%s?view=full", id), format("If-None-Match: %s\r\n", header(r, "ETag")),
               NULL),
           304);
    EXPECT_PROBLEM(get(s, "/groups/%s?view=all", id), 400, "invalid-query");
}

Test(groups, a_key_makes_it_once)
{
    struct server *s = serve(CONFIG);
    const char *headers = "Content-Type: application/json\r\nIdempotency-Key: k\r\n";
    struct reply *r = EXPECT(ask(s, "POST", "/groups", headers, "{\"task\": \"echo\", \"args\": [1, 2]}"), 201);
    char *id = id_of(r);
    r = EXPECT(ask(s, "POST", "/groups", headers, "{ \"args\":[1,2], \"task\": \"echo\"}"), 200);
    EXPECT_TEXT(r, "id", id);
    cr_expect_eq(count_of(r, "invocations"), 2);
    EXPECT_PROBLEM(ask(s, "POST", "/groups", headers, "{\"task\": \"echo\", \"args\": [1, 3]}"), 422,
                   "key-reused");
    EXPECT(post(s, "/tasks", "{'task': 'echo', 'key': 'k'}"), 201);
    ended(s, id);
    cr_expect_eq(rows(s, "echo"), 3);
}

Test(groups, lines_have_its_own_fields_first)
{
    struct server *s = serve(CONFIG);
    struct reply *r = EXPECT(make_lines(s, "{'task': 'add', 'mode': 'chain'}\n[1, 2]\n\n{'x': 3}\r\n4"), 201);
    char *id = id_of(r);
    EXPECT_NUMBER(EXPECT_TEXT(ended(s, id), "mode", "chain"), "counts.succeeded", 3);
    EXPECT_NUMBER(get(s, "/groups/%s/results", id), "items.2.result.x", 4);
    r = EXPECT(make_lines(s, "{}\n{'task': 'echo', 'args': 1}\n{'task': 'fail'}\n"), 201);
    EXPECT_TEXT(ended(s, text_of(r, "id")), "status", "failed");
    r = EXPECT_PROBLEM(make_lines(s, "{'task': 'add'}\n[1]\n['a']\n[]\n"), 422, "invalid-request");
    cr_expect(faults_mention(r, "/args/1/0"), "%s", r->body);
    r = EXPECT_PROBLEM(make_lines(s, "{'task': 'add'}\n[1]\n[1,\n"), 400, "invalid-json");
    EXPECT_HAS(r, "line 3");
    EXPECT_PROBLEM(make_lines(s, "\n\n"), 422, "invalid-request");
    EXPECT_PROBLEM(make_lines(s, "{'task': 'add', 'args': []}\n"), 422, "invalid-request");
}

Test(groups, one_that_is_faulty_is_not_made_at_all)
{
    struct server *s = serve(CONFIG);
    struct reply *r = EXPECT_PROBLEM(post(s, "/groups",
                                          "{'mode': 'x', 'open': 1, 'what': 2, 'invocations': [{'task': 'echo'}, "
                                          "{'task': 'nobody'}, {'task': 'add'}]}"),
                                     422, "invalid-request");
    static const char *const pointers[] = {"/mode", "/open", "/what", "/invocations/1/task",
                                           "/invocations/2/args/x"};
    for (size_t i = 0; i < sizeof pointers / sizeof *pointers; i++)
        cr_expect(faults_mention(r, pointers[i]), "%s: %s", pointers[i], r->body);
    r = EXPECT_PROBLEM(
        post(s, "/groups", "{'invocations': [{'task': 'echo'}, {'task': 'echo', 'after': ['0123456789ABC']}]}"),
        422, "invalid-request");
    EXPECT_HAS(r, "0123456789ABC");
    cr_expect(faults_mention(r, "/invocations/1"), "%s", r->body);
    EXPECT_PROBLEM(ask(s, "POST", "/groups", "Content-Type: application/json\r\n", "{\"task\": "), 400,
                   "invalid-json");
    EXPECT_PROBLEM(ask(s, "POST", "/groups", "Content-Type: application/json\r\n", ""), 400, "invalid-json");
    EXPECT_PROBLEM(ask(s, "POST", "/groups", "Content-Type: text/plain\r\n", "x"), 415, "unsupported-media-type");
    EXPECT_PROBLEM(post(s, "/groups?x=1", "{'task': 'echo', 'args': []}"), 400, "invalid-query");
    cr_expect_eq(rows(s, "echo"), 0);
}

Test(groups, a_limit_of_a_task_refuses_all_of_it)
{
    struct server *s = serve(CONFIG "  few: {kind: native, module: $NATIVE, function: echo, max_queued: 3}\n");
    EXPECT(post(s, "/pause", NULL), 200);
    EXPECT_PROBLEM(post(s, "/groups", "{'task': 'few', 'args': [1, 2, 3, 4]}"), 429, "queue-full");
    cr_expect_eq(rows(s, "few"), 0);
    EXPECT(post(s, "/groups", "{'task': 'few', 'args': [1, 2, 3]}"), 201);
}

/* --- of a turn ----------------------------------------------------------------------------------------- */

static char *lease(struct server *s)
{
    struct reply *r = EXPECT(post(s, "/leases", "{'worker': 'w', 'tasks': ['far'], 'wait': '20s'}"), 200);
    REQUIRE(count_of(r, "leases") == 1, "%s", r->body);
    return strdup(text_of(r, "leases.0.token"));
}

Test(groups, a_turn_submits_one_as_its_step)
{
    struct server *s = serve(CONFIG);
    char *parent = submit(s, "{'task': 'far'}"), *token = lease(s);
    const char *body = quoted("{'task': 'echo', 'args': [1, 2], 'step': 'all'}");
    char *path = format("/leases/%s/groups", token);
    struct reply *r = EXPECT(ask(s, "POST", path, "Content-Type: application/json\r\n", body), 201);
    char *id = id_of(r);
    EXPECT_TEXT(EXPECT_TEXT(r, "parent", parent), "step", "all");
    r = EXPECT(ask(s, "POST", path, "Content-Type: application/json\r\n", body), 200);
    EXPECT_TEXT(r, "id", id);
    EXPECT_PROBLEM(
        ask(s, "POST", format("/leases/%s/steps/taken", token), "Content-Type: application/json\r\n", "{}"), 405,
        "method-not-allowed");
    EXPECT(ask(s, "PUT", format("/leases/%s/steps/taken", token), "Content-Type: application/json\r\n",
               "{\"value\": 1}"),
           201);
    EXPECT_PROBLEM(post(s, path, "{'task': 'echo', 'args': [], 'step': 'taken'}"), 409, "conflict");
    EXPECT_TEXT(ended(s, id), "status", "succeeded");
    r = EXPECT(post(s, format("/leases/%s/wait", token), "{'on': {'ids': ['%s']}}", id), 200);
    EXPECT(post(s, format("/leases/%s/complete", token), "{'result': 1}"), 204);
    EXPECT_PROBLEM(post(s, path, "{'task': 'echo', 'args': []}"), 409, "stale-lease");
}

Test(groups, a_cancelled_parent_takes_its_group_with_it)
{
    struct server *s = serve(CONFIG);
    char *parent = submit(s, "{'task': 'far'}"), *token = lease(s);
    char *path = format("/leases/%s/groups", token);
    char *held = id_of(EXPECT(post(s, path, "{'task': 'echo', 'args': [1], 'delay': '1h'}"), 201));
    char *spared =
        id_of(EXPECT(post(s, path, "{'task': 'echo', 'args': [1], 'delay': '1h', 'detached': true}"), 201));
    EXPECT(post(s, format("/invocations/%s/cancel", parent), NULL), 200);
    EXPECT_TEXT(ended(s, held), "status", "cancelled");
    EXPECT_TEXT(get(s, "/groups/%s", spared), "status", "running");
    EXPECT_PROBLEM(post(s, path, "{'task': 'echo', 'args': [1]}"), 409, "cancelled");
}

/* --- large ones ---------------------------------------------------------------------------------------- */

/* `count` members, whose arguments are their numbers. */
static char *large(const char *task, int count, size_t *length)
{
    char *body = malloc((size_t)count * 8 + 100), *p = body;
    p += sprintf(p, "{\"task\": \"%s\", \"args\": [0", task);
    for (int i = 1; i < count; i++)
        p += sprintf(p, ",%d", i);
    p += sprintf(p, "]}");
    *length = (size_t)(p - body);
    return body;
}

Test(groups, one_of_many_thousands_is_made_in_steps)
{
    struct server *s = serve(CONFIG);
    size_t length;
    enum { COUNT = 20000 };
    char *body = large("echo", COUNT, &length);
    struct reply *r =
        EXPECT(ask_bytes(s, "POST", "/groups", "Content-Type: application/json\r\n", body, length), 201);
    EXPECT_NUMBER(r, "total", COUNT);
    cr_expect_eq(count_of(r, "invocations"), COUNT);
    char *id = id_of(r);
    EXPECT_NUMBER(EXPECT_TEXT(ended(s, id), "status", "succeeded"), "counts.succeeded", COUNT);
    r = ask(s, "GET", format("/groups/%s/results", id), "Accept: application/x-ndjson\r\n", NULL);
    int lines = 0;
    for (const char *p = r->body; (p = strchr(p, '\n')); p++)
        lines++;
    cr_expect_eq(lines, COUNT);
    cr_expect(!strstr(server_log(s), "too much was read on the loop's thread"), "%s", server_log(s));
    body = large("echo", 100001, &length);
    EXPECT_PROBLEM(ask_bytes(s, "POST", "/groups", "Content-Type: application/json\r\n", body, length), 422,
                   "invalid-request");
}

static void send_large(struct server *s, struct client **client)
{
    size_t length;
    char *body = large("far", 100000, &length);
    *client = client_open(s);
    client_ask(*client, "POST", "/groups", "Content-Type: application/json\r\n", body, length);
}

/* A commit is on its way, while some of it is on disk and the rest is not. */
static void await_half(struct server *s)
{
    await_held_commit(s);
    release_commits(s);
    WAIT_UNTIL(rows(s, "far") > 0);
    hold_commits(s);
    await_held_commit(s);
}

Test(groups, a_crash_before_its_last_member_removes_it)
{
    struct server *s = prepare(CONFIG);
    struct client *client;
    prepare_to_hold_commits(s);
    start(s);
    hold_commits(s);
    send_large(s, &client);
    await_half(s);
    kill_hard(s);
    release_commits(s);
    start(s);
    WAIT_UNTIL(rows(s, "far") == 0);
    EXPECT(post(s, "/groups", "{'task': 'far', 'args': [1]}"), 201);
    cr_expect_eq(rows(s, "far"), 1);
}

Test(groups, a_client_that_leaves_before_the_last_member_takes_it_along)
{
    struct server *s = prepare(CONFIG);
    struct client *client;
    prepare_to_hold_commits(s);
    start(s);
    hold_commits(s);
    send_large(s, &client);
    await_held_commit(s);
    client_close(client);
    release_commits(s);
    WAIT_UNTIL(rows(s, "far") == 0);
    EXPECT(get(s, "/readyz"), 200);
    EXPECT_NUMBER(get(s, "/stats"), "invocations.queued", 0);
}

/* --- bad guests ------------------------------------------------------------------------------------------ */

static void begin_large(struct server *s, struct client **client, int bytes)
{
    char *head = format("POST /groups HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                        "Content-Length: %d\r\n\r\n{",
                        bytes);
    *client = client_open(s);
    client_send(*client, head, strlen(head));
}

/* Bodies that are announced and do not come: there is room for four of the largest. */
Test(groups, large_bodies_share_what_room_there_is)
{
    struct server *s = serve("limits: {body: 64KiB, bulk_body: 1MiB}\n" CONFIG);
    struct client *clients[4];
    for (int i = 0; i < 4; i++)
        begin_large(s, &clients[i], 1 << 20);
    struct reply *r = NULL;
    char *whole = malloc(1 << 20);
    memset(whole, ' ', 1 << 20);
    WAIT_UNTIL(
        (r = ask_bytes(s, "POST", "/groups", "Content-Type: application/json\r\n", whole, 1 << 20))->status ==
        503);
    EXPECT_PROBLEM(r, 503, "busy");
    REQUIRE(header(r, "Retry-After"), "%s", r->head);
    EXPECT(post(s, "/groups", "{'task': 'echo', 'args': [1]}"), 201);
    for (int i = 0; i < 4; i++)
        client_close(clients[i]);
    whole = realloc(whole, (1 << 20) + 1);
    EXPECT_PROBLEM(ask_bytes(s, "POST", "/groups", "Content-Type: application/json\r\n", whole, (1 << 20) + 1),
                   413, "payload-too-large");
    char *big = malloc(70001);
    memset(big, 'x', 70000);
    big[70000] = '\0';
    WAIT_UNTIL((r = post(s, "/groups", "{'task': 'echo', 'args': [1, '%s']}", big))->status != 503);
    cr_expect(faults_mention(EXPECT_PROBLEM(r, 422, "invalid-request"), "/args/1"), "%s", r->body);
}

Test(groups, faults_without_number_are_cut_and_nothing_waits_for_them)
{
    struct server *s = serve(CONFIG);
    size_t length;
    char *body = large("add", 100000, &length);
    for (char *p = strstr(body, "[") + 1; *p; p++)
        if (*p >= '0' && *p <= '9')
            *p = p[-1] == '[' || p[-1] == ',' ? '"' : p[1] == ',' || p[1] == ']' ? '"' : *p;
    struct client *client = client_open(s);
    client_ask(client, "POST", "/groups", "Content-Type: application/json\r\n", body, length);
    EXPECT(get(s, "/healthz"), 200);
    struct reply *r = client_receive(client, false);
    cr_expect(r->status == 422 || r->status == 400, "%d", r->status);
    cr_expect_lt(r->length, (size_t)100000);
    /* A circle through all of them. */
    char *graph = malloc(8 << 20), *p = graph;
    p += sprintf(p, "{\"invocations\":[");
    for (int i = 0; i < 50000; i++)
        p += sprintf(p, "%s{\"task\":\"echo\",\"name\":\"m%d\",\"after\":[\"m%d\"]}", i ? "," : "", i,
                     i ? i - 1 : 49999);
    p += sprintf(p, "]}");
    r = EXPECT_PROBLEM(
        ask_bytes(s, "POST", "/groups", "Content-Type: application/json\r\n", graph, (size_t)(p - graph)), 422,
        "invalid-request");
    EXPECT_HAS(r, "circle");
    EXPECT_NUMBER(get(s, "/stats"), "submitted", 0);
}
