/* The table of kinds, for whoever reads a configuration. The kinds themselves
 * do not know it.
 *
 * Threads: constant. */
#pragma once

#include "workers/kinds/kind.h"

enum { KINDS_MAX = 16 };
extern const struct kind *const kinds[]; /* NULL-terminated, at most KINDS_MAX of them */

/* Nothing of any kind runs any more: ends what they have started for themselves.
 * The main thread. */
void kinds_end(void);
