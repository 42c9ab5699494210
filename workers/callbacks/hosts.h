/* Which hosts may be called back: patterns of a configuration.
 *
 *     example.org          that host, at the port that http or https has by itself
 *     *.example.org        any host below it, at any depth, and not itself
 *     example.org:8443     at that port
 *     example.org:*        at any
 *     10.0.0.5  [::1]      an address as it stands in the URL: no name is looked up for it
 *
 * Threads: no shared state. Pure. */
#pragma once

#include "base/err.h"
#include "workers/transfers/destination.h"

/* Of a key: is it such a pattern? Makes it lower case. */
bool hosts_check(char *pattern, struct reason *why);

/* NULL-terminated. */
bool hosts_allow(char *const *patterns, const struct destination *destination);
