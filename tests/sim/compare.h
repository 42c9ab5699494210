/* The model against the real store: the same operations for both, and after each batch they must
 * agree on rows, leases, holds, groups, and on what changed. */
#pragma once

#include <stdint.h>

int compare(long steps, uint64_t seed);
