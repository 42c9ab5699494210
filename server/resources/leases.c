/* One request in three steps, each of which may be empty: what was done is
 * written; what there is to do is claimed, or waited for; what was given is read
 * and shown.
 *
 * A turn that was given and not shown to its end goes back when the request ends,
 * whatever ended it. The poll is the request's, until that ends before the ask is
 * over: then it is over()'s. */
#include "server/resources/leases.h"

#include "base/clock.h"
#include "server/http/answer.h"
#include "server/http/http.h"
#include "server/http/parameters.h"
#include "server/resources/await.h"
#include "server/resources/context.h"
#include "server/resources/lease_body.h"
#include "server/resources/lease_view.h"
#include "server/resources/resource.h"
#include "server/resources/turn.h"
#include "server/resources/workers.h"
#include "workers/lease_token.h"
#include "workers/leases.h"

#include <stdlib.h>

enum {
    DONE_ON_LOOP = 16, /* so many rows are read on the HTTP thread */
    ANSWER_BYTES = 8 << 20,
    CLAIM_MAX_MS = 10000, /* a claim is kept until the disk is well; who asked is told before */
};

/* What becomes of a report. */
struct done {
    struct lease_report *said;
    enum err err; /* of finding its turn */
    struct turn_row row;
    const char *refusal; /* NULL: it is written */
    bool queued;
    struct op_suspend suspend; /* if it suspends; else the op is the end's */
};

/* What became of a turn that was given. */
enum fate { FATE_OPEN /* it goes back */, FATE_SHOWN, FATE_SETTLED /* it has ended or gone back */ };

struct poll {
    struct lease_ask ask;
    struct runner *runner;
    char worker[WORKER_NAME_MAX + 1];
    int *tasks; /* the body's, until the poll may outlive that */

    pthread_mutex_t lock; /* guards what follows */
    struct request *rq;   /* whom over() wakes; NULL: it has ended */
    bool over;
};

struct leasing {
    struct request *rq;
    struct poll *poll;
    struct buf arena;

    struct lease_body body;
    struct done *done; /* one for each of its reports */

    atomic_int left; /* ops that are not back */
    enum err err;    /* a fault */
    bool asked;      /* over() was called, or will be */
    bool left_ask;   /* leases_leave() was called */
    enum fate fates[LEASES_AT_ONCE];
    struct turn_end *misfits; /* of turns that cannot be run */
    int misfit_count;
    struct buf leases; /* the elements of the answer's `leases` */
};

static void poll_free(struct poll *poll)
{
    pthread_mutex_destroy(&poll->lock);
    free(poll->tasks);
    free(poll);
}

/* --- what is asked ----------------------------------------------------------------- */

static bool read_body(struct request *rq, struct leasing *leasing)
{
    struct lease_body *body = &leasing->body;
    struct faults faults = {0};
    if (!parameters_are_none(rq))
        return false;
    body->registry = rq->config->registry;
    body->now_ms = clock_now_ms();
    lease_body_read(buf_span(&rq->body), body, &leasing->arena, &faults);
    if (faults.total) {
        answer_bad_body(rq, &faults);
        return false;
    }
    memcpy(leasing->poll->worker, body->worker, sizeof body->worker);
    leasing->poll->tasks = body->tasks;
    body->tasks = NULL;
    leasing->done = xcalloc((size_t)body->report_count + 1, sizeof *leasing->done);
    for (int i = 0; i < body->report_count; i++)
        leasing->done[i].said = &body->reports[i];
    return true;
}

/* --- the answer ---------------------------------------------------------------------- */

static void add_refused(struct buf *body, const struct leasing *leasing)
{
    bool first = true;
    for (int i = 0; i < leasing->body.report_count; i++) {
        const struct done *done = &leasing->done[i];
        if (!done->refusal)
            continue;
        buf_adds(body, first ? "{\"token\":" : ",{\"token\":");
        json_add_string(body, done->said->token);
        buf_addl(body, ",\"detail\":");
        json_add_string(body, span_of(done->refusal));
        buf_addc(body, '}');
        first = false;
    }
}

static void add_cancelled(struct buf *body, const struct turn *turns, int count)
{
    for (int i = 0; i < count; i++) {
        buf_adds(body, i ? ",\"" : "\"");
        lease_token_add(body, &turns[i]);
        buf_addc(body, '"');
    }
}

