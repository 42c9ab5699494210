/* GET /invocations/{id} and what hangs on it. */
#pragma once

#include "server/http/request.h"

handler_fn invocation_get;
handler_fn invocation_result;
handler_fn invocation_attempts;
