/* Callbacks: who may be told, what becomes of a try, signatures. */
#include "base/digest.h"
#include "base/yaml.h"
#include "workers/callbacks/hosts.h"
#include "workers/callbacks/judge.h"
#include "workers/transfers/signature.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

/* --- hosts ---------------------------------------------------------------------------- */

Test(callbacks, a_url_is_taken_apart_as_it_is_asked)
{
    static const struct row {
        const char *url, *place; /* NULL: it is refused */
    } rows[] = {
        {"https://example.org/hook", "example.org:443"},
        {"http://EXAMPLE.org", "example.org:80"},
        {"HTTPS://example.org:8443/?a=b", "example.org:8443"},
        {"http://127.0.0.1:9/", "127.0.0.1:9"},
        {"http://2130706433/", "127.0.0.1:80"},
        {"http://0x7f.1/", "127.0.0.1:80"},
        {"http://0177.0.0.1/", "127.0.0.1:80"},
        {"http://[::1]:8080/", "[::1]:8080"},
        {"https://example.org./", "example.org.:443"},
        {"https://user@example.org/", NULL},
        {"https://:password@example.org/", NULL},
        {"https://example.org#part", NULL},
        {"https://example.org\\@evil.com/", NULL},
        {"https://exa mple.org/", NULL},
        {"https://example.org/\r\nX: y", NULL},
        {"https://\xc3\xa9xample.org/", NULL},
        {"https://example.org:99999/", NULL},
        {"https:///path", NULL},
        {"https:/example.org", NULL},
        {"https:example.org", NULL},
        {"https://", NULL},
        {"example.org", NULL},
        {"//example.org/", NULL},
        {"/path", NULL},
        {"", NULL},
        {"ftp://example.org/", NULL},
        {"gopher://example.org/", NULL},
        {"javascript:alert(1)", NULL},
        {"unix:/run/x", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct destination destination;
        struct reason why = {""};
        struct buf place = {0};
        bool good = destination_parse(rows[i].url, &destination, &why);
        cr_expect_eq(good, rows[i].place != NULL, "%s: %s", rows[i].url, why.text);
        cr_expect(good || *why.text, "%s", rows[i].url);
        if (good)
            destination_add_place(&place, &destination);
        if (good && rows[i].place)
            cr_expect_str_eq(buf_cstr(&place), rows[i].place, "%s: %s", rows[i].url, buf_cstr(&place));
        destination_release(&destination);
        buf_release(&place);
    }
}

Test(callbacks, a_pattern_names_a_host_or_those_below_it_and_perhaps_a_port)
{
    static const struct row {
        const char *pattern, *url;
        bool allowed;
    } rows[] = {
        {"example.org", "https://example.org/", true},
        {"example.org", "http://example.org/", true},
        {"Example.ORG", "http://example.org/", true},
        {"example.org", "https://EXAMPLE.org/", true},
        {"example.org", "https://example.org:443/", true},
        {"example.org", "https://example.org:80/", false},
        {"example.org", "http://example.org:443/", false},
        {"example.org", "https://example.org:8443/", false},
        {"example.org", "https://a.example.org/", false},
        {"example.org", "https://example.org.evil.com/", false},
        {"example.org", "https://example.org./", false},
        {"example.org:8443", "https://example.org:8443/", true},
        {"example.org:8443", "http://example.org:8443/", true},
        {"example.org:8443", "https://example.org/", false},
        {"example.org:*", "https://example.org:1/", true},
        {"example.org:*", "https://example.com:1/", false},
        {"*.example.org", "https://a.example.org/", true},
        {"*.example.org", "https://a.b.example.org/", true},
        {"*.example.org", "https://example.org/", false},
        {"*.example.org", "https://notexample.org/", false},
        {"*.example.org", "https://a.example.org:8443/", false},
        {"*.example.org:8443", "https://a.example.org:8443/", true},
        {"127.0.0.1:*", "http://127.0.0.1:9/", true},
        {"127.0.0.1:*", "http://2130706433:9/", true},
        {"127.0.0.1:*", "http://localhost:9/", false},
        {"[::1]", "http://[::1]/", true},
        {"[::1]:*", "http://[::1]:9/", true},
        {"[::1]", "http://[::2]/", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct destination destination;
        struct reason why = {""};
        char *pattern = xstrdup(rows[i].pattern), *patterns[] = {pattern, NULL};
        cr_assert(hosts_check(pattern, &why), "%s: %s", rows[i].pattern, why.text);
        cr_assert(destination_parse(rows[i].url, &destination, &why), "%s: %s", rows[i].url, why.text);
        cr_expect_eq(hosts_allow(patterns, &destination), rows[i].allowed, "%s, %s", rows[i].pattern, rows[i].url);
        destination_release(&destination);
        free(pattern);
    }
}

Test(callbacks, what_is_no_pattern_is_refused)
{
    static const char *const rows[] = {
        "",
        "*",
        "*.",
        "**.example.org",
        "a.*.org",
        "*example.org",
        "example.*",
        ".org",
        "example.",
        "exa mple.org",
        "example.org/x",
        "https://example.org",
        "example:",
        "example:0",
        "example:-1",
        "example:70000",
        "example:8a",
        "user@example.org",
        "[::1",
        "[::1]x",
        "[]",
        "::1",
        ":8080",
        "example.org:80:80",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct reason why = {""};
        char *pattern = xstrdup(rows[i]);
        cr_expect_not(hosts_check(pattern, &why), "%s", rows[i]);
        cr_expect(*why.text, "%s", rows[i]);
        free(pattern);
    }
}

/* --- what is configured ------------------------------------------------------------------ */

static void read(const char *text, struct policy *policy, struct faults *faults)
{
    struct yaml *doc = yaml_parse(span_of(text), faults);
    struct keys_input in = {doc, "/tmp", faults};
    *policy = (struct policy){0};
    policy_read(&in, doc ? yaml_root(doc) : NULL, policy);
    yaml_free(doc);
}

#define SECRET "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

Test(callbacks, what_is_configured_wrongly_is_said)
{
    static const struct row {
        const char *text, *pointer; /* NULL: it is good */
    } rows[] = {
        {"{}", NULL},
        {"{hosts: []}", NULL},
        {"{hosts: [example.org], secret: " SECRET "}", NULL},
        {"{hosts: [example.org], secret: " SECRET ", delays: []}", NULL},
        {"{hosts: [example.org]}", "/callbacks/secret"},
        {"{hosts: [example.org], secret: hush}", "/callbacks/secret"},
        {"{hosts: [example.org], secret: {file: /does/not/exist}}", "/callbacks/secret"},
        {"{hosts: ['*'], secret: " SECRET "}", "/callbacks/hosts/0"},
        {"{hosts: example.org, secret: " SECRET "}", "/callbacks/hosts"},
        {"{delays: [1h, soon]}", "/callbacks/delays/1"},
        {"{in_flight: 0}", "/callbacks/in_flight"},
        {"{timeout: 1ms}", "/callbacks/timeout"},
        {"{proxy: nowhere}", "/callbacks/proxy"},
        {"{host: [example.org]}", "/callbacks/host"},
        {"[example.org]", "/callbacks"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct faults faults = {0};
        struct policy policy;
        read(rows[i].text, &policy, &faults);
        cr_expect_eq(faults.total, rows[i].pointer != NULL, "%s: %s", rows[i].text,
                     faults.count ? faults.items[0].detail : "none");
        if (faults.count && rows[i].pointer)
            cr_expect_str_eq(faults.items[0].pointer, rows[i].pointer, "%s", rows[i].text);
        policy_release(&policy);
        faults_release(&faults);
    }
}

/* --- tries --------------------------------------------------------------------------------- */

Test(callbacks, the_tries_are_spread_over_a_day)
{
    static const int64_t seconds[] = {5, 60, 300, 900, 1800, 3600, 7200, 14400, 21600, 36000};
    struct faults faults = {0};
    struct policy policy;
    int64_t total = 0;
    read("{}", &policy, &faults);
    for (int n = 1; n <= 10; n++) {
        cr_expect_eq(judge_delay_ms(&policy, n, 0.5), 1000 * seconds[n - 1], "%d", n);
        cr_expect_eq(judge_delay_ms(&policy, n, 0), 900 * seconds[n - 1], "%d", n);
        cr_expect_leq(judge_delay_ms(&policy, n, 0.999), 1100 * seconds[n - 1], "%d", n);
        total += seconds[n - 1];
    }
    cr_expect(total > 23 * 3600 && total <= 24 * 3600);
    cr_expect_eq(judge_delay_ms(&policy, 0, 0.5), -1);
    cr_expect_eq(judge_delay_ms(&policy, 11, 0.5), -1);
    policy_release(&policy);
}

Test(callbacks, what_becomes_of_a_try)
{
    static const struct row {
        struct post_answer answer;
        int attempts;
        enum delivery_status status;
        bool counts;
        int64_t delay_ms;
        const char *error;
    } rows[] = {
        {{.end = POST_ANSWERED, .status = 200}, 0, DELIVERY_DELIVERED, true, 0, ""},
        {{.end = POST_ANSWERED, .status = 299}, 2, DELIVERY_DELIVERED, true, 0, ""},
        {{.end = POST_ANSWERED, .status = 200, .retry_after_ms = 5000}, 0, DELIVERY_DELIVERED, true, 0, ""},
        {{.end = POST_ANSWERED, .status = 500}, 0, DELIVERY_PENDING, true, 1000, "http:500"},
        {{.end = POST_ANSWERED, .status = 500}, 1, DELIVERY_PENDING, true, 2000, "http:500"},
        {{.end = POST_ANSWERED, .status = 500}, 2, DELIVERY_FAILED, true, 0, "http:500"},
        {{.end = POST_ANSWERED, .status = 302}, 0, DELIVERY_PENDING, true, 1000, "not followed"},
        {{.end = POST_ANSWERED, .status = 410}, 0, DELIVERY_FAILED, true, 0, "http:410"},
        {{.end = POST_ANSWERED, .status = 503, .retry_after_ms = 60000},
         0,
         DELIVERY_PENDING,
         true,
         60000,
         "http:503"},
        {{.end = POST_ANSWERED, .status = 503, .retry_after_ms = 10}, 0, DELIVERY_PENDING, true, 1000, "http:503"},
        {{.end = POST_ANSWERED, .status = 503, .retry_after_ms = 60000}, 2, DELIVERY_FAILED, true, 0, "http:503"},
        {{.end = POST_TIMED_OUT}, 0, DELIVERY_PENDING, true, 1000, "longer than 3s"},
        {{.end = POST_BROKEN, .why = "refused"}, 0, DELIVERY_PENDING, true, 1000, "refused"},
        {{.end = POST_BROKEN, .why = "refused"}, 2, DELIVERY_FAILED, true, 0, "connection"},
        {{.end = POST_BROKEN, .why = "none left", .error = EMFILE}, 2, DELIVERY_PENDING, false, 5000, "none left"},
    };
    struct faults faults = {0};
    struct policy policy;
    read("{delays: [1s, 2s], timeout: 3s}", &policy, &faults);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct buf error = {0};
        struct judgement judgement = judge_answer(&policy, rows[i].attempts, &rows[i].answer, 0.5, &error);
        cr_expect_eq(judgement.status, rows[i].status, "%zu", i);
        cr_expect_eq(judgement.counts, rows[i].counts, "%zu", i);
        cr_expect_eq(judgement.silent, rows[i].counts && rows[i].answer.end != POST_ANSWERED, "%zu", i);
        cr_expect_eq(judgement.delay_ms, rows[i].delay_ms, "%zu: %lld", i, (long long)judgement.delay_ms);
        cr_expect(strstr(buf_cstr(&error), rows[i].error), "%zu: %s", i, buf_cstr(&error));
        cr_expect_eq(error.len == 0, *rows[i].error == 0, "%zu", i);
        buf_release(&error);
    }
    policy_release(&policy);
}

/* --- signatures ------------------------------------------------------------------------------ */

/* The one that the libraries of the Standard Webhooks project are tested with. */
Test(callbacks, a_signature_agrees_with_the_standard)
{
    struct buf secret = {0}, signature = {0};
    cr_assert(base64_decode(SPAN("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), &secret));
    signature_add(&signature, buf_span(&secret), SPAN("msg_p5jXN8AQM9LWM0D4loKWxJek"), 1614265330,
                  SPAN("{\"test\": 2432232314}"));
    cr_expect_str_eq(buf_cstr(&signature), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    buf_release(&secret);
    buf_release(&signature);
}
