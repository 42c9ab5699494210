#include "server/resources/view.h"

#include "base/id.h"
#include "base/json.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

enum { AT_MS = 1000 };

static int64_t some_id(void)
{
    return id_lowest_at(ID_EPOCH_MS + AT_MS);
}

static char *shown(const struct invocation *row, bool payloads)
{
    struct buf out = {0};
    view_invocation(&out, row, "add", payloads);
    cr_expect_eq(json_check(out.data, out.len, JSON_DEPTH_MAX, NULL), OK, "%s", buf_cstr(&out));
    return buf_take(&out);
}

Test(view, what_is_absent_is_null)
{
    struct invocation row = {.id = some_id(), .status = STATUS_QUEUED, .priority = 1, .retention_ms = 604800000};
    char *text = shown(&row, true);
    struct buf wanted = {0};
    buf_addl(&wanted, "{\"id\":\"");
    id_add(&wanted, row.id);
    buf_addl(
        &wanted,
        "\",\"task\":\"add\",\"status\":\"queued\",\"hold\":null,\"priority\":1,\"args\":null,\"result\":null,"
        "\"error\":null,\"attempt\":0,\"max_retries\":0,\"timeout\":null,\"retention\":\"7d\","
        "\"created_at\":\"2020-01-01T00:00:01.000Z\",\"run_at\":null,\"started_at\":null,"
        "\"finished_at\":null,\"expires_at\":null,\"deadline\":null,\"cancel_requested_at\":null,\"labels\":null,"
        "\"key\":null,\"worker\":null,\"group\":null,\"index\":null,\"parent\":null,\"step\":null,\"cached_from\":"
        "null,\"after\":null,"
        "\"waiting_for\":null,"
        "\"wakes_at\":null,\"turns\":0,\"loop\":null,\"iteration\":null,\"progress\":null}");
    cr_expect_str_eq(text, buf_cstr(&wanted));
    buf_release(&wanted);
    free(text);
}

Test(view, who_waits_is_shown_with_those_it_waits_for)
{
    int64_t id = some_id(), targets[] = {id, id};
    struct invocation row = {
        .id = id, .status = STATUS_WAITING, .parent = id, .waiting_for = targets, .waiting_for_count = 2};
    struct buf wanted = {0};
    buf_addl(&wanted, "\"parent\":\"");
    id_add(&wanted, id);
    buf_addl(&wanted, "\",\"step\":null,\"cached_from\":null,\"after\":null,\"waiting_for\":[\"");
    id_add(&wanted, id);
    buf_addl(&wanted, "\",\"");
    id_add(&wanted, id);
    buf_addl(&wanted, "\"],");
    char *full = shown(&row, true), *basic = shown(&row, false);
    cr_expect(strstr(full, buf_cstr(&wanted)), "%s", full);
    cr_expect(!strstr(basic, "waiting_for"), "%s", basic);
    row.waiting_for_count = 0;
    char *awake = shown(&row, true);
    cr_expect(strstr(awake, "\"waiting_for\":[],"), "%s", awake);
    free(full);
    free(basic);
    free(awake);
    buf_release(&wanted);
}

