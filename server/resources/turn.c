#include "server/resources/turn.h"

#include "base/clock.h"
#include "base/json.h"
#include "server/http/answer.h"
#include "server/http/http.h"
#include "server/http/parameters.h"
#include "server/resources/context.h"
#include "server/resources/lease_view.h"
#include "server/resources/message_body.h"
#include "server/resources/resource.h"
#include "server/resources/view.h"
#include "workers/kinds/attempt.h"
#include "workers/kinds/kind.h"
#include "workers/lease_token.h"
#include "workers/leases.h"
#include "workers/waits.h"

#include <math.h>
#include <stdlib.h>

enum { NOTE_BYTES = 1000 /* more is cut, as of every kind */ };

struct turning {
    struct turn_end end; /* first: its readers fill it */
    struct turn_row row;
    struct buf arena;

    /* Of a turn whose claim is not on disk yet. */
    int64_t id, lease;
    bool (*is_permitted)(struct request *rq);
    struct op barrier;

    /* A heartbeat's. */
    bool has_progress, renews;
    struct op_renew renew;
    struct op_progress progress;
    struct message_list messages;
    struct op_message_out sending;

    /* Of output. */
    struct op_append append;
    char notice[LOG_NOTICE_BYTES];

    atomic_int left; /* ops that are not back */

    void *kept; /* of a handler in another file */
    void (*release)(void *kept);
};

static void turning_free(void *state)
{
    struct turning *turning = state;
    if (turning->release)
        turning->release(turning->kept);
    turn_end_release(&turning->end);
    buf_release(&turning->arena);
    free(turning->messages.bodies);
    free(turning);
}

/* --- whose turn it is ------------------------------------------------------------ */

const struct turn_row *turn_found(const struct request *rq)
{
    return &((const struct turning *)rq->state)->row;
}

enum next turn_is_stale(struct request *rq)
{
    return answer_problem(rq, 409, "stale-lease",
                          "this lease is nobody's any more: it ran out, or its turn has ended, or there never was "
                          "one; stop the work, and report nothing");
}

static enum err read_turn(struct request *rq)
{
    struct turning *turning = rq->state;
    enum err err = reader_turn(rq->reader, turning->id, turning->lease, &turning->row);
    turning->row.worker = (struct span){NULL, 0}; /* the reader's, and soon gone */
    return err;
}

/* All that was queued before is on disk, a claim of this turn too: now its row says whose it is. */
static enum next claim_awaited(struct request *rq)
{
    struct turning *turning = rq->state;
    enum err err = turning->barrier.err;
    if (err == OK)
        err = read_turn(rq);
    if (err_is_fault(err))
        return answer_fault(rq, err);
    if (err != OK && runner_claim(rq->context->runner, turning->id, turning->lease) == CLAIM_ON_ITS_WAY)
        return answer_unavailable(rq); /* it met a fault, and is tried again */
    if (err != OK)
        return turn_is_stale(rq);
    rq->before = NULL;
    rq->resume = NULL;
    return turning->is_permitted(rq) ? rq->route->handler(rq) : NEXT_ANSWER;
}

/* The start was not waited for; the first use of its token is. */
static enum next await_claim(struct request *rq)
{
    struct turning *turning = rq->state;
    op_barrier_init(&turning->barrier);
    turning->barrier.owner = rq;
    turning->barrier.done = resource_wake;
    rq->resume = claim_awaited;
    request_queue(rq, &turning->barrier);
    return NEXT_COMMIT;
}

/* What is_permitted() says of the row, now or when the handler is to be called. */
static bool permit(struct request *rq, bool (*is_permitted)(struct request *rq))
{
    struct turning *turning = xcalloc(1, sizeof *turning);
    rq->state = turning;
    rq->release = turning_free;
    turning->is_permitted = is_permitted;
    bool is_token = lease_token_parse(rq->segment, &turning->id, &turning->lease);
    enum err err = is_token ? read_turn(rq) : ERR_NOT_FOUND;
    if (err == OK)
        return is_permitted(rq);
    if (err_is_fault(err)) {
        answer_fault(rq, err);
    } else if (is_token && runner_claim(rq->context->runner, turning->id, turning->lease) != CLAIM_NONE) {
        rq->before = await_claim;
        return true;
    } else {
        turn_is_stale(rq);
    }
    return false;
}

