/* GET /stats: counts, rates, latencies. */
#pragma once

#include "server/http/http.h"

handler_fn stats_get;