Test(view, everything_is_shown_and_payloads_are_verbatim)
{
    struct invocation row = {
        .id = some_id(),
        .status = STATUS_FAILED,
        .priority = 127,
        .attempt = 3,
        .max_retries = 2,
        .timeout_ms = 5400000,
        .retention_ms = 1500,
        .run_at = 1,
        .started_at = 1577836801000,
        .finished_at = 1577836802000,
        .expires_at = 1577836803000,
        .cancel_requested_at = 1577836804000,
        .has_progress = true,
        .progress = 0.1,
        .progress_note = SPAN("half \"way\""),
        .args = SPAN("{ \"b\": 1.10,\n \"a\": 9007199254740993 }"),
        .result = SPAN("[1e400]"),
        .error = SPAN("{\"type\":\"mine\",\"message\":\"m\"}"),
        .labels = SPAN("{\"shop\":\"a\"}"),
        .key = SPAN("k\\"),
        .worker = SPAN("slot-1"),
        .step = SPAN("s\""),
    };
    static const char *const parts[] = {
        "\"args\":{ \"b\": 1.10,\n \"a\": 9007199254740993 },",
        "\"result\":[1e400],",
        "\"error\":{\"type\":\"mine\",\"message\":\"m\"},",
        "\"timeout\":\"1h30m\",\"retention\":\"1.5s\",",
        "\"run_at\":\"1970-01-01T00:00:00.001Z\",",
        "\"started_at\":\"2020-01-01T00:00:01.000Z\",",
        "\"labels\":{\"shop\":\"a\"},\"key\":\"k\\\\\",\"worker\":\"slot-1\","
        "\"group\":null,\"index\":null,\"parent\":null,\"step\":\"s\\\"\",\"cached_from\":null,\"after\":null,"
        "\"waiting_for\":null,",
        "\"progress\":{\"value\":0.1,\"note\":\"half \\\"way\\\"\"}}",
    };
    char *text = shown(&row, true);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        cr_expect(strstr(text, parts[i]), "%s is not in %s", parts[i], text);
    free(text);
}

Test(view, the_basic_view_has_no_payloads)
{
    struct invocation row = {.id = some_id(), .status = STATUS_SUCCEEDED, .args = SPAN("1"), .result = SPAN("2")};
    char *text = shown(&row, false);
    cr_expect_not(strstr(text, "\"args\""));
    cr_expect_not(strstr(text, "\"result\""));
    free(text);
}

Test(view, a_name_is_escaped_and_a_broken_text_is_mended)
{
    struct invocation row = {.id = some_id(), .status = STATUS_RUNNING, .worker = SPAN("a\xFF")};
    struct buf out = {0};
    view_invocation(&out, &row, "a\"b", false);
    cr_expect(strstr(buf_cstr(&out), "\"task\":\"a\\\"b\""), "%s", out.data);
    cr_expect(strstr(out.data, "\"worker\":\"a\xEF\xBF\xBD\""), "%s", out.data);
    cr_expect_eq(json_check(out.data, out.len, JSON_DEPTH_MAX, NULL), OK);
    buf_release(&out);
}

Test(view, a_number_has_the_fewest_digits_that_read_back)
{
    static const struct {
        double value;
        const char *text;
    } rows[] = {
        {0, "0"},          {0.5, "0.5"},          {0.1, "0.1"},  {1.0 / 3, "0.3333333333333333"},
        {1e300, "1e+300"}, {-2.5e-8, "-2.5e-08"}, {NAN, "null"}, {INFINITY, "null"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct buf out = {0};
        view_number(&out, rows[i].value);
        cr_expect_str_eq(buf_cstr(&out), rows[i].text);
        buf_release(&out);
    }
}

Test(view, a_progress_that_is_no_number_is_null)
{
    struct invocation row = {.id = some_id(), .status = STATUS_RUNNING, .has_progress = true, .progress = NAN};
    char *text = shown(&row, false);
    cr_expect(strstr(text, "\"progress\":null"), "%s", text);
    free(text);
}

Test(view, counts_name_every_status)
{
    int64_t counts[STATUS_SLOTS] = {[STATUS_QUEUED] = 3, [STATUS_CANCELLED] = INT64_MAX};
    struct buf out = {0};
    view_counts(&out, counts);
    cr_expect_str_eq(
        buf_cstr(&out),
        "\"held\":0,\"scheduled\":0,\"queued\":3,\"running\":0,\"waiting\":0,\"succeeded\":0,\"failed\":0,"
        "\"cancelled\":9223372036854775807");
    buf_release(&out);
}

Test(view, the_minimal_view_is_the_id_and_the_status)
{
    struct buf out = {0};
    view_minimal(&out, 1, STATUS_QUEUED);
    cr_expect_str_eq(buf_cstr(&out), "{\"id\":\"0000000000001\",\"status\":\"queued\"}");
    buf_release(&out);
}
