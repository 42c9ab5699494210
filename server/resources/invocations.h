/* GET /invocations: pages of them. */
#pragma once

#include "server/http/request.h"

handler_fn invocations_list;