static bool is_under_way(struct request *rq)
{
    const struct turning *turning = rq->state;
    bool is = status_in_turn(turning->row.status) && !turning->row.suspended;
    if (!is)
        turn_is_stale(rq);
    return is;
}

static bool may_suspend(struct request *rq)
{
    const struct turning *turning = rq->state;
    bool may = status_in_turn(turning->row.status) || turning->row.suspended;
    if (!may)
        turn_is_stale(rq);
    return may;
}

bool turn_may_suspend(struct request *rq)
{
    return permit(rq, may_suspend);
}

/* What says anything else does not wait any longer, unless somebody asks for it. */
static bool goes_on(struct request *rq)
{
    const struct turn_row *row = turn_found(rq);
    bool stirs = row->status == STATUS_WAITING && rq->method != METHOD_GET;
    if (stirs)
        waits_stir(rq->context->runner, &row->turn);
    return is_under_way(rq);
}

bool turn_is_under_way(struct request *rq)
{
    return permit(rq, goes_on);
}

bool turn_may_wait(struct request *rq)
{
    return permit(rq, is_under_way);
}

/* Whoever has the address of such a turn is asked to run it, or is the body itself. */
static bool is_served(const struct request *rq)
{
    const struct task *task = resource_task(rq, turn_found(rq)->turn.task);
    return task && task->kind->served;
}

static bool may_be_ended(struct request *rq)
{
    const struct turning *turning = rq->state;
    if (turning->row.suspended) {
        turn_is_stale(rq);
        return false;
    }
    bool runs_here = status_in_turn(turning->row.status) && !turning->row.elsewhere && !is_served(rq);
    if (runs_here)
        answer_problem(rq, 409, "conflict", "the turn is run by this server, and its own body says how it ended");
    return !runs_here;
}

bool turn_may_end(struct request *rq)
{
    return permit(rq, may_be_ended);
}

void turn_keep(struct request *rq, void *kept, void (*release)(void *kept))
{
    struct turning *turning = rq->state;
    turning->kept = kept;
    turning->release = release;
}

void *turn_kept(const struct request *rq)
{
    return ((const struct turning *)rq->state)->kept;
}

struct turn turn_leave(struct request *rq)
{
    struct turning *turning = rq->state;
    struct turn turn = turning->row.turn;
    turning_free(turning);
    rq->state = NULL;
    rq->release = NULL;
    return turn;
}

bool turn_goes_on(struct request *rq)
{
    const struct turn *turn = &turn_found(rq)->turn;
    struct turn_row row;
    enum err err = reader_turn(rq->reader, turn->id, turn->lease, &row);
    bool goes_on = err == OK && status_in_turn(row.status) && !row.suspended;
    if (err_is_fault(err))
        answer_fault(rq, err);
    else if (!goes_on)
        turn_is_stale(rq);
    return goes_on;
}

/* --- the lease --------------------------------------------------------------------- */

static enum next show(struct request *rq)
{
    const struct turning *turning = rq->state;
    struct buf body = {0};
    struct reason why;
    enum err err = lease_view_add(&body, rq, &turning->row, &why);
    if (err == ERR_LIMIT)
        return NEXT_WORK;
    if (err == ERR_NOT_FOUND)
        return turn_is_stale(rq);
    if (err != OK && err != ERR_INVALID)
        return answer_fault(rq, err);
    return answer_json(rq, 200, &body);
}

static void show_at_length(struct request *rq)
{
    show(rq);
}

enum next turn_get(struct request *rq)
{
    if (!parameters_are_none(rq))
        return NEXT_ANSWER;
    rq->work = show_at_length;
    return show(rq);
}

/* --- heartbeats ----------------------------------------------------------------------- */

static void read_value(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    struct turning *turning = target;
    double number = json_type(value) == JSON_NUMBER ? json_double(value) : NAN;
    if (!isfinite(number))
        keys_fault(in, at, "must be a number");
    turning->progress.value = number;
}

