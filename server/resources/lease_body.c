#include "server/resources/lease_body.h"

#include "base/json.h"
#include "server/resources/await.h"
#include "server/resources/workers.h"

#include <stdlib.h>

enum {
    TASKS_MAX = 1000,
    TOKEN_MAX = 1 << 20,    /* one that is none is refused alone, not the reports beside it */
    FACT_MAX = 200,         /* what a worker says of itself */
    WAITED_IDS_MAX = 10000, /* of all reports together: they are one batch */
    LEASE_MIN_MS = 1000,
    LEASE_DEFAULT_MS = 30000,
    LEASE_MAX_MS = 3600 * 1000,
};

/* --- who asks, for what -------------------------------------------------------------- */

static bool has_control_character(struct span text)
{
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.p[i] < 0x20 || text.p[i] == 0x7F)
            return true;
    return false;
}

static void read_name(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    struct lease_body *body = target;
    struct span name;
    if (!keys_json_text(in, at, value, 1, WORKER_NAME_MAX, &name))
        return;
    if (name.len > WORKER_NAME_MAX || has_control_character(name) || memchr(name.p, '/', name.len))
        keys_fault(in, at, "must have 1 to %d bytes, no control characters and no slash", WORKER_NAME_MAX);
    else if (span_is(name, WORKERS_LOCAL))
        keys_fault(in, at, "is the name of this server's own slots; take another");
    else if (workers_is_served(name))
        keys_fault(in, at, "is the name of turns that services have taken over; take another");
    else
        memcpy(body->worker, name.p, name.len);
}

static const struct key worker_fields[] = {
    {.name = "name", .type = KEY_OTHER, .read_json = read_name, .required = true},
    {.name = "host", .type = KEY_SPAN, .offset = offsetof(struct lease_body, host), .max = FACT_MAX},
    {.name = "version", .type = KEY_SPAN, .offset = offsetof(struct lease_body, version), .max = FACT_MAX},
    {.name = "pid", .type = KEY_INT, .offset = offsetof(struct lease_body, pid), .min = 1, .max = INT32_MAX},
    {0},
};

static void read_worker(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    if (json_type(value) == JSON_OBJECT)
        keys_read_json(in, at, value, worker_fields, target);
    else
        read_name(in, at, value, target);
}

/* A worker may be ahead of the configuration: what is not there is no fault. */
static void read_task(const struct keys_json *in, const struct keys_place *at, struct span value,
                      struct lease_body *body)
{
    struct span name;
    if (!keys_json_text(in, at, value, 1, TASK_NAME_MAX, &name))
        return;
    const struct task *task = registry_find(body->registry, name);
    if (task && !task->kind->elsewhere)
        keys_fault(in, at, "the task is of the kind %s, which this server runs itself", task->kind->name);
    else if (task)
        body->tasks[body->task_count++] = task->id;
}

static void read_tasks(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    struct lease_body *body = target;
    struct keys_place place = {at, {NULL, 0}, 0};
    struct span item;
    if (json_type(value) != JSON_ARRAY) {
        keys_fault(in, at, "must be an array of names of tasks");
        return;
    }
    struct json_iter it = json_iter(value);
    body->any_task = false;
    body->tasks = xcalloc(TASKS_MAX, sizeof *body->tasks);
    for (; json_element(&it, &item); place.index++)
        if (place.index < TASKS_MAX)
            read_task(in, &place, item, body);
    if (place.index > TASKS_MAX)
        keys_fault(in, at, "has %d names, the limit is %d", place.index, TASKS_MAX);
}

/* --- what became of earlier turns ----------------------------------------------------- */

static void read_suspend(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    struct lease_report *report = target;
    report->suspends = true;
    suspension_read(in, at, value, &report->suspension);
}

enum { DONE_RESULT = 1 << 0, DONE_ERROR = 1 << 1, DONE_SUSPEND = 1 << 2 };