/* The state is read last: what changes after that is news for the next poll. */
static enum next answer(struct request *rq)
{
    const struct leasing *leasing = rq->state;
    struct runner *runner = rq->context->runner;
    struct turn cancelled[LEASES_AT_ONCE];
    int count = leases_cancelled(runner, leasing->poll->worker, cancelled, LEASES_AT_ONCE);
    struct buf body = {0};
    buf_reserve(&body, leasing->leases.len + 200);
    buf_addl(&body, "{\"leases\":[");
    buf_add_span(&body, buf_span(&leasing->leases));
    buf_addl(&body, "],\"refused\":[");
    add_refused(&body, leasing);
    buf_addf(&body, "],\"state\":\"%s\",\"cancel\":[",
             workers_state_name(workers_state(runner, leasing->poll->worker)));
    add_cancelled(&body, cancelled, count);
    buf_addl(&body, "]}");
    return answer_json(rq, 200, &body);
}

/* --- what was given -------------------------------------------------------------------- */

static void one_is_back(struct op *op)
{
    struct request *rq = op->owner;
    struct leasing *leasing = rq->state;
    if (atomic_fetch_sub(&leasing->left, 1) == 1)
        request_wake_later(rq);
}

/* Returns what is to be awaited, or what `then` says if there is nothing. */
static enum next await_ops(struct request *rq, struct op *const *ops, int count,
                           enum next (*then)(struct request *rq))
{
    struct leasing *leasing = rq->state;
    rq->resume = then;
    if (!count)
        return then(rq);
    atomic_store(&leasing->left, count);
    for (int i = 0; i < count; i++) {
        ops[i]->owner = rq;
        ops[i]->done = one_is_back;
        request_queue(rq, ops[i]);
    }
    return NEXT_COMMIT;
}

/* Its arguments fit no more: it ends before it begins. */
static void note_misfit(struct leasing *leasing, const struct turn_row *row, const struct reason *why)
{
    if (!leasing->misfits)
        leasing->misfits = xcalloc(LEASES_AT_ONCE, sizeof *leasing->misfits);
    struct turn_end *end = &leasing->misfits[leasing->misfit_count++];
    end->failed = true;
    end->told.type = SPAN("invalid_args");
    end->told.message = span_of(why->text);
    end->told.again = AGAIN_NEVER;
    end->told.retry_after_ms = -1;
    turn_decide(leasing->rq, end, row);
    end->told.message = (struct span){NULL, 0};
}

static enum err add_one(struct leasing *leasing, const struct turn *turn, enum fate *fate)
{
    struct turn_row row;
    struct reason why;
    struct buf *out = &leasing->leases;
    size_t start = out->len;
    enum err err = reader_turn(leasing->rq->reader, turn->id, turn->lease, &row);
    if (err == OK && start)
        buf_addc(out, ',');
    if (err == OK)
        err = lease_view_add(out, leasing->rq, &row, &why);
    if (err == ERR_INVALID)
        note_misfit(leasing, &row, &why);
    if (err != OK)
        out->len = start;
    if (err == ERR_LIMIT || err_is_fault(err))
        return err;
    *fate = err == OK ? FATE_SHOWN : FATE_SETTLED; /* a turn that is gone by now needs no end */
    return OK;
}

/* An answer has a size: what has no room in it stays open. */
static enum err add_leases(struct leasing *leasing)
{
    const struct lease_ask *ask = &leasing->poll->ask;
    enum err err = OK;
    for (int i = 0; i < ask->given_count && err == OK && leasing->leases.len < ANSWER_BYTES; i++)
        err = add_one(leasing, &ask->given[i], &leasing->fates[i]);
    return err;
}

static void add_leases_at_length(struct request *rq)
{
    struct leasing *leasing = rq->state;
    leasing->err = add_leases(leasing);
}

/* What is open goes back, and what was shown if nobody has seen it. */
static void give_back(struct leasing *leasing, bool seen)
{
    struct turn back[LEASES_AT_ONCE];
    const struct lease_ask *ask = &leasing->poll->ask;
    int count = 0;
    for (int i = 0; i < ask->given_count; i++) {
        if (leasing->fates[i] == FATE_SETTLED || (leasing->fates[i] == FATE_SHOWN && seen))
            continue;
        back[count++] = ask->given[i];
        leasing->fates[i] = FATE_SETTLED;
    }
    if (count)
        leases_return(leasing->poll->runner, back, count);
}

