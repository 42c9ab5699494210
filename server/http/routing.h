/* From a path to its route, and what HTTP says when there is none. */
#pragma once

#include "server/http/http.h"

/* Finds the route, sets rq->route, rq->segment and rq->second (decoded into
 * `decoded`, which is empty). Otherwise answers and returns false: 404, 405 with Allow, OPTIONS (204 with
 * Allow, and for a CORS preflight what is allowed). */
bool routing_find(const struct route *routes, struct request *rq, struct buf *decoded, bool preflight);

/* Its path as a log may show it: of one with a secret in it the pattern, or what
 * stands before the secret if that is all that fits. */
struct span routing_shown(const struct route *routes, const struct request *rq);

/* Adds the CORS headers of an allowed origin to whatever will be answered. */
void routing_cors(struct request *rq, struct span origin);

/* "GET"; "?" for one that is not known. */
const char *routing_method_name(enum method method);
