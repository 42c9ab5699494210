/* Everything here is counted as it happens: asking costs the same at any volume. */
#include "server/resources/stats.h"

#include "base/clock.h"
#include "base/json.h"
#include "server/http/answer.h"
#include "server/http/freshness.h"
#include "server/http/http.h"
#include "server/http/parameters.h"
#include "server/resources/context.h"
#include "server/resources/resource.h"
#include "server/resources/statistics.h"
#include "server/resources/view.h"
#include "workers/leases.h"

#include <math.h>
#include <stdlib.h>

static void add_bool(struct buf *out, const char *name, bool value)
{
    buf_addf(out, "\"%s\":%s", name, value ? "true" : "false");
}

static void add_numbers(struct buf *out, const char *const *names, const double *numbers)
{
    for (int i = 0; names[i]; i++) {
        buf_addf(out, "%s\"%s\":", i ? "," : "{", names[i]);
        view_number(out, numbers[i]);
    }
    buf_addc(out, '}');
}

/* --- invocations --------------------------------------------------------------------- */

static bool is_shown(const struct request *rq, const struct store_task *task)
{
    for (int s = 0; s < STATUS_SLOTS; s++)
        if (task->counts[s])
            return true;
    return registry_find(rq->config->registry, span_of(task->name)) != NULL;
}

static void add_counts(struct buf *out, const struct request *rq)
{
    int count;
    bool first = true;
    int64_t sums[STATUS_SLOTS] = {0};
    struct store_task *tasks = store_tasks(rq->context->store, &count);
    for (int i = 0; i < count; i++)
        for (int s = 0; s < STATUS_SLOTS; s++)
            sums[s] += tasks[i].counts[s];
    buf_addl(out, "{\"invocations\":{");
    view_counts(out, sums);
    buf_addl(out, "},\"tasks\":{");
    for (int i = 0; i < count; i++) {
        if (!is_shown(rq, &tasks[i]))
            continue;
        if (!first)
            buf_addc(out, ',');
        first = false;
        json_add_lossy(out, span_of(tasks[i].name));
        buf_addl(out, ":{");
        view_counts(out, tasks[i].counts);
        buf_addc(out, ',');
        add_bool(out, "paused", tasks[i].paused);
        buf_addc(out, '}');
    }
    buf_addc(out, '}');
    store_tasks_free(tasks, count);
}

static void add_flow(struct buf *out, const struct statistics_view *flow)
{
    static const char *const names[] = {"submitted", "finished", "failed", NULL};
    buf_addl(out, ",\"submitted\":");
    buf_add_int(out, flow->submitted);
    buf_addl(out, ",\"finished\":");
    buf_add_int(out, flow->finished);
    buf_addl(out, ",\"failed\":");
    buf_add_int(out, flow->failed);
    buf_addl(out, ",\"rates\":");
    add_numbers(out, names, (double[]){flow->submitted_rate, flow->finished_rate, flow->failed_rate});
}

/* --- the server ------------------------------------------------------------------------ */

/* Histograms know no more than microseconds. */
static double rounded(double ms)
{
    return round(ms * 1000) / 1000;
}

static void add_latency(struct buf *out, struct runner *runner)
{
    static const char *const names[] = {"p50", "p99", NULL};
    struct latency wait, run;
    runner_latency(runner, &wait, &run);
    buf_addl(out, ",\"latency_ms\":{\"wait\":");
    add_numbers(out, names, (double[]){rounded(wait.p50), rounded(wait.p99)});
    buf_addl(out, ",\"run\":");
    add_numbers(out, names, (double[]){rounded(run.p50), rounded(run.p99)});
    buf_addc(out, '}');
}

/* What no commit tells of. */
struct service_view {
    bool paused, closing, healthy;
    int slots, busy;
    int parked; /* requests that wait or follow */
};

static struct service_view look_at(struct request *rq)
{
    struct service_view view = {
        .paused = store_paused(rq->context->store),
        .closing = atomic_load(&rq->context->closing),
        .healthy = store_healthy(rq->context->store),
        .parked = http_parked(rq->http),
    };
    struct slot_view *slots = runner_slots(rq->context->runner, &view.slots);
    for (int i = 0; i < view.slots; i++)
        view.busy += slots[i].id != 0;
    free(slots);
    return view;
}

static void add_service(struct buf *out, const struct service_view *view, int64_t started_at)
{
    buf_addl(out, ",\"service\":{");
    add_bool(out, "paused", view->paused);
    buf_addc(out, ',');
    add_bool(out, "closing", view->closing);
    buf_addc(out, ',');
    add_bool(out, "healthy", view->healthy);
    buf_addf(out, ",\"slots\":%d,\"busy\":%d,\"waiting_requests\":%d,\"started_at\":", view->slots, view->busy,
             view->parked);
    view_time(out, started_at);
    buf_addl(out, "}}");
}

struct figures {
    struct service_view service;
    struct statistics_view flow;
    struct unserved *unserved;
    int unserved_count;
};

static void figures_free(void *state)
{
    struct figures *figures = state;
    free(figures->unserved);
    free(figures);
}

static void add_unserved(struct buf *out, struct request *rq, const struct figures *figures)
{
    buf_addl(out, ",\"unserved\":[");
    for (int i = 0; i < figures->unserved_count; i++) {
        const struct unserved *unserved = &figures->unserved[i];
        buf_adds(out, i ? ",{\"task\":" : "{\"task\":");
        json_add_lossy(out, span_of(store_task_name(rq->context->store, unserved->task)));
        buf_addl(out, ",\"last_asked_at\":");
        view_time(out, unserved->last_asked_at);
        buf_addc(out, '}');
    }
    buf_addc(out, ']');
}

/* While there are rates the answer differs every second. */
static uint64_t salt(const struct figures *figures, int64_t now_ms)
{
    const struct service_view *view = &figures->service;
    const struct statistics_view *flow = &figures->flow;
    uint64_t salt = flow->submitted_rate > 0 || flow->finished_rate > 0 ? (uint64_t)now_ms / 1000 : 0;
    salt = salt << 8 | (uint64_t)(view->paused | view->closing << 1 | view->healthy << 2);
    salt ^= (uint64_t)view->busy << 42 ^ (uint64_t)view->parked << 52;
    for (int i = 0; i < figures->unserved_count; i++)
        salt = salt * 31 + (uint64_t)figures->unserved[i].task;
    return salt;
}

/* On a reader thread: there may be many tasks. */
static void show(struct request *rq)
{
    const struct figures *figures = rq->state;
    struct buf body = {0};
    add_counts(&body, rq);
    add_flow(&body, &figures->flow);
    add_latency(&body, rq->context->runner);
    add_unserved(&body, rq, figures);
    add_service(&body, &figures->service, rq->context->started_at);
    answer_json(rq, 200, &body);
}

enum next stats_get(struct request *rq)
{
    int64_t now_ms = clock_now_ms();
    if (!parameters_are_none(rq))
        return NEXT_ANSWER;
    struct figures *figures = xcalloc(1, sizeof *figures);
    rq->state = figures;
    rq->release = figures_free;
    statistics_read(rq->context->statistics, now_ms, &figures->flow);
    figures->service = look_at(rq);
    figures->unserved = leases_unserved(rq->context->runner, &figures->unserved_count);
    if (freshness_unchanged(rq, salt(figures, now_ms)))
        return NEXT_ANSWER;
    rq->work = show;
    return NEXT_WORK;
}
