#include "server/resources/message_body.h"

#include "base/json.h"
#include "server/http/answer.h"
#include "store/message.h"

#include <stdlib.h>

enum { LIST_MAX = 100 };

bool message_body(struct request *rq, struct span *out)
{
    *out = json_trim(buf_span(&rq->body));
    if (out->len <= MESSAGE_BYTES_MAX)
        return true;
    answer_problem(rq, 413, "payload-too-large", "the message has %zu bytes, the limit is %d", out->len,
                   MESSAGE_BYTES_MAX);
    return false;
}

void message_list_read(const struct keys_json *in, const struct keys_place *at, struct span value,
                       struct message_list *out)
{
    struct keys_place place = {at, {NULL, 0}, 0};
    struct span body;
    if (json_type(value) != JSON_ARRAY) {
        keys_fault(in, at, "must be an array of messages");
        return;
    }
    out->bodies = xcalloc(LIST_MAX, sizeof *out->bodies);
    struct json_iter it = json_iter(value);
    for (; json_element(&it, &body); place.index++) {
        if (place.index >= LIST_MAX)
            continue;
        if (body.len > MESSAGE_BYTES_MAX)
            keys_fault(in, &place, "has %zu bytes, the limit of a message is %d", body.len, MESSAGE_BYTES_MAX);
        out->bodies[out->count++] = body;
    }
    if (place.index > LIST_MAX)
        keys_fault(in, at, "has %d messages, the limit is %d", place.index, LIST_MAX);
}

enum next message_answer(struct request *rq, int status, int64_t seq)
{
    struct buf body = {0};
    buf_addl(&body, "{\"seq\":");
    buf_add_int(&body, seq);
    buf_addc(&body, '}');
    return answer_json(rq, status, &body);
}

enum next message_outbox_is_full(struct request *rq)
{
    return answer_problem(rq, 409, "outbox-full", "an invocation sends at most %d messages", OUTBOX_MAX);
}
