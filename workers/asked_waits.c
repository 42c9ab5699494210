/* Waiting of bodies that have no thread here: for others' ends, and for messages. It is a wait
 * of waits.c, whose end comes to the starter. */
#include "workers/asked_internal.h"

#include "base/clock.h"

#include <stdlib.h>

enum { GIVEN_EVERY = UNREAD_MAX / 10, RESULTS_BYTES = 1 << 20 };

static void read_ids(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    struct asked_call *call = target;
    call->ids = xcalloc(WAIT_IDS_MAX, sizeof *call->ids);
    call->count = keys_json_ids(in, at, value, WAIT_IDS_MAX, call->ids);
}

static void read_mode(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    struct asked_call *call = target;
    bool is_any = span_equal(value, SPAN("\"any\""));
    if (!is_any && !span_equal(value, SPAN("\"all\"")))
        keys_fault(in, at, "must be \"all\" or \"any\"");
    call->mode = is_any ? MODE_ANY : MODE_ALL;
}

static void read_count(const struct keys_json *in, const struct keys_place *at, struct span value, int64_t max,
                       int64_t *out)
{
    if (json_type(value) == JSON_NULL)
        return;
    if (json_type(value) != JSON_NUMBER || !json_int64(value, out) || *out < 0)
        keys_fault(in, at, "must be a whole number, 0 or more");
    else if (*out > max)
        *out = max;
}

static void read_timeout(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    read_count(in, at, value, DURATION_MAX_MS, &((struct asked_call *)target)->timeout_ms);
}

static void read_after(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    read_count(in, at, value, INT64_MAX, &((struct asked_call *)target)->after_seq);
}

/* --- waiting ----------------------------------------------------------------------------------------------------- */

static void wait_is_over(struct wait_ask *ask)
{
    asked_give_starter_locked(ask->owner);
}

/* Two that ask for the same would each take it from the other. */
static bool may_wait(struct asked_call *call)
{
    struct run *run = call->run;
    pthread_mutex_lock(&run->runner->lock);
    call->waits = !run->waiter || run->waiter == call;
    if (call->waits)
        run->waiter = call;
    pthread_mutex_unlock(&run->runner->lock);
    return call->waits;
}

/* `after_wait` is the starter's, when it is over. */
static void begin_wait(struct asked_call *call, void (*after_wait)(struct asked_call *call, struct reader *reader))
{
    call->act = after_wait;
    call->mark = patient_mark(call->run);
    call->wait = (struct wait_ask){
        .turn = call->run->grant.turn,
        .ids = call->ids ? call->ids : &call->id, /* none, with the inbox */
        .count = call->count,
        .any = call->mode == MODE_ANY,
        .inbox = call->question->asked == ASKED_INBOX,
        .after_seq = call->after_seq,
        .timeout_ms = -1,
        .over = wait_is_over,
        .owner = call,
    };
    if (call->timeout_ms >= 0) {
        int64_t left_ms = (call->until_us - clock_mono_us() + 999) / 1000;
        call->wait.timeout_ms = left_ms > 0 ? left_ms : 0;
    }
    waits_ask(call->run->runner, &call->wait);
}

/* On the starter's thread: whoever drops the question may have come between. */
static void begin_wait_again(struct asked_call *call,
                             void (*after_wait)(struct asked_call *call, struct reader *reader))
{
    if (!may_wait(call)) {
        asked_refuse(call, "busy", "the run waits already");
        return;
    }
    begin_wait(call, after_wait);
    if (atomic_load(&call->question->dropped)) /* it is here still: its end comes to this thread */
        asked_wait_no_more(&call->run->attempt);
}

static void wait_again(struct asked_call *call, struct reader *reader);
static void after_ids(struct asked_call *call, struct reader *reader);
static void after_message(struct asked_call *call, struct reader *reader);

static void begin_again(struct asked_call *call)
{
    begin_wait_again(call, call->question->asked == ASKED_INBOX ? after_message : after_ids);
}

static void wait_again(struct asked_call *call, struct reader *reader)
{
    (void)reader;
    if (asked_gives_up(call))
        asked_stopped(call);
    else
        begin_again(call);
}

/* True: the wait is met, or its time is over. Otherwise it was answered, or begins again. */
static bool leave_wait(struct asked_call *call)
{
    waits_leave(call->run->runner, &call->wait);
    enum err err = call->wait.err;
    switch (call->wait.end) {
    case WAIT_MET:
    case WAIT_TIMED_OUT: return true;
    case WAIT_GOES_ON:
        asked_give_starter_later(call, wait_again);
        break; /* somebody else asks for it, over HTTP */
    case WAIT_CANCELLED: asked_stopped(call); break;
    case WAIT_BUSY: asked_refuse(call, "busy", "the run waits already"); break;
    case WAIT_REFUSED:
        if (err == ERR_NOT_FOUND || err == ERR_INVALID)
            asked_refuse_id(call, err, call->wait.bad);
        else if (asked_is_refused_for_now(call, err))
            asked_give_starter_later(call, wait_again);
        else
            asked_refuse_write(call, err, "");
    }
    return false;
}

