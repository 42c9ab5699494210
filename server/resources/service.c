#include "server/resources/service.h"

#include "base/json.h"
#include "server/http/answer.h"
#include "server/http/freshness.h"
#include "server/http/http.h"
#include "server/http/parameters.h"
#include "server/resources/assets.h"
#include "server/resources/context.h"
#include "server/resources/resource.h"
#include "server/resources/version.h"
#include "store/db.h"
#include "workers/kinds/kinds.h"
#include "workers/leases.h"

#include <stdlib.h>

/* --- health ------------------------------------------------------------------------ */

static enum next answer_text(struct request *rq, int status, const char *json)
{
    struct buf body = {0};
    buf_adds(&body, json);
    return answer_json(rq, status, &body);
}

enum next service_health(struct request *rq)
{
    if (!parameters_are_none(rq))
        return NEXT_ANSWER;
    return answer_text(rq, 200, "{\"status\":\"ok\"}");
}

/* The names of a few of them; false if somebody asks for everything that waits. */
static bool add_unserved(struct buf *out, struct context *context)
{
    int count, shown;
    struct unserved *unserved = leases_unserved(context->runner, &count);
    for (shown = 0; shown < count && shown < 3; shown++)
        buf_addf(out, "%s%s", shown ? ", " : "", store_task_name(context->store, unserved[shown].task));
    if (count > shown)
        buf_addf(out, " and %d more", count - shown);
    free(unserved);
    return count > 0;
}

static void add_failing(void *context, const char *name)
{
    struct buf *names = context;
    buf_adds(names, names->len ? "," : "");
    json_add_string(names, span_of(name));
}

/* Pools whose children do not come to run anything; others may be well. */
static enum next answer_failing(struct request *rq, const struct buf *names, bool strict)
{
    struct buf body = {0};
    if (strict) {
        answer_header(rq, "Retry-After", "1");
        return answer_problem(rq, 503, "failing",
                              "the workers of some pools end before they have done anything: %.*s",
                              (int)names->len, names->data);
    }
    buf_addl(&body, "{\"status\":\"ok\",\"failing\":[");
    buf_add_span(&body, buf_span(names));
    buf_addl(&body, "]}");
    return answer_json(rq, 200, &body);
}

static enum next answer_ready(struct request *rq, bool strict)
{
    struct buf names = {0};
    for (const struct kind *const *kind = kinds; *kind; kind++)
        if ((*kind)->failing)
            (*kind)->failing(add_failing, &names);
    if (names.len) {
        answer_failing(rq, &names, strict);
        buf_release(&names);
        return NEXT_ANSWER;
    }
    if (strict && add_unserved(&names, rq->context)) {
        answer_header(rq, "Retry-After", "1");
        answer_problem(rq, 503, "unserved", "work waits that no worker asks for: %s", buf_cstr(&names));
        buf_release(&names);
        return NEXT_ANSWER;
    }
    return answer_text(rq, 200, "{\"status\":\"ok\"}");
}

enum next service_ready(struct request *rq)
{
    static const char *const known[] = {"strict", NULL};
    static const char *const words[] = {"0", "1", NULL};
    struct faults faults = {0};
    parameters_check(rq, known, NULL, &faults);
    bool strict = parameters_word(rq, "strict", words, 0, &faults);
    if (faults.total)
        return answer_bad_query(rq, &faults);
    bool closing = atomic_load_explicit(&rq->context->closing, memory_order_relaxed);
    bool healthy = store_healthy(rq->context->store);
    if (!closing && healthy && !runner_is_short(rq->context->runner))
        return answer_ready(rq, strict);
    answer_header(rq, "Retry-After", "1");
    if (closing)
        return answer_problem(rq, 503, "closing", "the server is stopping");
    if (healthy)
        return answer_problem(rq, 503, "unavailable",
                              "there are no processes, descriptors or memory for further starts; "
                              "they are tried again, and nothing is lost");
    return answer_problem(rq, 503, "unavailable", "the disk does not take writes; nothing starts until it does");
}

/* --- what this is -------------------------------------------------------------------- */

enum next service_version(struct request *rq)
{
    const struct {
        const char *name, *text;
    } parts[] = {
        {"version", errand_version},
        {"commit", errand_commit},
        {"sqlite", db_version()},
        {"libmicrohttpd", http_library_version()},
    };
    struct buf body = {0};
    if (!parameters_are_none(rq))
        return NEXT_ANSWER;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        buf_addf(&body, "%c\"%s\":", i ? ',' : '{', parts[i].name);
        json_add_lossy(&body, span_of(parts[i].text));
    }
    buf_addc(&body, '}');
    return answer_json(rq, 200, &body);
}

enum next service_openapi(struct request *rq)
{
    if (!parameters_are_none(rq) || freshness_unchanged_ever(rq))
        return NEXT_ANSWER;
    rq->answer.status = 200;
    rq->answer.content_type = "application/yaml";
    buf_add(&rq->answer.body, asset_openapi, asset_openapi_size);
    return NEXT_ANSWER;
}

/* --- pausing, stopping ------------------------------------------------------------------ */

static enum next service_paused(struct request *rq)
{
    const struct op_pause *op = rq->state;
    if (op->op.err != OK)
        return answer_fault(rq, op->op.err);
    return answer_text(rq, 200, store_paused(rq->context->store) ? "{\"paused\":true}" : "{\"paused\":false}");
}

enum next service_pause(struct request *rq)
{
    return resource_is_plain(rq) ? resource_pause(rq, 0, true, service_paused) : NEXT_ANSWER;
}

enum next service_resume(struct request *rq)
{
    return resource_is_plain(rq) ? resource_pause(rq, 0, false, service_paused) : NEXT_ANSWER;
}

enum next service_shutdown(struct request *rq)
{
    static const char *const known[] = {"policy", NULL};
    static const char *const policies[] = {
        [CLOSE_JOIN] = "join", [CLOSE_CANCEL] = "cancel", [CLOSE_KILL] = "kill", NULL};
    struct faults faults = {0};
    struct buf body = {0};
    parameters_check(rq, known, NULL, &faults);
    int policy = parameters_word(rq, "policy", policies, CLOSE_CANCEL, &faults);
    if (faults.total)
        return answer_bad_query(rq, &faults);
    if (!resource_body_is_empty(rq))
        return NEXT_ANSWER;
    rq->context->shutdown(rq->context, (enum close_policy)policy);
    buf_addf(&body, "{\"policy\":\"%s\"}", policies[policy]);
    return answer_json(rq, 202, &body);
}
