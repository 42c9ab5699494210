/* POST /invocations/{id}/cancel and /retry, PATCH and DELETE of one. */
#pragma once

#include "server/http/request.h"

handler_fn alter_cancel;
handler_fn alter_retry;
handler_fn alter_patch;
handler_fn alter_delete;