static void show_results(struct asked_call *call, struct reader *reader)
{
    struct buf *out = &call->question->answer;
    bool left_out;
    buf_addl(out, ",\"results\":[");
    enum err err = woken_add_results(reader, call->ids, call->count, RESULTS_BYTES, out, &left_out);
    buf_adds(out, call->wait.end == WAIT_TIMED_OUT ? "],\"timed_out\":true" : "],\"timed_out\":false");
    if (left_out)
        buf_addl(out, ",\"results_left_out\":true");
    if (err == OK)
        asked_answer(call);
    else if (!asked_put_off_reading(call, err))
        asked_refuse_write(call, err, "");
}

static void after_ids(struct asked_call *call, struct reader *reader)
{
    if (!leave_wait(call))
        return;
    call->act = show_results;
    show_results(call, reader);
}

void asked_wait(struct asked_call *call)
{
    static const struct key fields[] = {
        ASKED_WRAPPING,
        {.name = "ids", .type = KEY_OTHER, .read_json = read_ids, .required = true},
        {.name = "mode", .type = KEY_OTHER, .read_json = read_mode},
        {.name = "timeout_ms", .type = KEY_OTHER, .read_json = read_timeout},
        {0},
    };
    call->timeout_ms = -1;
    if (!asked_read(call, fields))
        return;
    if (attempt_should_stop(&call->run->attempt)) {
        asked_stopped(call);
        return;
    }
    call->until_us = clock_mono_us() + call->timeout_ms * 1000;
    if (may_wait(call))
        begin_wait(call, after_ids);
    else
        asked_refuse(call, "busy", "the run waits already");
}

/* --- messages in --------------------------------------------------------------------------------------------------- */

static bool take_first(void *context, const struct message *message)
{
    struct asked_call *call = context;
    struct buf *out = &call->question->answer;
    call->id = message->seq;
    buf_addl(out, ",\"message\":{\"seq\":");
    buf_add_int(out, message->seq);
    buf_addl(out, ",\"body\":");
    json_add_line(out, message->body);
    buf_addc(out, '}');
    return false;
}

static void given_noted(struct op *op)
{
    free(op);
}

/* Now and then the disk hears how far the body is: what it was given takes no room in
 * its inbox. If not, the message is the body's all the same. */
static void note_given(struct run *run, int64_t seq)
{
    pthread_mutex_lock(&run->runner->lock);
    bool is_new = seq > run->inbox_given;
    if (is_new)
        run->inbox_given = seq;
    bool tells = is_new && ++run->inbox_unnoted >= GIVEN_EVERY;
    if (tells)
        run->inbox_unnoted = 0;
    pthread_mutex_unlock(&run->runner->lock);
    if (!tells)
        return;
    struct op_messages_given *op = xmalloc(sizeof *op);
    op_messages_given_init(op, &run->grant.turn);
    op->up_to_seq = seq;
    op->turn.op.done = given_noted;
    store_queue(run->runner->store, &op->turn.op);
}

/* Who is woken looks again: it was the outbox, perhaps, or another one's word. */
static void look_at_inbox(struct asked_call *call, struct reader *reader)
{
    call->id = 0;
    enum err err = reader_inbox_after(reader, call->run->grant.turn.id, call->after_seq, take_first, call);
    if (err != OK) {
        if (!asked_put_off_reading(call, err))
            asked_refuse_write(call, err, "");
        return;
    }
    bool is_over = call->last || (call->timeout_ms >= 0 && clock_mono_us() >= call->until_us);
    if (call->id) {
        note_given(call->run, call->id);
        asked_answer(call);
    } else if (is_over) {
        buf_addl(&call->question->answer, ",\"message\":null");
        asked_answer(call);
    } else if (attempt_should_stop(&call->run->attempt)) {
        asked_stopped(call);
    } else {
        begin_wait_again(call, after_message);
    }
}

static void after_message(struct asked_call *call, struct reader *reader)
{
    if (!leave_wait(call))
        return;
    call->last = call->wait.end == WAIT_TIMED_OUT;
    call->act = look_at_inbox;
    look_at_inbox(call, reader);
}

void asked_inbox(struct asked_call *call)
{
    static const struct key fields[] = {
        ASKED_WRAPPING,
        {.name = "after", .type = KEY_OTHER, .read_json = read_after},
        {.name = "timeout_ms", .type = KEY_OTHER, .read_json = read_timeout},
        {0},
    };
    call->timeout_ms = -1;
    if (!asked_read(call, fields))
        return;
    call->until_us = clock_mono_us() + call->timeout_ms * 1000;
    asked_give_starter(call, look_at_inbox);
}

/* --- as the kind says -------------------------------------------------------------- */

void asked_goes_on(struct attempt *attempt)
{
    struct run *run = run_of(attempt);
    pthread_mutex_lock(&run->runner->lock);
    if (run->wait && atomic_load(&attempt->waits) == WAITS_OVER)
        waits_resume_locked(run);
    pthread_mutex_unlock(&run->runner->lock);
}

void asked_wait_no_more(struct attempt *attempt)
{
    struct run *run = run_of(attempt);
    pthread_mutex_lock(&run->runner->lock);
    waits_end_ask_locked(run);
    pthread_mutex_unlock(&run->runner->lock);
}
