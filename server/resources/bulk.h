/* NDJSON submissions: one a line, read as they arrive, committed by the
 * thousand while the next are read, answered with a line each.
 *
 * Lines are independent: one that is refused spoils no other. At most two
 * batches of a request are on their way to the committer; then its body is
 * left in the socket until one has come back.
 *
 * Threads: the HTTP thread's, but for the committer's done(). */
#pragma once

#include "server/http/http.h"

struct bulk;

struct bulk *bulk_new(struct request *rq);
void bulk_free(struct bulk *bulk); /* takes NULL; no batch may be under way */

/* Takes bytes of the body. Returns how many it took: fewer than given means
 * that the request is to be suspended until it is woken. */
size_t bulk_feed(struct bulk *bulk, const char *data, size_t size);

/* The body is whole: what comes next (NEXT_PARK until all batches are back). */
enum next bulk_end(struct bulk *bulk);

/* Is a batch still on its way? */
bool bulk_busy(const struct bulk *bulk);
