/* GET /invocations/{id}/log: what it wrote, whole, in part, or as it comes. */
#pragma once

#include "server/http/request.h"

handler_fn logs_get;
