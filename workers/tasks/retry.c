#include "workers/tasks/retry.h"

/* Stops at `max`: what follows cannot be smaller, as factor is at least 1. */
static double grown(const struct backoff *backoff, int failures)
{
    double delay = (double)backoff->initial_ms;
    double max = (double)backoff->max_ms;

    /* Squares, so that a factor near 1 and many failures take no long loop. */
    double power = backoff->factor;
    for (unsigned n = failures > 1 ? (unsigned)failures - 1 : 0; n != 0; n >>= 1) {
        if (n & 1)
            delay *= power;
        if (delay >= max)
            return max;
        power *= power;
    }
    return delay < max ? delay : max;
}

int64_t retry_delay_ms(const struct backoff *backoff, int failures, double random)
{
    if (backoff->initial_ms <= 0 || backoff->max_ms <= 0)
        return 0;
    double delay = grown(backoff, failures) * (1 + backoff->jitter * (2 * random - 1));
    return delay > 0 ? (int64_t)delay : 0;
}

bool type_matches(struct span pattern, struct span type)
{
    if (pattern.len > 0 && pattern.p[pattern.len - 1] == '*') {
        size_t prefix = pattern.len - 1;
        return type.len >= prefix && memcmp(type.p, pattern.p, prefix) == 0;
    }
    return type.len == pattern.len && memcmp(type.p, pattern.p, type.len) == 0;
}

bool retry_allows(const struct retry_policy *policy, struct span type)
{
    if (!policy->retry_for)
        return true;
    for (char **pattern = policy->retry_for; *pattern; pattern++)
        if (type_matches(span_of(*pattern), type))
            return true;
    return false;
}
