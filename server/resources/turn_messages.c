#include "server/resources/turn_messages.h"

#include "server/http/answer.h"
#include "server/http/parameters.h"
#include "server/resources/resource.h"
#include "server/resources/turn.h"

#include <stdlib.h>

struct sending {
    struct op_message_out op;
    struct span body;
};

static enum next sent(struct request *rq)
{
    const struct sending *sending = turn_kept(rq);
    struct buf body = {0};
    if (sending->op.turn.op.err == ERR_CONFLICT)
        return turn_is_stale(rq);
    if (sending->op.turn.op.err != OK)
        return answer_fault(rq, sending->op.turn.op.err);
    buf_addf(&body, "{\"seq\":%lld}", (long long)sending->op.first_seq);
    return answer_json(rq, 201, &body);
}

enum next turn_messages_post(struct request *rq)
{
    struct sending *sending = xcalloc(1, sizeof *sending);
    turn_keep(rq, sending, free);
    if (!parameters_are_none(rq))
        return NEXT_ANSWER;
    op_message_out_init(&sending->op, &turn_found(rq)->turn);
    sending->body = buf_span(&rq->body);
    sending->op.bodies = &sending->body;
    sending->op.count = 1;
    sending->op.turn.op.owner = rq;
    sending->op.turn.op.done = resource_wake;
    rq->resume = sent;
    request_queue(rq, &sending->op.turn.op);
    return NEXT_COMMIT;
}
