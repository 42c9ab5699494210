/* What a body puts on record while it runs, and finds there: steps, and messages
 * out and in. */
#include "workers/runner_internal.h"
#include "workers/suspension.h"

#include "base/clock.h"

enum { GIVEN_EVERY = UNREAD_MAX / 10 };

/* ERR_UNAVAILABLE is a body that is to end, as patient_do() says. */
static enum said refused(enum err err, const char *limit, struct reason *why)
{
    switch (err) {
    case ERR_UNAVAILABLE:
    case ERR_CONFLICT: return SAID_STOPPED; /* the lease is another's, or the claim was refused */
    case ERR_LIMIT: reason_set(why, "%s", limit); break;
    case ERR_BUSY: reason_set(why, "a child has that name"); break;
    default: reason_set(why, "it could not be written or read (see the log)");
    }
    return SAID_REFUSED;
}

/* --- steps ------------------------------------------------------------------------- */

enum said on_record_step(struct attempt *attempt, struct span name, struct span value, struct buf *kept,
                         struct reason *why)
{
    struct run *run = run_of(attempt);
    struct op_step op;
    bool again;
    op_step_init(&op, &run->grant.turn);
    op.name = name;
    op.value = value;
    enum err err = patient_do(run, &op.turn.op, &again);
    /* A batch of which nothing was known may have recorded it all the same. */
    bool before = op.found && !(again && span_equal(buf_span(&op.kept), value));
    if (err == OK)
        buf_add_span(kept, op.found ? buf_span(&op.kept) : value);
    buf_release(&op.kept);
    return err == OK ? before ? SAID_BEFORE : SAID
                     : refused(err, "an invocation has no room for more steps, or for larger ones", why);
}

/* A disk or descriptors that give nothing now will give later. */
static bool may_pass(enum err err)
{
    return err == ERR_UNAVAILABLE || err == ERR_IO;
}

enum said on_record_step_get(struct attempt *attempt, struct span name, struct buf *value, struct reason *why)
{
    struct run *run = run_of(attempt);
    enum err err;
    do {
        err = run_open_reader(run);
        if (err == OK)
            err = reader_step(run->thread->reader, run->grant.turn.id, name, value);
    } while (may_pass(err) && patient_rest(run));
    if (may_pass(err))
        return SAID_STOPPED;
    return err == OK ? SAID : err == ERR_NOT_FOUND ? SAID_NOTHING : refused(err, "", why);
}

/* --- messages ----------------------------------------------------------------------- */

enum said on_record_message(struct attempt *attempt, struct span body, struct reason *why)
{
    struct run *run = run_of(attempt);
    struct op_message_out op;
    bool again;
    op_message_out_init(&op, &run->grant.turn);
    op.bodies = &body;
    op.count = 1;
    enum err err = patient_do(run, &op.turn.op, &again);
    return err == OK ? SAID : refused(err, "the invocation has sent as many messages as it may", why);
}

static bool take_first(void *context, const struct message *message)
{
    struct inbox_message *out = context;
    out->seq = message->seq;
    buf_add_span(&out->body, message->body);
    return false;
}

static enum err read_inbox(struct run *run, int64_t after_seq, struct inbox_message *out)
{
    enum err err;
    out->seq = 0;
    do {
        out->body.len = 0;
        err = run_open_reader(run);
        if (err == OK)
            err = reader_inbox_after(run->thread->reader, run->grant.turn.id, after_seq, take_first, out);
    } while (may_pass(err) && patient_rest(run));
    return may_pass(err) ? ERR_UNAVAILABLE : err;
}

/* Until there may be one: WAITED_MET. */
static enum waited await_inbox(struct run *run, int64_t after_seq, int64_t left_ms, struct reason *why)
{
    struct op_wait op;
    op_wait_init(&op, &run->grant.turn);
    op.any = op.inbox = true;
    op.after_seq = after_seq;
    op.timed = true; /* nobody's end is waited for: it closes no circle */
    return in_place_await(run, &op, left_ms, why);
}

/* Now and then the disk hears how far the body is: what it was given takes no room in
 * its inbox. If not, the message is the body's all the same. */
static void note_given(struct run *run, int64_t seq)
{
    struct op_messages_given op;
    bool again;
    if (seq <= run->inbox_given)
        return;
    run->inbox_given = seq;
    if (++run->inbox_unnoted < GIVEN_EVERY)
        return;
    op_messages_given_init(&op, &run->grant.turn);
    op.up_to_seq = seq;
    if (patient_do(run, &op.turn.op, &again) == OK)
        run->inbox_unnoted = 0;
}

/* Who is woken looks again: it was the outbox, perhaps, or another one's word. */
enum said on_record_inbox(struct attempt *attempt, int64_t after_seq, int64_t timeout_ms,
                          struct inbox_message *out, struct reason *why)
{
    struct run *run = run_of(attempt);
    int64_t until_us = clock_mono_us() + timeout_ms * 1000;
    for (bool last = timeout_ms == 0;;) {
        enum err err = read_inbox(run, after_seq, out);
        if (err != OK)
            return refused(err, "", why);
        note_given(run, out->seq);
        if (out->seq || last)
            return out->seq ? SAID : SAID_NOTHING;
        int64_t left_ms = timeout_ms < 0 ? -1 : (until_us - clock_mono_us() + 999) / 1000;
        if (timeout_ms > 0 && left_ms <= 0)
            return SAID_NOTHING;
        switch (await_inbox(run, after_seq, left_ms, why)) {
        case WAITED_MET: break;
        case WAITED_TIMED_OUT: last = true; break;
        case WAITED_STOPPED: return SAID_STOPPED;
        case WAITED_REFUSED: return SAID_REFUSED;
        }
    }
}

/* --- suspension ----------------------------------------------------------------------- */

static enum said refuse_suspension(const struct op_suspend *op, struct reason *why)
{
    char id[ID_TEXT_LEN + 1] = "";
    enum err err = op->turn.op.err;
    id_format(op->bad, id);
    if (err == ERR_NOT_FOUND)
        reason_set(why, "there is no invocation %s", id);
    else if (err == ERR_INVALID)
        reason_set(why, "%s waits for this one: neither would ever go on", id);
    else
        return refused(err, "", why);
    return SAID_REFUSED;
}

static enum said suspend(struct run *run, const struct suspension_read *read, struct reason *why)
{
    struct op_suspend op;
    bool again;
    op_suspend_init(&op, &run->grant.turn);
    op.on = read->on;
    op.read_up_to = run->inbox_given > run->given ? run->inbox_given : run->given;
    return patient_do(run, &op.turn.op, &again) == OK ? SAID : refuse_suspension(&op, why);
}

enum said on_record_suspend(struct attempt *attempt, struct span suspension, struct reason *why)
{
    struct run *run = run_of(attempt);
    struct suspension_read read = {.now_ms = clock_now_ms()};
    struct faults faults = {0};
    struct buf arena = {0};
    enum said said = SAID_REFUSED;
    suspension_read(&(struct keys_json){&faults, &arena}, NULL, suspension, &read);
    if (faults.total)
        reason_set(why, "%s%s%s", faults.items[0].pointer, *faults.items[0].pointer ? ": " : "",
                   faults.items[0].detail);
    else
        said = attempt_should_stop(attempt) ? SAID_STOPPED : suspend(run, &read, why);
    suspension_release(&read);
    faults_release(&faults);
    buf_release(&arena);
    return said;
}
