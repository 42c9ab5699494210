/* Messages of one, of a tree and of all: as lists, and as they come. */
#include "tests/e2e/support.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

SUITE(messages);

#define CONFIG                                                         \
    "tasks:\n"                                                         \
    "  far: {kind: remote, max_retries: 1, backoff: {initial: 1ms}}\n" \
    "  echo: {kind: native, module: $NATIVE}\n"                        \
    "  fail: {kind: native, module: $NATIVE}\n"                        \
    "  hold: {kind: native, module: $NATIVE}\n"                        \
    "  waits: {kind: native, module: $NATIVE}\n"

#define EVENTS "Accept: text/event-stream\r\n"
#define JSON "Content-Type: application/json\r\n"

/* --- who sends -------------------------------------------------------------------- */

struct turn {
    char *id, *token;
};

static struct turn lease(struct server *s, const char *length)
{
    struct reply *r = EXPECT(post(s, "/leases", "{'worker': 'w', 'wait': '30s', 'lease': '%s'}", length), 200);
    REQUIRE(cJSON_GetArraySize(field(r, "leases")) == 1, "%s", r->body);
    return (struct turn){strdup(text_of(r, "leases.0.invocation.id")), strdup(text_of(r, "leases.0.token"))};
}

static struct turn begin(struct server *s)
{
    submit(s, "{'task': 'far'}");
    return lease(s, "1h");
}

static int64_t say(struct server *s, struct turn turn, const char *body)
{
    struct reply *r = EXPECT(post(s, format("/leases/%s/messages", turn.token), "%s", quoted(body)), 201);
    return (int64_t)number_of(r, "seq");
}

static void complete(struct server *s, struct turn turn)
{
    EXPECT(post(s, format("/leases/%s/complete", turn.token), "{}"), 204);
}

static void give_up(struct server *s, struct turn turn)
{
    EXPECT(post(s, format("/leases/%s/fail", turn.token), "{'error': {'type': 'torn', 'message': 'a\\nb'}}"), 204);
}

/* --- lists -------------------------------------------------------------------------- */

/* The bodies of a list, with spaces between. */
static char *bodies(struct reply *r)
{
    const cJSON *item;
    char *text = strdup("");
    EXPECT(r, 200);
    cJSON_ArrayForEach(item, field(r, "items")) text =
        format("%s%s%s", text, *text ? " " : "", cJSON_PrintUnformatted(cJSON_GetObjectItem(item, "body")));
    return text;
}

Test(messages, a_list_has_what_was_sent_the_oldest_first)
{
    struct server *s = serve(CONFIG);
    struct turn one = begin(s), other = begin(s);
    int64_t first = say(s, one, "{'n':  1.10}"), second = say(s, other, "2"), third = say(s, one, "3");
    cr_assert(first < second && second < third);
    struct reply *r = EXPECT(get(s, "/messages"), 200);
    EXPECT_HAS(r, format("{\"items\":[{\"seq\":%d,\"kind\":\"out\",\"invocation\":\"%s\",\"at\":\"20", (int)first,
                         one.id));
    EXPECT_HAS(r, "\"body\":{\"n\":  1.10}},");
    EXPECT_TEXT(EXPECT_NUMBER(EXPECT_NULL(r, "next"), "items.1.seq", (double)second), "items.1.invocation",
                other.id);
    cr_expect_str_eq(bodies(get(s, "/invocations/%s/messages", one.id)), "{\"n\":1.1} 3");
    cr_expect_str_eq(bodies(get(s, "/messages?after=%d", (int)first)), "2 3");
    cr_expect_str_eq(bodies(get(s, "/messages?after=%d", (int)third)), "");
    cr_expect_str_eq(bodies(get(s, "/messages?kind=in")), "");
    cr_expect_str_eq(bodies(get(s, "/messages?kind=all&after=%d", (int)second)), "3");
    complete(s, one);
    cr_expect_str_eq(bodies(get(s, "/invocations/%s/messages", one.id)), "{\"n\":1.1} 3");
    EXPECT(ask(s, "GET", "/messages", format("If-None-Match: %s\r\n", header(get(s, "/messages"), "ETag")), NULL),
           304);
}

