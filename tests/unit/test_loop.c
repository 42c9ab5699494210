/* What an end says of a loop. */
#include "store/loop_turn.h"

#include <criterion/criterion.h>

static const struct {
    enum status ended;
    const char *result;
    bool succeeded, stop, pause;
    const char *next; /* NULL: none */
} results[] = {
    {STATUS_SUCCEEDED, NULL, true, false, false, NULL},
    {STATUS_SUCCEEDED, "null", true, false, false, NULL},
    {STATUS_SUCCEEDED, "[{\"stop\":true}]", true, false, false, NULL},
    {STATUS_SUCCEEDED, " {\"stop\": true}", true, true, false, NULL},
    {STATUS_SUCCEEDED, "{\"a\":{\"stop\":true}}", true, false, false, NULL},
    {STATUS_SUCCEEDED, "{\"stop\":\"true\",\"pause\":1}", true, false, false, NULL},
    {STATUS_SUCCEEDED, "{\"stop\":true,\"stop\":false}", true, false, false, NULL},
    {STATUS_SUCCEEDED, "{\"pause\":true,\"next\":{ \"a\": 1.0 }}", true, false, true, "{ \"a\": 1.0 }"},
    {STATUS_SUCCEEDED, "{\"n\\u0065xt\":null}", true, false, false, "null"},
    {STATUS_FAILED, "{\"stop\":true}", false, false, false, NULL},
    {STATUS_CANCELLED, NULL, false, false, false, NULL},
};

Test(loop, a_result_says_stop_pause_and_next)
{
    for (size_t i = 0; i < sizeof results / sizeof *results; i++) {
        struct span result = results[i].result ? span_of(results[i].result) : (struct span){NULL, 0};
        struct loop_outcome outcome = loop_outcome_of(results[i].ended, result);
        cr_expect_eq(outcome.succeeded, results[i].succeeded, "row %zu", i);
        cr_expect_eq(outcome.stop, results[i].stop, "row %zu", i);
        cr_expect_eq(outcome.pause, results[i].pause, "row %zu", i);
        cr_expect(results[i].next ? span_is(outcome.next, results[i].next) : !outcome.next.p, "row %zu", i);
    }
}

#define GOOD              \
    {                     \
        .succeeded = true \
    }
#define BAD \
    {       \
        0   \
    }
static const struct {
    enum loop_status was;
    bool continues;
    int max, iteration;
    struct loop_outcome outcome;
    enum loop_status is;
} ends[] = {
    {LOOP_ACTIVE, false, 0, 1, GOOD, LOOP_ACTIVE},
    {LOOP_ACTIVE, false, 2, 1, GOOD, LOOP_ACTIVE},
    {LOOP_ACTIVE, false, 1, 1, GOOD, LOOP_SUCCEEDED},
    {LOOP_ACTIVE, false, 1, 3, GOOD, LOOP_SUCCEEDED},
    {LOOP_ACTIVE, false, 0, 1, BAD, LOOP_FAILED},
    {LOOP_ACTIVE, false, 1, 1, BAD, LOOP_FAILED},
    {LOOP_ACTIVE, true, 0, 1, BAD, LOOP_ACTIVE},
    {LOOP_ACTIVE, true, 1, 1, BAD, LOOP_SUCCEEDED},
    {LOOP_ACTIVE, false, 0, 1, {.succeeded = true, .pause = true}, LOOP_PAUSED},
    {LOOP_ACTIVE, false, 0, 1, {.succeeded = true, .stop = true, .pause = true}, LOOP_SUCCEEDED},
    {LOOP_PAUSED, false, 0, 1, GOOD, LOOP_PAUSED},
    {LOOP_PAUSED, true, 0, 1, BAD, LOOP_PAUSED},
    {LOOP_PAUSED, false, 0, 1, BAD, LOOP_FAILED},
    {LOOP_PAUSED, false, 1, 1, GOOD, LOOP_SUCCEEDED},
    {LOOP_PAUSED, false, 0, 1, {.succeeded = true, .stop = true}, LOOP_SUCCEEDED},
    {LOOP_STOPPING, false, 0, 1, GOOD, LOOP_STOPPED},
    {LOOP_STOPPING, true, 0, 1, BAD, LOOP_STOPPED},
    {LOOP_STOPPING, false, 0, 1, BAD, LOOP_FAILED},
    {LOOP_STOPPING, false, 0, 1, {.succeeded = true, .pause = true}, LOOP_STOPPED},
    {LOOP_STOPPING, false, 0, 1, {.succeeded = true, .stop = true}, LOOP_SUCCEEDED},
    {LOOP_CANCELLED, false, 0, 1, GOOD, LOOP_CANCELLED},
    {LOOP_CANCELLED, false, 0, 1, BAD, LOOP_CANCELLED},
    {LOOP_FAILED, true, 1, 1, GOOD, LOOP_FAILED},
};

Test(loop, what_becomes_of_one_follows_from_an_end)
{
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        struct loop loop = {.status = ends[i].was,
                            .continues = ends[i].continues,
                            .max_iterations = ends[i].max,
                            .iteration = ends[i].iteration};
        cr_expect_eq(loop_status_after(&loop, &ends[i].outcome), ends[i].is, "row %zu", i);
    }
}
