/* What bodies that have no thread here put on record: steps, messages, children; how others
 * stand; and that the turn goes on later. */
#include "workers/asked_internal.h"

#include "base/clock.h"

/* --- steps ---------------------------------------------------------------------------------------- */

static void stepped(struct op *op)
{
    struct asked_call *call = op->owner;
    struct op_step *step = &call->step;
    if (op->err == OK) {
        struct span stands = step->found ? buf_span(&step->kept) : step->value;
        /* A batch of which nothing was known may have recorded it all the same. */
        bool before = step->found && !(call->again && span_equal(stands, step->value));
        struct buf *out = &call->question->answer;
        buf_addl(out, ",\"value\":");
        json_add_line(out, stands);
        buf_adds(out, before ? ",\"found\":true" : ",\"found\":false");
        buf_release(&step->kept);
        asked_answer(call);
        return;
    }
    buf_release(&step->kept);
    if (!asked_put_off(call, op->err)) {
        asked_refuse_write(call, op->err, "an invocation has no room for more steps, or for larger ones");
    }
}

void asked_step(struct asked_call *call)
{
    static const struct key fields[] = {
        ASKED_WRAPPING,
        {.name = "name",
         .type = KEY_SPAN,
         .min = 1,
         .max = STEP_NAME_MAX,
         .offset = offsetof(struct asked_call, name),
         .required = true},
        {.name = "value", .type = KEY_VALUE, .offset = offsetof(struct asked_call, value), .required = true},
        {0},
    };
    if (!asked_read(call, fields))
        return;
    op_step_init(&call->step, &call->run->grant.turn);
    call->step.name = call->name;
    call->step.value = call->value;
    call->op.owner = call;
    call->op.done = stepped;
    asked_say(call);
}

static void add_step(void *context, const struct step *step)
{
    struct asked_call *call = context;
    struct buf *out = &call->question->answer;
    if (call->count++)
        buf_addc(out, ',');
    json_add_string(out, step->name);
    buf_addc(out, ':');
    json_add_line(out, step->value);
}

static void read_steps(struct asked_call *call, struct reader *reader)
{
    call->count = 0;
    buf_addl(&call->question->answer, ",\"steps\":{");
    enum err err = reader_steps(reader, call->run->grant.turn.id, add_step, call);
    buf_addc(&call->question->answer, '}');
    if (err == OK)
        asked_answer(call);
    else if (!asked_put_off_reading(call, err))
        asked_refuse_write(call, err, "");
}

void asked_steps(struct asked_call *call)
{
    static const struct key fields[] = {ASKED_WRAPPING, {0}};
    if (asked_read(call, fields))
        asked_give_starter(call, read_steps);
}

/* --- messages out -------------------------------------------------------------------------------------- */

static void sent(struct op *op)
{
    struct asked_call *call = op->owner;
    if (op->err == OK) {
        buf_addl(&call->question->answer, ",\"seq_out\":");
        buf_add_int(&call->question->answer, call->message.first_seq);
        asked_answer(call);
    } else if (!asked_put_off(call, op->err)) {
        asked_refuse_write(call, op->err, "the invocation has sent as many messages as it may");
    }
}

void asked_message(struct asked_call *call)
{
    static const struct key fields[] = {
        ASKED_WRAPPING,
        {.name = "body", .type = KEY_VALUE, .offset = offsetof(struct asked_call, value), .required = true},
        {0},
    };
    struct reason why;
    if (!asked_read(call, fields))
        return;
    if (call->value.len > MESSAGE_BYTES_MAX) {
        reason_set(&why, "the message has %zu bytes, the limit is %d", call->value.len, (int)MESSAGE_BYTES_MAX);
        asked_refuse(call, "limit", why.text);
        return;
    }
    op_message_out_init(&call->message, &call->run->grant.turn);
    call->message.bodies = &call->value;
    call->message.count = 1;
    call->op.owner = call;
    call->op.done = sent;
    asked_say(call);
}

/* --- children --------------------------------------------------------------------------------------------- */

static void submitted(struct op *op)
{
    struct asked_call *call = op->owner;
    struct submission *s = &call->submission;
    enum err err = op->err == OK ? s->err : op->err;
    if (err == OK) {
        buf_addl(&call->question->answer, ",\"id\":\"");
        id_add(&call->question->answer, s->id);
        buf_addc(&call->question->answer, '"');
        asked_answer(call);
    } else if (err == ERR_CONFLICT && !asked_is_refused_for_now(call, err)) {
        asked_stopped(call);
    } else if (!asked_put_off(call, err)) {
        asked_refuse(call, "refused", submission_refusal(s, err).detail);
    }
}

