#include "server/resources/groups_post.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "server/http/answer.h"
#include "server/http/gate.h"
#include "server/http/http.h"
#include "server/resources/await.h"
#include "server/resources/context.h"
#include "server/resources/group_view.h"
#include "server/resources/groups.h"
#include "server/resources/resource.h"
#include "server/resources/turn.h"
#include "server/resources/view.h"
#include "workers/group_submission.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    SHORT_BYTES = 8 << 10, /* a body that is read on the HTTP thread */
    SLICE_US = 20000,
    STEP_MEMBERS = 2500, /* of a group that does not come at once */
    AGAIN_US = 1000 * 1000,
    TRIES_MAX = 60,
};

struct making {
    struct group_read *read;
    struct op_group op;
    struct op_group_change abandon;
    bool unread;  /* of the body there is more */
    int at;       /* the first member that is not on disk */
    int tries;    /* to abandon it */
    bool partial; /* some of it is on disk, and not all */
    struct buf header_key;
    int64_t wait_ms; /* of Prefer: wait; -1: none */
    bool minimal;    /* Prefer: return=minimal */
    struct turn parent;
    struct listener listener;
};

static void making_free(void *state)
{
    struct making *making = state;
    topics_leave(&making->listener);
    group_read_free(making->read);
    buf_release(&making->header_key);
    free(making);
}

/* --- what is answered --------------------------------------------------------------------- */

static int status_of(const struct making *making)
{
    return making->read->group.replayed ? 200 : 201;
}

static void add_headers(struct request *rq)
{
    const struct making *making = rq->state;
    struct buf text = {0};
    buf_addl(&text, "/groups/");
    id_add(&text, making->read->group.id);
    answer_header(rq, "Location", buf_cstr(&text));
    text.len = 0;
    if (making->minimal)
        buf_addl(&text, "return=minimal");
    if (making->wait_ms >= 0)
        buf_addf(&text, "%swait=%lld", making->minimal ? ", " : "", (long long)(making->wait_ms / 1000));
    if (text.len)
        answer_header(rq, "Preference-Applied", buf_cstr(&text));
    buf_release(&text);
}

static enum next show_minimal(struct request *rq)
{
    const struct making *making = rq->state;
    struct group_row row;
    struct buf body = {0};
    enum err err = reader_group(rq->reader, making->read->group.id, &row);
    if (err != OK)
        return groups_unread(rq, err);
    buf_addl(&body, "{\"id\":\"");
    id_add(&body, row.id);
    buf_addf(&body, "\",\"status\":\"%s\"}", group_status_name(row.status));
    return answer_json(rq, status_of(making), &body);
}

/* On a reader thread: there may be many members. */
static void show_whole(struct request *rq)
{
    const struct making *making = rq->state;
    groups_show(rq, status_of(making), making->read->group.id, true);
}

static enum next show(struct request *rq)
{
    const struct making *making = rq->state;
    add_headers(rq);
    rq->resume = NULL;
    rq->work = show_whole;
    return making->minimal ? show_minimal(rq) : NEXT_WORK;
}

static enum next show_when_final(struct request *rq)
{
    struct making *making = rq->state;
    rq->resume = show_when_final;
    return groups_await_over(&making->listener, rq, making->read->group.id) ? show(rq) : NEXT_PARK;
}

static enum next made(struct request *rq)
{
    struct making *making = rq->state;
    making->partial = rq->goes_on = false;
    if (making->wait_ms <= 0)
        return show(rq);
    rq->timed_out = false;
    rq->deadline_us = clock_mono_us() + making->wait_ms * 1000;
    return show_when_final(rq);
}