static void read_note(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    struct turning *turning = target;
    if (json_type(value) != JSON_NULL)
        turning->progress.note = utf8_cut(keys_json_string(in, at, value), NOTE_BYTES);
}

static const struct key progress_fields[] = {
    {.name = "value", .type = KEY_OTHER, .read_json = read_value, .required = true},
    {.name = "note", .type = KEY_OTHER, .read_json = read_note},
    {0},
};

static void read_progress(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    struct turning *turning = target;
    turning->has_progress = true;
    if (json_type(value) == JSON_NUMBER)
        read_value(in, at, value, target);
    else
        keys_read_json(in, at, value, progress_fields, target);
}

static void read_messages(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    message_list_read(in, at, value, &((struct turning *)target)->messages);
}

static const struct key heartbeat_fields[] = {
    {.name = "progress", .type = KEY_OTHER, .read_json = read_progress},
    {.name = "messages", .type = KEY_OTHER, .read_json = read_messages},
    {0},
};

static bool read_body(struct request *rq, const struct key *fields)
{
    struct turning *turning = rq->state;
    struct faults faults = {0};
    if (!parameters_are_none(rq))
        return false;
    struct span body = rq->body.len ? buf_span(&rq->body) : SPAN("{}");
    keys_read_json(&(struct keys_json){&faults, &turning->arena}, NULL, body, fields, turning);
    if (!faults.total)
        return true;
    answer_bad_body(rq, &faults);
    return false;
}

/* Messages alone have a limit: when it is reached the rest of the heartbeat is done. */
static enum next answer_unbeaten(struct request *rq, enum err err)
{
    if (err == ERR_LIMIT)
        return message_outbox_is_full(rq);
    return err == ERR_CONFLICT ? turn_is_stale(rq) : answer_fault(rq, err);
}

static enum next beaten(struct request *rq)
{
    const struct turning *turning = rq->state;
    enum err errs[] = {turning->renews ? turning->renew.turn.op.err : OK,
                       turning->has_progress ? turning->progress.turn.op.err : OK,
                       turning->messages.count ? turning->sending.turn.op.err : OK};
    for (size_t i = 0; i < sizeof errs / sizeof *errs; i++)
        if (errs[i] != OK)
            return answer_unbeaten(rq, errs[i]);
    bool renewed = turning->renews && !turning->renew.cancelled;
    bool cancel = turning->row.cancelled || turning->renew.cancelled;
    struct buf body = {0};
    buf_adds(&body, cancel ? "{\"cancel\":true,\"expires_at\":" : "{\"cancel\":false,\"expires_at\":");
    view_time(&body, renewed ? turning->renew.lease_until : turning->row.lease_until);
    buf_addc(&body, '}');
    return answer_json(rq, 200, &body);
}

static void one_is_back(struct op *op)
{
    struct request *rq = op->owner;
    struct turning *turning = rq->state;
    if (atomic_fetch_sub(&turning->left, 1) == 1)
        request_wake_later(rq);
}

/* Told from here: the client may have left by the time that anybody asks. */
static void renewed(struct op *op)
{
    struct request *rq = op->owner;
    struct turning *turning = rq->state;
    const struct op_renew *renew = &turning->renew;
    if (op->err == OK && !renew->cancelled)
        leases_renewed(rq->context->runner, &renew->turn.turn, turning->row.lease_ms, renew->lease_until);
    one_is_back(op);
}

static void queue(struct request *rq, struct op *op, void (*done)(struct op *op))
{
    struct turning *turning = rq->state;
    op->owner = rq;
    op->done = done;
    atomic_fetch_add(&turning->left, 1);
    request_queue(rq, op);
}

