#include "workers/tasks/retry.h"

#include <criterion/criterion.h>
#include <limits.h>

static const struct backoff plain = {1000, 2.0, 600000, 0};
static const struct backoff jittered = {1000, 2.0, 600000, 0.2};
static const struct backoff constant = {500, 1.0, 600000, 0};
static const struct backoff slow = {1000, 1.0001, 600000, 0};
static const struct backoff at_once = {0, 2.0, 600000, 0.2};
static const struct backoff capped_low = {5000, 2.0, 100, 0.5};

Test(retry, the_delay_grows_by_the_factor_up_to_the_maximum)
{
    static const struct {
        const struct backoff *backoff;
        int failures;
        double random;
        int64_t delay_ms;
    } rows[] = {
        {&plain, 1, 0.5, 1000},
        {&plain, 2, 0.5, 2000},
        {&plain, 3, 0.5, 4000},
        {&plain, 10, 0.5, 512000},
        {&plain, 11, 0.5, 600000},
        {&plain, 1000, 0.5, 600000},
        {&plain, INT_MAX, 0.5, 600000},
        {&plain, 0, 0.5, 1000}, /* no failure counts as the first */
        {&plain, -5, 0.5, 1000},
        {&plain, 3, 0.0, 4000}, /* no jitter: randomness changes nothing */
        {&jittered, 1, 0.0, 800},
        {&jittered, 1, 0.5, 1000},
        {&jittered, 1, 0.75, 1100},
        {&jittered, 11, 0.0, 480000},
        {&jittered, 11, 0.999999999, 719999},
        {&constant, 1, 0.5, 500},
        {&constant, INT_MAX, 0.5, 500},
        {&slow, 2, 0.5, 1000},
        {&slow, 6932, 0.5, 1999},
        {&at_once, 5, 0.9, 0},
        {&capped_low, 1, 0.5, 100},
        {&capped_low, 1, 0.0, 50},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int64_t delay = retry_delay_ms(rows[i].backoff, rows[i].failures, rows[i].random);
        cr_expect_eq(delay, rows[i].delay_ms, "row %zu: %lld, not %lld", i, (long long)delay,
                     (long long)rows[i].delay_ms);
    }
}

Test(retry, the_delay_stays_within_the_jitter_of_the_maximum)
{
    struct backoff widest = {1000, 3.0, 60000, 1.0};
    for (int failures = 1; failures < 100; failures++)
        for (int r = 0; r < 100; r++) {
            int64_t delay = retry_delay_ms(&widest, failures, r / 100.0);
            cr_assert(delay >= 0 && delay <= 120000, "%d failures, random %d: %lld", failures, r,
                      (long long)delay);
        }
}

Test(retry, the_default_is_one_second_doubled_up_to_ten_minutes)
{
    struct backoff backoff = BACKOFF_DEFAULT;
    cr_expect_eq(retry_delay_ms(&backoff, 1, 0.5), 1000);
    cr_expect_eq(retry_delay_ms(&backoff, 2, 0.5), 2000);
    cr_expect_eq(retry_delay_ms(&backoff, 100, 0.5), 600000);
}

Test(retry, a_pattern_matches_exactly_or_by_prefix)
{
    static const struct {
        const char *pattern, *type;
        bool matches;
    } rows[] = {
        {"timeout", "timeout", true},
        {"timeout", "timeouts", false},
        {"timeouts", "timeout", false},
        {"http:5*", "http:503", true},
        {"http:5*", "http:404", false},
        {"http:5*", "http:5", true},
        {"http:5*", "http:", false},
        {"*", "anything", true},
        {"*", "", true},
        {"exit:1", "exit:12", false},
        {"exit:1*", "exit:12", true},
        {"Timeout", "timeout", false},
        {"", "", true},
        {"", "x", false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        cr_expect_eq(type_matches(span_of(rows[i].pattern), span_of(rows[i].type)), rows[i].matches,
                     "`%s` and `%s`", rows[i].pattern, rows[i].type);
}

Test(retry, a_policy_without_patterns_retries_every_type)
{
    char *some[] = {"timeout", "exit:*", NULL};
    char *none[] = {NULL};
    struct retry_policy every = {BACKOFF_DEFAULT, NULL};
    struct retry_policy chosen = {BACKOFF_DEFAULT, some};
    struct retry_policy never = {BACKOFF_DEFAULT, none};

    cr_expect(retry_allows(&every, SPAN("bad_result")));
    cr_expect(retry_allows(&chosen, SPAN("timeout")));
    cr_expect(retry_allows(&chosen, SPAN("exit:7")));
    cr_expect_not(retry_allows(&chosen, SPAN("signal:9")));
    cr_expect_not(retry_allows(&never, SPAN("timeout")));
}
