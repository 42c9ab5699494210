/* The table of kinds, for whoever reads a configuration. The kinds themselves
 * do not know it.
 *
 * Threads: constant. */
#pragma once

#include "workers/kinds/kind.h"

extern const struct kind *const kinds[]; /* NULL-terminated */

/* Nothing of any kind runs any more: ends what they have started for themselves.
 * The main thread. */
void kinds_end(void);