static enum next leases_added(struct request *rq)
{
    struct leasing *leasing = rq->state;
    struct op *ops[LEASES_AT_ONCE];
    if (leasing->err != OK)
        return answer_fault(rq, leasing->err);
    bool seen = !request_has_left(rq);
    if (!seen)
        leasing->leases.len = 0;
    give_back(leasing, seen);
    for (int i = 0; i < leasing->misfit_count; i++)
        ops[i] = &leasing->misfits[i].finish.turn.op;
    return await_ops(rq, ops, leasing->misfit_count, answer);
}

/* The ask is over. */
static enum next show_given(struct request *rq)
{
    struct leasing *leasing = rq->state;
    int count = leasing->poll->ask.given_count;
    if (!count && !store_healthy(rq->context->store))
        return answer_unavailable(rq);
    if (!count || rq->left)
        return answer(rq);
    rq->work = add_leases_at_length;
    rq->resume = leases_added;
    if (count > 1)
        return NEXT_WORK;
    leasing->err = add_leases(leasing);
    return leasing->err == ERR_LIMIT ? NEXT_WORK : leases_added(rq);
}

/* --- asking ------------------------------------------------------------------------------ */

static void over(struct lease_ask *ask)
{
    struct poll *poll = ask->owner;
    pthread_mutex_lock(&poll->lock);
    struct request *rq = poll->rq;
    struct http *http = rq ? rq->http : NULL;
    poll->over = true;
    if (rq)
        request_wake_later(rq);
    pthread_mutex_unlock(&poll->lock);
    if (http) {
        http_flush(http); /* the poll is the request's, which may have ended by now */
        return;
    }
    leases_return(poll->runner, ask->given, ask->given_count);
    poll_free(poll);
}

static bool is_over(struct poll *poll)
{
    pthread_mutex_lock(&poll->lock);
    bool is = poll->over;
    pthread_mutex_unlock(&poll->lock);
    return is;
}

/* True: over() was not called, and will not be. */
static bool leave_ask(struct leasing *leasing)
{
    leasing->left_ask = true;
    leasing->asked = !leases_leave(leasing->poll->runner, &leasing->poll->ask);
    return !leasing->asked;
}

/* It was woken, perhaps by several at once. */
static enum next asked(struct request *rq)
{
    struct leasing *leasing = rq->state;
    bool ends = rq->timed_out || rq->closing || rq->left;
    if (is_over(leasing->poll) || (ends && !leasing->left_ask && leave_ask(leasing)))
        return show_given(rq);
    if (leasing->left_ask)
        rq->deadline_us = 0; /* over() comes at once */
    return NEXT_PARK;
}

static enum next begin_ask(struct request *rq)
{
    struct leasing *leasing = rq->state;
    struct lease_ask *ask = &leasing->poll->ask;
    bool waits = leasing->body.wait_ms > 0 && !rq->closing;
    if (!leasing->body.max)
        return answer(rq);
    ask->worker = leasing->poll->worker;
    ask->tasks = leasing->body.any_task ? NULL : leasing->poll->tasks;
    ask->task_count = leasing->body.task_count;
    ask->max = leasing->body.max;
    ask->lease_ms = leasing->body.lease_ms;
    ask->over = over;
    ask->owner = leasing->poll;
    leasing->poll->rq = rq;
    rq->resume = asked;
    rq->deadline_us = clock_mono_us() + (waits ? leasing->body.wait_ms : CLAIM_MAX_MS) * 1000;
    leasing->asked = leases_ask(rq->context->runner, ask, waits);
    return leasing->asked ? NEXT_PARK : answer(rq);
}

/* --- what was done -------------------------------------------------------------------------- */

static struct op *op_of(struct done *done)
{
    return done->said->suspends ? &done->suspend.turn.op : &done->said->end.finish.turn.op;
}

static const char *refusal_of(const struct done *done, enum err err)
{
    if (done->said->suspends && err == ERR_NOT_FOUND)
        return "one that it is to wait for does not exist; the turn goes on";
    if (done->said->suspends && err == ERR_INVALID)
        return "wait-cycle: one that it is to wait for waits for this one; the turn goes on";
    return "the lease is nobody's any more: it ran out while this was on its way";
}

