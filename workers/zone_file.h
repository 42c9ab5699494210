/* Time zones from the system's files: the folder that TZDIR names, else /usr/share/zoneinfo. */
#pragma once

#include "workers/tasks/zone.h"

/* Reads the zone of that name; UTC needs no file. ERR_INVALID with a sentence: there is none, or it cannot be
 * read. Blocks for as long as a small file takes. The caller frees it with zone_free(). Any thread. */
MUST_USE enum err zone_open(struct span name, struct zone **out, struct reason *why);
