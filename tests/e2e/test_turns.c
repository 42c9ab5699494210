/* What a turn can do at its own address: children, steps, messages, its inbox. */
#include "tests/e2e/support.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

SUITE(turns);

#define FAR                                                            \
    "tasks:\n"                                                         \
    "  far: {kind: remote, max_retries: 9, backoff: {initial: 1ms}}\n" \
    "  child: {kind: remote}\n"                                        \
    "  full: {kind: remote, max_queued: 1}\n"                          \
    "  one: {kind: remote, params: {x: integer}}\n"                    \
    "  echo: {kind: native, module: $NATIVE}\n"                        \
    "  hold: {kind: native, module: $NATIVE}\n"

#define JSON "Content-Type: application/json\r\n"

/* An invocation of `far`, and the token of its next turn. */
struct turn {
    struct server *server;
    char *id;
    const char *token;
};

static void take(struct turn *turn)
{
    struct reply *r =
        EXPECT(post(turn->server, "/leases", "{'worker': 'w', 'tasks': ['far'], 'wait': '30s'}"), 200);
    REQUIRE(cJSON_GetArraySize(field(r, "leases")) == 1, "%s", r->body);
    EXPECT_TEXT(r, "leases.0.invocation.id", turn->id);
    turn->token = text_of(r, "leases.0.token");
}

static struct turn begin(struct server *s)
{
    struct turn turn = {s, submit(s, "{'task': 'far'}"), NULL};
    take(&turn);
    return turn;
}

static struct reply *tell(const struct turn *turn, const char *what, const char *body)
{
    return post(turn->server, format("/leases/%s/%s", turn->token, what), "%s", quoted(body));
}

static struct reply *look(const struct turn *turn, const char *what)
{
    return get(turn->server, "/leases/%s/%s", turn->token, what);
}

static struct reply *put(const struct turn *turn, const char *name, const char *body)
{
    return ask(turn->server, "PUT", format("/leases/%s/steps/%s", turn->token, name), JSON, quoted(body));
}

static struct reply *send_to(const struct turn *turn, const char *key, const char *body)
{
    char *headers = key ? format(JSON "Idempotency-Key: %s\r\n", key) : JSON;
    return ask(turn->server, "POST", format("/invocations/%s/inbox", turn->id), headers, quoted(body));
}

/* Its turn fails, and the next one begins. */
static void fail_and_take(struct turn *turn)
{
    EXPECT(tell(turn, "fail", "{'error': {'type': 'x'}}"), 204);
    take(turn);
}

/* A string of JSON of so many bytes. */
static char *long_text(size_t bytes)
{
    char *text = calloc(1, bytes + 1);
    memset(text, 'a', bytes);
    text[0] = text[bytes - 1] = '"';
    return text;
}

/* --- the token ------------------------------------------------------------------- */

static const struct {
    const char *method, *what, *body;
} routes[] = {
    {"POST", "children", "{'task': 'child'}"},
    {"PUT", "steps/a", "{'value': 1}"},
    {"GET", "steps", NULL},
    {"POST", "messages", "1"},
    {"GET", "inbox", NULL},
    {"GET", "inbox?wait=60", NULL},
};
enum { ROUTES = sizeof routes / sizeof *routes };

Test(turns, a_token_is_good_until_its_turn_has_ended)
{
    struct server *s = serve(FAR);
    struct turn turn = begin(s);
    char *stale[] = {format("%s", turn.token), "x", "0BYZ2H9QW4G00-5c1e09a37b42d8f6"};
    EXPECT(tell(&turn, "complete", "{}"), 204);
    for (int i = 0; i < ROUTES; i++)
        for (size_t k = 0; k < sizeof stale / sizeof *stale; k++) {
            char *path = format("/leases/%s/%s", stale[k], routes[i].what);
            bool has_body = routes[i].body;
            EXPECT_PROBLEM(
                ask(s, routes[i].method, path, has_body ? JSON : NULL, has_body ? quoted(routes[i].body) : NULL),
                409, "stale-lease");
            if (has_body)
                EXPECT_PROBLEM(ask(s, routes[i].method, path, "Content-Type: text/plain\r\n", "{bad"), 409,
                               "stale-lease");
        }
}

