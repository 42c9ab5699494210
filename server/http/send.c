/* Answers on their way out. */
#include "server/http/internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <sys/types.h>

enum { BLOCK_BYTES = 32768 };

/* A suspended connection does not notice that its client has left; whoever
 * follows something is looked after each time it would be suspended again. */
static bool client_left(const struct http_request *glue)
{
    char byte;
    return glue->peer && recv(glue->peer->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

/* libmicrohttpd asks for the next bytes of a body that is made while it is
 * sent. Nothing yet: the connection is suspended until something wakes it. */
static ssize_t pull_bytes(void *cls, uint64_t position, char *out, size_t max)
{
    (void)position;
    struct http_request *glue = cls;
    struct request *rq = &glue->rq;
    glue->http->progress = true;
    while (glue->pulled_at == glue->pulled.len) {
        glue->pulled.len = glue->pulled_at = 0;
        enum pull pull = rq->answer.pull(rq, &glue->pulled);
        if (pull == PULL_END && !glue->pulled.len)
            return MHD_CONTENT_READER_END_OF_STREAM;
        if (pull == PULL_WAIT && !glue->pulled.len && client_left(glue))
            return MHD_CONTENT_READER_END_WITH_ERROR;
        if (pull == PULL_WAIT && !glue->pulled.len) {
            http_park(glue, PHASE_PARKED);
            return 0;
        }
    }
    size_t n = glue->pulled.len - glue->pulled_at;
    if (n > max)
        n = max;
    memcpy(out, glue->pulled.data + glue->pulled_at, n);
    glue->pulled_at += n;
    return (ssize_t)n;
}

static struct MHD_Response *make_response(struct http_request *glue)
{
    struct answer *answer = &glue->rq.answer;
    if (answer->pull && !glue->rq.head) { /* to a HEAD libmicrohttpd would send the end of such a body */
        glue->streaming = true;
        return MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK_BYTES, pull_bytes, glue, NULL);
    }
    size_t len = answer->body.len;
    if (!len)
        return MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    return MHD_create_response_from_buffer(len, buf_take(&answer->body), MHD_RESPMEM_MUST_FREE);
}

enum MHD_Result http_send(struct http_request *glue)
{
    struct answer *answer = &glue->rq.answer;
    struct MHD_Response *response = make_response(glue);
    if (!response)
        return MHD_NO;
    if (answer->content_type)
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, answer->content_type);
    for (int i = 0; i < answer->header_count; i++)
        MHD_add_response_header(response, answer->headers[i].name, answer->headers[i].value);
    enum MHD_Result sent = MHD_queue_response(glue->connection, (unsigned)answer->status, response);
    MHD_destroy_response(response);
    glue->phase = PHASE_SENT;
    return sent;
}
