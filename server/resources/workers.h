/* GET /workers: who runs what. POST /workers/{name}/quiet, /stop, /active. */
#pragma once

#include "server/http/request.h"
#include "workers/leases.h"

/* This server's own slots, in the list. */
#define WORKERS_LOCAL "local"

/* Is it the name under which turns stand that services have taken over (202)? */
bool workers_is_served(struct span name);

/* "active", "quiet", "stop". */
const char *workers_state_name(enum worker_state state);

handler_fn workers_get;
handler_fn workers_quiet;
handler_fn workers_stop;
handler_fn workers_activate;
