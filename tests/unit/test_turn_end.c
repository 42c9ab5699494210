#include "server/resources/turn_end.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

enum { LIMIT = 100 };
static const int64_t now_ms = 1700000000000;

static const struct key fields[] = {
    {.name = "result", .type = KEY_OTHER, .read_json = turn_end_read_result},
    {.name = "error", .type = KEY_OTHER, .read_json = turn_end_read_error},
    {0},
};

static struct turn_end end;
static struct faults faults;
static struct buf arena;

static void forget(void)
{
    turn_end_release(&end);
    faults_release(&faults);
    buf_release(&arena);
}

TestSuite(turn_end, .fini = forget);

/* `body` with ' for ". */
static void read_body(const char *body)
{
    static char text[100000];
    forget();
    end = (struct turn_end){0};
    size_t n = strlen(body);
    cr_assert_lt(n, sizeof text);
    for (size_t i = 0; i <= n; i++)
        text[i] = body[i] == '\'' ? '"' : body[i];
    cr_assert_eq(json_check(text, n, JSON_DEPTH_MAX, NULL), OK, "%s", body);
    keys_read_json(&(struct keys_json){&faults, &arena}, NULL, (struct span){text, n}, fields, &end);
}

/* Of a turn that may be tried twice more. */
static const struct op_finish *decide(const char *body)
{
    static char star[] = "Fine";
    static char *patterns[] = {star, NULL};
    static struct task task;
    static const struct turn_row row = {.turn = {.id = 7, .lease = 8, .task = 9, .attempt = 2},
                                        .failures = 1,
                                        .max_retries = 3,
                                        .retention_ms = 1000};
    read_body(body);
    cr_assert_eq(faults.total, 0, "%s: %s", body, faults.count ? faults.items[0].detail : "");
    task.options.retry = (struct retry_policy){BACKOFF_DEFAULT, patterns};
    turn_end_decide(&end, &row, &task, LIMIT, now_ms, 0.5);
    cr_expect_eq(end.finish.turn.turn.lease, 8);
    cr_expect_eq(end.finish.finished_at, now_ms);
    cr_expect_eq(end.finish.retention_ms, 1000);
    return &end.finish;
}

Test(turn_end, a_result_is_kept_byte_for_byte)
{
    const struct op_finish *finish = decide("{'result': [1.10,  2]}");
    cr_expect_eq(finish->status, STATUS_SUCCEEDED);
    cr_expect(span_is(finish->result, "[1.10,  2]"));
    finish = decide("{}");
    cr_expect_eq(finish->status, STATUS_SUCCEEDED);
    cr_expect_null(finish->result.p);
}

Test(turn_end, a_result_over_the_limit_is_a_failure_like_others)
{
    char body[LIMIT + 100];
    snprintf(body, sizeof body, "{'result': '%0*d'}", LIMIT - 2, 7);
    cr_expect_eq(decide(body)->status, STATUS_SUCCEEDED);
    snprintf(body, sizeof body, "{'result': '%0*d'}", LIMIT - 1, 7);
    const struct op_finish *finish = decide(body);
    cr_expect_eq(finish->status, STATUS_FAILED);
    cr_expect(span_is(finish->error_type, "bad_result"));
    cr_expect_null(finish->result.p);
}

