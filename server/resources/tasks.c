/* A task is one of the configuration, or one that left it: gone. The list names
 * those only while invocations of them are there. */
#include "server/resources/tasks.h"

#include "base/id.h"
#include "base/json.h"
#include "server/http/answer.h"
#include "server/http/freshness.h"
#include "server/http/parameters.h"
#include "server/resources/context.h"
#include "server/resources/resource.h"
#include "server/resources/view.h"

#include <stdlib.h>

/* --- the shape -------------------------------------------------------------------- */

static bool take_id(void *context, const struct invocation *row)
{
    *(int64_t *)context = row->id;
    return true;
}

/* When its oldest queued invocation was submitted, 0 if none is queued. An
 * index serves this. */
static enum err oldest_queued(struct reader *reader, const struct store_task *known, int64_t *at_ms)
{
    int64_t id = 0, next;
    struct list_query query = {
        .filter = {.task = known->id, .statuses = 1u << STATUS_QUEUED},
        .oldest_first = true,
        .limit = 1,
        .view = VIEW_BASIC,
    };
    *at_ms = 0;
    if (!known->counts[STATUS_QUEUED])
        return OK;
    enum err err = reader_list(reader, &query, take_id, &id, &next);
    if (err == OK && id)
        *at_ms = id_time_ms(id);
    return err;
}

static void add_text(struct buf *out, const char *text)
{
    if (text)
        json_add_lossy(out, span_of(text));
    else
        buf_addl(out, "null");
}

/* `task` is NULL for one that is gone. */
static enum err add_task(struct buf *out, struct reader *reader, const struct task *task,
                         const struct store_task *known)
{
    int64_t oldest_ms, hits = 0;
    enum err err = oldest_queued(reader, known, &oldest_ms);
    if (err == OK)
        err = reader_cache_hits(reader, known->id, &hits);
    buf_addl(out, "{\"name\":");
    add_text(out, known->name);
    buf_addl(out, ",\"kind\":");
    add_text(out, task ? task->kind->name : NULL);
    buf_addl(out, ",\"description\":");
    add_text(out, task ? task->description : NULL);
    buf_adds(out, known->paused ? ",\"paused\":true" : ",\"paused\":false");
    buf_adds(out, task ? ",\"gone\":false" : ",\"gone\":true");
    buf_addl(out, ",\"params\":");
    if (task)
        params_add_schema(out, task->params);
    else
        buf_addl(out, "null");
    buf_addl(out, ",\"options\":");
    if (task)
        task_add_options(out, task);
    else
        buf_addl(out, "null");
    buf_addl(out, ",\"counts\":{");
    view_counts(out, known->counts);
    buf_addl(out, "},\"oldest_queued_at\":");
    view_time(out, oldest_ms);
    buf_addl(out, ",\"cache_hits\":");
    buf_add_int(out, hits);
    buf_addc(out, '}');
    return err;
}

static bool has_any(const struct store_task *known)
{
    for (int s = 0; s < STATUS_SLOTS; s++)
        if (known->counts[s] > 0)
            return true;
    return false;
}

/* What the store knows of a configured task; `name` is the task's own. */
static struct store_task state_of(struct store *store, const struct task *task)
{
    struct store_task known = {.id = task->id, .name = task->name};
    store_task_counts(store, known.id, &known.paused, known.counts);
    return known;
}

/* --- GET /tasks ---------------------------------------------------------------------- */

static void add_comma(struct buf *out)
{
    if (out->data[out->len - 1] == '}')
        buf_addc(out, ',');
}

static enum err add_configured(struct buf *out, struct request *rq)
{
    const struct registry *registry = rq->config->registry;
    enum err err = OK;
    for (int i = 0; i < registry_count(registry) && err == OK; i++) {
        const struct task *task = registry_at(registry, i);
        struct store_task known = state_of(rq->context->store, task);
        add_comma(out);
        err = add_task(out, rq->reader, task, &known);
    }
    return err;
}