static enum next reported(struct request *rq)
{
    struct leasing *leasing = rq->state;
    for (int i = 0; i < leasing->body.report_count; i++) {
        struct done *done = &leasing->done[i];
        enum err err = done->queued ? op_of(done)->err : OK;
        if (err_is_fault(err))
            return answer_fault(rq, err);
        if (err != OK)
            done->refusal = refusal_of(done, err);
    }
    return begin_ask(rq);
}

/* NULL if the report is to be written, or was; else why it is refused. */
static const char *refuse(struct request *rq, struct done *done)
{
    if (done->err != OK || (done->row.suspended && !done->said->suspends))
        return "the lease is nobody's any more, or there never was one";
    if (status_in_turn(done->row.status) && !done->row.elsewhere)
        return "the turn is run by the server itself";
    if (!done->said->suspends) {
        turn_decide(rq, &done->said->end, &done->row);
        return NULL;
    }
    op_suspend_init(&done->suspend, &done->row.turn);
    done->suspend.on = done->said->suspension.on;
    return NULL;
}

static enum next report(struct request *rq)
{
    struct leasing *leasing = rq->state;
    struct op *ops[REPORTS_MAX];
    int count = 0;
    if (leasing->err != OK)
        return answer_fault(rq, leasing->err);
    for (int i = 0; i < leasing->body.report_count; i++) {
        struct done *done = &leasing->done[i];
        done->refusal = refuse(rq, done);
        done->queued = !done->refusal; /* one that comes again is known by its value */
        if (done->queued)
            ops[count++] = op_of(done);
    }
    return await_ops(rq, ops, count, reported);
}

static void find_turns(struct request *rq)
{
    struct leasing *leasing = rq->state;
    for (int i = 0; i < leasing->body.report_count; i++) {
        struct done *done = &leasing->done[i];
        int64_t id, lease;
        done->err = ERR_NOT_FOUND;
        if (lease_token_parse(done->said->token, &id, &lease))
            done->err = reader_turn(rq->reader, id, lease, &done->row);
        done->row.worker = (struct span){NULL, 0}; /* the reader's, and soon gone */
        if (err_is_fault(done->err))
            leasing->err = done->err;
    }
}

static enum next begin_reports(struct request *rq)
{
    const struct leasing *leasing = rq->state;
    rq->work = find_turns;
    rq->resume = report;
    if (leasing->body.report_count > DONE_ON_LOOP)
        return NEXT_WORK;
    find_turns(rq);
    return report(rq);
}

/* --- the handler ------------------------------------------------------------------------------ */

/* Whose over() is still to come leaves the poll to that. */
static void end_poll(struct leasing *leasing)
{
    struct poll *poll = leasing->poll;
    bool comes = leasing->asked && (leasing->left_ask || !leave_ask(leasing));
    pthread_mutex_lock(&poll->lock);
    comes = comes && !poll->over;
    if (comes)
        poll->rq = NULL;
    pthread_mutex_unlock(&poll->lock);
    if (comes)
        return;
    const struct request *rq = leasing->rq;
    give_back(leasing, rq->answer.status == 200 && !rq->gone);
    poll_free(poll);
}

static void leasing_free(void *state)
{
    struct leasing *leasing = state;
    end_poll(leasing);
    lease_body_release(&leasing->body);
    for (int i = 0; i < leasing->misfit_count; i++)
        turn_end_release(&leasing->misfits[i]);
    buf_release(&leasing->leases);
    buf_release(&leasing->arena);
    free(leasing->done);
    free(leasing->misfits);
    free(leasing);
}

static struct leasing *leasing_new(struct request *rq)
{
    struct leasing *leasing = xcalloc(1, sizeof *leasing);
    leasing->rq = rq;
    leasing->poll = xcalloc(1, sizeof *leasing->poll);
    leasing->poll->runner = rq->context->runner;
    pthread_mutex_init(&leasing->poll->lock, NULL);
    return leasing;
}

enum next leases_post(struct request *rq)
{
    struct leasing *leasing = leasing_new(rq);
    rq->state = leasing;
    rq->release = leasing_free;
    if (!read_body(rq, leasing) || (leasing->body.max && leasing->body.wait_ms && !await_may_park(rq)))
        return NEXT_ANSWER;
    workers_seen(rq->context->runner, leasing->poll->worker, leasing->body.host, leasing->body.version,
                 leasing->body.pid);
    return leasing->body.report_count ? begin_reports(rq) : begin_ask(rq);
}
