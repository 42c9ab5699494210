/* One body in a child: what it is told, what it says, and how it ends. One that
 * has ended is kept until the answers to its requests are back. */
#include "workers/kinds/pool/internal.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/json.h"
#include "workers/journal.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <utlist.h>

static const struct span none = {NULL, 0};

/* --- the end ------------------------------------------------------------------------ */

static void hand_back(struct body *body)
{
    struct attempt *attempt = body->attempt;
    free(body);
    attempt_end(attempt);
    minder_look_at(0);
}

/* No child has it any more. */
static void leave_child(struct body *body)
{
    struct child *child = body->child;
    post_lock();
    DL_DELETE(child->bodies, body);
    child->body_count--;
    post_unlock();
    if (child->alone == body)
        child->alone = NULL;
    body->child = NULL;
}

static void wait_no_more(const struct body *body)
{
    struct attempt *attempt = body->attempt;
    if (body->asked && attempt->sink && attempt->sink->wait_no_more)
        attempt->sink->wait_no_more(attempt);
}

/* The outcome is filled. */
static void has_ended(struct body *body)
{
    struct asking *asking;
    body->over = true;
    leave_child(body);
    DL_FOREACH (body->askings, asking)
        atomic_store(&asking->question.dropped, true);
    wait_no_more(body);
    if (body->asked)
        DL_APPEND(body->pool->leaving, body);
    else
        hand_back(body);
}

static void fail_timeout(struct body *body)
{
    struct buf message = {0};
    buf_addl(&message, "it took longer than ");
    duration_add(&message, body->attempt->timeout_ms);
    outcome_fail(body->attempt->outcome, SPAN("timeout"), buf_span(&message), none);
    buf_release(&message);
}

static void succeed(struct body *body, struct span result)
{
    struct outcome *outcome = body->attempt->outcome;
    int64_t limit = body->attempt->limits->result_bytes;
    struct reason why;
    if ((int64_t)result.len <= limit) {
        outcome->end = OUTCOME_SUCCEEDED;
        buf_add_span(&outcome->result, result);
        return;
    }
    reason_set(&why, "the result has %zu bytes, the limit is %" PRId64, result.len, limit);
    outcome_fail(outcome, SPAN("bad_result"), span_of(why.text), none);
}

static void take_end(struct body *body, const struct message *message)
{
    struct child *child = body->child;
    if (body->ending == ENDING_TIMEOUT)
        fail_timeout(body);
    else if (message->type == MESSAGE_FAILED)
        failure_settle(&message->error, body->attempt->outcome);
    else
        succeed(body, message->result);
    child->done++;
    pool_is_well(child->pool, child);
    has_ended(body);
    child_body_ended(child);
}

void body_lost(struct body *body, bool pays, struct span message, struct span detail)
{
    if (body->ending == ENDING_TIMEOUT)
        fail_timeout(body);
    else
        outcome_lose(body->attempt->outcome, pays, message, detail);
    has_ended(body);
}

static void forget_pending(struct body *body)
{
    struct child *child;
    DL_FOREACH (body->pool->children, child)
        if (child->alone == body)
            child->alone = NULL;
    DL_DELETE(body->pool->pending, body);
}

void body_put_back(struct body *body, struct span message)
{
    if (body->alone)
        suspects_add(body->id);
    forget_pending(body);
    outcome_unstarted(body->attempt->outcome, message);
    hand_back(body);
}

void body_leave_pending(struct body *body)
{
    if (atomic_load(&body->attempt->stop) != STOP_NONE)
        body_put_back(body, SPAN("it was stopped before a worker had room for it"));
}

void body_fail_pending(struct body *body, struct span message)
{
    forget_pending(body);
    outcome_lose(body->attempt->outcome, true, message, none);
    hand_back(body);
}

/* --- the beginning ------------------------------------------------------------------- */

static void add_json(struct buf *line, const char *name, struct span json)
{
    if (!json.p)
        return;
    buf_addf(line, ",\"%s\":", name);
    json_add_line(line, json);
}

static void add_lease_url(struct buf *line, struct attempt *attempt)
{
    struct buf url = {0};
    if (attempt->sink && attempt->sink->add_lease_url)
        attempt->sink->add_lease_url(attempt, &url);
    if (url.len) {
        buf_addl(line, ",\"lease_url\":");
        json_add_string(line, buf_span(&url));
    }
    buf_release(&url);
}