/* SHA-256 of "boss". */
#define TOKENS                                                                                            \
    "tokens:\n"                                                                                           \
    "  - {name: boss, sha256: a5e7c002443743c5836758c7d1cd8ddefd9fcf2061daa0efaac683fb99966057, scopes: " \
    "[admin]}\n"

Test(turns, the_token_is_the_permission_and_no_log_shows_it)
{
    struct server *s = serve("log: {level: debug}\n" TOKENS FAR);
    s->token = "boss";
    struct turn turn = begin(s);
    s->token = NULL;
    EXPECT(tell(&turn, "children", "{'task': 'child'}"), 201);
    EXPECT(put(&turn, "a", "{'value': 1}"), 201);
    EXPECT(look(&turn, "steps"), 200);
    EXPECT(tell(&turn, "messages", "1"), 201);
    EXPECT(look(&turn, "inbox"), 200);
    EXPECT_PROBLEM(send_to(&turn, NULL, "1"), 401, "unauthorized");
    EXPECT_PROBLEM(get(s, "/invocations/%s/steps", turn.id), 401, "unauthorized");
    cr_assert_eq(terminate(s), 0);
    cr_assert(strstr(server_log(s), "/leases/{token}/steps/{name}"), "%s", server_log(s));
    cr_assert_null(strstr(server_log(s), turn.token), "%s", server_log(s));
}

/* The lease of a turn that a thread of the server runs stands in its row. */
static struct turn find_local(struct server *s, char *id)
{
    static const char script[] = "import sqlite3\n"
                                 "lease = sqlite3.connect('errand.db').execute("
                                 "'SELECT lease FROM invocations WHERE lease IS NOT NULL').fetchone()[0]\n"
                                 "print('%016x' % (lease % 2**64), end='')";
    char *lease, *err;
    const char *argv[] = {"python3", "-c", script, NULL};
    REQUIRE(run(s->folder, argv, NULL, &lease, &err) == 0, "%s", err);
    return (struct turn){s, id, format("%s-%s", id, lease)};
}

Test(turns, a_body_that_runs_here_has_the_same_address)
{
    struct server *s = serve("store: errand.db\n" FAR);
    char *id = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
    AWAIT_STATUS(s, id, "running");
    struct turn turn = find_local(s, id);
    char *child = format("%s", text_of(EXPECT(tell(&turn, "children", "{'task': 'echo', 'args': 1}"), 201), "id"));
    EXPECT_NUMBER(final(s, child), "result", 1);
    EXPECT(put(&turn, "a", "{'value': 1}"), 201);
    EXPECT_NUMBER(look(&turn, "steps"), "items.0.value", 1);
    EXPECT(tell(&turn, "messages", "1"), 201);
    EXPECT(tell(&turn, "heartbeat", "{'messages': [2]}"), 200);
    EXPECT(send_to(&turn, NULL, "3"), 201);
    EXPECT_NUMBER(look(&turn, "inbox"), "items.0.body", 3);
    touch(file_in(s, "go"));
    EXPECT_TEXT(final(s, id), "status", "succeeded");
    EXPECT_PROBLEM(look(&turn, "inbox"), 409, "stale-lease");
}

/* --- children ---------------------------------------------------------------------- */

