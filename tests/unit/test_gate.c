#include "server/http/gate.h"

#include <criterion/criterion.h>

/* sha256 of "secret" and of "boss". */
static const char text[] = "listen: 127.0.0.1:0\n"
                           "hosts: [errand.example]\n"
                           "cors: {origins: [\"https://page.example\"]}\n"
                           "tokens:\n"
                           "  - {name: shop, sha256: "
                           "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b, scopes: [submit]}\n"
                           "  - {name: boss, sha256: "
                           "a5e7c002443743c5836758c7d1cd8ddefd9fcf2061daa0efaac683fb99966057, scopes: [admin]}\n";

static struct config *config;

static void make_config(void)
{
    struct faults faults = {0};
    config = config_parse(span_of(text), "/", &faults);
    cr_assert(config, "%s: %s", faults.count ? faults.items[0].pointer : "",
              faults.count ? faults.items[0].detail : "");
}

static void free_config(void)
{
    config_free(config);
}

TestSuite(gate, .init = make_config, .fini = free_config);

static struct span maybe(const char *value)
{
    return value ? span_of(value) : (struct span){NULL, 0};
}

Test(gate, a_host_is_loopbacks_an_address_or_a_configured_one)
{
    static const struct {
        const char *host;
        bool passes;
    } rows[] = {
        {NULL, true},
        {"localhost", true},
        {"LocalHost:8080", true},
        {"127.0.0.1", true},
        {"127.0.0.1:1", true},
        {"[::1]:8080", true},
        {"[::1]", true},
        {"10.1.2.3:80", true},
        {"errand.example", true},
        {"ERRAND.example:9999", true},
        {"", false},
        {"evil.example", false},
        {"localhost.evil.example", false},
        {"127.0.0.1.evil.example", false},
        {"errand.example.evil", false},
        {"[evil.example]", false},
        {"[::1", false},
        {"localhost@evil.example", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        cr_expect_eq(gate_host(config, maybe(rows[i].host)), rows[i].passes, "%s", rows[i].host);
}

Test(gate, a_changing_request_comes_from_here_from_a_configured_page_or_from_no_page)
{
    static const struct {
        const char *origin, *host, *fetch_site;
        bool passes;
    } rows[] = {
        {NULL, "localhost:8080", NULL, true},
        {NULL, "localhost:8080", "same-origin", true},
        {NULL, "localhost:8080", "none", true},
        {NULL, "localhost:8080", "cross-site", false},
        {NULL, "localhost:8080", "Cross-Site", false},
        {"http://localhost:8080", "localhost:8080", NULL, true},
        {"https://LOCALHOST:8080", "localhost:8080", NULL, true},
        {"http://localhost:8080", "localhost:8080", "cross-site", true},
        {"http://localhost:8081", "localhost:8080", NULL, false},
        {"http://localhost", "localhost:8080", NULL, false},
        {"http://evil.example", "localhost:8080", NULL, false},
        {"null", "localhost:8080", NULL, false},
        {"", "localhost:8080", NULL, false},
        {"ftp://localhost:8080", "localhost:8080", NULL, false},
        {"https://page.example", "localhost:8080", "cross-site", true},
        {"https://page.example.evil", "localhost:8080", NULL, false},
        {"http://localhost:8080", NULL, NULL, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct headers headers = {
            .origin = maybe(rows[i].origin), .host = maybe(rows[i].host), .fetch_site = maybe(rows[i].fetch_site)};
        cr_expect_eq(gate_origin(config, &headers), rows[i].passes, "row %zu", i);
    }
}

Test(gate, a_token_is_known_by_its_hash_alone)
{
    static const struct {
        const char *authorization, *name;
    } rows[] = {
        {"Bearer boss", "boss"},
        {"bearer boss", "boss"},
        {"Bearer   boss", "boss"},
        {"Bearer secret", "shop"},
        {NULL, NULL},
        {"", NULL},
        {"Bearer", NULL},
        {"Bearer ", NULL},
        {"Bearer boss ", NULL},
        {"Bearer bos", NULL},
        {"Basic boss", NULL},
        {"boss", NULL},
        {"Bearer a5e7c002443743c5836758c7d1cd8ddefd9fcf2061daa0efaac683fb99966057", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct token *token = gate_token(config, maybe(rows[i].authorization));
        cr_expect_eq(token != NULL, rows[i].name != NULL, "row %zu", i);
        if (token && rows[i].name)
            cr_expect_str_eq(token->name, rows[i].name);
    }
}

Test(gate, the_media_type_counts_without_its_parameters)
{
    static const struct {
        const char *type;
        enum media media;
    } rows[] = {
        {NULL, MEDIA_NONE},
        {"application/json", MEDIA_JSON},
        {"Application/JSON; charset=utf-8", MEDIA_JSON},
        {"application/json \t;x", MEDIA_JSON},
        {"application/x-ndjson", MEDIA_NDJSON},
        {"text/plain", MEDIA_TEXT},
        {"text/plain;charset=utf-8", MEDIA_TEXT},
        {"text/html", MEDIA_OTHER},
        {"", MEDIA_OTHER},
        {"application/jsonx", MEDIA_OTHER},
        {"application/problem+json", MEDIA_OTHER},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        cr_expect_eq(gate_media(maybe(rows[i].type)), rows[i].media, "%s", rows[i].type);
}

Test(gate, prefer_names_the_seconds_to_wait_among_other_preferences)
{
    static const struct {
        const char *prefer;
        int64_t ms;
    } rows[] = {
        {NULL, -1},
        {"", -1},
        {"wait=10", 10000},
        {"Wait=10", 10000},
        {"respond-async, wait=5", 5000},
        {"wait=5; strict", 5000},
        {"wait=0", 0},
        {"await=5", -1},
        {"wait=", -1},
        {"wait=x", -1},
        {"wait=-1", -1},
        {"wait", -1},
        {"return=minimal,wait=5", 5000},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        cr_expect_eq(gate_prefer_wait(maybe(rows[i].prefer)), rows[i].ms, "%s: %lld", rows[i].prefer,
                     (long long)gate_prefer_wait(maybe(rows[i].prefer)));
}

Test(gate, prefer_asks_for_a_minimal_answer)
{
    static const struct {
        const char *prefer;
        bool minimal;
    } rows[] = {
        {NULL, false},
        {"", false},
        {"return=minimal", true},
        {"Return=Minimal", true},
        {"return=\"minimal\"", true},
        {"wait=5, return=minimal", true},
        {"return=minimal; x=y", true},
        {"return=representation, return=minimal", false}, /* the first counts */
        {"return=minimally", false},
        {"noreturn=minimal", false},
        {"return", false},
        {"return=", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        cr_expect_eq(gate_prefer_minimal(maybe(rows[i].prefer)), rows[i].minimal, "%s", rows[i].prefer);
}

Test(gate, headers_are_noted_in_any_case_and_counted)
{
    struct headers h = {0};
    headers_note(&h, "HOST", 4, "a", 1);
    headers_note(&h, "Host", 4, "b", 1);
    headers_note(&h, "content-length", 14, "1", 1);
    headers_note(&h, "X-Host", 6, "c", 1);
    headers_note(&h, "Prefer", 6, NULL, 0);
    cr_expect_eq(h.hosts, 2);
    cr_expect(span_is(h.host, "b"));
    cr_expect_eq(h.content_lengths, 1);
    cr_expect(h.prefer.p && h.prefer.len == 0);
    cr_expect_null(h.origin.p);
    cr_expect_eq(h.bytes, (4 + 1 + 4) * 2 + (14 + 1 + 4) + (6 + 1 + 4) + (6 + 0 + 4));
}

Test(gate, a_key_may_be_quoted_as_the_draft_writes_it)
{
    static const struct {
        const char *header, *key;
    } rows[] = {
        {"k2", "k2"}, {"\"k2\"", "k2"}, {"\"a \\\"b\\\\\"", "a \"b\\"}, {"\"k2", "\"k2"}, {"k2\"", "k2\""},
        {"\"", "\""}, {"\"\"", ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct buf key = {0};
        gate_key(span_of(rows[i].header), &key);
        cr_expect_str_eq(buf_cstr(&key), rows[i].key);
        buf_release(&key);
    }
}
