/* /invocations/{id}/callbacks, and of groups: the deliveries that tell of its ends. */
#pragma once

#include "server/http/request.h"

handler_fn callbacks_list;
handler_fn callbacks_repeat;
