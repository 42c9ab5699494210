/* POST /leases/{token}/wait: the turn waits in place until others have ended. */
#pragma once

#include "server/http/request.h"

handler_fn turn_wait;
