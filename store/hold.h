/* What is held: not eligible until nothing holds it any more.
 *
 * A promise is held until somebody releases it, a dependent until those it
 * comes after are final. Both may hold one, and it goes on when the last lets it
 * go: `delay` and `expires_in` count from then, `deadline` from the submission.
 * The row is `held`; what holds it, and for how long, stands in `holds`. (A
 * member that its group alone holds has no row there.)
 *
 * To look at those it comes after and to be held is one transaction, and so are
 * their ends and what follows for those after them: an edge is never lost. An id
 * can only come after ids that are there, so there are no circles. */
#pragma once

#include "store/op.h"
#include "store/read.h"

enum { AFTER_MAX = 1000 /* ids that one comes after */ };

/* On disk; they never change. */
enum hold_reason { HOLD_PROMISE = 1, HOLD_DEPENDENCY = 2, HOLD_SLOT = 4 };
enum after_policy {
    AFTER_SUCCESS = 1, /* all have succeeded; else it is cancelled, as `dependency` */
    AFTER_ANY = 2,     /* all are final */
    AFTER_FAILURE = 3, /* all are final, and one has failed or was cancelled; else it is cancelled */
};

/* Releases a promise. ERR_NOT_FOUND; ERR_CONFLICT: it is not held, and not because it was
 * released before; `status` says what it is. */
struct op_release {
    struct op op;
    int64_t id;
    enum status status; /* out */
};
void op_release_init(struct op_release *op, int64_t id);

/* What holds it: bits of enum hold_reason; 0: nothing does. */
MUST_USE enum err reader_holds(struct reader *reader, int64_t id, unsigned *reasons);

/* What it comes after, in the order asked, at most AFTER_MAX; there is room for so many. */
MUST_USE enum err reader_after(struct reader *reader, int64_t id, int64_t *ids, int *count);
