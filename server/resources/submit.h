/* POST /tasks with one submission as JSON. */
#pragma once

#include "server/http/request.h"

handler_fn submit_one;
