#include "server/resources/lease_view.h"

#include "base/json.h"
#include "server/resources/context.h"
#include "server/resources/resource.h"
#include "server/resources/view.h"
#include "store/step.h"
#include "workers/lease_token.h"
#include "workers/woken.h"

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

/* --- what stands beside the row ----------------------------------------------------- */

static void add_step(void *context, const struct step *step)
{
    struct buf *out = context;
    if (out->len)
        buf_addc(out, ',');
    json_add_string(out, step->name);
    buf_addc(out, ':');
    buf_add_span(out, step->value);
}

/* Members of `steps`, and what it resumes with. */
static enum err read_beside(struct reader *reader, const struct turn_row *turn, struct buf *steps,
                            struct woken *woken)
{
    struct invocation row;
    int64_t id = turn->turn.id;
    enum err err = reader_get(reader, id, VIEW_BASIC, &row);
    if (err != OK || (!row.has_steps && !row.has_suspended))
        return err;
    if (reader_is_brief(reader))
        return ERR_LIMIT;
    bool resumes = row.has_suspended;
    if (row.has_steps)
        err = reader_steps(reader, id, add_step, steps);
    if (err == OK && resumes)
        err = woken_read(reader, id, turn->elsewhere ? WOKEN_ELSEWHERE : WOKEN_HERE, WOKEN_BYTES, woken);
    return err;
}

static void add_resumption(struct buf *out, const struct woken *woken)
{
    buf_addl(out, ",\"state\":");
    buf_add_span(out, woken->state.len ? buf_span(&woken->state) : SPAN("null"));
    buf_addl(out, ",\"woken\":");
    buf_add_span(out, woken->json.len ? buf_span(&woken->json) : SPAN("null"));
}

enum err lease_view_add(struct buf *out, const struct request *rq, const struct turn_row *turn, struct reason *why)
{
    struct invocation row;
    struct woken woken = {0};
    struct buf bound = {0}, steps = {0};
    enum err err = read_beside(rq->reader, turn, &steps, &woken);
    if (err == OK)
        err = reader_get(rq->reader, turn->turn.id, VIEW_FULL, &row);
    if (err != OK) {
        buf_release(&steps);
        woken_release(&woken);
        return err;
    }
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
    add_resumption(out, &woken);
    buf_addl(out, ",\"steps\":{");
    buf_add_span(out, buf_span(&steps));
    buf_addl(out, "}}");
    buf_release(&bound);
    buf_release(&steps);
    woken_release(&woken);
    return err;
}
