#include "server/resources/inbox.h"

#include "base/digest.h"
#include "base/json.h"
#include "base/utf8.h"
#include "server/http/answer.h"
#include "server/http/gate.h"
#include "server/resources/context.h"
#include "server/resources/loops.h"
#include "server/resources/message_body.h"
#include "server/resources/resource.h"

#include <stdlib.h>

struct sending {
    struct op_message_in op;
    struct buf key, owner, name; /* copies: the client may leave before the commit */
};

static void sending_free(void *state)
{
    struct sending *sending = state;
    buf_release(&sending->key);
    buf_release(&sending->owner);
    buf_release(&sending->name);
    free(sending);
}

static enum next answer_refusal(struct request *rq, const struct op_message_in *op)
{
    switch (op->op.err) {
    case ERR_CONFLICT:
        return answer_problem(rq, 409, "conflict", "it is %s, and reads nothing any more",
                              op->loop_status ? loops_status_name(op->loop_status) : status_name(op->status));
    case ERR_MISMATCH: return answer_problem(rq, 422, "key-reused", "the key was used before with another body");
    case ERR_LIMIT:
        answer_header(rq, "Retry-After", "1");
        return answer_problem(rq, 429, "inbox-full", "%d messages wait there to be read, which is the limit",
                              UNREAD_MAX);
    default: return op->loop.name.p ? loops_unread(rq, op->op.err) : resource_unread(rq, op->op.err);
    }
}

static enum next sent(struct request *rq)
{
    const struct sending *sending = rq->state;
    if (sending->op.op.err != OK)
        return answer_refusal(rq, &sending->op);
    return message_answer(rq, sending->op.replayed ? 200 : 201, sending->op.seq);
}

/* White space and the order of members make no other message. */
static void digest(struct op_message_in *op)
{
    struct buf canonical = {0};
    json_add_canonical(&canonical, op->body, NULL);
    sha256(buf_span(&canonical), op->key_digest);
    buf_release(&canonical);
}

/* False with 400 answered if the header is no key. */
static bool take_key(struct request *rq, struct sending *sending)
{
    struct span header = request_key(rq);
    if (!header.p)
        return true;
    gate_key(header, &sending->key);
    struct span key = buf_span(&sending->key);
    if (!key.len || !utf8_valid(key) || utf8_length(key) > KEY_MAX || memchr(key.p, '\0', key.len)) {
        answer_problem(rq, 400, "invalid-header", "an Idempotency-Key has 1 to %d characters of UTF-8", KEY_MAX);
        return false;
    }
    buf_adds(&sending->owner, rq->token ? rq->token->name : "");
    sending->op.key = key;
    sending->op.key_owner = (struct span){buf_cstr(&sending->owner), sending->owner.len};
    digest(&sending->op);
    return true;
}

static enum next send_it(struct request *rq, struct sending *sending, struct span body)
{
    sending->op.body = body;
    if (!take_key(rq, sending))
        return NEXT_ANSWER;
    sending->op.op.owner = rq;
    sending->op.op.done = resource_wake;
    rq->resume = sent;
    request_queue(rq, &sending->op.op);
    return NEXT_COMMIT;
}

static struct sending *begin(struct request *rq)
{
    struct sending *sending = xcalloc(1, sizeof *sending);
    rq->state = sending;
    rq->release = sending_free;
    return sending;
}

enum next inbox_post(struct request *rq)
{
    int64_t id;
    struct span body;
    if (!resource_id(rq, &id) || !message_body(rq, &body))
        return NEXT_ANSWER;
    struct sending *sending = begin(rq);
    op_message_in_init(&sending->op, id);
    return send_it(rq, sending, body);
}

enum next inbox_post_loop(struct request *rq)
{
    struct span body;
    if (!message_body(rq, &body))
        return NEXT_ANSWER;
    struct sending *sending = begin(rq);
    struct loop_ref ref = loops_ref(rq);
    buf_add_span(&sending->name, ref.name);
    ref.name = buf_span(&sending->name);
    op_message_in_init_loop(&sending->op, ref);
    return send_it(rq, sending, body);
}