Test(turns, a_child_is_a_submission_of_the_turn)
{
    struct server *s = serve(FAR);
    struct turn turn = begin(s);
    EXPECT(post(s, "/pause", NULL), 200);
    struct reply *r =
        EXPECT(tell(&turn, "children", "{'task': 'child', 'args': {'n': 1.10}, 'priority': 3}"), 201);
    EXPECT_HAS(EXPECT_TEXT(r, "status", "queued"), "{\"n\": 1.10}");
    cr_assert_str_eq(header(r, "Location"), format("/invocations/%s", text_of(r, "id")));
    EXPECT_NUMBER(get(s, "/invocations/%s", text_of(r, "id")), "priority", 3);
    char *path = format("/leases/%s/children", turn.token);
    r = EXPECT(ask(s, "POST", path, JSON "Prefer: return=minimal, wait=60\r\n", "{\"task\": \"child\"}"), 201);
    cr_assert_str_eq(header(r, "Preference-Applied"), "return=minimal");
    cr_assert_null(field(EXPECT_TEXT(r, "status", "queued"), "task"), "%s", r->body);
    r = EXPECT(ask(s, "POST", path, JSON "Idempotency-Key: k\r\n", "{\"task\": \"child\"}"), 201);
    struct reply *again = EXPECT(ask(s, "POST", path, JSON "Idempotency-Key: k\r\n", "{\"task\":\"child\"}"), 200);
    EXPECT_TEXT(again, "id", text_of(r, "id"));
    EXPECT_PROBLEM(ask(s, "POST", path, JSON "Idempotency-Key: k\r\n", "{\"task\":\"echo\"}"), 422, "key-reused");
    EXPECT(tell(&turn, "children", "{'task': 'full'}"), 201);
    EXPECT_PROBLEM(tell(&turn, "children", "{'task': 'full'}"), 429, "queue-full");
}

Test(turns, a_child_with_a_step_is_made_once)
{
    struct server *s = serve(FAR);
    struct turn turn = begin(s);
    char *first =
        format("%s", text_of(EXPECT(tell(&turn, "children", "{'task': 'child', 'step': 'a'}"), 201), "id"));
    EXPECT_TEXT(EXPECT(tell(&turn, "children", "{'task': 'child', 'step': '\\u0061'}"), 200), "id", first);
    fail_and_take(&turn);
    EXPECT_TEXT(EXPECT(tell(&turn, "children", "{'task': 'echo', 'step': 'a'}"), 200), "id", first);
    restart(s);
    EXPECT_TEXT(EXPECT(tell(&turn, "children", "{'task': 'child', 'step': 'a'}"), 200), "id", first);
    struct turn other = begin(s);
    EXPECT(tell(&other, "children", "{'task': 'child', 'step': 'a'}"), 201);
}

