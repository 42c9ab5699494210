/* POST /tasks with one submission as JSON, and POST /leases/{token}/children: the
 * same, by a turn, which takes it also while the service closes. */
#pragma once

#include "server/http/request.h"

handler_fn submit_one;
handler_fn submit_child;
