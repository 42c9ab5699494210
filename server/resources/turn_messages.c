/* Reading an inbox takes nothing out of it: what a turn was given is noted with its
 * lease, and a good end that another turn comes after makes it read. So what a turn
 * did not live to act on comes again. It is noted before it is given: what is not
 * given to anybody who reads it costs its sender nothing but a second look. */
#include "server/resources/turn_messages.h"

#include "server/http/answer.h"
#include "server/http/parameters.h"
#include "server/resources/await.h"
#include "server/resources/context.h"
#include "server/resources/message_body.h"
#include "server/resources/resource.h"
#include "server/resources/turn.h"
#include "server/resources/view.h"

#include <stdlib.h>

enum {
    PAGE_MAX = UNREAD_MAX,
    PAGE_BYTES = 8 << 20,
};

/* --- out ------------------------------------------------------------------------------- */

struct sending {
    struct op_message_out op;
    struct span body;
};

static enum next sent(struct request *rq)
{
    const struct op_message_out *op = &((const struct sending *)turn_kept(rq))->op;
    switch (op->turn.op.err) {
    case OK: return message_answer(rq, 201, op->first_seq);
    case ERR_CONFLICT: return turn_is_stale(rq);
    case ERR_LIMIT: return message_outbox_is_full(rq);
    default: return answer_fault(rq, op->turn.op.err);
    }
}

enum next turn_messages_post(struct request *rq)
{
    struct span body;
    if (!message_body(rq, &body))
        return NEXT_ANSWER;
    struct sending *sending = xcalloc(1, sizeof *sending);
    turn_keep(rq, sending, free);
    op_message_out_init(&sending->op, &turn_found(rq)->turn);
    sending->body = body;
    sending->op.bodies = &sending->body;
    sending->op.count = 1;
    sending->op.turn.op.owner = rq;
    sending->op.turn.op.done = resource_wake;
    rq->resume = sent;
    request_queue(rq, &sending->op.turn.op);
    return NEXT_COMMIT;
}

/* --- in --------------------------------------------------------------------------------- */

struct inbox {
    struct listener listener;
    bool waits;
    int64_t after; /* what is given comes after this one */
    struct buf body;
    struct op_messages_given op;
};

static void inbox_free(void *kept)
{
    struct inbox *inbox = kept;
    topics_leave(&inbox->listener);
    buf_release(&inbox->body);
    free(inbox);
}

static bool add_message(void *context, const struct message *message)
{
    struct inbox *inbox = context;
    struct buf *body = &inbox->body;
    if (body->len > PAGE_BYTES)
        return false;
    buf_adds(body, body->data[body->len - 1] == '}' ? ",{\"seq\":" : "{\"seq\":");
    buf_add_int(body, message->seq);
    buf_addl(body, ",\"at\":");
    view_time(body, message->at);
    buf_addl(body, ",\"body\":");
    buf_add_span(body, message->body);
    buf_addc(body, '}');
    inbox->op.up_to_seq = message->seq;
    return true;
}

/* On a reader thread. */
static void read_page(struct request *rq)
{
    struct inbox *inbox = turn_kept(rq);
    struct message_query query = {.kinds = 1u << MESSAGE_IN, .after_seq = inbox->after, .limit = PAGE_MAX};
    bool more;
    buf_addl(&inbox->body, "{\"items\":[");
    enum err err = reader_inbox_of(rq->reader, turn_found(rq)->turn.id, &query.id);
    if (err == OK)
        err = reader_messages(rq->reader, &query, add_message, inbox, &more);
    buf_addl(&inbox->body, "]}");
    if (err != OK)
        answer_fault(rq, err);
}

static enum next given(struct request *rq)
{
    struct inbox *inbox = turn_kept(rq);
    enum err err = inbox->op.turn.op.err;
    if (err == ERR_CONFLICT)
        return turn_is_stale(rq);
    return err == OK ? answer_json(rq, 200, &inbox->body) : answer_fault(rq, err);
}

static enum next give(struct request *rq)
{
    struct inbox *inbox = turn_kept(rq);
    if (rq->answer.status)
        return NEXT_ANSWER;
    if (!inbox->op.up_to_seq)
        return answer_json(rq, 200, &inbox->body);
    rq->resume = given;
    request_queue(rq, &inbox->op.turn.op);
    return NEXT_COMMIT;
}

static enum next answer_none(struct request *rq)
{
    struct buf body = {0};
    buf_addl(&body, "{\"items\":[]}");
    return answer_json(rq, 200, &body);
}

/* Any change of the invocation is looked at: a message, or the end of the turn. */
static enum next look(struct request *rq)
{
    struct inbox *inbox = turn_kept(rq);
    const struct turn *turn = &turn_found(rq)->turn;
    bool is_over = !inbox->waits || rq->timed_out || rq->closing || rq->gone, any;
    topics_leave(&inbox->listener);
    if (!is_over)
        topics_listen(rq->context->topics, &inbox->listener, rq, (struct topic){TOPIC_INVOCATION, turn->id});
    if (!turn_goes_on(rq))
        return NEXT_ANSWER;
    enum err err = reader_inbox_look(rq->reader, turn->id, &inbox->after, &any);
    if (err != OK)
        return answer_fault(rq, err);
    if (!any && !is_over)
        return NEXT_PARK;
    topics_leave(&inbox->listener);
    if (!any)
        return answer_none(rq);
    rq->work = read_page;
    rq->resume = give;
    return NEXT_WORK;
}

enum next turn_messages_inbox(struct request *rq)
{
    static const char *const known[] = {"after", "wait", NULL};
    struct faults faults = {0};
    struct inbox *inbox = xcalloc(1, sizeof *inbox);
    turn_keep(rq, inbox, inbox_free);
    parameters_check(rq, known, NULL, &faults);
    inbox->after = parameters_int(rq, "after", 0, INT64_MAX, 0, &faults);
    int64_t wait_ms = parameters_wait(rq, &faults);
    if (faults.total)
        return answer_bad_query(rq, &faults);
    if (wait_ms && !await_begin(rq, wait_ms))
        return NEXT_ANSWER;
    inbox->waits = wait_ms > 0;
    op_messages_given_init(&inbox->op, &turn_found(rq)->turn);
    inbox->op.turn.op.owner = rq;
    inbox->op.turn.op.done = resource_wake;
    rq->resume = look;
    return look(rq);
}
