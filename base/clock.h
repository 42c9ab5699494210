/* Time: now, RFC 3339, and durations with a unit.
 *
 * Times are int64_t milliseconds since 1970 (UTC); durations are _ms.
 * Decisions take `now` as an argument; only edges call clock_*. */
#pragma once

#include "base/buf.h"
#include "base/err.h"

/* The wall clock in milliseconds. */
int64_t clock_now_ms(void);

/* A clock that never goes back, in microseconds. */
int64_t clock_mono_us(void);

/* Milliseconds since the machine was started, sleep included: nobody sets it. */
int64_t clock_boot_ms(void);

/* Appends "2026-01-02T03:04:05.678Z" (24 bytes, no quotes). Clamped to
 * the years 0..9999. */
void time_add(struct buf *out, int64_t at_ms);

/* Reads RFC 3339 with any offset and any fraction (cut to milliseconds), 'T'
 * and 'Z' in either case, a leap second (before midnight, UTC) read as the
 * second after. False if it is not such a time. */
bool time_parse(struct span text, int64_t *at_ms);

/* The longest duration anywhere: 100 years of 365 days. */
#define DURATION_MAX_MS (INT64_C(100) * 365 * 86400 * 1000)

/* Reads "1h30m", "250ms", "1.5s", "7d": one or more numbers (a fraction is
 * allowed) each with its unit of w, d, h, m, s, ms, larger units first, each
 * once. What is smaller than a millisecond is cut, but what is not zero is
 * never read as that: it is 1 ms at least, and "0.4ms" is no duration. "0s" is
 * one, a bare number is not. ERR_INVALID if it is none, ERR_LIMIT if it is
 * longer than DURATION_MAX_MS. */
MUST_USE enum err duration_read(struct span text, int64_t *ms);

/* The same where the reason does not matter. */
bool duration_parse(struct span text, int64_t *ms);

/* Appends a form that duration_parse reads back, largest units first, days the
 * largest: 5400000 is "1h30m", 1500 is "1.5s", 250 is "250ms", 0 is "0s". */
void duration_add(struct buf *out, int64_t ms);