static bool read_submission(struct asked_call *call)
{
    struct faults faults = {0};
    struct buf scratch = {0};
    struct submission_context context = {
        .registry = call->run->registry,
        .owner = SPAN(""),
        .parent = call->run->grant.turn.id,
        .parent_lease = call->run->grant.turn.lease,
        .now_ms = clock_now_ms(),
        .scratch = &scratch,
    };
    enum err err = submission_read(&context, call->value, &call->submission, &call->text, &faults);
    buf_release(&scratch);
    return err == OK ? (faults_release(&faults), true) : asked_settle_faults(call, &faults);
}

void asked_submit(struct asked_call *call)
{
    static const struct key fields[] = {
        ASKED_WRAPPING,
        {.name = "submission", .type = KEY_VALUE, .offset = offsetof(struct asked_call, value), .required = true},
        {0},
    };
    if (!asked_read(call, fields) || !read_submission(call))
        return;
    if (!submission_has_task(&call->submission)) {
        asked_refuse(call, "refused", submission_refusal(&call->submission, OK).detail);
        return;
    }
    op_submit_init(&call->submit, &call->submission, 1);
    call->op.owner = call;
    call->op.done = submitted;
    asked_say(call);
}

static void look(struct asked_call *call, struct reader *reader)
{
    struct buf *out = &call->question->answer;
    buf_addl(out, ",\"result\":");
    enum err err = woken_add_result(reader, call->id, true, out);
    if (err == OK)
        asked_answer(call);
    else if (err == ERR_NOT_FOUND)
        asked_refuse_id(call, err, call->id);
    else if (!asked_put_off_reading(call, err))
        asked_refuse_write(call, err, "");
}

void asked_look(struct asked_call *call)
{
    static const struct key fields[] = {
        ASKED_WRAPPING, {.name = "id", .type = KEY_OTHER, .read_json = asked_read_id, .required = true}, {0}};
    if (asked_read(call, fields))
        asked_give_starter(call, look);
}

/* --- suspension ---------------------------------------------------------------------------------------------- */

static void has_suspended(struct op *op)
{
    struct asked_call *call = op->owner;
    if (op->err == OK)
        asked_answer(call);
    else if (op->err == ERR_NOT_FOUND || op->err == ERR_INVALID)
        asked_refuse_id(call, op->err, call->suspend.bad);
    else if (!asked_put_off(call, op->err))
        asked_refuse_write(call, op->err, "");
}

static int64_t last_given(struct run *run)
{
    pthread_mutex_lock(&run->runner->lock);
    int64_t given = run->inbox_given > run->given ? run->inbox_given : run->given;
    pthread_mutex_unlock(&run->runner->lock);
    return given;
}

static void add_member(struct buf *out, struct span body, const char *name)
{
    struct span value = json_get(body, name);
    if (!value.p)
        return;
    buf_addf(out, "%s\"%s\":", out->len > 1 ? "," : "", name);
    buf_add_span(out, value);
}

void asked_suspend(struct asked_call *call)
{
    static const struct key fields[] = {ASKED_WRAPPING, ASKED_IGNORED("on"), ASKED_IGNORED("state"), {0}};
    struct faults faults = {0};
    if (!asked_read(call, fields))
        return;
    buf_addc(&call->text, '{');
    add_member(&call->text, call->question->body, "on");
    add_member(&call->text, call->question->body, "state");
    buf_addc(&call->text, '}');
    call->suspension.now_ms = clock_now_ms();
    suspension_read(&(struct keys_json){&faults, &call->arena}, NULL, buf_span(&call->text), &call->suspension);
    if (!asked_settle_faults(call, &faults))
        return;
    if (attempt_should_stop(&call->run->attempt)) {
        asked_stopped(call);
        return;
    }
    op_suspend_init(&call->suspend, &call->run->grant.turn);
    call->suspend.on = call->suspension.on;
    call->suspend.read_up_to = last_given(call->run);
    call->op.owner = call;
    call->op.done = has_suspended;
    asked_say(call);
}