/* Of a member the place in the body. */
static enum next refuse_member(struct request *rq, const struct refusal *refusal)
{
    const struct making *making = rq->state;
    const struct op_group *op = &making->op;
    struct faults faults = {0};
    struct buf pointer = {0};
    char id[ID_TEXT_LEN + 1] = "";
    bool missing = op->op.err == ERR_NOT_FOUND && op->bad_id;
    buf_addf(&pointer, "/%s/%d", making->read->one_task ? "args" : "invocations", op->bad);
    id_format(op->bad_id, id);
    if (missing)
        faults_add(&faults, 0, buf_cstr(&pointer), "there is no invocation %s for it to come after", id);
    else
        faults_add(&faults, 0, buf_cstr(&pointer), "%s", refusal->detail);
    buf_release(&pointer);
    return answer_faults(rq, refusal->status, refusal->type, &faults);
}

static enum next refuse(struct request *rq)
{
    const struct making *making = rq->state;
    const struct op_group *op = &making->op;
    struct submission as_one = {.parent = making->parent.id,
                                .parent_cancelled = making->read->group.parent_cancelled};
    struct refusal refusal = submission_refusal(&as_one, op->op.err);
    if (refusal.status == 429 || refusal.status == 503)
        answer_header(rq, "Retry-After", "1");
    if (!err_is_fault(op->op.err) && op->bad >= 0 && op->bad < making->read->group.total)
        return refuse_member(rq, &refusal);
    return answer_problem(rq, refusal.status, refusal.type, "%s", refusal.detail);
}

/* --- of which not all is there ------------------------------------------------------------------ */

static enum next abandon(struct request *rq);

static enum next end_refused(struct request *rq)
{
    const struct making *making = rq->state;
    rq->goes_on = false;
    if (making->op.op.err != OK)
        return refuse(rq);
    return answer_problem(rq, 503, "unavailable", "it was given up, as its client had left");
}

static enum next abandoned(struct request *rq)
{
    struct making *making = rq->state;
    enum err err = making->abandon.op.err;
    if (!err_is_fault(err))
        return end_refused(rq);
    if (rq->closing || !making->at || ++making->tries == TRIES_MAX) {
        char id[ID_TEXT_LEN + 1] = "";
        id_format(making->read->group.id, id);
        log_warn("what is there of a group goes at the next start", LOG_STR("group", id));
        return end_refused(rq);
    }
    rq->deadline_us = clock_mono_us() + AGAIN_US;
    rq->resume = abandon;
    return NEXT_PARK;
}

static enum next abandon(struct request *rq)
{
    struct making *making = rq->state;
    if (!making->partial)
        return end_refused(rq);
    rq->deadline_us = 0;
    op_group_change_init(&making->abandon, GROUP_ABANDON, making->read->group.id);
    making->abandon.op.owner = rq;
    making->abandon.op.done = resource_wake;
    rq->resume = abandoned;
    request_queue(rq, &making->abandon.op);
    return NEXT_COMMIT;
}

/* --- on its way to disk -------------------------------------------------------------------------- */

static enum next next_step(struct request *rq);

static enum next step_done(struct request *rq)
{
    struct making *making = rq->state;
    const struct group_submission *group = &making->read->group;
    if (making->op.op.err != OK) {
        making->partial |=
            err_is_fault(making->op.op.err) && !making->op.last; /* perhaps its beginning is there */
        return abandon(rq);
    }
    making->at += making->op.count;
    making->partial = making->at < group->total;
    if (group->replayed || !making->partial)
        return made(rq);
    return rq->gone || request_has_left(rq) ? abandon(rq) : next_step(rq);
}

static enum next next_step(struct request *rq)
{
    struct making *making = rq->state;
    struct group_read *read = making->read;
    int left = read->group.total - making->at, count = left;
    if (read->group.total > GROUP_AT_ONCE_MAX && left > STEP_MEMBERS)
        count = STEP_MEMBERS;
    op_group_init(&making->op, &read->group, read->items + making->at, count);
    making->op.from = making->at;
    making->op.first = making->at == 0;
    making->op.last = count == left;
    making->op.bad = -1;
    making->op.op.owner = rq;
    making->op.op.done = resource_wake;
    rq->resume = step_done;
    request_queue(rq, &making->op.op);
    return NEXT_COMMIT;
}

