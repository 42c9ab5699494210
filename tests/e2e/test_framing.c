/* What two parsers could read differently is refused, and the connection closed:
 * of what follows nobody knows whether it is a body or a request. */
#include "tests/e2e/support.h"

#include <stdlib.h>
#include <string.h>

SUITE(framing);

#define HIDDEN                                                                                        \
    "POST /tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 16" \
    "\r\n\r\n{\"task\": \"echo\"}"
#define POSTED "POST /tasks HTTP/1.1\r\nHost: localhost\r\n"
#define GOT "GET /tasks HTTP/1.1\r\nHost: localhost\r\n"

/* Sends all of it; what came back until the server closed. */
static char *all_answers(struct server *s, const char *bytes, size_t size)
{
    struct client *c = client_open(s);
    char *text = strdup("");
    struct reply *r;
    client_send(c, bytes, size);
    while ((r = client_receive(c, false)))
        text = format("%s%d ", text, r->status);
    client_close(c);
    return text;
}

#define ROW_OF(text) text, sizeof(text) - 1
#define ROW(text)    \
    {                \
        ROW_OF(text) \
    }

/* Each of these was 200, or let the hidden request through. */
Test(framing, a_head_that_two_parsers_could_read_differently_is_refused_and_ends_the_connection)
{
    struct server *s = serve(TASKS);
    static const struct {
        const char *bytes;
        size_t size;
    } rows[] = {
        ROW(POSTED "Content-Length : 127\r\n\r\n" HIDDEN),
        ROW(POSTED "Content-Length\t: 127\r\n\r\n" HIDDEN),
        ROW(POSTED " Content-Length: 127\r\n\r\n" HIDDEN),
        ROW(POSTED "Content-Length:\r\n 127\r\n\r\n" HIDDEN),
        ROW(POSTED "Content-Length: \r\n\t127\r\n\r\n" HIDDEN),
        ROW(POSTED "Content-Length: 0\r\n 127\r\n\r\n" HIDDEN),
        ROW(POSTED "Content-Length:\r\n\r\n" HIDDEN),
        ROW(POSTED "Content-Length: 99999999999999999999\r\n\r\n" HIDDEN),
        ROW(POSTED "X-Other: a\r\n folded\r\nContent-Length: 0\r\n\r\n" HIDDEN),
        ROW(POSTED "X-Other: a\rContent-Length: 127\r\n\r\n" HIDDEN),
        ROW(POSTED "X-Other: a\0Content-Length: 127\r\n\r\n" HIDDEN),
        ROW(POSTED "X-Other: a\nContent-Length: 0\r\n\r\n" HIDDEN),
        ROW(POSTED "X-Other: a\n\r\n" HIDDEN),
        ROW(POSTED "X-Other: a\r\n\n" HIDDEN),
        ROW(POSTED "X-Other: a\n\n" HIDDEN),
        ROW(POSTED "Transfer-Encoding : chunked\r\n\r\n" HIDDEN),
        ROW(POSTED "Transfer-Encoding: identity\r\n\r\n" HIDDEN),
        ROW(POSTED "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" HIDDEN),
        ROW("POST /tasks HTTP/1.0\r\nTransfer-Encoding: chunked\r\nConnection: "
            "keep-alive\r\n\r\n0\r\n\r\n" HIDDEN),
        ROW("GET /tasks\0/x HTTP/1.1\r\nHost: localhost\r\n\r\n" HIDDEN),
        ROW("GET /tasks?\0a=b HTTP/1.1\r\nHost: localhost\r\n\r\n" HIDDEN),
        ROW("GET /tasks /x HTTP/1.1\r\nHost: localhost\r\n\r\n" HIDDEN),
        ROW("GET /tasks\t/x HTTP/1.1\r\nHost: localhost\r\n\r\n" HIDDEN),
        ROW("GET /tasks HTTP/1.1\nHost: localhost\r\n\r\n" HIDDEN),
        ROW("GET /tasks HTTP/1.1 \r\nHost: localhost\r\n\r\n" HIDDEN),
        ROW(GOT "X(): a\r\n\r\n" HIDDEN),
        ROW(GOT ": a\r\n\r\n" HIDDEN),
        ROW(GOT "X-Bell: \a\r\n\r\n" HIDDEN),
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *answers = all_answers(s, rows[i].bytes, rows[i].size);
        REQUIRE(strcmp(answers, "400 ") == 0 ||
                    ((strstr(rows[i].bytes, "Length:\r") || strstr(rows[i].bytes, "99")) && !*answers),
                "%zu, %s: %s", i, rows[i].bytes, answers);
    }
    EXPECT_NUMBER(get(s, "/stats"), "submitted", 0);
}

