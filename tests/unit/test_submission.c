#include "base/clock.h"
#include "server/config/config.h"
#include "workers/submission.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static const char text[] =
    "tasks:\n"
    "  any: {kind: command, run: [\"true\"], priority: 9, timeout: 5s, max_retries: 2}\n"
    "  late: {kind: command, run: [\"true\"], expires_in: 1m, max_queued: 7}\n"
    "  add: {kind: command, run: [\"true\"], params: {x: integer, y: {type: integer, default: 1}}}\n"
    "  say: {kind: command, run: [echo, \"{word}\"]}\n";

enum { NOW = 1700000000 };
static const int64_t now_ms = NOW * INT64_C(1000);

static struct config *config;
static struct buf scratch, scratch_key;
static struct submission_context context;

static void make_context(void)
{
    struct faults faults = {0};
    config = config_parse(span_of(text), "/", &faults);
    cr_assert(config, "%s %s", faults.count ? faults.items[0].pointer : "",
              faults.count ? faults.items[0].detail : "");
    context = (struct submission_context){
        .registry = config->registry, .owner = SPAN(""), .now_ms = now_ms, .scratch = &scratch};
}

static void free_context(void)
{
    config_free(config);
    buf_release(&scratch);
    buf_release(&scratch_key);
}

TestSuite(submission, .init = make_context, .fini = free_context);

/* A body with ' for "; the next one but three takes its place. */
static struct span quoted(const char *body)
{
    static char texts[4][1000];
    static int next;
    char *copy = texts[next++ % 4];
    size_t n = strlen(body);
    cr_assert_lt(n, sizeof(texts[0]));
    for (size_t i = 0; i <= n; i++)
        copy[i] = body[i] == '\'' ? '"' : body[i];
    return (struct span){copy, n};
}

static struct submission good(const char *body)
{
    struct faults faults = {0};
    struct submission s;
    enum err err = submission_read(&context, quoted(body), &s, &scratch_key, &faults);
    cr_assert_eq(err, OK, "%s: %s %s", body, faults.count ? faults.items[0].pointer : "",
                 faults.count ? faults.items[0].detail : "");
    return s;
}

Test(submission, what_it_does_not_say_the_task_says)
{
    struct submission s = good("{'task': 'any'}");
    cr_expect_eq(s.priority, 9);
    cr_expect_eq(s.timeout_ms, 5000);
    cr_expect_eq(s.max_retries, 2);
    cr_expect_eq(s.run_at, 0);
    cr_expect_eq(s.expires_at, 0);
    cr_expect_null(s.args.p);
    cr_expect_null(s.key.p);
    s = good("{'task': 'late'}");
    cr_expect_eq(s.expires_at, now_ms + 60000);
    cr_expect_eq(s.max_queued, 7);
}

Test(submission, what_it_says_counts)
{
    struct submission s =
        good(" {'task': 'any', 'args': [1.10, null], 'priority': 0, 'delay': '1.5s', 'timeout': '2m',"
             "'expires_in': '1h', 'max_retries': 0, 'retention': '1d', 'labels': {'a': 'b'}} ");
    cr_expect(span_is(s.args, "[1.10, null]"));
    cr_expect(span_is(s.labels, "{\"a\": \"b\"}"));
    cr_expect_eq(s.priority, 0);
    cr_expect_eq(s.run_at, now_ms + 1500);
    cr_expect_eq(s.expires_at, now_ms + 3600000);
    cr_expect_eq(s.timeout_ms, 120000);
    cr_expect_eq(s.max_retries, 0);
    cr_expect_eq(s.retention_ms, 86400000);
    s = good("{'task': 'any', 'run_at': '2030-01-01T00:00:00Z'}");
    cr_expect_eq(s.run_at, INT64_C(1893456000000));
}

Test(submission, null_stands_for_absent_but_as_arguments_for_itself)
{
    struct submission s =
        good("{'task': 'any', 'args': null, 'priority': null, 'labels': null, 'key': null, 'delay': null}");
    cr_expect(span_is(s.args, "null"));
    cr_expect_eq(s.priority, 9);
    cr_expect_null(s.labels.p);
    cr_expect_null(s.key.p);
}

/* Zero stood for none, and all of them are what JSON Schema takes. */
Test(submission, durations_and_whole_numbers_are_as_the_schema_says)
{
    struct submission s =
        good("{'task': 'any', 'timeout': '0.0001s', 'priority': 2.0, 'max_retries': 1e1, 'delay': '0s'}");
    cr_expect_eq(s.timeout_ms, 1);
    cr_expect_eq(s.priority, 2);
    cr_expect_eq(s.max_retries, 10);
    cr_expect_eq(s.run_at, 0);
    s = good("{'task': 'any', 'timeout': null, 'expires_in': '1w', 'retention': '\\u0031h'}");
    cr_expect_eq(s.timeout_ms, 5000);
    cr_expect_eq(s.expires_at, now_ms + INT64_C(604800000));
    cr_expect_eq(s.retention_ms, 3600000);
}

