/* Which messages are meant.
 *
 * Threads: the one that has the request. */
#pragma once

#include "server/http/request.h"

/* No invocation has that id, nor 0, which is any. */
enum { NOBODY = -1 };

struct message_scope {
    int64_t id, root; /* of one invocation, of one tree, or loop; both 0: of all */
    unsigned kinds;
    int64_t after; /* the seq behind which they begin */
};

/* From the query: after, cursor, limit, kind, and without an id also root and loop. False
 * with 400 answered. */
bool message_scope_read(struct request *rq, int64_t id, struct message_scope *scope, int *limit);

/* To read them, from the first. `kin` remembers the tree's members for all that
 * is read with it, and is zeros at first. */
struct message_query message_scope_query(const struct message_scope *scope, struct kin *kin);
