#include "server/resources/callbacks.h"

#include "base/json.h"
#include "server/http/answer.h"
#include "server/http/freshness.h"
#include "server/http/parameters.h"
#include "server/resources/context.h"
#include "server/resources/resource.h"
#include "server/resources/view.h"

#include <stdlib.h>

static void add_number(struct buf *out, int64_t n)
{
    if (n)
        buf_add_int(out, n);
    else
        buf_addl(out, "null");
}

static void add_delivery(struct buf *out, const struct delivery *delivery)
{
    static const char *const statuses[] = {
        [DELIVERY_PENDING] = "pending", [DELIVERY_DELIVERED] = "delivered", [DELIVERY_FAILED] = "failed"};
    buf_addl(out, "{\"n\":");
    buf_add_int(out, delivery->n);
    buf_addl(out, ",\"url\":");
    json_add_lossy(out, delivery->url);
    buf_addf(out, ",\"event\":\"%s\",\"status\":\"%s\",\"attempts\":%d,\"last_status\":",
             status_name((enum status)delivery->event), statuses[delivery->status], delivery->attempts);
    add_number(out, delivery->last_status);
    buf_addl(out, ",\"last_error\":");
    buf_add_span(out, delivery->last_error.p ? delivery->last_error : SPAN("null"));
    buf_addl(out, ",\"next_at\":");
    view_time(out, delivery->next_at);
    buf_addl(out, ",\"created_at\":");
    view_time(out, delivery->created_at);
    buf_addl(out, ",\"delivered_at\":");
    view_time(out, delivery->delivered_at);
    buf_addc(out, '}');
}

/* --- all of one --------------------------------------------------------------------- */

static void add_item(void *context, const struct delivery *delivery)
{
    struct buf *body = context;
    if (body->data[body->len - 1] == '}')
        buf_addc(body, ',');
    add_delivery(body, delivery);
}

static enum err add_url(struct reader *reader, int64_t id, struct buf *body)
{
    struct buf url = {0};
    enum err err = reader_callback(reader, id, &url);
    if (err == OK)
        json_add_lossy(body, buf_span(&url));
    else
        buf_addl(body, "null");
    buf_release(&url);
    return err == ERR_NOT_FOUND ? OK : err;
}

/* On a reader thread. */
static void read_all(struct request *rq)
{
    const int64_t *id = rq->state;
    struct invocation row;
    struct buf body = {0};
    enum err err = reader_get_awaited(rq->reader, *id, VIEW_BASIC, &row);
    buf_addl(&body, "{\"callback\":");
    if (err == OK)
        err = add_url(rq->reader, *id, &body);
    buf_addl(&body, ",\"items\":[");
    if (err == OK)
        err = reader_deliveries(rq->reader, *id, add_item, &body);
    if (err != OK) {
        buf_release(&body);
        resource_unread(rq, err);
        return;
    }
    buf_addl(&body, "],\"next\":null}");
    answer_json(rq, 200, &body);
}

enum next callbacks_list(struct request *rq)
{
    int64_t *id = xcalloc(1, sizeof *id);
    rq->state = id;
    rq->release = free;
    if (!resource_id(rq, id) || !parameters_are_none(rq) || freshness_unchanged(rq, 0))
        return NEXT_ANSWER;
    rq->work = read_all;
    return NEXT_WORK;
}

/* --- once more ------------------------------------------------------------------------ */

/* The one that was repeated, as it stands now. */
struct search {
    struct buf *body;
    int n;
};

static void take_item(void *context, const struct delivery *delivery)
{
    const struct search *search = context;
    if (delivery->n == search->n)
        add_delivery(search->body, delivery);
}

static enum next there_is_none(struct request *rq)
{
    return answer_not_found(rq, "there is no such delivery");
}

/* On a reader thread. */
static void show_repeated(struct request *rq)
{
    const struct op_repeat *op = rq->state;
    struct buf body = {0};
    struct search search = {&body, op->n};
    enum err err = reader_deliveries(rq->reader, op->owner, take_item, &search);
    if (err == OK && body.len) {
        answer_json(rq, 202, &body);
        return;
    }
    buf_release(&body);
    if (err == OK)
        there_is_none(rq);
    else
        answer_fault(rq, err);
}

static enum next repeated(struct request *rq)
{
    const struct op_repeat *op = rq->state;
    if (op->op.err == ERR_NOT_FOUND)
        return there_is_none(rq);
    if (op->op.err != OK)
        return answer_fault(rq, op->op.err);
    rq->work = show_repeated;
    rq->resume = NULL;
    return NEXT_WORK;
}

static bool read_number(struct span text, int *n)
{
    *n = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.p[i] < '0' || text.p[i] > '9' || *n > 1000000)
            return false;
        *n = 10 * *n + (text.p[i] - '0');
    }
    return *n > 0;
}

enum next callbacks_repeat(struct request *rq)
{
    int64_t id;
    int n;
    if (!resource_id(rq, &id) || !resource_is_plain(rq))
        return NEXT_ANSWER;
    if (!read_number(rq->second, &n))
        return there_is_none(rq);
    struct op_repeat *op = xcalloc(1, sizeof *op);
    rq->state = op;
    rq->release = free;
    op_repeat_init(op, id, n);
    op->op.owner = rq;
    op->op.done = resource_wake;
    rq->resume = repeated;
    request_queue(rq, &op->op);
    return NEXT_COMMIT;
}
