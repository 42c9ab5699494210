/* A group is read in slices by the starter, as it may be long, and is one operation. */
#include "base/clock.h"
#include "base/id.h"
#include "workers/asked_internal.h"

enum { SLICE_US = 5000 };

static void made(struct op *op)
{
    struct asked_call *call = op->owner;
    const struct group_submission *group = &call->group->group;
    struct submission as_one = {.parent = group->parent,
                                .parent_cancelled = group->parent_cancelled,
                                .err = op->err,
                                .missing = call->making.bad_id};
    struct buf detail = {0};
    if (op->err == OK) {
        buf_addl(&call->question->answer, ",\"id\":\"");
        id_add(&call->question->answer, group->id);
        buf_addc(&call->question->answer, '"');
        asked_answer(call);
    } else if (op->err == ERR_CONFLICT && !asked_is_refused_for_now(call, op->err)) {
        asked_stopped(call);
    } else if (!asked_put_off(call, op->err)) {
        struct refusal refusal = submission_refusal(&as_one, op->err);
        submission_add_detail(&detail, &as_one, &refusal);
        asked_refuse(call, "refused", buf_cstr(&detail));
        buf_release(&detail);
    }
}

static bool has_tasks(struct group_read *read)
{
    for (int i = 0; i < read->group.total; i++)
        if (!submission_has_task(&read->items[i]))
            return false;
    return true;
}

static void say(struct asked_call *call)
{
    struct group_read *read = call->group;
    if (!asked_settle_faults(call, &read->faults))
        return;
    if (read->group.total > GROUP_AT_ONCE_MAX) {
        asked_refuse(call, "limit", "a group of a run has 10000 members at most");
        return;
    }
    if (!has_tasks(read)) {
        asked_refuse(call, "refused", submission_refusal(&(struct submission){0}, ERR_UNAVAILABLE).detail);
        return;
    }
    op_group_init(&call->making, &read->group, read->items, read->group.total);
    call->op.owner = call;
    call->op.done = made;
    asked_say(call);
}

static void read_on(struct asked_call *call, struct reader *reader)
{
    (void)reader;
    if (asked_gives_up(call))
        asked_stopped(call);
    else if (group_read_go_on(call->group, clock_mono_us() + SLICE_US))
        asked_give_starter(call, read_on);
    else
        say(call);
}

void asked_group(struct asked_call *call)
{
    static const struct key fields[] = {
        ASKED_WRAPPING,
        {.name = "group", .type = KEY_VALUE, .offset = offsetof(struct asked_call, value), .required = true},
        {0},
    };
    if (!asked_read(call, fields))
        return;
    struct submission_context context = {
        .registry = call->run->registry,
        .owner = SPAN(""),
        .parent = call->run->grant.turn.id,
        .parent_lease = call->run->grant.turn.lease,
        .now_ms = clock_now_ms(),
    };
    call->group = group_read_new(&context, call->value, false, (int64_t)call->value.len);
    asked_give_starter(call, read_on);
}