static enum err add_gone(struct buf *out, struct request *rq)
{
    int count;
    enum err err = OK;
    struct store_task *all = store_tasks(rq->context->store, &count);
    for (int i = 0; i < count && err == OK; i++) {
        if (registry_find(rq->config->registry, span_of(all[i].name)) || !has_any(&all[i]))
            continue;
        add_comma(out);
        err = add_task(out, rq->reader, NULL, &all[i]);
    }
    store_tasks_free(all, count);
    return err;
}

/* On a reader thread. */
static void read_all(struct request *rq)
{
    struct buf body = {0};
    buf_addl(&body, "{\"items\":[");
    enum err err = add_configured(&body, rq);
    if (err == OK)
        err = add_gone(&body, rq);
    if (err != OK) {
        buf_release(&body);
        answer_fault(rq, err);
        return;
    }
    buf_addl(&body, "],\"next\":null}");
    answer_json(rq, 200, &body);
}

static enum next offer(struct request *rq)
{
    freshness_offer(rq);
    return NEXT_ANSWER;
}

enum next tasks_list(struct request *rq)
{
    if (!parameters_are_none(rq) || freshness_unchanged(rq, 0) || freshness_page(rq))
        return NEXT_ANSWER;
    rq->work = read_all;
    rq->resume = offer;
    return NEXT_WORK;
}

/* --- one ------------------------------------------------------------------------------- */

/* The task of the path with an owned name, or false with 404 answered. */
static bool find(struct request *rq, const struct task **task, struct store_task *known)
{
    int count, found = -1;
    *task = registry_find(rq->config->registry, rq->segment);
    if (*task) {
        *known = state_of(rq->context->store, *task);
        known->name = xstrdup(known->name);
        return true;
    }
    struct store_task *all = store_tasks(rq->context->store, &count);
    for (int i = 0; i < count && found < 0; i++)
        if (span_is(rq->segment, all[i].name))
            found = i;
    if (found >= 0) {
        *known = all[found];
        known->name = xstrdup(known->name);
    }
    store_tasks_free(all, count);
    if (found < 0)
        answer_not_found(rq, "there is no such task; GET /tasks names them all");
    return found >= 0;
}

/* On a reader thread. */
static void read_one(struct request *rq)
{
    const struct task *task;
    struct store_task known;
    struct buf body = {0};
    if (!find(rq, &task, &known))
        return;
    enum err err = add_task(&body, rq->reader, task, &known);
    free(known.name);
    if (err == OK) {
        answer_json(rq, 200, &body);
        return;
    }
    buf_release(&body);
    answer_fault(rq, err);
}

static enum next show(struct request *rq)
{
    rq->work = read_one;
    rq->resume = NULL;
    return NEXT_WORK;
}

enum next tasks_get(struct request *rq)
{
    return !parameters_are_none(rq) || freshness_unchanged(rq, 0) ? NEXT_ANSWER : show(rq);
}

static enum next paused(struct request *rq)
{
    const struct op_pause *op = rq->state;
    if (op->op.err == ERR_NOT_FOUND)
        return answer_not_found(rq, "there is no such task; GET /tasks names them all");
    return op->op.err == OK ? show(rq) : answer_fault(rq, op->op.err);
}

static enum next set_paused(struct request *rq, bool on)
{
    const struct task *task;
    struct store_task known;
    if (!resource_is_plain(rq) || !find(rq, &task, &known))
        return NEXT_ANSWER;
    free(known.name);
    if (!known.id) /* not on disk yet */
        return answer_fault(rq, ERR_UNAVAILABLE);
    return resource_pause(rq, known.id, on, paused);
}

enum next tasks_pause(struct request *rq)
{
    return set_paused(rq, true);
}

enum next tasks_resume(struct request *rq)
{
    return set_paused(rq, false);
}