static void say_run(struct body *body)
{
    struct attempt *attempt = body->attempt;
    struct buf line = {0};
    buf_addl(&line, "{\"type\":\"run\",\"run\":");
    buf_add_int(&line, body->run);
    buf_addl(&line, ",\"id\":\"");
    id_add(&line, attempt->id);
    buf_addf(&line, "\",\"task\":\"%s\",\"attempt\":%d", attempt->task->name, attempt->number);
    add_json(&line, "args", attempt->args);
    add_json(&line, "state", attempt->state);
    add_json(&line, "woken", attempt->woken);
    add_json(&line, "steps", attempt->steps.p ? attempt->steps : SPAN("{}"));
    if (attempt->timeout_ms)
        buf_addf(&line, ",\"timeout_ms\":%" PRId64, attempt->timeout_ms);
    if (attempt->deadline_at) {
        buf_addl(&line, ",\"deadline\":\"");
        time_add(&line, attempt->deadline_at);
        buf_addc(&line, '"');
    }
    buf_addf(&line, ",\"result_bytes\":%" PRId64, attempt->limits->result_bytes);
    add_lease_url(&line, attempt);
    buf_addc(&line, '}');
    child_say(body->child, &line);
}

void body_begin(struct body *body, struct child *child, int64_t now_us)
{
    struct attempt *attempt = body->attempt;
    body->child = child;
    body->run = ++child->next_run;
    child->given++;
    child->pool->grace_ms = attempt->limits->kill_grace_ms;
    post_lock();
    DL_APPEND(child->bodies, body);
    child->body_count++;
    post_unlock();
    if (attempt->sink && attempt->sink->begins)
        attempt->sink->begins(attempt, child->name);
    if (attempt->record)
        journal_child_since(attempt->record, child->pid, child->since_ms);
    if (attempt->timeout_ms)
        attempt->deadline_us = now_us + attempt->timeout_ms * 1000;
    say_run(body);
    minder_look_at(0);
    if (child->pool->is->max_invocations && child->given >= child->pool->is->max_invocations)
        child_retire(child);
}

/* --- time, and being stopped ---------------------------------------------------------- */

static void begin_ending(struct body *body, enum ending why, int64_t now_us)
{
    bool closes = why == ENDING_STOPPED && atomic_load(&body->attempt->stop) == STOP_KILL;
    struct buf line = {0};
    body->ending = why;
    body->kill_us = now_us + body->attempt->limits->kill_grace_ms * 1000;
    wait_no_more(body);
    buf_addl(&line, "{\"type\":\"cancel\",\"run\":");
    buf_add_int(&line, body->run);
    buf_addf(&line, ",\"reason\":\"%s\"}", why == ENDING_TIMEOUT ? "timeout" : closes ? "closing" : "cancelled");
    child_say(body->child, &line);
}

/* It did not end when it was told: its child is told to, and then made to. */
static void make_it_end(struct body *body, int64_t now_us)
{
    struct child *child = body->child;
    child->is_blamed_on_one = true;
    if (!body->pressed) {
        body->pressed = true;
        body->kill_us = now_us + body->attempt->limits->kill_grace_ms * 1000;
        child_retire(child);
        child_kill(child, SIGTERM);
    } else {
        body->kill_us = 0;
        child_kill(child, SIGKILL);
    }
}

static void look_at_end(struct body *body, int64_t now_us)
{
    struct attempt *attempt = body->attempt;
    int64_t deadline_us = attempt->deadline_us;
    if (body->ending == ENDING_NONE) {
        if (atomic_load(&attempt->stop) != STOP_NONE)
            begin_ending(body, ENDING_STOPPED, now_us);
        else if (deadline_us && deadline_us <= now_us)
            begin_ending(body, ENDING_TIMEOUT, now_us);
        else if (deadline_us)
            minder_look_at(deadline_us);
    } else if (body->kill_us && body->kill_us <= now_us) {
        make_it_end(body, now_us);
    }
    if (body->kill_us)
        minder_look_at(body->kill_us);
}

/* What it waited for is there: it goes on when its child has room. */
static void look_at_wait(struct body *body)
{
    const struct child *child = body->child;
    if (atomic_load(&body->attempt->waits) != WAITS_OVER)
        return;
    int running = child_running(child);
    bool has_room =
        child->alone == body ? !running : !child_is_taken(child) && running < child->pool->is->capacity;
    if (has_room)
        body->attempt->sink->goes_on(body->attempt);
}

