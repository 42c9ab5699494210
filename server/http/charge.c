/* What large bodies hold, while they come and until all that is made of them is done: one budget
 * for all, of so many bodies of the largest size. One alone always has room. */
#include "server/http/answer.h"
#include "server/http/internal.h"

enum { BODIES_AT_ONCE = 4 };

static bool charge(struct exchange *exchange, size_t more)
{
    struct http *http = exchange->http;
    struct request *rq = &exchange->rq;
    size_t most = (size_t)rq->config->limits.bulk_body_bytes * BODIES_AT_ONCE;
    bool alone = http->bulk_bytes == exchange->bulk_charged;
    if (!alone && http->bulk_bytes + more > most) {
        answer_header(rq, "Retry-After", "1");
        answer_problem(rq, 503, "busy", "other large bodies hold %zu bytes, and there is no room for this one",
                       http->bulk_bytes - exchange->bulk_charged);
        return false;
    }
    http->bulk_bytes += more;
    exchange->bulk_charged += more;
    return true;
}

bool http_charge_body(struct exchange *exchange, int64_t bytes)
{
    bool is_large = bytes > exchange->rq.config->limits.body_bytes && bytes > (int64_t)exchange->bulk_charged;
    return !is_large || charge(exchange, (size_t)bytes - exchange->bulk_charged);
}

bool request_charge(struct request *rq, size_t bytes)
{
    return charge(rq->exchange, bytes);
}
