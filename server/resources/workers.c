/* Workers elsewhere are known by what they ask and renew, and what they were told
 * is known to this process alone: after a restart all are active. The slots of
 * this process stand first in the list, as one worker, and after them the workers that a
 * kind has for itself. */
#include "server/resources/workers.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/json.h"
#include "server/http/answer.h"
#include "server/http/parameters.h"
#include "server/resources/context.h"
#include "server/resources/resource.h"
#include "server/resources/version.h"
#include "server/resources/view.h"
#include "workers/kinds/kinds.h"

#include <stdlib.h>
#include <unistd.h>

const char *workers_state_name(enum worker_state state)
{
    static const char *const names[] = {
        [WORKER_ACTIVE] = "active", [WORKER_QUIET] = "quiet", [WORKER_STOP] = "stop"};
    return names[state];
}

bool workers_is_served(struct span name)
{
    for (const struct kind *const *kind = kinds; *kind; kind++)
        if ((*kind)->served && span_is(name, (*kind)->name))
            return true;
    return false;
}

/* --- the shape -------------------------------------------------------------------- */

static void add_text(struct buf *out, const char *name, const char *text)
{
    buf_addf(out, ",\"%s\":", name);
    if (text)
        json_add_lossy(out, span_of(text));
    else
        buf_addl(out, "null");
}

static void add_number(struct buf *out, const char *name, int64_t number)
{
    buf_addf(out, ",\"%s\":", name);
    buf_add_int(out, number);
}

static void add_running(struct buf *out, const int64_t *ids, int count)
{
    buf_addl(out, ",\"running\":[");
    for (int i = 0; i < count; i++) {
        buf_adds(out, i ? ",\"" : "\"");
        id_add(out, ids[i]);
        buf_addc(out, '"');
    }
    buf_addc(out, ']');
}

/* Of those that hold leases: services stand under their kind. */
static const char *kind_of(const struct worker_view *view)
{
    return workers_is_served(span_of(view->name)) ? view->name : "remote";
}

static void add_worker(struct buf *out, const struct worker_view *view, const char *kind)
{
    buf_addl(out, "{\"name\":");
    json_add_lossy(out, span_of(view->name));
    add_text(out, "kind", kind);
    add_text(out, "state", workers_state_name(view->state));
    if (view->pid)
        add_number(out, "pid", view->pid);
    else
        buf_addl(out, ",\"pid\":null");
    add_text(out, "host", view->host);
    add_text(out, "version", view->version);
    add_number(out, "capacity", view->capacity);
    add_number(out, "busy", view->running_count);
    add_running(out, view->running, view->running_count);
    buf_addl(out, ",\"started_at\":");
    view_time(out, view->started_at);
    buf_addl(out, ",\"last_seen_at\":");
    view_time(out, view->last_seen_at);
    buf_addl(out, ",\"error\":null}");
}

static void add_local(struct buf *out, const struct request *rq)
{
    char host[256] = "", name[] = WORKERS_LOCAL;
    struct worker_view view = {.name = name,
                               .host = host,
                               .pid = getpid(),
                               .started_at = rq->context->started_at,
                               .last_seen_at = clock_now_ms()};
    struct slot_view *slots = runner_slots(rq->context->runner, &view.capacity);
    char *version = xstrdup(errand_version);
    gethostname(host, sizeof host - 1);
    view.version = version;
    view.running = xcalloc((size_t)view.capacity + 1, sizeof *view.running);
    for (int i = 0; i < view.capacity; i++)
        if (slots[i].id)
            view.running[view.running_count++] = slots[i].id;
    add_worker(out, &view, "local");
    free(view.running);
    free(version);
    free(slots);
}

/* --- a kind's own ---------------------------------------------------------------------- */

struct showing {
    struct buf *out;
    const struct kind *kind;
    int64_t now;
    struct span wanted; /* a name; absent: all */
    bool found;
};