Test(messages, pages_follow_each_other_without_a_gap)
{
    struct server *s = serve(CONFIG);
    struct turn turn = begin(s);
    for (int i = 1; i <= 7; i++)
        say(s, turn, format("%d", i));
    char *path = format("/invocations/%s/messages?limit=3", turn.id), *text = strdup("");
    for (char *at = path; at;) {
        struct reply *r = EXPECT(get(s, "%s", at), 200);
        const char *next = text_of(r, "next");
        text = format("%s|%s", text, bodies(r));
        cr_expect_eq(*next != '\0', header(r, "Link") != NULL, "%s", r->head);
        if (*next)
            cr_expect(strstr(header(r, "Link"), format("<%s&cursor=%s>", path, next)), "%s", r->head);
        at = *next ? format("%s&cursor=%s", path, next) : NULL;
    }
    cr_expect_str_eq(text, "|1 2 3|4 5 6|7");
}

/* What was sent comes to that: a page of 8 MiB at most, in pieces. */
Test(messages, a_page_ends_early_at_eight_mebibytes)
{
    enum { LARGE = 65000, COUNT = 140 };
    struct server *s = serve(CONFIG);
    struct turn turn = begin(s);
    char *body = malloc(LARGE + 1), *cursor = strdup("");
    int got = 0, pages = 0;
    memset(body, 'x', LARGE);
    body[0] = body[LARGE - 1] = '"';
    body[LARGE] = '\0';
    for (int i = 0; i < COUNT; i++)
        say(s, turn, body);
    do {
        struct reply *r = EXPECT(get(s, "/messages?root=%s&limit=1000&cursor=%s", turn.id, cursor), 200);
        cr_expect_leq(r->length, 8 << 20);
        cr_expect_eq(number_of(r, "items.0.seq"), got + 1, "a page begins where the last one ended");
        got += cJSON_GetArraySize(field(r, "items"));
        cursor = strdup(text_of(r, "next"));
        pages++;
    } while (*cursor);
    cr_expect_eq(got, COUNT);
    cr_expect_eq(pages, 2);
}

/* --- trees ----------------------------------------------------------------------------- */

/* A body here that submits a remote child and waits for it. */
static char *parent_of(struct server *s, struct turn *child)
{
    char *id = submit(s, "{'task': 'waits', 'args': {'child': {'task': 'far', 'step': 'the child'}}}");
    *child = lease(s, "1h");
    return id;
}

Test(messages, those_of_a_tree_are_its_members_alone)
{
    struct server *s = serve(CONFIG);
    struct turn child, other, stranger = begin(s);
    char *parent = parent_of(s, &child);
    parent_of(s, &other);
    say(s, stranger, "'stranger'");
    say(s, child, "1");
    say(s, other, "'other'");
    say(s, child, "2");
    cr_expect_str_eq(bodies(get(s, "/messages?root=%s", parent)), "1 2");
    cr_expect_str_eq(bodies(get(s, "/messages?root=%s", child.id)), "1 2");
    cr_expect_str_eq(bodies(get(s, "/messages?root=%s", stranger.id)), "\"stranger\"");
    cr_expect_str_eq(bodies(get(s, "/invocations/%s/messages", parent)), "");
    struct reply *r = EXPECT(get(s, "/messages?limit=1&root=%s", parent), 200);
    cr_expect_str_eq(bodies(get(s, "/messages?limit=1&root=%s&cursor=%s", parent, text_of(r, "next"))), "2");
}

