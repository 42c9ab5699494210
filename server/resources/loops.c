/* Loops: made, and listed. */
#include "server/resources/loops.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/nearest.h"
#include "base/utf8.h"
#include "server/http/answer.h"
#include "server/http/freshness.h"
#include "server/http/parameters.h"
#include "server/http/query.h"
#include "server/resources/context.h"
#include "server/resources/loop_view.h"
#include "server/resources/resource.h"
#include "workers/loop_body.h"

#include <stdlib.h>

/* --- made ----------------------------------------------------------------------------- */

struct making {
    struct op_loop_make op;
    struct buf arena, name;
};

static void making_free(void *state)
{
    struct making *making = state;
    buf_release(&making->arena);
    buf_release(&making->name);
    free(making);
}

/* On a reader thread: its arguments may be long. */
static void show_made(struct request *rq)
{
    const struct op_loop_make *op = &((const struct making *)rq->state)->op;
    struct loop_view view;
    struct buf bytes = {0}, body = {0}, location = {0};
    enum err err = reader_loop(rq->reader, (struct loop_ref){.id = op->id}, VIEW_FULL, &view, &bytes);
    if (err == OK) {
        buf_addl(&location, "/loops/");
        id_add(&location, view.id);
        answer_header(rq, "Location", buf_cstr(&location));
        view_loop(&body, &view, store_task_name(rq->context->store, view.task), true);
        answer_json(rq, op->there ? 200 : 201, &body);
    } else {
        loops_unread(rq, err);
    }
    buf_release(&bytes);
    buf_release(&location);
}

static enum next made(struct request *rq)
{
    const struct op_loop_make *op = &((const struct making *)rq->state)->op;
    switch (op->op.err) {
    case OK: break;
    case ERR_MISMATCH:
        return answer_problem(
            rq, 409, "conflict",
            "a loop of that name is there, made otherwise: pause and PATCH it, or delete it first");
    case ERR_CONFLICT:
        return answer_problem(rq, 409, "conflict",
                              "the set is there with other values: leave them out, or PATCH the set first");
    case ERR_INVALID:
        return answer_problem(rq, 422, "invalid-request",
                              "there is no set of that name: say how many slots it is to have, as "
                              "{\"name\": NAME, \"slots\": N}");
    default: return answer_fault(rq, op->op.err);
    }
    rq->work = show_made;
    rq->resume = NULL;
    return NEXT_WORK;
}

static enum next make(struct request *rq, struct span name)
{
    static struct buf scratch; /* the HTTP thread's */
    struct faults faults = {0};
    struct submission_context context;
    struct making *making = xcalloc(1, sizeof *making);
    rq->state = making;
    rq->release = making_free;
    op_loop_make_init(&making->op);
    loops_context(rq, &scratch, &context);
    if (loop_body_read(&context, buf_span(&rq->body), &making->arena, &making->op, &faults) != OK)
        return answer_bad_body(rq, &faults);
    if (!making->op.spec.task) /* its row is not on disk yet */
        return answer_fault(rq, ERR_UNAVAILABLE);
    if (name.p) {
        buf_add_span(&making->name, name);
        making->op.name = buf_span(&making->name);
    }
    making->op.op.owner = rq;
    making->op.op.done = resource_wake;
    rq->resume = made;
    request_queue(rq, &making->op.op);
    return NEXT_COMMIT;
}

enum next loops_post(struct request *rq)
{
    if (request_key(rq).p)
        return answer_problem(rq, 400, "invalid-header",
                              "a loop takes no Idempotency-Key: PUT /loops/NAME makes it once");
    return resource_is_closing(rq) ? NEXT_ANSWER : make(rq, (struct span){NULL, 0});
}

/* What reads as an id is one. */
static bool name_is_good(struct request *rq)
{
    int64_t id;
    if (utf8_length(rq->segment) <= LOOP_NAME_MAX && !id_parse(rq->segment, &id))
        return true;
    answer_problem(rq, 400, "invalid-parameter",
                   "a loop's name has 1 to %d characters, and does not read as an id", LOOP_NAME_MAX);
    return false;
}

enum next loops_put(struct request *rq)
{
    return resource_is_closing(rq) || !name_is_good(rq) ? NEXT_ANSWER : make(rq, rq->segment);
}

