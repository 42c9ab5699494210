#include "server/resources/release.h"

#include "server/http/answer.h"
#include "server/resources/context.h"
#include "server/resources/resource.h"
#include "store/hold.h"

#include <stdlib.h>

static void show(struct request *rq)
{
    const struct op_release *op = rq->state;
    resource_show(rq, op->id, VIEW_FULL);
}

static enum next released(struct request *rq)
{
    const struct op_release *op = rq->state;
    if (op->op.err == ERR_CONFLICT)
        return answer_problem(rq, 409, "conflict",
                              "it is %s, and was not released; a release needs a promise (hold)",
                              status_name(op->status));
    if (op->op.err != OK)
        return resource_unread(rq, op->op.err);
    rq->work = show;
    rq->resume = NULL;
    return resource_show(rq, op->id, VIEW_FULL);
}

enum next release_one(struct request *rq)
{
    int64_t id;
    if (!resource_id(rq, &id) || !resource_is_plain(rq))
        return NEXT_ANSWER;
    struct op_release *op = xcalloc(1, sizeof *op);
    rq->state = op;
    rq->release = free;
    op_release_init(op, id);
    op->op.owner = rq;
    op->op.done = resource_wake;
    rq->resume = released;
    request_queue(rq, &op->op);
    return NEXT_COMMIT;
}
