#include "server/resources/lease_view.h"

#include "server/resources/context.h"
#include "server/resources/resource.h"
#include "server/resources/view.h"
#include "workers/lease_token.h"

static enum err bind(const struct task *task, struct span sent, struct buf *bound, struct reason *why)
{
    struct faults faults = {0};
    if (!task || !task->params)
        return OK;
    enum err err = params_bind(task->params, sent, "/args", bound, &faults);
    if (err != OK)
        reason_set(why, "%s", faults.count ? faults.items[0].detail : "they do not fit the parameters");
    faults_release(&faults);
    return err;
}

enum err lease_view_add(struct buf *out, const struct request *rq, const struct turn_row *turn, struct reason *why)
{
    struct invocation row;
    struct buf bound = {0};
    enum err err = reader_get(rq->reader, turn->turn.id, VIEW_FULL, &row);
    if (err != OK)
        return err;
    err = bind(resource_task(rq, row.task), row.args, &bound, why);
    if (err == OK && bound.len)
        row.args = buf_span(&bound);
    buf_reserve(out, 600 + row.args.len);
    buf_addl(out, "{\"token\":\"");
    lease_token_add(out, &turn->turn);
    buf_addl(out, "\",\"expires_at\":");
    view_time(out, turn->lease_until);
    buf_addl(out, ",\"invocation\":");
    view_invocation(out, &row, store_task_name(rq->context->store, row.task), true);
    buf_addl(out, ",\"state\":null,\"woken\":null,\"steps\":{}}");
    buf_release(&bound);
    return err;
}
