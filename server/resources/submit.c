/* One submission: the path that is measured most. */
#include "server/resources/submit.h"

#include "base/clock.h"
#include "base/id.h"
#include "server/http/answer.h"
#include "server/http/gate.h"
#include "server/http/http.h"
#include "server/resources/await.h"
#include "server/resources/context.h"
#include "server/resources/resource.h"
#include "server/resources/turn.h"
#include "workers/particulars.h"
#include "workers/submission.h"
#include "server/resources/view.h"

#include <stdlib.h>

struct submitting {
    struct op_submit op;
    struct submission submission;
    struct buf key;
    struct buf header_key;
    int64_t wait_ms; /* of Prefer: wait; -1: none */
    bool minimal;    /* Prefer: return=minimal */
    struct listener listener;
};

static void submitting_free(void *state)
{
    struct submitting *s = state;
    topics_leave(&s->listener);
    submission_release(&s->submission);
    buf_release(&s->key);
    buf_release(&s->header_key);
    free(s);
}

static const char *task_name(const struct request *rq, int task)
{
    return store_task_name(rq->context->store, task);
}

/* The preferences that were obeyed. */
static void add_applied(struct request *rq)
{
    const struct submitting *s = rq->state;
    struct buf text = {0};
    if (s->minimal)
        buf_addl(&text, "return=minimal");
    if (s->wait_ms >= 0) {
        buf_adds(&text, s->minimal ? ", wait=" : "wait=");
        buf_add_int(&text, s->wait_ms / 1000);
    }
    if (text.len)
        answer_header(rq, "Preference-Applied", buf_cstr(&text));
    buf_release(&text);
}

/* Who it met in its unique place, as one more member of the object. */
static void add_unique(struct request *rq, struct buf *body)
{
    const struct submitting *s = rq->state;
    if (!submission_met_first(&s->submission))
        return;
    body->len--;
    buf_addl(body, ",\"unique\":");
    submission_add_unique(body, rq->config->registry, &s->submission);
    buf_addc(body, '}');
}

static enum next answer_row(struct request *rq, int status, const struct invocation *row)
{
    struct submitting *s = rq->state;
    char location[32] = "/invocations/";
    struct buf body = {0};
    id_format(row->id, location + 13);
    location[13 + ID_TEXT_LEN] = '\0';
    answer_header(rq, "Location", location);
    add_applied(rq);
    if (s->minimal) {
        view_minimal(&body, row->id, row->status);
        add_unique(rq, &body);
        return answer_json(rq, status, &body);
    }
    buf_reserve(&body, 512 + row->args.len + row->result.len);
    view_invocation(&body, row, task_name(rq, row->task), true);
    add_unique(rq, &body);
    return answer_json(rq, status, &body);
}

/* As it stands on disk now, on whatever thread. */
static enum next answer_from_disk(struct request *rq)
{
    struct submitting *s = rq->state;
    struct invocation row;
    enum err err = reader_get(rq->reader, s->submission.id, s->minimal ? VIEW_BASIC : VIEW_FULL, &row);
    if (err == ERR_LIMIT)
        return NEXT_WORK;
    if (err == ERR_NOT_FOUND)
        return answer_not_found(rq, "the invocation was pruned meanwhile");
    if (err != OK)
        return answer_fault(rq, err);
    return answer_row(rq, s->submission.replayed ? 200 : 201, &row);
}

static void answer_at_length(struct request *rq)
{
    answer_from_disk(rq);
}

/* After a wait, or for a replay. */
static enum next show(struct request *rq)
{
    rq->work = answer_at_length;
    rq->resume = NULL;
    return answer_from_disk(rq);
}

/* Parks until it is final, or answers if it is by now. */
static enum next wait_for_end(struct request *rq)
{
    struct submitting *s = rq->state;
    if (!await_over(&s->listener, rq, s->submission.id)) {
        rq->resume = wait_for_end;
        return NEXT_PARK;
    }
    return show(rq);
}

static enum next committed(struct request *rq)
{
    struct submitting *s = rq->state;
    if (s->op.op.err != OK || s->submission.err != OK) {
        struct refusal refusal = submission_refusal(&s->submission, s->op.op.err);
        if (refusal.status == 429 || refusal.status == 503)
            answer_header(rq, "Retry-After", "1");
        struct buf detail = {0};
        submission_add_detail(&detail, &s->submission, &refusal);
        answer_problem(rq, refusal.status, refusal.type, "%s", buf_cstr(&detail));
        buf_release(&detail);
        return NEXT_ANSWER;
    }
    if (s->wait_ms > 0) {
        rq->deadline_us = clock_mono_us() + s->wait_ms * 1000;
        return wait_for_end(rq);
    }
    if (s->submission.replayed || s->submission.group || s->submission.status == STATUS_HELD ||
        status_is_final(s->submission.status))
        return show(rq);
    struct invocation row;
    submission_row(&s->submission, &row);
    return answer_row(rq, 201, &row);
}

static void on_disk(struct op *op)
{
    request_wake_later(op->owner);
}

/* How long the answer may wait; -1: no time. A turn has its own way to wait. */
static int64_t wanted_wait(const struct request *rq, const struct turn *parent)
{
    int64_t wait_ms = parent ? -1 : gate_prefer_wait(request_prefer(rq));
    if (wait_ms > 0 && http_parked(rq->http) >= rq->config->limits.streams)
        return -1; /* a preference, and not one that can be met now */
    return wait_ms < AWAIT_MAX_MS ? wait_ms : AWAIT_MAX_MS;
}

static enum next submit(struct request *rq, const struct turn *parent)
{
    static struct buf scratch; /* the HTTP thread's */
    struct faults faults = {0};
    struct submitting *s = xcalloc(1, sizeof *s);
    rq->state = s;
    rq->release = submitting_free;
    s->wait_ms = wanted_wait(rq, parent);
    s->minimal = gate_prefer_minimal(request_prefer(rq));
    struct span key = request_key(rq);
    gate_key(key, &s->header_key); /* a copy: if the client leaves, its headers go before the commit */
    struct submission_context context = {
        .registry = rq->config->registry,
        .owner = rq->token ? span_of(rq->token->name) : SPAN(""),
        .key = key.p ? (struct span){buf_cstr(&s->header_key), s->header_key.len} : key,
        .parent = parent ? parent->id : 0,
        .parent_lease = parent ? parent->lease : 0,
        .now_ms = clock_now_ms(),
        .scratch = &scratch,
    };
    if (submission_read(&context, buf_span(&rq->body), &s->submission, &s->key, &faults) != OK)
        return answer_faults(rq, 422, "invalid-request", &faults);
    if (!submission_has_task(&s->submission))
        return committed(rq);
    op_submit_init(&s->op, &s->submission, 1);
    s->op.op.owner = rq;
    s->op.op.done = on_disk;
    rq->resume = committed;
    request_queue(rq, &s->op.op);
    return NEXT_COMMIT;
}

enum next submit_one(struct request *rq)
{
    return resource_is_closing(rq) ? NEXT_ANSWER : submit(rq, NULL);
}

enum next submit_child(struct request *rq)
{
    struct turn parent = turn_leave(rq);
    return submit(rq, &parent);
}
