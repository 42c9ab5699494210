/* GET /stats: counts, rates, latencies. */
#pragma once

#include "server/http/request.h"

handler_fn stats_get;
