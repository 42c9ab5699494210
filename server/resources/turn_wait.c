/* A request looks at the wait for a while; the wait is the turn's, and goes on
 * (workers/waits.h). What is run elsewhere has its lease renewed for as long as
 * somebody asks. How each of the ids stands is read last, when all else is done:
 * and if it is not as the wait was told, the answer is to ask again. */
#include "server/resources/turn_wait.h"

#include "base/clock.h"
#include "base/keys.h"
#include "server/http/answer.h"
#include "server/http/parameters.h"
#include "server/resources/await.h"
#include "server/resources/context.h"
#include "server/resources/resource.h"
#include "server/resources/turn.h"
#include "workers/leases.h"
#include "workers/waits.h"

#include <stdlib.h>

enum { RESULTS_BYTES = 1 << 20 };

enum mode { MODE_ALL, MODE_ANY };

struct waiting {
    struct wait_ask ask;
    struct runner *runner;
    struct op_renew renew;
    struct buf arena;
    int64_t ids[WAIT_IDS_MAX];
    int count;
    enum mode mode;
    int64_t timeout_ms, wait_ms;
    int64_t lease_ms; /* of a turn that is run elsewhere */
    bool asks;        /* waits_leave() is to be called */
    bool renews;      /* the turn's lease, once more at the end */
    bool holds;       /* leases_let_go() is to be called */
};

/* --- what is asked ------------------------------------------------------------------ */

static void read_ids(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    struct waiting *waiting = target;
    waiting->count = keys_json_ids(in, at, value, WAIT_IDS_MAX, waiting->ids);
}

static const char *const mode_words[] = {[MODE_ALL] = "all", [MODE_ANY] = "any", NULL};

static const struct key on_fields[] = {
    {.name = "ids", .type = KEY_OTHER, .read_json = read_ids, .required = true},
    {.name = "mode", .type = KEY_WORD, .words = mode_words, .offset = offsetof(struct waiting, mode)},
    {0},
};

static void read_on(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    keys_read_json(in, at, value, on_fields, target);
}

static const struct key wait_fields[] = {
    {.name = "on", .type = KEY_OTHER, .read_json = read_on, .required = true},
    {.name = "timeout", .type = KEY_DURATION, .offset = offsetof(struct waiting, timeout_ms)},
    {.name = "wait", .type = KEY_DURATION, .offset = offsetof(struct waiting, wait_ms), .max = AWAIT_MAX_MS},
    {0},
};

static bool read_body(struct request *rq, struct waiting *waiting)
{
    struct faults faults = {0};
    if (!parameters_are_none(rq))
        return false;
    keys_read_json(&(struct keys_json){&faults, &waiting->arena}, NULL, buf_span(&rq->body), wait_fields, waiting);
    if (!faults.total)
        return true;
    answer_bad_body(rq, &faults);
    return false;
}

/* --- how they stand -------------------------------------------------------------------- */

static void add_value(struct buf *out, const char *name, struct span json, bool whole)
{
    buf_adds(out, name);
    if (json.p && whole)
        buf_add_span(out, json);
    else
        buf_addl(out, "null");
}

/* True: it has ended. `whole`: with what came of it. */
static bool add_one(struct buf *out, int64_t id, const struct invocation *row, bool whole)
{
    bool left_out = whole && out->len + row->result.len + row->error.len > RESULTS_BYTES;
    buf_addl(out, "{\"id\":\"");
    id_add(out, id);
    buf_addl(out, "\",\"status\":");
    if (row->status)
        buf_addf(out, "\"%s\"", status_name(row->status));
    else
        buf_addl(out, "null"); /* it was deleted since */
    add_value(out, ",\"result\":", row->result, whole && !left_out);
    add_value(out, ",\"error\":", row->error, whole && !left_out);
    buf_adds(out, left_out ? ",\"left_out\":true}" : "}");
    return !row->status || status_is_final(row->status);
}

static enum err add_results(const struct request *rq, const struct waiting *waiting, bool whole, struct buf *out,
                            int *ended)
{
    enum err err = OK;
    for (int i = 0; i < waiting->count; i++) {
        struct invocation row = {0};
        err = reader_get_awaited(rq->reader, waiting->ids[i], whole ? VIEW_FULL : VIEW_BASIC, &row);
        if (err == ERR_NOT_FOUND)
            row = (struct invocation){0};
        else if (err != OK)
            return err;
        if (i)
            buf_addc(out, ',');
        *ended += add_one(out, waiting->ids[i], &row, whole);
    }
    return OK;
}

static bool is_met(const struct waiting *waiting, int ended)
{
    return waiting->mode == MODE_ANY ? ended > 0 : ended == waiting->count;
}

/* On a reader thread. */
static void show(struct request *rq)
{
    const struct waiting *waiting = turn_kept(rq);
    enum wait_end end = waiting->ask.end;
    struct buf body = {0};
    int ended = 0;
    buf_addl(&body, "{\"results\":[");
    enum err err = add_results(rq, waiting, end != WAIT_GOES_ON, &body, &ended);
    if (err != OK) {
        buf_release(&body);
        answer_fault(rq, err);
        return;
    }
    bool goes_on = end == WAIT_GOES_ON || (end == WAIT_MET && !is_met(waiting, ended));
    buf_adds(&body, end == WAIT_CANCELLED ? "],\"cancel\":true" : "],\"cancel\":false");
    buf_adds(&body, end == WAIT_TIMED_OUT ? ",\"timed_out\":true}" : ",\"timed_out\":false}");
    answer_json(rq, goes_on ? 202 : 200, &body);
}

static enum next show_results(struct request *rq)
{
    rq->deadline_us = 0;
    rq->resume = NULL;
    rq->work = show;
    return NEXT_WORK;
}

