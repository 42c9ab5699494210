#include "server/resources/resource.h"

#include "base/id.h"
#include "base/json.h"
#include "server/http/answer.h"
#include "server/http/parameters.h"
#include "server/http/query.h"
#include "server/resources/context.h"
#include "server/resources/view.h"

#include <stdlib.h>

enum { LINK_MAX = 4096 /* a longer one is left out: `next` says the same */ };

/* --- what was asked ----------------------------------------------------------------- */

bool resource_id(struct request *rq, int64_t *id)
{
    if (id_parse(rq->segment, id))
        return true;
    answer_not_found(rq, "there is no such invocation");
    return false;
}

bool resource_body_is_empty(struct request *rq)
{
    static const struct key no_fields[] = {{0}};
    struct faults faults = {0};
    struct buf arena = {0};
    if (!rq->body.len)
        return true;
    keys_read_json(&(struct keys_json){&faults, &arena}, NULL, buf_span(&rq->body), no_fields, NULL);
    buf_release(&arena);
    if (!faults.total)
        return true;
    answer_bad_body(rq, &faults);
    return false;
}

bool resource_is_plain(struct request *rq)
{
    return parameters_are_none(rq) && resource_body_is_empty(rq);
}

enum view resource_view(const struct request *rq, enum view absent, struct faults *faults)
{
    static const char *const views[] = {[VIEW_BASIC] = "basic", [VIEW_FULL] = "full", NULL};
    return (enum view)parameters_word(rq, "view", views, (int)absent, faults);
}

bool resource_is_closing(struct request *rq)
{
    if (!atomic_load_explicit(&rq->context->closing, memory_order_relaxed))
        return false;
    answer_header(rq, "Retry-After", "5");
    answer_problem(rq, 503, "closing", "the service is closing; try again soon");
    return true;
}

const struct task *resource_task(const struct request *rq, int number)
{
    const char *name = store_task_name(rq->context->store, number);
    return name ? registry_find(rq->config->registry, span_of(name)) : NULL;
}

/* --- answers -------------------------------------------------------------------------- */

enum next resource_unread(struct request *rq, enum err err)
{
    if (err == ERR_NOT_FOUND)
        return answer_not_found(rq, "there is no such invocation");
    return answer_fault(rq, err);
}

enum next resource_show(struct request *rq, int64_t id, enum view view)
{
    struct invocation row;
    struct buf body = {0};
    enum err err = reader_get(rq->reader, id, view, &row);
    if (err == ERR_LIMIT)
        return NEXT_WORK;
    if (err != OK)
        return resource_unread(rq, err);
    buf_reserve(&body, 512 + row.args.len + row.result.len + row.error.len);
    view_invocation(&body, &row, store_task_name(rq->context->store, row.task), view == VIEW_FULL);
    return answer_json(rq, 200, &body);
}

static void add_encoded(struct buf *out, struct span text)
{
    static const char hex[] = "0123456789ABCDEF";
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.p[i];
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("-_.~", c)) {
            buf_addc(out, (char)c);
        } else {
            buf_addc(out, '%');
            buf_addc(out, hex[c >> 4]);
            buf_addc(out, hex[c & 15]);
        }
    }
}

void resource_link_next(struct request *rq, int64_t next)
{
    struct buf link = {0};
    buf_addc(&link, '<');
    buf_add_span(&link, rq->path);
    buf_addc(&link, '?');
    for (int i = 0; i < rq->query_count; i++) {
        if (span_is(rq->query[i].name, "cursor"))
            continue;
        add_encoded(&link, rq->query[i].name);
        buf_addc(&link, '=');
        add_encoded(&link, rq->query[i].value);
        buf_addc(&link, '&');
    }
    buf_addl(&link, "cursor=");
    cursor_add(&link, next);
    buf_addl(&link, ">; rel=\"next\"");
    if (link.len <= LINK_MAX)
        answer_header(rq, "Link", buf_cstr(&link));
    buf_release(&link);
}

void resource_wake(struct op *op)
{
    request_wake_later(op->owner);
}

enum next resource_pause(struct request *rq, int task, bool paused, enum next (*then)(struct request *rq))
{
    struct op_pause *op = xcalloc(1, sizeof *op);
    rq->state = op;
    rq->release = free;
    op_pause_init(op, task, paused);
    op->op.owner = rq;
    op->op.done = resource_wake;
    rq->resume = then;
    runner_pause(rq->context->runner, op);
    return NEXT_COMMIT;
}