enum next turn_heartbeat(struct request *rq)
{
    struct turning *turning = rq->state;
    const struct turn_row *row = &turning->row;
    if (!read_body(rq, heartbeat_fields))
        return NEXT_ANSWER;
    turning->renews = row->elsewhere && !row->cancelled;
    if (turning->renews) {
        op_renew_init(&turning->renew, &row->turn);
        turning->renew.lease_until = clock_now_ms() + row->lease_ms;
        queue(rq, &turning->renew.turn.op, renewed);
    }
    if (turning->has_progress) {
        double value = turning->progress.value;
        struct span note = turning->progress.note;
        op_progress_init(&turning->progress, &row->turn);
        turning->progress.value = value;
        turning->progress.note = note;
        queue(rq, &turning->progress.turn.op, one_is_back);
    }
    if (turning->messages.count) {
        op_message_out_init(&turning->sending, &row->turn);
        turning->sending.bodies = turning->messages.bodies;
        turning->sending.count = turning->messages.count;
        queue(rq, &turning->sending.turn.op, one_is_back);
    }
    rq->resume = beaten;
    return turning->left ? NEXT_COMMIT : beaten(rq);
}

/* --- output --------------------------------------------------------------------------- */

static enum next appended(struct request *rq)
{
    const struct turning *turning = rq->state;
    enum err err = turning->append.turn.op.err;
    if (err == ERR_CONFLICT)
        return turn_is_stale(rq);
    return err == OK ? answer_empty(rq, 204) : answer_fault(rq, err);
}

enum next turn_log(struct request *rq)
{
    static const char *const known[] = {"stream", NULL};
    static const char *const streams[] = {"stdout", "stderr", NULL};
    struct turning *turning = rq->state;
    struct op_append *op = &turning->append;
    int64_t limit = rq->config->limits.log_bytes;
    struct faults faults = {0};
    parameters_check(rq, known, NULL, &faults);
    int stream = parameters_word(rq, "stream", streams, 0, &faults);
    if (faults.total)
        return answer_bad_query(rq, &faults);
    if (!turning->row.elsewhere && !is_served(rq))
        return answer_problem(rq, 409, "conflict", "the turn is run by this server: what it prints is its log");
    op_append_init(op, &turning->row.turn);
    op->chunk = (struct log_chunk){stream == 0 ? STREAM_STDOUT : STREAM_STDERR, buf_span(&rq->body)};
    op->limit_bytes = limit;
    op->notice = attempt_log_notice(limit, turning->notice, sizeof turning->notice);
    op->turn.op.owner = rq;
    op->turn.op.done = resource_wake;
    rq->resume = appended;
    request_queue(rq, &op->turn.op);
    return NEXT_COMMIT;
}

/* --- the end -------------------------------------------------------------------------- */

void turn_decide(struct request *rq, struct turn_end *end, const struct turn_row *row)
{
    turn_end_decide(end, row, resource_task(rq, row->turn.task), rq->config->limits.result_bytes, clock_now_ms(),
                    verdict_random(&row->turn));
    if (status_in_turn(row->status) && !row->cancelled)
        runner_log_end(rq->context->runner, &end->finish, clock_now_ms() - row->started_at);
}

static enum next ended(struct request *rq)
{
    const struct turning *turning = rq->state;
    enum err err = turning->end.finish.turn.op.err;
    if (err == ERR_CONFLICT)
        return turn_is_stale(rq);
    return err == OK ? answer_empty(rq, 204) : answer_fault(rq, err);
}

static enum next end_turn(struct request *rq, const struct key *fields)
{
    struct turning *turning = rq->state;
    struct turn_end *end = &turning->end;
    if (!read_body(rq, fields))
        return NEXT_ANSWER;
    turn_decide(rq, end, &turning->row);
    end->finish.turn.op.owner = rq;
    end->finish.turn.op.done = resource_wake;
    rq->resume = ended;
    request_queue(rq, &end->finish.turn.op);
    return NEXT_COMMIT;
}

enum next turn_complete(struct request *rq)
{
    static const struct key fields[] = {
        {.name = "result", .type = KEY_OTHER, .read_json = turn_end_read_result},
        {0},
    };
    return end_turn(rq, fields);
}

enum next turn_fail(struct request *rq)
{
    static const struct key fields[] = {
        {.name = "error", .type = KEY_OTHER, .read_json = turn_end_read_error, .required = true},
        {0},
    };
    return end_turn(rq, fields);
}