/* --- the lease ----------------------------------------------------------------------------- */

/* Told from here: the client may have left by the time that anybody asks. */
static void renewed(struct op *op)
{
    struct request *rq = op->owner;
    struct waiting *waiting = turn_kept(rq);
    const struct op_renew *renew = &waiting->renew;
    if (op->err == OK && !renew->cancelled && waiting->holds)
        leases_renewed(waiting->runner, &renew->turn.turn, waiting->lease_ms, renew->lease_until);
    else if (op->err == OK && !renew->cancelled)
        waiting->holds = leases_hold(waiting->runner, &renew->turn.turn, waiting->wait_ms, renew->lease_until);
    resource_wake(op);
}

static enum next renew(struct request *rq, int64_t for_ms, enum next (*then)(struct request *rq))
{
    struct waiting *waiting = turn_kept(rq);
    op_renew_init(&waiting->renew, &waiting->ask.turn);
    waiting->renew.lease_until = clock_now_ms() + for_ms + waiting->lease_ms;
    waiting->renew.turn.op.owner = rq;
    waiting->renew.turn.op.done = renewed;
    rq->deadline_us = 0;
    rq->resume = then;
    request_queue(rq, &waiting->renew.turn.op);
    return NEXT_COMMIT;
}

/* --- asking ---------------------------------------------------------------------------------- */

static void over(struct wait_ask *ask)
{
    request_wake(ask->owner);
}

static void leave(struct waiting *waiting)
{
    if (waiting->asks)
        waits_leave(waiting->runner, &waiting->ask);
    waiting->asks = false;
}

static enum next refuse(struct request *rq, const struct waiting *waiting)
{
    char id[ID_TEXT_LEN + 1] = "";
    struct faults faults = {0};
    id_format(waiting->ask.bad, id);
    switch (waiting->ask.err) {
    case ERR_NOT_FOUND:
        faults_add(&faults, 0, "/on/ids", "there is no invocation %s", id);
        return answer_bad_body(rq, &faults);
    case ERR_INVALID:
        return answer_problem(rq, 409, "wait-cycle", "%s waits for this one: neither would ever go on", id);
    case ERR_CONFLICT: return turn_is_stale(rq);
    default: return answer_fault(rq, waiting->ask.err);
    }
}

static enum next renewed_last(struct request *rq)
{
    const struct waiting *waiting = turn_kept(rq);
    enum err err = waiting->renew.turn.op.err;
    if (err == ERR_CONFLICT)
        return turn_is_stale(rq);
    return err == OK ? show_results(rq) : answer_fault(rq, err);
}

/* Over, or it is time to say that it goes on. */
static enum next asked(struct request *rq)
{
    struct waiting *waiting = turn_kept(rq);
    leave(waiting);
    if (waiting->ask.end == WAIT_REFUSED)
        return refuse(rq, waiting);
    if (waiting->ask.end == WAIT_BUSY)
        return answer_problem(rq, 409, "conflict",
                              "the turn waits for others already, and can wait for one thing "
                              "at a time");
    if (!waiting->renews || rq->left || rq->closing)
        return show_results(rq);
    waiting->renews = false;
    return renew(rq, 0, renewed_last);
}

static enum next begin(struct request *rq)
{
    struct waiting *waiting = turn_kept(rq);
    rq->timed_out = false;
    rq->deadline_us = clock_mono_us() + waiting->wait_ms * 1000;
    rq->resume = asked;
    waiting->asks = true;
    waits_ask(waiting->runner, &waiting->ask);
    return NEXT_PARK;
}

static enum next renewed_first(struct request *rq)
{
    struct waiting *waiting = turn_kept(rq);
    enum err err = waiting->renew.turn.op.err;
    if (err != OK)
        return err == ERR_CONFLICT ? turn_is_stale(rq) : answer_fault(rq, err);
    if (!waiting->renew.cancelled)
        return begin(rq);
    waiting->ask.end = WAIT_CANCELLED;
    return show_results(rq);
}

/* --- the handler ------------------------------------------------------------------------------- */

/* A client that has left holds it no longer: the lease has its length from now. */
static void waiting_free(void *kept)
{
    struct waiting *waiting = kept;
    leave(waiting);
    if (waiting->holds)
        leases_let_go(waiting->runner, &waiting->ask.turn);
    buf_release(&waiting->arena);
    free(waiting);
}

static struct waiting *waiting_new(struct request *rq)
{
    struct waiting *waiting = xcalloc(1, sizeof *waiting);
    const struct turn_row *row = turn_found(rq);
    waiting->runner = rq->context->runner;
    waiting->timeout_ms = -1;
    waiting->wait_ms = AWAIT_MAX_MS;
    waiting->lease_ms = row->lease_ms;
    waiting->ask = (struct wait_ask){
        .turn = row->turn, .elsewhere = row->elsewhere, .ids = waiting->ids, .over = over, .owner = rq};
    turn_keep(rq, waiting, waiting_free);
    return waiting;
}

enum next turn_wait(struct request *rq)
{
    struct waiting *waiting = waiting_new(rq);
    if (!read_body(rq, waiting) || !await_may_park(rq))
        return NEXT_ANSWER;
    waiting->ask.count = waiting->count;
    waiting->ask.any = waiting->mode == MODE_ANY;
    waiting->ask.timeout_ms = waiting->timeout_ms;
    if (turn_found(rq)->cancelled) {
        waiting->ask.end = WAIT_CANCELLED;
        return show_results(rq);
    }
    waiting->renews = waiting->ask.elsewhere;
    return waiting->renews ? renew(rq, waiting->wait_ms, renewed_first) : begin(rq);
}
