/* /leases/{token}: a turn's own address. Whoever has the token may do what the
 * turn may, and needs no other permission.
 *
 * POST heartbeat, complete, fail, log; GET shows the lease. */
#pragma once

#include "server/http/request.h"
#include "server/resources/turn_end.h"
#include "store/suspend.h"

/* Their routes' permits, before the body: the turn is under way; or, for those
 * that end it, it was and may have ended; or it may wait in place, while every
 * other word ends such a wait that nobody asks for. False with 409 answered. A turn of this
 * server whose claim is on its way to disk is let in, and its handler called when
 * the row has it. */
bool turn_is_under_way(struct request *rq);
bool turn_may_end(struct request *rq);
bool turn_may_wait(struct request *rq);

/* The same, or it has suspended before by this very token. */
bool turn_may_suspend(struct request *rq);

/* What a permit has found, for the handlers of all files. What one keeps of its
 * request beside it is released with the request. */
const struct turn_row *turn_found(const struct request *rq);
void turn_keep(struct request *rq, void *kept, void (*release)(void *kept));
void *turn_kept(const struct request *rq);

/* For a handler that has a state of its own from here on: the turn, and rq->state
 * is free. */
struct turn turn_leave(struct request *rq);

/* Is it under way still? False with 409 answered, or with a fault. */
bool turn_goes_on(struct request *rq);

/* The lease was lost since: 409. */
enum next turn_is_stale(struct request *rq);

handler_fn turn_get;
handler_fn turn_heartbeat;
handler_fn turn_complete;
handler_fn turn_fail;
handler_fn turn_log;

/* What op_suspend came to. */
enum next turn_answer_suspended(struct request *rq, const struct op_suspend *op);

/* Decides what a reported end means; a failure of a turn under way is logged. */
void turn_decide(struct request *rq, struct turn_end *end, const struct turn_row *row);