Test(messages, a_query_that_is_none_is_refused_with_all_its_faults)
{
    struct server *s = serve(CONFIG);
    char *id = submit(s, "{'task': 'echo', 'delay': '1h'}");
    static const struct {
        const char *query, *pointers[5];
    } rows[] = {
        {"?after=-1&limit=0&kind=both&cursor=!", {"after", "limit", "kind", "cursor"}},
        {"?after=x&limit=1001&rot=1", {"after", "limit", "rot"}},
        {"?after=1&after=2", {"after"}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int one = 0; one < 2; one++) {
            char *path = one ? format("/invocations/%s/messages", id) : strdup("/messages");
            struct reply *r = EXPECT_PROBLEM(get(s, "%s%s", path, rows[i].query), 400, "invalid-query");
            for (int k = 0; rows[i].pointers[k]; k++)
                cr_expect(faults_mention(r, rows[i].pointers[k]), "%s: %s", rows[i].query, r->body);
            EXPECT_PROBLEM(ask(s, "GET", format("%s%s", path, rows[i].query), EVENTS, NULL), 400, "invalid-query");
        }
    EXPECT_PROBLEM(get(s, "/messages?root=me"), 400, "invalid-query");
    EXPECT_PROBLEM(get(s, "/invocations/%s/messages?root=%s", id, id), 400, "invalid-query");
    static const char *const nobody[] = {"0123456789ABC", "0000000000000"};
    for (int i = 0; i < 2; i++)
        for (int events = 0; events < 2; events++) {
            EXPECT_PROBLEM(ask(s, "GET", format("/messages?root=%s", nobody[i]), events ? EVENTS : NULL, NULL),
                           404, "not-found");
            EXPECT_PROBLEM(
                ask(s, "GET", format("/invocations/%s/messages", nobody[i]), events ? EVENTS : NULL, NULL), 404,
                "not-found");
        }
}

/* --- as they come ------------------------------------------------------------------------ */

static struct client *follow(struct server *s, const char *path, const char *headers)
{
    struct client *c = client_open(s);
    client_ask(c, "GET", path, format(EVENTS "%s", headers ? headers : ""), NULL, 0);
    struct reply *r = client_receive_head(c);
    REQUIRE(r && r->status == 200, "%s", r ? r->head : "closed");
    cr_assert_str_eq(header(r, "Content-Type"), "text/event-stream");
    return c;
}

static char *hear_until(struct client *c, const char *wanted)
{
    char *text = strdup("");
    while (!strstr(text, wanted)) {
        char *piece = client_receive_piece(c);
        REQUIRE(piece, "it ended with %s", text);
        text = format("%s%s", text, piece);
    }
    return text;
}

static char *hear_all(struct client *c)
{
    size_t length = 0;
    char *text = strdup(""), *piece;
    for (; (piece = client_receive_piece(c)); free(piece)) {
        size_t more = strlen(piece);
        text = realloc(text, length + more + 1);
        memcpy(text + length, piece, more + 1);
        length += more;
    }
    return text;
}

static int count(const char *text, const char *part)
{
    int n = 0;
    for (const char *p = text; (p = strstr(p, part)); p++)
        n++;
    return n;
}

static char *end_of(const char *id, const char *status)
{
    return format("event: end\ndata: {\"invocation\":\"%s\",\"status\":\"%s\"}\n\n", id, status);
}

static char *message_of(int64_t seq)
{
    return format("event: message\nid: %d\ndata: {\"seq\":%d,\"kind\":\"out\",", (int)seq, (int)seq);
}

Test(messages, a_stream_has_what_is_there_and_what_comes_and_ends_with_its_sender)
{
    struct server *s = serve(CONFIG);
    struct turn turn = begin(s);
    int64_t first = say(s, turn, "{'a': 1,\n\n'b': 'x'}");
    struct client *c = follow(s, format("/invocations/%s/messages", turn.id), NULL);
    char *text = hear_until(c, message_of(first));
    cr_expect(strstr(text, "\"body\":{\"a\": 1,  \"b\": \"x\"}}\n\n"), "%s", text);
    hear_until(c, message_of(say(s, turn, "2")));
    complete(s, turn);
    cr_expect_str_eq(hear_all(c), end_of(turn.id, "succeeded"));
}

/* The stream is not ended by a worker's death, nor by a failure that is tried again. */
Test(messages, only_a_final_status_ends_a_stream)
{
    struct server *s = serve(CONFIG);
    submit(s, "{'task': 'far'}");
    struct turn lost = lease(s, "1s"), again;
    struct client *c = follow(s, format("/invocations/%s/messages", lost.id), NULL);
    hear_until(c, message_of(say(s, lost, "1")));
    again = lease(s, "1h");
    cr_assert_str_eq(again.id, lost.id);
    EXPECT_PROBLEM(post(s, format("/leases/%s/messages", lost.token), "2"), 409, "stale-lease");
    give_up(s, again);
    again = lease(s, "1h");
    hear_until(c, message_of(say(s, again, "3")));
    give_up(s, again);
    char *text = hear_all(c);
    cr_expect_str_eq(text, format("event: error\ndata: {\"invocation\":\"%s\",\"error\":{\"type\":\"torn\","
                                  "\"message\":\"a\\nb\"}}\n\n%s",
                                  lost.id, end_of(lost.id, "failed")));
}

Test(messages, who_comes_again_misses_none_and_gets_none_twice)
{
    struct server *s = serve(CONFIG);
    struct turn turn = begin(s), quiet = begin(s);
    int64_t seqs[6];
    for (int i = 0; i < 3; i++)
        seqs[i] = say(s, turn, "1");
    char *path = format("/invocations/%s/messages", turn.id);
    struct client *c = follow(s, path, NULL);
    hear_until(c, message_of(seqs[2]));
    client_close(c);
    for (int i = 3; i < 6; i++)
        seqs[i] = say(s, turn, "2");
    complete(s, turn);
    for (int from = 0; from < 6; from++) {
        static const char *const ways[] = {"%s?after=%d", "%s?after=1&cursor="};
        char *last = format("Last-Event-ID: %d\r\n", (int)seqs[from]);
        struct reply *r = EXPECT(ask(s, "GET", path, format(EVENTS "%s", last), NULL), 200);
        cr_expect_eq(count(r->body, "event: message"), 5 - from, "%s", r->body);
        cr_expect(strstr(r->body, end_of(turn.id, "succeeded")), "%s", r->body);
        struct reply *same = ask(s, "GET", format(ways[0], path, (int)seqs[from]), EVENTS, NULL);
        cr_expect_str_eq(same->body, r->body);
        same = ask(s, "GET", format(ways[1], path), format(EVENTS "%s", last), NULL);
        cr_expect_str_eq(same->body, r->body);
    }
    complete(s, quiet);
    struct reply *r = EXPECT(ask(s, "GET", format("/invocations/%s/messages", quiet.id), EVENTS, NULL), 200);
    cr_expect_str_eq(r->body, end_of(quiet.id, "succeeded"));
}

Test(messages, a_tree_is_followed_to_the_end_of_all_of_it)
{
    struct server *s = serve(CONFIG);
    struct turn child, stranger = begin(s);
    char *parent = parent_of(s, &child);
    struct client *c = follow(s, format("/messages?root=%s", parent), NULL);
    say(s, stranger, "'no'");
    int64_t seq = say(s, child, "1");
    hear_until(c, message_of(seq));
    complete(s, stranger);
    give_up(s, child);
    child = lease(s, "1h");
    say(s, child, "2");
    give_up(s, child);
    char *text = hear_all(c);
    cr_expect(strstr(text, "event: error"), "%s", text);
    cr_expect(strstr(text, end_of(child.id, "failed")), "%s", text);
    cr_expect(strstr(text, end_of(parent, "succeeded")), "%s", text);
    cr_expect_eq(count(text, "event: end"), 2, "%s", text);
    cr_expect_eq(count(text, "event: message"), 1, "%s", text);
    struct reply *r =
        ask(s, "GET", format("/messages?root=%s", parent), format(EVENTS "Last-Event-ID: %d\r\n", (int)seq), NULL);
    cr_expect_eq(count(r->body, "event: end"), 2, "%s", r->body);
    cr_expect_eq(count(r->body, "event: message"), 1, "%s", r->body);
}

/* A child that comes while the stream is open, of one that never sends. */
Test(messages, a_stream_of_a_tree_waits_for_children_that_outlive_their_parent)
{
    struct server *s = serve(CONFIG);
    char *parent = submit(s, "{'task': 'waits', 'args': {'for': 50, 'child': {'task': 'far'}}}");
    EXPECT_TEXT(final(s, parent), "result", "timed out");
    struct client *c = follow(s, format("/messages?root=%s", parent), NULL);
    hear_until(c, end_of(parent, "succeeded"));
    struct turn child = lease(s, "1h");
    hear_until(c, message_of(say(s, child, "1")));
    complete(s, child);
    cr_expect_str_eq(hear_all(c), end_of(child.id, "succeeded"));
}

Test(messages, a_stream_of_all_has_the_ends_of_those_who_sent_and_does_not_end)
{
    struct server *s = serve(CONFIG);
    struct turn one = begin(s), quiet = begin(s), two = begin(s);
    int64_t first = say(s, one, "1");
    complete(s, one);
    struct client *c = follow(s, "/messages", NULL);
    char *text = hear_until(c, end_of(one.id, "succeeded"));
    cr_expect_eq(count(text, message_of(first)), 1);
    hear_until(c, message_of(say(s, two, "2")));
    complete(s, quiet);
    give_up(s, two);
    two = lease(s, "1h");
    give_up(s, two);
    text = hear_until(c, end_of(two.id, "failed"));
    cr_expect_eq(count(text, "event: end"), 1, "%s", text);
    cr_expect_eq(count(text, "event: error"), 1, "%s", text);
    cr_expect(!strstr(text, quiet.id), "%s", text);
}

/* Its end was written while nobody listened, and its last message was heard before. */
Test(messages, an_end_that_came_before_a_resumption_is_told)
{
    struct server *s = serve(CONFIG);
    struct turn one = begin(s), two = begin(s);
    say(s, one, "1");
    int64_t heard = say(s, two, "2");
    complete(s, one);
    struct client *c = follow(s, "/messages", format("Last-Event-ID: %d\r\n", (int)heard));
    char *text = hear_until(c, end_of(one.id, "succeeded"));
    cr_expect_eq(count(text, "event: message"), 0, "%s", text);
    complete(s, two);
    hear_until(c, end_of(two.id, "succeeded"));
}

Test(messages, an_end_comes_after_the_last_message_of_its_sender)
{
    enum { SENDERS = 40, EACH = 30 };
    struct server *s = serve(CONFIG);
    struct turn senders[SENDERS];
    for (int i = 0; i < SENDERS; i++)
        senders[i] = begin(s);
    for (int k = 0; k < EACH; k++)
        for (int i = 0; i < SENDERS; i++)
            say(s, senders[i], "'0123456789012345678901234567890123456789012345678901234567890123456789'");
    for (int i = 0; i < SENDERS; i++)
        complete(s, senders[i]);
    struct client *c = follow(s, "/messages", NULL);
    char *text = strdup("");
    while (count(text, "event: end") < SENDERS)
        text = format("%s%s", text, client_receive_piece(c));
    cr_expect_eq(count(text, "event: message"), SENDERS * EACH);
    for (int i = 0; i < SENDERS; i++) {
        char *end = end_of(senders[i].id, "succeeded"), *at = strstr(text, end);
        REQUIRE(at, "no end of %s", senders[i].id);
        cr_expect(!strstr(at + strlen(end), senders[i].id), "%s has more after its end", senders[i].id);
    }
}

/* --- what goes wrong ---------------------------------------------------------------------- */

/* With commits so slow that the loop's own thread makes none. */
static struct server *serve_slowly(void)
{
    struct server *s = prepare(CONFIG);
    const char **variables = calloc(5, sizeof *variables);
    prepare_to_hold_commits(s);
    memcpy(variables, s->variables, 2 * sizeof *variables);
    variables[2] = "SLOW_MIN_MS=5";
    variables[3] = "SLOW_MAX_MS=5";
    s->variables = variables;
    start(s);
    for (int i = 0; i < 3; i++)
        submit(s, "{'task': 'hold', 'delay': '1h'}");
    return s;
}

/* A commit that is under way when the stream begins: before it, or after it, but once. */
Test(messages, a_message_that_is_being_committed_comes_once)
{
    struct server *s = serve_slowly();
    struct turn turn = begin(s);
    for (int i = 0; i < 10; i++) {
        hold_commits(s);
        struct client *sender = client_open(s), *c;
        client_ask(sender, "POST", format("/leases/%s/messages", turn.token), JSON, "1", 1);
        await_held_commit(s);
        c = follow(s, format(i % 2 ? "/messages?after=%d" : "/messages?after=%d&root=%s", i, turn.id), NULL);
        cr_expect(!client_hears(c, 30));
        release_commits(s);
        int64_t seq = (int64_t)number_of(EXPECT(client_receive(sender, false), 201), "seq");
        hear_until(c, message_of(seq));
        cr_expect(!client_hears(c, 30));
        client_close(c);
        client_close(sender);
    }
}

Test(messages, streams_end_at_shutdown_and_go_on_after_a_restart)
{
    struct server *s = serve(CONFIG);
    struct turn turn = begin(s);
    int64_t first = say(s, turn, "1");
    struct client *c = follow(s, "/messages", NULL);
    hear_until(c, message_of(first));
    int64_t second = say(s, turn, "2");
    hear_until(c, message_of(second));
    send_signal(s, SIGTERM);
    REQUIRE(!client_receive_piece(c));
    cr_assert_eq(await_exit(s), 0);
    start(s);
    c = follow(s, "/messages", format("Last-Event-ID: %d\r\n", (int)second));
    char *text = hear_until(c, message_of(say(s, turn, "3")));
    cr_expect_eq(count(text, "event: message"), 1, "%s", text);
}

Test(messages, a_client_that_reads_nothing_costs_little_and_holds_up_nobody)
{
    enum { LARGE = 65000, COUNT = 300 };
    struct server *s = serve(CONFIG);
    struct turn turn = begin(s);
    char *body = malloc(LARGE + 1);
    memset(body, 'x', LARGE);
    body[0] = body[LARGE - 1] = '"';
    body[LARGE] = '\0';
    for (int i = 0; i < COUNT; i++)
        say(s, turn, body);
    struct client *silent[20];
    int64_t before_kb = resident_kb(s);
    for (int i = 0; i < 20; i++) {
        silent[i] = client_open(s);
        client_ask(silent[i], "GET", i % 2 ? "/messages" : format("/messages?root=%s", turn.id), EVENTS, NULL, 0);
    }
    struct client *c = follow(s, "/messages?after=299", NULL);
    hear_until(c, message_of(say(s, turn, "'now'")));
    REQUIRE_GROWTH_BELOW(40000, before_kb, resident_kb(s));
    complete(s, turn);
    REQUIRE(client_receive_head(silent[0]));
    char *text = hear_all(silent[0]);
    cr_expect_eq(count(text, "event: message"), COUNT + 1);
    cr_expect_eq(count(text, end_of(turn.id, "succeeded")), 1);
}

Test(messages, streams_count_as_those_who_wait)
{
    struct server *s = serve("limits: {streams: 2}\n" CONFIG);
    struct client *c[2] = {follow(s, "/messages", NULL), follow(s, "/messages", NULL)};
    WAIT_UNTIL(number_of(get(s, "/stats"), "service.waiting_requests") == 2);
    EXPECT_PROBLEM(ask(s, "GET", "/messages", EVENTS, NULL), 429, "too-many-streams");
    client_close(c[0]);
    WAIT_UNTIL(number_of(get(s, "/stats"), "service.waiting_requests") == 1);
    follow(s, "/messages", NULL);
    WAIT_UNTIL(number_of(get(s, "/stats"), "service.waiting_requests") == 2);
    EXPECT(ask(s, "HEAD", "/messages", EVENTS, NULL), 429);
}

Test(messages, a_deleted_sender_ends_its_stream)
{
    struct server *s = serve(CONFIG);
    char *id = submit(s, "{'task': 'echo'}");
    final(s, id);
    struct client *c = follow(s, "/messages", NULL);
    EXPECT(ask(s, "DELETE", format("/invocations/%s", id), NULL, NULL), 204);
    EXPECT_PROBLEM(get(s, "/invocations/%s/messages", id), 404, "not-found");
    cr_expect(!client_hears(c, 50));
}

/* --- by chance ------------------------------------------------------------------------------ */

/* What is whole of a stream's text is heard, as an EventSource hears it; the rest
 * is forgotten with the connection. */
struct reader {
    char *path, *rest;
    int64_t last;
    int heard, ends;
    struct client *client; /* NULL: it has left */
};

static void hear_event(struct reader *reader, const char *event)
{
    int64_t seq;
    if (sscanf(event, "event: message\nid: %" SCNd64, &seq) == 1) {
        REQUIRE(seq > reader->last, "%s: %d after %d", reader->path, (int)seq, (int)reader->last);
        reader->last = seq;
        reader->heard++;
    }
    reader->ends += strncmp(event, "event: end", 10) == 0;
}

static void come(struct server *s, struct reader *reader)
{
    if (reader->client)
        return;
    reader->client = follow(s, reader->path, format("Last-Event-ID: %d\r\n", (int)reader->last));
    reader->rest = strdup("");
}

static void hear_some(struct server *s, struct reader *reader)
{
    come(s, reader);
    char *piece = client_receive_piece(reader->client), *end;
    REQUIRE(piece, "%s ended", reader->path);
    for (reader->rest = format("%s%s", reader->rest, piece); (end = strstr(reader->rest, "\n\n"));
         reader->rest = end + 2)
        hear_event(reader, reader->rest);
}

static void leave(struct reader *reader)
{
    if (reader->client)
        client_close(reader->client);
    reader->client = NULL;
}

Test(messages, readers_that_come_and_go_hear_each_message_once)
{
    enum { ROUNDS = 60, AT_ONCE = 10 };
    struct server *s = serve(CONFIG);
    struct turn child, stranger = begin(s);
    char *parent = parent_of(s, &child);
    struct reader readers[] = {
        {.path = "/messages"},
        {.path = format("/messages?root=%s", parent)},
        {.path = format("/invocations/%s/messages", child.id)},
    };
    struct client *sender = client_open(s);
    unsigned seed = (unsigned)now_ms();
    int sent = 0;
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < AT_ONCE; i++) {
            const struct turn *who = rand_r(&seed) % 2 ? &child : &stranger;
            client_ask(sender, "POST", format("/leases/%s/messages", who->token), JSON, "1", 1);
            for (int k = 0; k < 3; k++)
                if (rand_r(&seed) % 4 == 0)
                    leave(&readers[k]);
                else if (readers[k].client && client_hears(readers[k].client, 0))
                    hear_some(s, &readers[k]);
            EXPECT(client_receive(sender, false), 201);
            sent++;
        }
        for (int k = 0; k < 3; k++)
            if (rand_r(&seed) % 2)
                come(s, &readers[k]);
    }
    int of_child = cJSON_GetArraySize(field(get(s, "/messages?root=%s&limit=1000", parent), "items"));
    const int expected[] = {sent, of_child, of_child};
    complete(s, child);
    complete(s, stranger);
    for (int k = 0; k < 3; k++) {
        while (readers[k].heard < expected[k] || !readers[k].ends)
            hear_some(s, &readers[k]);
        REQUIRE(readers[k].heard == expected[k], "%s: %d of %d", readers[k].path, readers[k].heard, expected[k]);
    }
}