Test(turn_end, an_error_is_written_as_it_was_said)
{
    static const struct {
        const char *body, *error;
    } rows[] = {
        {"{'error': {'type': 'Oops'}}", "{'type':'Oops','message':''}"},
        {"{'error': {'type': 'Oops', 'message': 'a\\u0000b\\n', 'exit_code': 0}}",
         "{'type':'Oops','message':'a\\u0000b\\n','exit_code':0}"},
        {"{'error': {'types': ['A', 'B'], 'traceback': 'line', 'stderr': '\\u00e9', 'exit_code': -1, 'type': "
         "'A'}}",
         "{'type':'A','message':'','exit_code':-1,'stderr':'\xC3\xA9','traceback':'line','types':['A', 'B']}"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct span error = decide(rows[i].body)->error;
        char *text = span_dup(error);
        for (char *p = text; *p; p++)
            *p = *p == '"' ? '\'' : *p;
        cr_expect_str_eq(text, rows[i].error);
        free(text);
    }
}

/* A report must not be lost for being long. */
Test(turn_end, what_is_too_long_is_cut)
{
    static char body[90000];
    int n = snprintf(body, sizeof body, "{'error': {'type': 'x', 'message': '");
    memset(body + n, 'm', 20000);
    n += 20000;
    n += snprintf(body + n, sizeof body - (size_t)n, "', 'traceback': '");
    for (int i = 0; i < 10001; i++)
        n += snprintf(body + n, sizeof body - (size_t)n, "\xC3\xA9");
    n += snprintf(body + n, sizeof body - (size_t)n, "e', 'stderr': '");
    memset(body + n, 's', 20000);
    n += 20000;
    snprintf(body + n, sizeof body - (size_t)n, "last'}}");
    struct span error = decide(body)->error;
    struct buf text = {0};
    cr_assert_eq(json_check(error.p, error.len, JSON_DEPTH_MAX, NULL), OK);
    json_unescape(json_get(error, "message"), &text);
    cr_expect_eq(text.len, 16 * 1024);
    text.len = 0;
    json_unescape(json_get(error, "traceback"), &text);
    cr_expect_eq(text.len, 16 * 1024 - 1); /* no half of a character */
    cr_expect_eq(text.data[text.len - 1], 'e');
    text.len = 0;
    json_unescape(json_get(error, "stderr"), &text);
    cr_expect_eq(text.len, 4 * 1024);
    cr_expect_eq(memcmp(text.data + text.len - 4, "last", 4), 0);
    buf_release(&text);
}

Test(turn_end, it_says_itself_whether_it_is_tried_again)
{
    static const struct {
        const char *body;
        enum finish_next next;
        int64_t after_ms;
    } rows[] = {
        {"{'error': {'type': 'Fine'}}", FINISH_RETRY, 2000},
        {"{'error': {'type': 'Other'}}", FINISH_FINAL, 0},
        {"{'error': {'type': 'Other', 'retry': true}}", FINISH_RETRY, 2000},
        {"{'error': {'type': 'Fine', 'retry': false}}", FINISH_FINAL, 0},
        {"{'error': {'type': 'Fine', 'retry_after': '7s'}}", FINISH_RETRY, 7000},
        {"{'error': {'type': 'Other', 'retry_after': '7s'}}", FINISH_FINAL, 0},
        {"{'error': {'type': 'Fine', 'retry': false, 'retry_after': '7s'}}", FINISH_FINAL, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct op_finish *finish = decide(rows[i].body);
        cr_expect_eq(finish->status, STATUS_FAILED);
        cr_expect_eq(finish->next, rows[i].next, "%s", rows[i].body);
        cr_expect_eq(finish->run_at, rows[i].after_ms ? now_ms + rows[i].after_ms : 0, "%s", rows[i].body);
    }
    cr_expect_eq(decide("{'error': {'type': 'Fine', 'retry_after': '0s'}}")->run_at, 0);
}

Test(turn_end, all_faults_are_named)
{
    read_body("{'error': {'message': 7, 'retry': 'yes', 'retry_after': 30, 'traceback': null, 'stderr': [], "
              "'exit_code': 1.5, 'types': ['', 7], 'colour': 'red'}}");
    static const char *const pointers[] = {
        "/error/message",   "/error/retry",   "/error/retry_after", "/error/traceback", "/error/stderr",
        "/error/exit_code", "/error/types/0", "/error/types/1",     "/error/colour",    "/error/type",
    };
    cr_expect_eq(faults.total, (int)(sizeof pointers / sizeof *pointers));
    for (size_t i = 0; i < sizeof pointers / sizeof *pointers; i++)
        cr_expect_str_eq(faults.items[i].pointer, pointers[i]);
}
