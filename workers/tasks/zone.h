/* Time zones: what a clock on the wall shows, from the TZif files of the system (RFC 8536).
 *
 * A zone is a row of stretches, each with one offset from UTC. What comes after the last change that
 * the file names is made from its footer's rule, for ever: the calendar repeats every 400 years.
 *
 * Pure: the bytes of the file come in as an argument. Threads: a zone never changes; any thread may
 * read it. Times are seconds since 1970 (UTC), offsets are seconds east of it. */
#pragma once

#include "base/buf.h"
#include "base/err.h"

enum { ZONE_NAME_MAX = 64, ZONE_FILE_MAX = 64 << 10 };

struct zone;

/* May it be the name of a zone? Words of letters, digits, `_`, `+` and `-` between single slashes: no
 * path that leads elsewhere. */
bool zone_name_is_good(struct span name);

/* Reads a TZif file of any version. ERR_INVALID: it is malformed, or counts leap seconds. The caller
 * frees it with zone_free(). */
MUST_USE enum err zone_read(struct span file, struct zone **out, struct reason *why);

/* UTC, without a file. */
struct zone *zone_utc(void);
void zone_free(struct zone *zone); /* takes NULL */

/* The stretch in which a time lies. */
struct zone_stretch {
    int64_t from, to;          /* INT64_MIN, INT64_MAX: no change is known before, after */
    int offset, before, after; /* of it, of the one before and of the one after; the same where there is none */
};
struct zone_stretch zone_at(const struct zone *zone, int64_t at);
