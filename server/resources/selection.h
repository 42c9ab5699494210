/* Which invocations are meant: a filter made of names and texts, from a query
 * or from a JSON body.
 *
 * Threads: no shared state. Texts are borrowed. */
#pragma once

#include "server/http/request.h"

struct selection {
    struct filter filter;
    const struct registry *registry; /* where tasks are looked up first, */
    struct store *store;             /* and those that are gone from it */
    struct span key_owner;           /* whose idempotency keys are meant */
};

void selection_init(struct selection *selection, const struct request *rq);

/* A `filter` object of a body, as a field's `read`; `target` starts with the
 * selection. */
struct keys_json;
struct keys_place;
void selection_read(const struct keys_json *in, const struct keys_place *at, struct span value, void *target);

/* After the last condition: which argument an index finds, if the task has one of any. */
void selection_settle(struct selection *selection);

/* The parameters status (several are allowed), task, worker, error, key, parent,
 * created_after, created_before, label (several, as NAME:VALUE), label.NAME and arg.PATH. Faults for values that are
 * wrong; other parameters are left alone. A task that is not known is no fault,
 * but none that can match. */
void selection_read_query(struct selection *selection, const struct request *rq, struct faults *faults);
