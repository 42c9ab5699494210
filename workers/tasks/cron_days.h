/* Between cron's own files: the days of a month that an expression means. */
#pragma once

#include "workers/tasks/cron.h"

/* A mask: bit N is the N-th; 0: none. */
uint32_t cron_days_of(const struct cron *cron, int64_t year, int month);