Test(submission, what_is_too_long_is_said_to_be)
{
    struct faults faults = {0};
    struct submission s;
    cr_assert_eq(
        submission_read(&context, quoted("{'task': 'any', 'timeout': '9999999w'}"), &s, &scratch_key, &faults),
        ERR_INVALID);
    cr_expect_str_eq(faults.items[0].detail, "is too long; it is 36500d at most");
    faults_release(&faults);
}

Test(submission, times_of_what_is_held_count_from_its_release)
{
    struct submission s = good("{'task': 'late', 'hold': true, 'release_by': '5m', 'delay': '1m'}");
    cr_expect(s.hold);
    cr_expect_eq(s.release_by, now_ms + 300000);
    cr_expect_eq(s.delay_ms, 60000);
    cr_expect_eq(s.expires_ms, 60000, "as the task says");
    cr_expect_eq(s.run_at, 0);
    cr_expect_eq(s.expires_at, 0);
    s = good("{'task': 'add', 'args': [{'$result': true}], 'after': ['0000000000001'], 'after_policy': 'failure',"
             "'run_at': '2030-01-01T00:00:00Z', 'expires_in': '2m'}");
    cr_assert_eq(s.after_count, 1);
    cr_expect_eq(s.after[0], 1);
    cr_expect_eq(s.after_policy, AFTER_FAILURE);
    cr_expect(s.composed);
    cr_expect_eq(s.run_at, INT64_C(1893456000000), "a time stays what it is");
    cr_expect_eq(s.expires_ms, 120000);
    submission_release(&s);
    cr_expect_null(s.after);
    cr_expect_not(good("{'task': 'any', 'args': {'$result': true}}").composed, "it comes after nothing");
}

Test(submission, texts_are_counted_in_characters)
{
    struct buf body = {0};
    buf_addl(&body, "{'task': 'any', 'key': '");
    for (int i = 0; i < KEY_MAX; i++)
        buf_addl(&body, "\xC3\x9F");
    buf_addl(&body, "'}");
    cr_expect_eq(good(buf_cstr(&body)).key.len, 2 * KEY_MAX);
    buf_release(&body);
}

Test(submission, escapes_in_names_and_keys_are_resolved)
{
    struct submission s = good("{'t\\u0061sk': '\\u0061ny', 'key': 'a\\u0062'}");
    cr_expect(span_is(s.key, "ab"));
    cr_expect_eq(s.priority, 9);
}

Test(submission, the_digest_is_of_what_the_body_says)
{
    static const struct {
        const char *body;
        bool same;
    } rows[] = {
        {"{'task': 'any', 'args': {'a': [1, 'b'], 'c': null}, 'key': 'k'}", true},
        {"\n {'key':'k','args':{'c':null,'a':[1,'b']},'task':'any'}\t", true},
        {"{'t\\u0061sk': 'any', 'args': {'\\u0061': [1, '\\u0062'], 'c': null}, 'key': 'k'}", true},
        {"{'task': 'any', 'args': {'a': [1.0, 'b'], 'c': null}, 'key': 'k'}", false},
        {"{'task': 'any', 'args': {'a': ['b', 1], 'c': null}, 'key': 'k'}", false},
        {"{'task': 'any', 'args': {'a': [1, 'b'], 'c': null, 'key': 'k'}, 'key': 'k'}", false},
        {"{'task': 'any', 'args': {'a': [1, 'b '], 'c': null}, 'key': 'k'}", false},
    };
    struct submission first = good(rows[0].body);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct submission s = good(rows[i].body);
        cr_expect_eq(memcmp(s.key_digest, first.key_digest, sizeof s.key_digest) == 0, rows[i].same, "%s",
                     rows[i].body);
    }
    context.key = SPAN("k");
    struct submission s = good("{'task': 'any', 'args': {'a': [1, 'b'], 'c': null}}");
    cr_expect_arr_eq(s.key_digest, first.key_digest, sizeof s.key_digest, "the key's place makes another body");
}

static bool mentions(const struct faults *faults, const char *pointer)
{
    for (int i = 0; i < faults->count; i++)
        if (strcmp(faults->items[i].pointer, pointer) == 0)
            return true;
    return false;
}