static const struct key report_fields[] = {
    {.name = "result", .type = KEY_OTHER, .read_json = turn_end_read_result},
    {.name = "error", .type = KEY_OTHER, .read_json = turn_end_read_error},
    {.name = "suspend", .type = KEY_OTHER, .read_json = read_suspend},
    {.name = "token",
     .type = KEY_SPAN,
     .offset = offsetof(struct lease_report, token),
     .max = TOKEN_MAX,
     .required = true},
    {0},
};

static bool came_before(const struct lease_body *body, const struct lease_report *report)
{
    for (const struct lease_report *r = body->reports; r < report; r++)
        if (r->token.len == report->token.len && memcmp(r->token.p, report->token.p, report->token.len) == 0)
            return true;
    return false;
}

static void read_report(const struct keys_json *in, const struct keys_place *at, struct span value,
                        struct lease_body *body)
{
    struct lease_report *report = &body->reports[body->report_count++];
    int before = in->faults->total;
    report->token = SPAN("");
    report->suspension.now_ms = body->now_ms;
    uint64_t given = keys_read_json(in, at, value, report_fields, report);
    if (in->faults->total > before)
        return;
    int ends = !!(given & DONE_RESULT) + !!(given & DONE_ERROR) + !!(given & DONE_SUSPEND);
    if (ends > 1)
        keys_fault(in, at, "result, error and suspend exclude each other");
    else if (!ends)
        keys_fault(in, at, "needs result, error or suspend");
    else if (came_before(body, report))
        keys_fault(in, at, "is the second report of its turn");
    body->id_count += report->suspension.on.count;
    if (body->id_count > WAITED_IDS_MAX)
        keys_fault(in, at, "and those before it wait for %d ids, the limit of a request is %d", body->id_count,
                   WAITED_IDS_MAX);
}

static void read_done(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    struct lease_body *body = target;
    struct keys_place place = {at, {NULL, 0}, 0};
    struct span item;
    if (json_type(value) != JSON_ARRAY) {
        keys_fault(in, at, "must be an array of reports");
        return;
    }
    struct json_iter it = json_iter(value);
    while (json_element(&it, &item))
        place.index++;
    if (place.index > REPORTS_MAX) {
        keys_fault(in, at, "has %d reports, the limit is %d", place.index, REPORTS_MAX);
        return;
    }
    body->reports = xcalloc((size_t)place.index + 1, sizeof *body->reports);
    it = json_iter(value);
    for (place.index = 0; json_element(&it, &item); place.index++)
        read_report(in, &place, item, body);
}

/* --- together ------------------------------------------------------------------------ */

static const struct key body_fields[] = {
    {.name = "worker", .type = KEY_OTHER, .read_json = read_worker, .required = true},
    {.name = "tasks", .type = KEY_OTHER, .read_json = read_tasks},
    {.name = "max", .type = KEY_INT, .offset = offsetof(struct lease_body, max), .max = LEASES_AT_ONCE},
    {.name = "wait", .type = KEY_DURATION, .offset = offsetof(struct lease_body, wait_ms), .max = AWAIT_MAX_MS},
    {.name = "lease",
     .type = KEY_DURATION,
     .offset = offsetof(struct lease_body, lease_ms),
     .min = LEASE_MIN_MS,
     .max = LEASE_MAX_MS},
    {.name = "done", .type = KEY_OTHER, .read_json = read_done},
    {0},
};

void lease_body_read(struct span json, struct lease_body *body, struct buf *arena, struct faults *faults)
{
    body->any_task = true;
    body->max = 1;
    body->lease_ms = LEASE_DEFAULT_MS;
    keys_read_json(&(struct keys_json){faults, arena}, NULL, json, body_fields, body);
}

void lease_body_release(struct lease_body *body)
{
    for (int i = 0; i < body->report_count; i++) {
        turn_end_release(&body->reports[i].end);
        suspension_release(&body->reports[i].suspension);
    }
    free(body->reports);
    free(body->tasks);
    body->reports = NULL;
    body->tasks = NULL;
}