/* The tasks' own rows are on disk. */
static bool has_tasks(struct making *making)
{
    for (int i = 0; i < making->read->group.total; i++)
        if (!submission_has_task(&making->read->items[i]))
            return false;
    return true;
}

static enum next begin(struct request *rq)
{
    struct making *making = rq->state;
    size_t bytes = (size_t)making->read->group.total * sizeof *making->read->items;
    if (!has_tasks(making))
        return answer_unavailable(rq);
    if (making->read->group.total > STEP_MEMBERS && !request_charge(rq, bytes))
        return NEXT_ANSWER;
    rq->goes_on = making->read->group.total > GROUP_AT_ONCE_MAX;
    return next_step(rq);
}

/* --- what is asked --------------------------------------------------------------------------------- */

static enum next refuse_text(struct request *rq, struct faults *faults)
{
    if (faults->items[0].pointer[0])
        return answer_faults(rq, 400, "invalid-json", faults);
    answer_problem(rq, 400, "invalid-json", "%s", faults->items[0].detail);
    faults_release(faults);
    return NEXT_ANSWER;
}

/* On a reader thread. */
static void read_on(struct request *rq)
{
    struct making *making = rq->state;
    int64_t until_us = clock_mono_us() + SLICE_US;
    do
        making->unread = group_read_go_on(making->read, until_us);
    while (making->unread && clock_mono_us() < until_us);
}

static enum next read_more(struct request *rq)
{
    struct making *making = rq->state;
    struct group_read *read = making->read;
    if (making->unread) {
        rq->work = read_on;
        rq->resume = read_more;
        return NEXT_WORK;
    }
    if (read->err == OK)
        return begin(rq);
    return read->no_json ? refuse_text(rq, &read->faults) : answer_bad_body(rq, &read->faults);
}

/* How long the answer may wait; -1: no time. A turn has its own way to wait. */
static int64_t wanted_wait(const struct request *rq, const struct turn *parent)
{
    int64_t wait_ms = parent ? -1 : gate_prefer_wait(request_prefer(rq));
    if (wait_ms > 0 && http_parked(rq->http) >= rq->config->limits.streams)
        return -1; /* a preference, and not one that can be met now */
    return wait_ms < AWAIT_MAX_MS ? wait_ms : AWAIT_MAX_MS;
}

static enum next post(struct request *rq, const struct turn *parent)
{
    struct making *making = xcalloc(1, sizeof *making);
    rq->state = making;
    rq->release = making_free;
    if (!rq->body.len)
        return answer_problem(rq, 400, "invalid-json", "a JSON body is needed");
    making->parent = parent ? *parent : (struct turn){0};
    making->wait_ms = wanted_wait(rq, parent);
    making->minimal = gate_prefer_minimal(request_prefer(rq));
    struct span key = request_key(rq);
    gate_key(key, &making->header_key); /* a copy: if the client leaves, its headers go before the commit */
    struct submission_context context = {
        .registry = rq->config->registry,
        .owner = rq->token ? span_of(rq->token->name) : SPAN(""),
        .key = key.p ? (struct span){buf_cstr(&making->header_key), making->header_key.len} : key,
        .parent = making->parent.id,
        .parent_lease = making->parent.lease,
        .now_ms = clock_now_ms(),
    };
    making->read = group_read_new(&context, buf_span(&rq->body), rq->lines, rq->config->limits.body_bytes);
    making->unread = true;
    while (making->unread && rq->body.len <= SHORT_BYTES)
        making->unread = group_read_go_on(making->read, INT64_MAX);
    return read_more(rq);
}

enum next groups_post(struct request *rq)
{
    return resource_is_closing(rq) ? NEXT_ANSWER : post(rq, NULL);
}

enum next groups_post_child(struct request *rq)
{
    struct turn parent = turn_leave(rq);
    return post(rq, &parent);
}