Test(submission, each_fault_is_named_by_its_pointer)
{
    static const struct {
        const char *body, *pointer;
    } rows[] = {
        {"[]", ""},
        {"'text'", ""},
        {"{}", "/task"},
        {"{'task': 5}", "/task"},
        {"{'task': 'nosuch'}", "/task"},
        {"{'task': ''}", "/task"},
        {"{'task': 'any', 'tsak': 1}", "/tsak"},
        {"{'task': 'any', 'priority': 128}", "/priority"},
        {"{'task': 'any', 'priority': -1}", "/priority"},
        {"{'task': 'any', 'priority': 1.5}", "/priority"},
        {"{'task': 'any', 'priority': '1'}", "/priority"},
        {"{'task': 'any', 'priority': 99999999999999999999}", "/priority"},
        {"{'task': 'any', 'max_retries': 1001}", "/max_retries"},
        {"{'task': 'any', 'delay': 5}", "/delay"},
        {"{'task': 'any', 'delay': '5'}", "/delay"},
        {"{'task': 'any', 'delay': ''}", "/delay"},
        {"{'task': 'any', 'delay': '9999999999999999999h'}", "/delay"},
        {"{'task': 'any', 'delay': '1s', 'run_at': '2030-01-01T00:00:00Z'}", "/delay"},
        {"{'task': 'any', 'timeout': '0s'}", "/timeout"},
        {"{'task': 'any', 'timeout': '0.4ms'}", "/timeout"},
        {"{'task': 'any', 'expires_in': '0s'}", "/expires_in"},
        {"{'task': 'any', 'retention': '0d'}", "/retention"},
        {"{'task': 'any', 'timeout': '1m1h'}", "/timeout"},
        {"{'task': 'any', 'timeout': '5s5s'}", "/timeout"},
        {"{'task': 'any', 'run_at': 'tomorrow'}", "/run_at"},
        {"{'task': 'any', 'run_at': 5}", "/run_at"},
        {"{'task': 'any', 'key': ''}", "/key"},
        {"{'task': 'any', 'key': 5}", "/key"},
        {"{'task': 'any', 'key': 'a\\u0000b'}", "/key"},
        {"{'task': 'any', 'labels': []}", "/labels"},
        {"{'task': 'any', 'labels': {'a': 1}}", "/labels/a"},
        {"{'task': 'any', 'labels': {'': 'x'}}", "/labels/"},
        {"{'task': 'any', 'labels': {'a/b': 1}}", "/labels/a~1b"},
        {"{'task': 'any', 'hold': 1}", "/hold"},
        {"{'task': 'any', 'release_by': '5m'}", "/release_by"},
        {"{'task': 'any', 'hold': true, 'release_by': '0s'}", "/release_by"},
        {"{'task': 'any', 'after': '0000000000001'}", "/after"},
        {"{'task': 'any', 'after': []}", "/after"},
        {"{'task': 'any', 'after': ['0000000000001', 'x']}", "/after/1"},
        {"{'task': 'any', 'after': ['0000000000001', '000000000000i']}", "/after/1"},
        {"{'task': 'any', 'after_policy': 'any'}", "/after_policy"},
        {"{'task': 'any', 'after': ['0000000000001'], 'after_policy': 'all'}", "/after_policy"},
        {"{'task': 'any', 'group': 'x'}", "/group"},
        {"{'task': 'any', 'args': [{'$result': '0000000000002'}], 'after': ['0000000000001']}", "/args/0/$result"},
        {"{'task': 'any', 'args': [{'$result': true}], 'after': ['0000000000001', '0000000000002']}",
         "/args/0/$result"},
        {"{'task': 'add', 'args': {'x': 'one'}}", "/args/x"},
        {"{'task': 'add', 'args': {}}", "/args/x"},
        {"{'task': 'add', 'args': {'x': 1, 'z': 2}}", "/args/z"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct faults faults = {0};
        struct submission s;
        cr_expect_eq(submission_read(&context, quoted(rows[i].body), &s, &scratch_key, &faults), ERR_INVALID, "%s",
                     rows[i].body);
        cr_expect(mentions(&faults, rows[i].pointer), "%s: %s", rows[i].body,
                  faults.count ? faults.items[0].pointer : "");
        faults_release(&faults);
    }
}

Test(submission, all_faults_are_named_at_once)
{
    struct faults faults = {0};
    struct submission s;
    cr_expect_eq(submission_read(&context,
                                 quoted("{'task': 'add', 'args': {}, 'priority': 'x', 'delay': 3, 'what': 1}"), &s,
                                 &scratch_key, &faults),
                 ERR_INVALID);
    static const char *const pointers[] = {"/args/x", "/priority", "/delay", "/what"};
    for (int i = 0; i < 4; i++)
        cr_expect(mentions(&faults, pointers[i]), "%s", pointers[i]);
    faults_release(&faults);
}

Test(submission, a_key_in_header_and_body_is_one_key)
{
    struct faults faults = {0};
    struct submission s;
    context.key = SPAN("k");
    cr_expect(span_is(good("{'task': 'any'}").key, "k"));
    cr_expect(span_is(good("{'task': 'any', 'key': 'k'}").key, "k"));
    cr_expect_eq(submission_read(&context, quoted("{'task': 'any', 'key': 'other'}"), &s, &scratch_key, &faults),
                 ERR_INVALID);
    cr_expect(mentions(&faults, "/key"));
    faults_release(&faults);
}

Test(submission, a_refusal_says_what_to_do)
{
    static const struct {
        enum err of_one, of_all;
        int status;
    } rows[] = {
        {ERR_MISMATCH, OK, 422}, {ERR_LIMIT, OK, 429}, {OK, ERR_UNAVAILABLE, 503},
        {OK, ERR_DB, 500},       {ERR_DB, OK, 500},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct submission s = {.err = rows[i].of_one};
        cr_expect_eq(submission_refusal(&s, rows[i].of_all).status, rows[i].status, "row %zu", i);
    }
}