Test(turns, a_wrong_child_is_refused_with_all_its_faults)
{
    struct server *s = serve(FAR);
    struct turn turn = begin(s);
    static const struct {
        const char *body, *pointer;
    } rows[] = {
        {"{}", "/task"},
        {"{'task': 'nosuch'}", "/task"},
        {"{'task': 'one', 'args': {'x': 'a'}}", "/args/x"},
        {"{'task': 'child', 'step': ''}", "/step"},
        {"{'task': 'child', 'step': 7}", "/step"},
        {"{'task': 'child', 'step': 'a\\u0000'}", "/step"},
        {"{'task': 'child', 'step': 'a', 'key': 'k'}", "/step"},
        {"{'task': 'child', 'detached': 1}", "/detached"},
        {"{'task': 'child', 'color': 'red'}", "/color"},
        {"[]", ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct reply *r = EXPECT_PROBLEM(tell(&turn, "children", rows[i].body), 422, "invalid-request");
        cr_assert(faults_mention(r, rows[i].pointer), "%s: %s", rows[i].body, r->body);
    }
    EXPECT_PROBLEM(tell(&turn, "children?x=1", "{'task': 'child'}"), 400, "invalid-query");
    EXPECT_PROBLEM(tell(&turn, "children", "{bad"), 400, "invalid-json");
    EXPECT_PROBLEM(post(s, "/tasks", "{'task': 'child', 'step': 'a'}"), 422, "invalid-request");
}

Test(turns, a_cancelled_one_makes_no_more_children_but_detached_ones)
{
    struct server *s = serve(FAR);
    struct turn turn = begin(s);
    char *before = format("%s", text_of(EXPECT(tell(&turn, "children", "{'task': 'child'}"), 201), "id"));
    EXPECT(post(s, format("/invocations/%s/cancel", turn.id), NULL), 200);
    EXPECT_PROBLEM(tell(&turn, "children", "{'task': 'child'}"), 409, "cancelled");
    char *after =
        format("%s", text_of(EXPECT(tell(&turn, "children", "{'task': 'child', 'detached': true}"), 201), "id"));
    AWAIT_STATUS(s, before, "cancelled");
    EXPECT(tell(&turn, "fail", "{'error': {'type': 'x'}}"), 204);
    EXPECT_TEXT(final(s, turn.id), "status", "cancelled");
    EXPECT_TEXT(get(s, "/invocations/%s", after), "status", "queued");
}

Test(turns, many_children_come_as_lines)
{
    struct server *s = serve(FAR);
    struct turn turn = begin(s);
    char *path = format("/leases/%s/children", turn.token);
    char *lines = quoted("{'task': 'child', 'step': 'a'}\n{'task': 'child', 'step': '\\u0062'}\n"
                         "{'task': 'child', 'step': ''}\n{'task': 'child', 'step': 'a'}\n{'task': 'child'}\n");
    struct reply *r = EXPECT(ask(s, "POST", path, "Content-Type: application/x-ndjson\r\n", lines), 200);
    EXPECT_HAS(EXPECT_HAS(r, "{\"index\":0,\"status\":201,"), "{\"index\":1,\"status\":201,");
    EXPECT_HAS(EXPECT_HAS(r, "{\"index\":2,\"status\":422,"), "{\"index\":3,\"status\":200,");
    EXPECT_HAS(r, "{\"index\":4,\"status\":201,");
    EXPECT(tell(&turn, "children", "{'task': 'child', 'step': 'b'}"), 200);
    EXPECT_PROBLEM(ask(s, "POST", path, "Content-Type: application/x-ndjson\r\nIdempotency-Key: k\r\n", lines),
                   400, "invalid-header");
    EXPECT(tell(&turn, "complete", "{}"), 204);
    EXPECT_PROBLEM(ask(s, "POST", path, "Content-Type: application/x-ndjson\r\n", lines), 409, "stale-lease");
}

/* A body runs until the file is there; children of turns are taken meanwhile. */
Test(turns, children_are_taken_while_the_server_closes)
{
    struct server *s = serve("store: errand.db\n" FAR);
    char *held = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
    AWAIT_STATUS(s, held, "running");
    struct turn turn = find_local(s, held);
    EXPECT(post(s, "/shutdown?policy=join", NULL), 202);
    EXPECT_PROBLEM(post(s, "/tasks", "{'task': 'echo'}"), 503, "closing");
    char *child = format("%s", text_of(EXPECT(tell(&turn, "children", "{'task': 'echo', 'args': 7}"), 201), "id"));
    char *path = format("/leases/%s/children", turn.token);
    EXPECT(ask(s, "POST", path, "Content-Type: application/x-ndjson\r\n", "{\"task\": \"echo\"}"), 200);
    touch(file_in(s, "go"));
    cr_assert_eq(await_exit(s), 0);
    start(s);
    EXPECT_NUMBER(EXPECT_TEXT(get(s, "/invocations/%s", child), "status", "succeeded"), "result", 7);
}

/* --- steps -------------------------------------------------------------------------- */

Test(turns, the_first_value_of_a_step_stands)
{
    struct server *s = serve(FAR);
    struct turn turn = begin(s);
    struct reply *r = EXPECT(put(&turn, "charge", "{'value': {'n': 1.10}}"), 201);
    cr_assert_str_eq(r->body, "{\"name\":\"charge\",\"value\":{\"n\": 1.10}}");
    EXPECT_HAS(EXPECT(put(&turn, "charge", "{'value': 2}"), 200), "{\"n\": 1.10}");
    EXPECT_NULL(EXPECT(put(&turn, "none", "{'value': null}"), 201), "value");
    EXPECT_TEXT(EXPECT(put(&turn, "a%2F%C3%A9%22", "{'value': 3}"), 201), "name", "a/é\"");
    r = EXPECT(look(&turn, "steps"), 200);
    EXPECT_TEXT(EXPECT_TEXT(r, "items.0.name", "charge"), "items.2.name", "a/é\"");
    EXPECT_NULL(EXPECT_NUMBER(EXPECT_NUMBER(r, "items.0.value.n", 1.1), "items.2.value", 3), "next");
    cr_assert_eq(strlen(text_of(r, "items.1.at")), 24);
    cr_assert_str_eq(get(s, "/invocations/%s/steps", turn.id)->body, r->body);
    fail_and_take(&turn);
    EXPECT_NUMBER(EXPECT(put(&turn, "charge", "{'value': 4}"), 200), "value.n", 1.1);
    restart(s);
    EXPECT_NUMBER(EXPECT(put(&turn, "charge", "{'value': 5}"), 200), "value.n", 1.1);
    EXPECT(tell(&turn, "complete", "{}"), 204);
    EXPECT_NUMBER(get(s, "/invocations/%s/steps", turn.id), "items.0.value.n", 1.1);
}

Test(turns, steps_are_shown_with_a_tag)
{
    struct server *s = serve(FAR);
    struct turn turn = begin(s);
    char *path = format("/invocations/%s/steps", turn.id);
    struct reply *r = EXPECT(get(s, "%s", path), 200);
    cr_assert_str_eq(r->body, "{\"items\":[],\"next\":null}");
    char *headers = format("If-None-Match: %s\r\n", header(r, "ETag"));
    EXPECT(ask(s, "GET", path, headers, NULL), 304);
    EXPECT(put(&turn, "a", "{'value': 1}"), 201);
    EXPECT(ask(s, "GET", path, headers, NULL), 200);
    EXPECT_PROBLEM(get(s, "/invocations/0BYZ2H9QW4G00/steps"), 404, "not-found");
    EXPECT_PROBLEM(get(s, "/invocations/x/steps"), 404, "not-found");
    EXPECT_PROBLEM(get(s, "%s?limit=1", path), 400, "invalid-query");
    EXPECT_PROBLEM(look(&turn, "steps?limit=1"), 400, "invalid-query");
}

Test(turns, a_wrong_step_is_refused)
{
    struct server *s = serve(FAR);
    struct turn turn = begin(s);
    static const struct {
        const char *body, *pointer;
    } rows[] = {{"{}", "/value"}, {"[]", ""}, {"{'value': 1, 'at': 2}", "/at"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        cr_assert(faults_mention(EXPECT_PROBLEM(put(&turn, "a", rows[i].body), 422, "invalid-request"),
                                 rows[i].pointer));
    char *name = calloc(1, 257);
    memset(name, 'n', 256);
    EXPECT_PROBLEM(put(&turn, name, "{'value': 1}"), 422, "invalid-request");
    name[255] = '\0';
    EXPECT(put(&turn, name, "{'value': 1}"), 201);
    EXPECT_PROBLEM(put(&turn, "a%00", "{'value': 1}"), 404, "not-found");
    EXPECT_PROBLEM(put(&turn, "", "{'value': 1}"), 404, "not-found");
    EXPECT_PROBLEM(put(&turn, "a?x=1", "{'value': 1}"), 400, "invalid-query");
    EXPECT_PROBLEM(put(&turn, "a", "{'value': 1"), 400, "invalid-json");
}

Test(turns, values_and_children_share_their_names)
{
    struct server *s = serve(FAR);
    struct turn turn = begin(s);
    EXPECT(put(&turn, "value", "{'value': 1}"), 201);
    EXPECT(tell(&turn, "children", "{'task': 'child', 'step': 'child'}"), 201);
    EXPECT_PROBLEM(put(&turn, "child", "{'value': 1}"), 409, "conflict");
    EXPECT_PROBLEM(tell(&turn, "children", "{'task': 'child', 'step': 'value'}"), 409, "conflict");
    cr_assert_eq(cJSON_GetArraySize(field(look(&turn, "steps"), "items")), 1);
}

Test(turns, values_have_a_limit_together)
{
    struct server *s = serve(FAR);
    struct turn turn = begin(s);
    char *half = format("{\"value\": %s}", long_text(600000)),
         *rest = format("{\"value\": %s}", long_text(448576));
    EXPECT(put(&turn, "a", half), 201);
    EXPECT_PROBLEM(put(&turn, "b", half), 409, "steps-full");
    EXPECT(put(&turn, "b", rest), 201);
    EXPECT_PROBLEM(put(&turn, "c", "{'value': 1}"), 409, "steps-full");
    EXPECT(put(&turn, "a", half), 200);
    EXPECT(get(s, "/invocations/%s/steps", turn.id), 200);
    struct turn other = begin(s);
    EXPECT(put(&other, "c", "{'value': 1}"), 201);
}

/* The answer was lost, the step was not. */
Test(turns, a_step_whose_answer_was_lost_is_the_same_again)
{
    struct server *s = prepare(FAR);
    prepare_to_hold_commits(s);
    start(s);
    struct turn turn = begin(s);
    struct client *client = client_open(s);
    char *path = format("/leases/%s/steps/a", turn.token);
    hold_commits(s);
    client_ask(client, "PUT", path, JSON, "{\"value\":1}", 11);
    await_held_commit(s);
    client_close(client);
    release_commits(s);
    EXPECT_NUMBER(EXPECT(put(&turn, "a", "{'value': 2}"), 200), "value", 1);
}

/* Two of one name meet in the committer, a third finds them. */
Test(turns, two_values_of_one_name_in_one_moment_are_one)
{
    struct server *s = prepare(FAR);
    prepare_to_hold_commits(s);
    start(s);
    struct turn turn = begin(s);
    struct client *first = client_open(s), *second = client_open(s);
    char *path = format("/leases/%s/steps/a", turn.token);
    hold_commits(s);
    client_ask(first, "PUT", path, JSON, "{\"value\":1}", 11);
    await_held_commit(s);
    client_ask(second, "PUT", path, JSON, "{\"value\":2}", 11);
    release_commits(s);
    EXPECT_NUMBER(EXPECT(client_receive(first, false), 201), "value", 1);
    EXPECT_NUMBER(EXPECT(client_receive(second, false), 200), "value", 1);
}

/* --- messages ------------------------------------------------------------------------- */

Test(turns, messages_are_numbered_as_they_are_sent)
{
    struct server *s = serve(FAR);
    struct turn turn = begin(s);
    double first = number_of(EXPECT(tell(&turn, "messages", " {'n': 1.10} "), 201), "seq");
    EXPECT_NUMBER(EXPECT(tell(&turn, "messages", "null"), 201), "seq", first + 1);
    EXPECT(tell(&turn, "heartbeat", "{'progress': 0.5, 'messages': [1, [2], {'a': 3}]}"), 200);
    EXPECT_NUMBER(get(s, "/invocations/%s", turn.id), "progress.value", 0.5);
    EXPECT_NUMBER(EXPECT(tell(&turn, "messages", "4"), 201), "seq", first + 5);
    EXPECT(tell(&turn, "heartbeat", "{'messages': []}"), 200);
    EXPECT_NUMBER(EXPECT(tell(&turn, "messages", "5"), 201), "seq", first + 6);
}

Test(turns, a_message_has_a_limit)
{
    struct server *s = serve(FAR);
    struct turn turn = begin(s);
    EXPECT(tell(&turn, "messages", long_text(64 << 10)), 201);
    EXPECT_PROBLEM(tell(&turn, "messages", long_text((64 << 10) + 1)), 413, "payload-too-large");
    EXPECT(send_to(&turn, NULL, long_text(64 << 10)), 201);
    EXPECT_PROBLEM(send_to(&turn, NULL, long_text((64 << 10) + 1)), 413, "payload-too-large");
    struct reply *r = tell(&turn, "heartbeat", format("{'messages': [1, %s]}", long_text((64 << 10) + 1)));
    cr_assert(faults_mention(EXPECT_PROBLEM(r, 422, "invalid-request"), "/messages/1"), "%s", r->body);
    char *many = calloc(1, 300);
    for (int i = 0; i < 101; i++)
        strcat(many, i ? ",1" : "1");
    r = tell(&turn, "heartbeat", format("{'messages': [%s]}", many));
    cr_assert(faults_mention(EXPECT_PROBLEM(r, 422, "invalid-request"), "/messages"), "%s", r->body);
    EXPECT_PROBLEM(tell(&turn, "messages", ""), 400, "invalid-json");
    EXPECT_PROBLEM(tell(&turn, "messages?x=1", "1"), 400, "invalid-query");
}

Test(turns, an_outbox_has_a_limit_and_the_heartbeat_renews_even_so)
{
    struct server *s = serve(FAR);
    struct turn turn = begin(s);
    char *many = calloc(1, 300);
    for (int i = 0; i < 100; i++)
        strcat(many, i ? ",1" : "1");
    char *body = format("{\"progress\": 0.5, \"messages\": [%s]}", many);
    for (int i = 0; i < 100; i++)
        EXPECT(tell(&turn, "heartbeat", body), 200);
    EXPECT_PROBLEM(tell(&turn, "messages", "1"), 409, "outbox-full");
    EXPECT_PROBLEM(tell(&turn, "heartbeat", "{'progress': 0.75, 'messages': [1]}"), 409, "outbox-full");
    EXPECT_NUMBER(get(s, "/invocations/%s", turn.id), "progress.value", 0.75);
    EXPECT(tell(&turn, "complete", "{}"), 204);
}

/* --- the inbox --------------------------------------------------------------------------- */

Test(turns, what_is_sent_is_read_until_its_turn_ends_well)
{
    struct server *s = serve(FAR);
    struct turn turn = {s, submit(s, "{'task': 'far'}"), NULL};
    double first = number_of(EXPECT(send_to(&turn, NULL, " {'n': 1.10} "), 201), "seq");
    take(&turn);
    EXPECT_NUMBER(EXPECT(send_to(&turn, NULL, "2"), 201), "seq", first + 1);
    struct reply *r = EXPECT(look(&turn, "inbox"), 200);
    EXPECT_NUMBER(EXPECT_NUMBER(r, "items.0.seq", first), "items.1.body", 2);
    EXPECT_HAS(r, "\"body\":{\"n\": 1.10}}");
    cr_assert_eq(strlen(text_of(r, "items.0.at")), 24);
    cr_assert_str_eq(look(&turn, "inbox")->body, r->body, "reading takes nothing");
    r = EXPECT(look(&turn, format("inbox?after=%.0f", first)), 200);
    EXPECT_NUMBER(r, "items.0.body", 2);
    cr_assert_str_eq(look(&turn, format("inbox?after=%.0f&wait=0", first + 1))->body, "{\"items\":[]}");
    fail_and_take(&turn);
    EXPECT_NUMBER(look(&turn, "inbox"), "items.0.seq", first);
    restart(s);
    EXPECT_NUMBER(look(&turn, "inbox"), "items.1.seq", first + 1);
    EXPECT(tell(&turn, "complete", "{}"), 204);
    EXPECT_HAS(EXPECT_PROBLEM(send_to(&turn, NULL, "3"), 409, "conflict"), "succeeded");
}

static bool waits(struct server *s, int count)
{
    return number_of(get(s, "/stats"), "service.waiting_requests") == count;
}

static struct client *wait_for_message(const struct turn *turn, const char *query)
{
    struct client *client = client_open(turn->server);
    client_ask(client, "GET", format("/leases/%s/inbox?wait=60%s", turn->token, query), NULL, NULL, 0);
    WAIT_UNTIL(waits(turn->server, 1));
    return client;
}

Test(turns, who_waits_for_a_message_gets_it_when_it_comes)
{
    struct server *s = serve(FAR);
    struct turn turn = begin(s);
    struct client *client = wait_for_message(&turn, "");
    EXPECT(tell(&turn, "heartbeat", "{'progress': 1, 'messages': [1]}"), 200);
    double first = number_of(EXPECT(send_to(&turn, NULL, "7"), 201), "seq");
    EXPECT_NUMBER(EXPECT_NUMBER(EXPECT(client_receive(client, false), 200), "items.0.body", 7), "items.0.seq",
                  first);
    EXPECT_NUMBER(look(&turn, "inbox?wait=60"), "items.0.body", 7);
    client = wait_for_message(&turn, format("&after=%.0f", first));
    EXPECT(send_to(&turn, NULL, "8"), 201);
    EXPECT_NUMBER(EXPECT(client_receive(client, false), 200), "items.0.body", 8);
    cr_assert_str_eq(EXPECT(look(&turn, "inbox?wait=10ms&after=99999"), 200)->body, "{\"items\":[]}");
}

Test(turns, a_wait_for_a_message_ends_with_the_turn_and_with_the_server)
{
    struct server *s = serve(FAR);
    struct turn turn = begin(s);
    struct client *client = wait_for_message(&turn, "");
    EXPECT(tell(&turn, "fail", "{'error': {'type': 'x'}}"), 204);
    EXPECT_PROBLEM(client_receive(client, false), 409, "stale-lease");
    take(&turn);
    client = wait_for_message(&turn, "");
    client_close(client);
    WAIT_UNTIL(waits(s, 0));
    client = wait_for_message(&turn, "");
    send_signal(s, SIGTERM);
    cr_assert_str_eq(EXPECT(client_receive(client, false), 200)->body, "{\"items\":[]}");
    cr_assert_eq(await_exit(s), 0);
}

Test(turns, a_message_with_a_key_is_sent_once)
{
    struct server *s = serve(FAR);
    struct turn turn = begin(s);
    double first = number_of(EXPECT(send_to(&turn, "k", "{'a': 1, 'b': 2}"), 201), "seq");
    EXPECT_NUMBER(EXPECT(send_to(&turn, "\"k\"", "{'b':2,'a':1}"), 200), "seq", first);
    EXPECT_PROBLEM(send_to(&turn, "k", "{'a': 1, 'b': 3}"), 422, "key-reused");
    EXPECT(send_to(&turn, "other", "{'a': 1, 'b': 2}"), 201);
    cr_assert_eq(cJSON_GetArraySize(field(look(&turn, "inbox"), "items")), 2);
    EXPECT(tell(&turn, "complete", "{}"), 204);
    EXPECT_NUMBER(EXPECT(send_to(&turn, "k", "{'a': 1, 'b': 2}"), 200), "seq", first);
    char *name = calloc(1, 257);
    memset(name, 'k', 256);
    EXPECT_PROBLEM(send_to(&turn, name, "1"), 400, "invalid-header");
    EXPECT_PROBLEM(send_to(&turn, "\"\"", "1"), 400, "invalid-header");
}

Test(turns, a_wrong_message_or_question_is_refused)
{
    struct server *s = serve("limits: {streams: 1}\n" FAR);
    struct turn turn = begin(s), none = {s, "0BYZ2H9QW4G00", "x"}, nonsense = {s, "x", "x"};
    EXPECT_PROBLEM(send_to(&none, NULL, "1"), 404, "not-found");
    EXPECT_PROBLEM(send_to(&nonsense, NULL, "1"), 404, "not-found");
    EXPECT_PROBLEM(send_to(&turn, NULL, "{bad"), 400, "invalid-json");
    EXPECT_PROBLEM(send_to(&turn, NULL, ""), 400, "invalid-json");
    static const char *const queries[] = {"after=x", "after=-1", "wait=x", "limit=1", "after=1&after=2"};
    for (size_t i = 0; i < sizeof queries / sizeof *queries; i++)
        EXPECT_PROBLEM(look(&turn, format("inbox?%s", queries[i])), 400, "invalid-query");
    wait_for_message(&turn, "");
    EXPECT_PROBLEM(look(&turn, "inbox?wait=1"), 429, "too-many-streams");
    EXPECT(look(&turn, "inbox"), 200);
}

/* What the turn under way was given waits for nobody. */
Test(turns, an_inbox_has_a_limit_of_what_nobody_was_given)
{
    struct server *s = serve(FAR);
    struct turn turn = begin(s);
    struct client *client = client_open(s);
    char *path = format("/invocations/%s/inbox", turn.id);
    for (int i = 0; i < 1000; i++) {
        client_ask(client, "POST", path, JSON, "1", 1);
        EXPECT(client_receive(client, false), 201);
    }
    struct reply *r = EXPECT_PROBLEM(send_to(&turn, NULL, "1"), 429, "inbox-full");
    cr_assert(header(r, "Retry-After"), "%s", r->head);
    cr_assert_eq(cJSON_GetArraySize(field(look(&turn, "inbox"), "items")), 1000);
    EXPECT(send_to(&turn, NULL, "2"), 201);
    fail_and_take(&turn);
    EXPECT_PROBLEM(send_to(&turn, NULL, "3"), 429, "inbox-full");
    r = EXPECT(look(&turn, "inbox"), 200);
    double last = number_of(r, "items.999.seq");
    EXPECT_NUMBER(look(&turn, format("inbox?after=%.0f", last)), "items.0.body", 2);
}