/* --- listed ----------------------------------------------------------------------------- */

enum { LIMIT_DEFAULT = 50, LIMIT_MAX = 1000, PAGE_BYTES = 8 << 20, SCAN_MAX_US = 50000 };

struct listing {
    struct request *rq;
    struct loop_query query;
    struct buf body;
};

static void listing_free(void *state)
{
    struct listing *listing = state;
    buf_release(&listing->body);
    free(listing);
}

static bool add_row(void *context, const struct loop_view *row)
{
    struct listing *listing = context;
    struct buf *body = &listing->body;
    size_t start = body->len;
    bool first = body->data[start - 1] == '[';
    if (!first)
        buf_addc(body, ',');
    view_loop(body, row, store_task_name(listing->rq->context->store, row->task),
              listing->query.view == VIEW_FULL);
    if (body->len <= PAGE_BYTES || first)
        return true;
    body->len = start;
    return false;
}

/* On a reader thread. */
static void read_page(struct request *rq)
{
    struct listing *listing = rq->state;
    int64_t next;
    listing->query.scan_until_us = clock_mono_us() + SCAN_MAX_US;
    buf_addl(&listing->body, "{\"items\":[");
    enum err err = reader_loops(rq->reader, &listing->query, add_row, listing, &next);
    if (err != OK) {
        answer_fault(rq, err);
        return;
    }
    buf_addl(&listing->body, "],\"next\":");
    if (next) {
        buf_addc(&listing->body, '"');
        cursor_add(&listing->body, next);
        buf_addl(&listing->body, "\"}");
        resource_link_next(rq, next);
    } else {
        buf_addl(&listing->body, "null}");
    }
    answer_json(rq, 200, &listing->body);
}

static void read_status(struct listing *listing, struct span value, struct faults *faults)
{
    enum loop_shown shown;
    if (loop_shown_parse(value, &shown)) {
        listing->query.shown |= 1u << shown;
        return;
    }
    struct nearest near = nearest_to(value);
    for (int i = 0; i < LOOP_SHOWN_COUNT; i++)
        nearest_try(&near, loop_shown_name((enum loop_shown)i));
    faults_add(faults, 0, "status",
               "must be queued, running, paused, stopping, stopped, succeeded, failed or cancelled" NEAREST_FORMAT,
               NEAREST_ARGS(near));
}

static bool read_query(struct listing *listing)
{
    static const char *const known[] = {"status", "task", "set", "order", "view", "limit", "cursor", NULL};
    static const char *const repeatable[] = {"status", NULL};
    static const char *const orders[] = {"newest", "oldest", NULL};
    struct request *rq = listing->rq;
    struct faults faults = {0};
    struct span task = parameters_get(rq, "task"), cursor = parameters_get(rq, "cursor");
    parameters_check(rq, known, repeatable, &faults);
    for (int i = 0; i < rq->query_count; i++)
        if (span_is(rq->query[i].name, "status"))
            read_status(listing, rq->query[i].value, &faults);
    int number = task.p ? store_task_find(rq->context->store, task) : 0;
    listing->query.task = task.p && !number ? -1 : number;
    listing->query.set = parameters_get(rq, "set");
    listing->query.oldest_first = parameters_word(rq, "order", orders, 0, &faults) == 1;
    listing->query.view = resource_view(rq, VIEW_BASIC, &faults);
    listing->query.limit = (int)parameters_int(rq, "limit", 1, LIMIT_MAX, LIMIT_DEFAULT, &faults);
    if (cursor.len && !cursor_parse(cursor, &listing->query.cursor))
        faults_add(&faults, 0, "cursor", "must be the `next` of the page before, as it was given");
    if (!faults.total)
        return true;
    answer_bad_query(rq, &faults);
    return false;
}

static enum next offer(struct request *rq)
{
    freshness_offer(rq);
    return NEXT_ANSWER;
}

enum next loops_list(struct request *rq)
{
    struct listing *listing = xcalloc(1, sizeof *listing);
    rq->state = listing;
    rq->release = listing_free;
    listing->rq = rq;
    if (!read_query(listing) || freshness_unchanged(rq, 0) || freshness_page(rq))
        return NEXT_ANSWER;
    rq->work = read_page;
    rq->resume = offer;
    return NEXT_WORK;
}
