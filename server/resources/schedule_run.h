/* POST /schedules/{name}/run and /backfill: what a schedule submits, at once. */
#pragma once

#include "server/http/request.h"

handler_fn schedule_run_now;
handler_fn schedule_run_backfill;