void body_look(struct body *body, int64_t now_us)
{
    look_at_wait(body);
    int due_ms = attempt_log_tick(body->attempt);
    if (due_ms >= 0)
        minder_look_at(now_us + (int64_t)due_ms * 1000);
    look_at_end(body, now_us);
}

/* --- what it asks ------------------------------------------------------------------------ */

static void on_answered(struct question *question)
{
    minder_answer((struct asking *)question);
}

static void refuse_all(struct question *question)
{
    question->refused = "refused";
    reason_set(&question->why, "there is no server");
    question->answered(question);
}

/* What a wait or a look says has been read by then, and it may take long. */
static bool is_needed(enum asked asked)
{
    return asked == ASKED_STEP || asked == ASKED_MESSAGE || asked == ASKED_SUBMIT || asked == ASKED_GROUP ||
           asked == ASKED_SUSPEND;
}

static void let_line_go(struct asking *asking)
{
    struct pool *pool = asking->body->pool;
    if (pool->held > HELD_BYTES_MAX) /* then some children are not heard */
        minder_look_at(0);
    pool->held -= asking->line.len;
    buf_release(&asking->line);
}

static void ask(struct body *body, const struct message *message, struct span line)
{
    struct attempt *attempt = body->attempt;
    struct asking *asking;
    DL_SEARCH_SCALAR(body->askings, asking, seq, message->seq);
    if (asking || body->asked == ASKED_MAX) {
        child_break(body->child, asking ? "two requests of it have the same `seq`"
                                        : "it has asked for too much before it had answers");
        return;
    }
    asking = xcalloc(1, sizeof *asking);
    asking->body = body;
    asking->seq = message->seq;
    buf_add_span(&asking->line, json_trim(line));
    asking->question = (struct question){
        .attempt = attempt, .asked = message->asked, .body = buf_span(&asking->line), .answered = on_answered};
    DL_APPEND(body->askings, asking);
    body->asked++;
    body->pool->held += asking->line.len;
    if (attempt->sink && attempt->sink->ask)
        attempt->sink->ask(&asking->question);
    else
        refuse_all(&asking->question);
    if (!is_needed(message->asked))
        let_line_go(asking);
}

static void say_answer(struct asking *asking)
{
    struct question *question = &asking->question;
    struct buf line = {0};
    buf_addl(&line, "{\"type\":\"answer\",\"run\":");
    buf_add_int(&line, asking->body->run);
    buf_addl(&line, ",\"seq\":");
    buf_add_int(&line, asking->seq);
    if (question->refused) {
        buf_addf(&line, ",\"error\":{\"type\":\"%s\",\"message\":", question->refused);
        json_add_lossy(&line, span_of(question->why.text));
        buf_addc(&line, '}');
    } else {
        buf_add_span(&line, buf_span(&question->answer));
    }
    buf_addc(&line, '}');
    child_say(asking->body->child, &line);
}

void body_answered(struct asking *asking)
{
    struct body *body = asking->body;
    bool is_to_end = !body->over && atomic_load(&body->attempt->stop) != STOP_NONE;
    if (is_to_end) /* it hears that before an answer that may say `stopped` */
        look_at_end(body, clock_mono_us());
    if (!body->over)
        say_answer(asking);
    DL_DELETE(body->askings, asking);
    body->asked--;
    buf_release(&asking->question.answer);
    let_line_go(asking);
    free(asking);
    if (!body->over || body->asked)
        return;
    DL_DELETE(body->pool->leaving, body);
    hand_back(body);
}

/* --- what it says ----------------------------------------------------------------------------- */

void body_message(struct child *child, const struct message *message, struct span line)
{
    struct body *body;
    DL_SEARCH_SCALAR(child->bodies, body, run, message->run);
    if (!body) {
        child_break(child, "it speaks of run %" PRId64 ", which it does not hold", message->run);
        return;
    }
    switch (message->type) {
    case MESSAGE_DONE:
    case MESSAGE_FAILED: take_end(body, message); break;
    case MESSAGE_PROGRESS: attempt_progress(body->attempt, message->value, message->text); break;
    case MESSAGE_LOG:
        attempt_log(body->attempt, message->stream, message->text);
        minder_look_at(0);
        break;
    case MESSAGE_REQUEST: ask(body, message, line); break;
    case MESSAGE_NONE:
    case MESSAGE_READY: break;
    }
}
