/* What is to be done of a schedule now. Pure: the time is an argument. */
#pragma once

#include "workers/schedule_definition.h"

enum { ON_TIME_MS = 60000 };

struct schedule_plan {
    int64_t times[SCHEDULE_TIMES_MAX]; /* that are to be made, in order */
    int count;
    int64_t left_out;       /* that were due and are not, so far as they were counted */
    int64_t left_before;    /* and there were others before this one; 0: there were none */
    int64_t until, next_at; /* of the row, from now on; next_at 0: none comes */
};

/* Times after `until` and up to now were due. Those that nobody was there to see, as it was before `since` or
 * is over a minute ago, were missed: catch_up says what becomes of them. A clock that was set back makes
 * nothing twice; after a day of waiting for it the schedule begins anew. */
void schedule_plan(const struct schedule_definition *definition, int64_t until, int64_t now, int64_t since,
                   struct schedule_plan *out);
