#include "server/resources/lease_view.h"

#include "base/json.h"
#include "server/resources/context.h"
#include "server/resources/resource.h"
#include "server/resources/view.h"
#include "store/step.h"
#include "workers/composed.h"
#include "workers/lease_token.h"
#include "workers/woken.h"

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

struct beside {
    struct buf args; /* empty: as they stand in the row */
    struct buf steps;
    struct woken woken;
};

static void beside_release(struct beside *beside)
{
    buf_release(&beside->args);
    buf_release(&beside->steps);
    woken_release(&beside->woken);
}

/* Arguments that are made, members of `steps`, and what it resumes with. ERR_INVALID, with the
 * reason, when all else is there: no arguments can be made. */
static enum err read_beside(const struct request *rq, const struct turn_row *turn, struct beside *beside,
                            struct reason *why)
{
    struct invocation row;
    int64_t id = turn->turn.id;
    struct reader *reader = rq->reader;
    enum err made = OK, err = reader_get(reader, id, VIEW_BASIC, &row);
    if (err != OK || (!row.has_steps && !row.has_suspended && !row.composed))
        return err;
    if (reader_is_brief(reader))
        return ERR_LIMIT;
    const struct task *task = resource_task(rq, row.task);
    bool resumes = row.has_suspended, composed = row.composed;
    if (row.has_steps)
        err = reader_steps(reader, id, add_step, &beside->steps);
    if (err == OK && resumes)
        err = woken_read(reader, id, turn->elsewhere ? WOKEN_ELSEWHERE : WOKEN_HERE, WOKEN_BYTES, &beside->woken);
    if (err == OK && composed)
        made = composed_read(reader, id, task ? task->params : NULL, &beside->args, why);
    return err == OK ? made : err;
}

/* As the body gets them, of a row whose arguments are not made. */
static enum err bind(const struct request *rq, const struct invocation *row, struct buf *bound, struct reason *why)
{
    const struct task *task = resource_task(rq, row->task);
    if (!task || !task->params || row->composed)
        return OK;
    return composed_bind(task->params, row->args, bound, why);
}

static void add_resumption(struct buf *out, const struct woken *woken)
{
    buf_addl(out, ",\"state\":");
    buf_add_span(out, woken->state.len ? buf_span(&woken->state) : SPAN("null"));
    buf_addl(out, ",\"woken\":");
    buf_add_span(out, woken->json.len ? buf_span(&woken->json) : SPAN("null"));
}

static void add_lease(struct buf *out, const struct request *rq, const struct turn_row *turn,
                      const struct invocation *row, const struct beside *beside)
{
    buf_reserve(out, 600 + row->args.len);
    buf_addl(out, "{\"token\":\"");
    lease_token_add(out, &turn->turn);
    buf_addl(out, "\",\"expires_at\":");
    view_time(out, turn->lease_until);
    buf_addl(out, ",\"invocation\":");
    view_invocation(out, row, store_task_name(rq->context->store, row->task), true);
    add_resumption(out, &beside->woken);
    buf_addl(out, ",\"steps\":{");
    buf_add_span(out, buf_span(&beside->steps));
    buf_addl(out, "}}");
}

enum err lease_view_add(struct buf *out, const struct request *rq, const struct turn_row *turn, struct reason *why)
{
    struct invocation row;
    struct beside beside = {0};
    enum err fits = read_beside(rq, turn, &beside, why);
    enum err err = fits == ERR_INVALID ? OK : fits;
    if (err == OK)
        err = reader_get(rq->reader, turn->turn.id, VIEW_FULL, &row);
    if (err == OK && fits == OK)
        fits = bind(rq, &row, &beside.args, why);
    if (err == OK) {
        if (beside.args.len)
            row.args = buf_span(&beside.args);
        add_lease(out, rq, turn, &row, &beside);
        err = fits;
    }
    beside_release(&beside);
    return err;
}
