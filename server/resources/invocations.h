/* GET /invocations: pages of them. */
#pragma once

#include "server/http/http.h"

handler_fn invocations_list;
