/* Messages in bodies: one that is the body, or a list of them in a heartbeat. */
#pragma once

#include "base/keys.h"
#include "server/http/request.h"

/* The message that the body is; false with 413 answered if it is too long. */
bool message_body(struct request *rq, struct span *out);

struct message_list {
    struct span *bodies; /* owned; they point into the body */
    int count;
};

/* For `read_json`. */
void message_list_read(const struct keys_json *in, const struct keys_place *at, struct span value,
                       struct message_list *out);

/* What was sent is on disk: 201 with its number. */
enum next message_answer(struct request *rq, int status, int64_t seq);

/* The invocation has sent as many as it may: 409. */
enum next message_outbox_is_full(struct request *rq);
