/* /invocations/{id}/callbacks: the deliveries that tell of its ends. */
#pragma once

#include "server/http/request.h"

handler_fn callbacks_of_invocation;
handler_fn callbacks_repeat;
