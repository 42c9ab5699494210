#include "server/resources/resource.h"

#include "base/json.h"
#include "server/http/fields.h"
#include "server/http/query.h"
#include "server/server.h"
#include "server/resources/view.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* --- parameters --------------------------------------------------------------------- */

bool resource_query_is(struct request *rq, const char *const *allowed)
{
    struct faults faults = {0};
    request_check_query(rq, allowed, NULL, &faults);
    if (!faults.total)
        return true;
    resource_bad_query(rq, &faults);
    return false;
}

bool resource_body_is_empty(struct request *rq)
{
    static const struct field no_fields[] = {{0}};
    struct faults faults = {0};
    struct buf arena = {0};
    if (!rq->body.len)
        return true;
    fields_read(&(struct fields){&faults, &arena}, NULL, buf_span(&rq->body), no_fields, NULL);
    buf_release(&arena);
    if (!faults.total)
        return true;
    resource_bad_body(rq, &faults);
    return false;
}

bool resource_is_plain(struct request *rq)
{
    static const char *const none[] = {NULL};
    return resource_query_is(rq, none) && resource_body_is_empty(rq);
}

int resource_word(const struct request *rq, const char *name, const char *const *words, int standard,
                  struct faults *faults)
{
    struct span value = request_query(rq, name);
    struct buf list = {0};
    if (!value.p)
        return standard;
    for (int i = 0; words[i]; i++)
        if (span_is(value, words[i]))
            return i;
    for (int i = 0; words[i]; i++)
        buf_addf(&list, "%s%s", !i ? "" : words[i + 1] ? ", " : " or ", words[i]);
    faults_add(faults, 0, name, "must be %s", buf_cstr(&list));
    buf_release(&list);
    return standard;
}

enum view resource_view(const struct request *rq, enum view standard, struct faults *faults)
{
    static const char *const views[] = {[VIEW_BASIC] = "basic", [VIEW_FULL] = "full", NULL};
    return (enum view)resource_word(rq, "view", views, (int)standard, faults);
}

int64_t resource_int(const struct request *rq, const char *name, int64_t min, int64_t max, int64_t standard,
                     struct faults *faults)
{
    struct span value = request_query(rq, name);
    int64_t number;
    if (!value.p)
        return standard;
    if (json_int64(value, &number) && number >= min && number <= max)
        return number;
    faults_add(faults, 0, name, "must be a whole number from %" PRId64 " to %" PRId64, min, max);
    return standard;
}

int64_t resource_wait(const struct request *rq, struct faults *faults)
{
    struct span value = request_query(rq, "wait");
    int64_t ms;
    if (!value.p)
        return 0;
    if (wait_parse(value, &ms))
        return ms;
    faults_add(faults, 0, "wait", "must be seconds (30) or a duration (30s)");
    return 0;
}

/* --- answers -------------------------------------------------------------------------- */

static enum next refuse(struct request *rq, int status, const char *type, const char *what, struct faults *faults)
{
    char detail[80];
    snprintf(detail, sizeof detail, "%s has %d fault%s", what, faults->total, faults->total == 1 ? "" : "s");
    return answer_faults(rq, status, type, detail, faults);
}

enum next resource_bad_query(struct request *rq, struct faults *faults)
{
    return refuse(rq, 400, "invalid-query", "the query", faults);
}

enum next resource_bad_body(struct request *rq, struct faults *faults)
{
    return refuse(rq, 422, "invalid-request", "the body", faults);
}

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
    enum err err = reader_get(rq->server->reader, id, view, &row);
    if (err != OK)
        return resource_unread(rq, err);
    buf_reserve(&body, 512 + row.args.len + row.result.len + row.error.len);
    view_invocation(&body, &row, store_task_name(rq->server->store, row.task), view == VIEW_FULL);
    return answer_json(rq, 200, &body);
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
    runner_pause(rq->server->runner, op);
    return NEXT_COMMIT;
}