static void send_in_pieces(struct client *c, const char *bytes, size_t size, size_t piece)
{
    for (size_t at = 0; at < size; at += piece)
        client_send(c, bytes + at, size - at < piece ? size - at : piece);
}

/* The parser's buffer grows, moves and is shared by requests that follow one another. */
Test(framing, a_clear_head_passes_however_it_arrives)
{
    struct server *s = serve(TASKS);
    char *long_value = calloc(7000, 1);
    memset(long_value, 'v', 6999);
    char *requests[] = {
        "GET /invocations?limit=1&view=basic HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost:localhost\r\nX-Empty:\r\nX-Tab:\ta \tb\t\r\nCookie: a=b; c=\"d\"\r\n\r\n",
        format("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: %s\r\nX-After: a\r\n\r\n", long_value),
        HIDDEN,
        POSTED "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{\"task\": \"echo\"}\r\n"
               "0\r\n\r\n",
        "\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    };
    static const size_t pieces[] = {1, 7, 100000};
    enum { COUNT = sizeof requests / sizeof *requests };
    for (int p = 0; p < 3; p++) {
        struct client *c = client_open(s);
        char *all = strdup("");
        for (int i = 0; i < COUNT; i++)
            all = format("%s%s", all, requests[i]);
        for (int round = 0; round < 2; round++) /* in one go, pipelined */
            send_in_pieces(c, all, strlen(all), pieces[p]);
        for (int i = 0; i < 2 * COUNT; i++) {
            struct reply *r = client_receive(c, false);
            REQUIRE(r && r->status / 100 == 2, "pieces of %zu, request %d: %s", pieces[p], i % COUNT,
                    r ? r->body : "closed");
        }
        client_close(c);
    }
}

/* What docs/security.md says that a proxy in front must not let through. Another
 * version may refuse it: then the document is to say so. */
Test(framing, of_a_body_in_chunks_bare_line_feeds_and_trailers_stay_hidden)
{
#define CHUNKED POSTED "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
#define OBJECT "{\"task\": \"echo\"}" /* 16 bytes */
    static const struct {
        const char *bytes;
        size_t size;
        const char *answer;
    } rows[] = {
        {ROW_OF(CHUNKED "10\r\n" OBJECT "\r\n0\r\n\r\n"), "201 "},
        {ROW_OF(CHUNKED "10\n" OBJECT "\r\n0\r\n\r\n"), "201 "},
        {ROW_OF(CHUNKED "10\r\n" OBJECT "\n0\r\n\r\n"), "201 "},
        {ROW_OF(CHUNKED "10\r\n" OBJECT "\r\n0\n\n"), "201 "},
        {ROW_OF(CHUNKED "10\r\n" OBJECT "\r\n0\r\nContent-Length: 5\n folded\r\n\r\n"), "201 "},
        {ROW_OF(CHUNKED "10\r" OBJECT "\r\n0\r\n\r\n"), "400 "},
        {ROW_OF(CHUNKED "10\r\n" OBJECT "\r0\r\n\r\n"), "400 "},
        {ROW_OF(CHUNKED "10\r\n" OBJECT "0\r\n\r\n"), "400 "},
        {ROW_OF(CHUNKED "10\r\n" OBJECT "\r\n0\r\nX\0: a\r\n\r\n"), "400 "},
    };
    struct server *s = serve(TASKS);
    if (strcmp(text_of(get(s, "/version"), "libmicrohttpd"), "0.9.75") != 0)
        cr_skip_test("another libmicrohttpd");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *answers = all_answers(s, rows[i].bytes, rows[i].size);
        REQUIRE(strcmp(answers, rows[i].answer) == 0, "%zu, %s: %s", i, rows[i].bytes, answers);
    }
}
