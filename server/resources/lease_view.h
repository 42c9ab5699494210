/* Leases as JSON: the one place that knows the shape. */
#pragma once

#include "server/http/request.h"

/* Appends the lease: {token, expires_at, invocation, state, woken, steps}, the
 * invocation with its arguments as the body gets them. ERR_INVALID, with the
 * reason: they no longer fit the task's parameters, and stand there as they were
 * sent. Of everything else that is not OK nothing was appended: ERR_LIMIT if the
 * reader is a brief one, and they do not stand in the row; ERR_NOT_FOUND; faults. */
MUST_USE enum err lease_view_add(struct buf *out, const struct request *rq, const struct turn_row *turn,
                                 struct reason *why);
