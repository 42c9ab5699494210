#include "server/resources/loop_view.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/json.h"
#include "server/resources/view.h"
#include "workers/loop_body.h"

static void add_json(struct buf *out, const char *name, struct span json)
{
    buf_addf(out, ",\"%s\":", name);
    view_json(out, json);
}

static void add_text(struct buf *out, const char *name, struct span text)
{
    buf_addf(out, ",\"%s\":", name);
    view_text(out, text);
}

static void add_int(struct buf *out, const char *name, int64_t number)
{
    buf_addf(out, ",\"%s\":", name);
    buf_add_int(out, number);
}

static void add_bool(struct buf *out, const char *name, bool value)
{
    buf_addf(out, ",\"%s\":%s", name, value ? "true" : "false");
}

static void add_id(struct buf *out, const char *name, int64_t id)
{
    buf_addf(out, ",\"%s\":", name);
    view_id(out, id);
}

static void add_time(struct buf *out, const char *name, int64_t at_ms)
{
    buf_addf(out, ",\"%s\":", name);
    view_time(out, at_ms);
}

static void add_duration(struct buf *out, const char *name, int64_t ms)
{
    buf_addf(out, ",\"%s\":", name);
    if (!ms) {
        buf_addl(out, "null");
        return;
    }
    buf_addc(out, '"');
    duration_add(out, ms);
    buf_addc(out, '"');
}

void view_loop(struct buf *out, const struct loop_view *loop, const char *task, bool payloads)
{
    buf_addl(out, "{\"id\":\"");
    id_add(out, loop->id);
    buf_addc(out, '"');
    add_text(out, "name", loop->name);
    add_text(out, "task", span_of(task));
    add_text(out, "status", span_of(loop_shown_name(loop->shown)));
    add_text(out, "next", span_of(loop_next_name(loop->next)));
    add_duration(out, "delay", loop->delay_ms);
    add_duration(out, "timeout", loop->timeout_ms);
    add_int(out, "iteration", loop->iteration);
    if (loop->max_iterations)
        add_int(out, "max_iterations", loop->max_iterations);
    else
        buf_addl(out, ",\"max_iterations\":null");
    add_text(out, "on_failure", loop->continues ? SPAN("continue") : SPAN("stop"));
    add_int(out, "priority", loop->priority);
    add_int(out, "max_retries", loop->max_retries);
    add_duration(out, "retention", loop->retention_ms);
    add_json(out, "labels", loop->labels);
    add_text(out, "set", loop->set);
    if (payloads)
        add_json(out, "args", loop->args);
    add_id(out, "invocation", loop->invocation);
    if (payloads)
        add_json(out, "result", loop->result);
    add_json(out, "error", loop->error);
    add_time(out, "created_at", id_time_ms(loop->id));
    add_time(out, "finished_at", loop->finished_at);
    buf_addc(out, '}');
}

void view_set(struct buf *out, const struct set_view *set)
{
    static const char *const acts[] = {
        [SET_PAUSE] = "pause", [SET_RESUME] = "resume", [SET_STOP] = "stop", [SET_CANCEL] = "cancel"};
    buf_addl(out, "{\"name\":");
    json_add_lossy(out, set->name);
    add_int(out, "slots", set->slots);
    add_text(out, "slot", set->by_turn ? SPAN("turn") : SPAN("loop"));
    add_bool(out, "fail_fast", set->fail_fast);
    add_bool(out, "paused", set->paused);
    add_int(out, "loops", set->loops);
    add_int(out, "held", set->used);
    add_int(out, "waiting", set->waiting);
    add_text(out, "acting", set->acting ? span_of(acts[set->acting]) : (struct span){NULL, 0});
    buf_addc(out, '}');
}

void view_slot(struct buf *out, const struct slot_shown *slot)
{
    buf_addl(out, "{\"slot\":");
    buf_add_int(out, slot->slot);
    add_text(out, "runner", slot->runner);
    add_text(out, "set", slot->set);
    add_id(out, "invocation", slot->invocation);
    add_id(out, "loop", slot->loop);
    add_time(out, "since", slot->since);
    buf_addc(out, '}');
}
