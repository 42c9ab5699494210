/* When a failed attempt is tried again. Pure: randomness is an argument.
 *
 * delay = min(initial * factor^(failures-1), max) * (1 + jitter * (2r - 1)),
 * exponential backoff with symmetric jitter, r uniform in [0, 1). */
#pragma once

#include "base/buf.h"

struct backoff {
    int64_t initial_ms; /* 1s */
    double factor;      /* 2 */
    int64_t max_ms;     /* 10m */
    double jitter;      /* 0.2; 0..1 */
};

struct retry_policy {
    struct backoff backoff;
    char **retry_for; /* NULL-terminated patterns; NULL: every type */
};

#define BACKOFF_DEFAULT ((struct backoff){1000, 2.0, 600000, 0.2})

/* `failures` counts from 1; never negative, at most max_ms * (1 + jitter). */
int64_t retry_delay_ms(const struct backoff *backoff, int failures, double random);

/* Does the pattern match the error type: exactly, or by prefix before `*`? */
bool type_matches(struct span pattern, struct span type);

/* Does the policy allow a retry after an error of that type? */
bool retry_allows(const struct retry_policy *policy, struct span type);