static void add_own(void *context, const struct kind_worker *worker)
{
    struct showing *showing = context;
    if (showing->wanted.p) {
        showing->found |= span_is(showing->wanted, worker->name);
        return;
    }
    buf_addl(showing->out, ",{\"name\":");
    json_add_lossy(showing->out, span_of(worker->name));
    add_text(showing->out, "kind", showing->kind->name);
    add_text(showing->out, "state", worker->state);
    if (worker->pid)
        add_number(showing->out, "pid", worker->pid);
    else
        buf_addl(showing->out, ",\"pid\":null");
    buf_addl(showing->out, ",\"host\":null,\"version\":null");
    add_number(showing->out, "capacity", worker->capacity);
    add_number(showing->out, "busy", worker->running_count);
    add_running(showing->out, worker->running, worker->running_count);
    buf_addl(showing->out, ",\"started_at\":");
    view_time(showing->out, worker->started_at ? worker->started_at : showing->now);
    buf_addl(showing->out, ",\"last_seen_at\":");
    view_time(showing->out, showing->now);
    add_text(showing->out, "error", worker->error);
    buf_addc(showing->out, '}');
}

static void each_own(struct showing *showing)
{
    for (const struct kind *const *kind = kinds; *kind; kind++) {
        showing->kind = *kind;
        if ((*kind)->workers)
            (*kind)->workers(add_own, showing);
    }
}

static bool is_own(struct span name)
{
    struct showing showing = {.wanted = name};
    each_own(&showing);
    return showing.found;
}

/* --- GET /workers -------------------------------------------------------------------- */

/* On a reader thread: there may be many. */
static void show_all(struct request *rq)
{
    int count;
    struct buf body = {0};
    struct worker_view *views = workers_list(rq->context->runner, &count);
    buf_addl(&body, "{\"items\":[");
    add_local(&body, rq);
    each_own(&(struct showing){.out = &body, .now = clock_now_ms()});
    for (int i = 0; i < count; i++) {
        buf_addc(&body, ',');
        add_worker(&body, &views[i], kind_of(&views[i]));
    }
    buf_addl(&body, "],\"next\":null}");
    workers_free(views, count);
    answer_json(rq, 200, &body);
}

enum next workers_get(struct request *rq)
{
    if (!parameters_are_none(rq))
        return NEXT_ANSWER;
    rq->work = show_all;
    return NEXT_WORK;
}

/* --- what one is told ------------------------------------------------------------------ */

static enum next answer_unknown(struct request *rq)
{
    return answer_not_found(rq, "no worker of that name has asked for work lately");
}

static void show_one(struct request *rq)
{
    int count, at = -1;
    struct buf body = {0};
    struct worker_view *views = workers_list(rq->context->runner, &count);
    for (int i = 0; i < count && at < 0; i++)
        if (span_is(rq->segment, views[i].name))
            at = i;
    if (at >= 0) {
        add_worker(&body, &views[at], "remote");
        answer_json(rq, 200, &body);
    } else {
        answer_unknown(rq);
    }
    workers_free(views, count);
}

static enum next tell(struct request *rq, enum worker_state state)
{
    if (!resource_is_plain(rq))
        return NEXT_ANSWER;
    if (span_is(rq->segment, WORKERS_LOCAL))
        return answer_problem(rq, 409, "conflict",
                              "these are the server's own slots: POST /pause and POST /shutdown are for them");
    if (is_own(rq->segment))
        return answer_problem(rq, 409, "conflict",
                              "this is a child of a pool: a reload replaces all of them, POST /tasks/{name}/pause "
                              "keeps work from them");
    if (workers_is_served(rq->segment))
        return answer_problem(
            rq, 409, "conflict",
            "these are turns that services have taken over: POST /tasks/{name}/pause is for them");
    char *name = span_dup(rq->segment);
    bool known = workers_set_state(rq->context->runner, name, state);
    free(name);
    if (!known)
        return answer_unknown(rq);
    rq->work = show_one;
    return NEXT_WORK;
}

enum next workers_quiet(struct request *rq)
{
    return tell(rq, WORKER_QUIET);
}

enum next workers_stop(struct request *rq)
{
    return tell(rq, WORKER_STOP);
}

enum next workers_activate(struct request *rq)
{
    return tell(rq, WORKER_ACTIVE);
}
