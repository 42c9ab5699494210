/* POST /invocations/{id}/release: a promise may run. */
#pragma once

#include "server/http/request.h"

handler_fn release_one;
