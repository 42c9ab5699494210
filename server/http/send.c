/* Answers on their way out. */
#include "server/http/answer.h"
#include "server/http/freshness.h"
#include "server/http/internal.h"

#include <stdlib.h>
#include <sys/types.h>

enum { BLOCK_BYTES = 32768, SMALL_BYTES = 80 << 10 /* a piece, and the end of it */ };

/* Answers that nobody reads stay in memory: the large ones share a limit. One
 * alone is always sent. */
static bool charge(struct exchange *exchange, size_t bytes)
{
    struct http *http = exchange->http;
    size_t limit = (size_t)exchange->rq.config->limits.answers_bytes;
    http->answer_bytes -= exchange->charged;
    exchange->charged = 0;
    if (bytes <= SMALL_BYTES)
        return true;
    if (http->answer_bytes && http->answer_bytes + bytes > limit)
        return false;
    exchange->charged = bytes;
    http->answer_bytes += bytes;
    return true;
}

static void refuse_to_hold(struct request *rq)
{
    answer_header(rq, "Retry-After", "1");
    answer_problem(rq, 503, "busy",
                   "%lld bytes of answers are on their way to clients that have not read them yet",
                   (long long)rq->http->answer_bytes);
}

/* libmicrohttpd asks for the next bytes of a body that is made while it is
 * sent. Nothing yet: the connection is suspended until something wakes it. */
static ssize_t pull_bytes(void *cls, uint64_t position, char *out, size_t max)
{
    (void)position;
    struct exchange *exchange = cls;
    struct request *rq = &exchange->rq;
    exchange->http->progress = true;
    while (exchange->pulled_at == exchange->pulled.len) {
        exchange->pulled.len = exchange->pulled_at = 0;
        if (!rq->answer.pull) /* its work failed: the answer is another one, but for that it is too late */
            return MHD_CONTENT_READER_END_WITH_ERROR;
        enum pull pull = rq->answer.pull(rq, &exchange->pulled);
        http_check_rows(exchange);
        if (exchange->pulled.cap > SMALL_BYTES)
            buf_shrink(&exchange->pulled);
        if (!charge(exchange, exchange->pulled.len))
            return MHD_CONTENT_READER_END_WITH_ERROR; /* a single row of such a size */
        if (pull == PULL_END && !exchange->pulled.len)
            return MHD_CONTENT_READER_END_OF_STREAM;
        if (pull == PULL_WAIT && !exchange->pulled.len && rq->left)
            return MHD_CONTENT_READER_END_WITH_ERROR;
        if (pull == PULL_WAIT && !exchange->pulled.len) {
            http_park(exchange, PHASE_PARKED);
            return 0;
        }
        if (pull == PULL_WORK && !exchange->pulled.len) {
            http_park_for_work(exchange);
            return 0;
        }
    }
    size_t n = exchange->pulled.len - exchange->pulled_at;
    if (n > max)
        n = max;
    memcpy(out, exchange->pulled.data + exchange->pulled_at, n);
    exchange->pulled_at += n;
    return (ssize_t)n;
}

static struct MHD_Response *make_response(struct exchange *exchange)
{
    struct answer *answer = &exchange->rq.answer;
    if (answer->pull) {
        exchange->streaming = !exchange->rq.head;
        uint64_t length = answer->length ? (uint64_t)answer->length : MHD_SIZE_UNKNOWN;
        return MHD_create_response_from_callback(length, BLOCK_BYTES, pull_bytes, exchange, NULL);
    }
    size_t len = answer->body.len;
    if (!len)
        return MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    return MHD_create_response_from_buffer(len, buf_take(&answer->body), MHD_RESPMEM_MUST_FREE);
}

enum MHD_Result http_send(struct exchange *exchange)
{
    struct answer *answer = &exchange->rq.answer;
    freshness_settle(&exchange->rq);
    if (answer->body.len > SMALL_BYTES)
        buf_shrink(&answer->body);
    if (!answer->pull && !charge(exchange, answer->body.len))
        refuse_to_hold(&exchange->rq);
    struct MHD_Response *response = make_response(exchange);
    if (!response)
        return MHD_NO;
    if (answer->content_type)
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, answer->content_type);
    if (answer->pull && !answer->length && exchange->rq.head) /* else it sends the end of chunks to a HEAD */
        MHD_set_response_options(response, MHD_RF_HTTP_1_0_COMPATIBLE_STRICT, MHD_RO_END);
    for (int i = 0; i < answer->header_count; i++)
        MHD_add_response_header(response, answer->headers[i].name, answer->headers[i].value);
    enum MHD_Result sent = http_queue(exchange->connection, (unsigned)answer->status, response);
    MHD_destroy_response(response);
    exchange->phase = PHASE_SENT;
    return sent;
}
