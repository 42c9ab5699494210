/* POST /leases: a worker elsewhere reports what it has done, and asks for more. */
#pragma once

#include "server/http/request.h"

handler_fn leases_post;
