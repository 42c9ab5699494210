/* POST /invocations/cancel and /retry: many at once, by id or by filter. */
#pragma once

#include "server/http/request.h"

handler_fn alter_bulk_cancel;
handler_fn alter_bulk_retry;
