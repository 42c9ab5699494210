/* Every answer to a submission goes through here: no printf, one pass. */
#include "server/resources/view.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/json.h"
#include "store/hold.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

void view_json(struct buf *out, struct span json)
{
    if (json.p)
        buf_add_span(out, json);
    else
        buf_addl(out, "null");
}

void view_text(struct buf *out, struct span text)
{
    if (text.p)
        json_add_lossy(out, text);
    else
        buf_addl(out, "null");
}

void view_time(struct buf *out, int64_t at_ms)
{
    if (!at_ms) {
        buf_addl(out, "null");
        return;
    }
    buf_addc(out, '"');
    time_add(out, at_ms);
    buf_addc(out, '"');
}

static void add_duration(struct buf *out, int64_t ms)
{
    buf_addc(out, '"');
    duration_add(out, ms);
    buf_addc(out, '"');
}

void view_number(struct buf *out, double value)
{
    char text[32];
    if (!isfinite(value)) {
        buf_addl(out, "null");
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    buf_adds(out, text);
}

static void add_progress(struct buf *out, const struct invocation *row)
{
    if (!row->has_progress || !isfinite(row->progress)) {
        buf_addl(out, "null");
        return;
    }
    buf_addl(out, "{\"value\":");
    view_number(out, row->progress);
    buf_addl(out, ",\"note\":");
    view_text(out, row->progress_note);
    buf_addc(out, '}');
}

static void add_status(struct buf *out, enum status status)
{
    const char *name = status_name(status);
    buf_addc(out, '"');
    buf_adds(out, name ? name : "unknown");
    buf_addc(out, '"');
}

void view_id(struct buf *out, int64_t id)
{
    if (!id) {
        buf_addl(out, "null");
        return;
    }
    buf_addc(out, '"');
    id_add(out, id);
    buf_addc(out, '"');
}

static void add_ids(struct buf *out, const int64_t *ids, int count)
{
    buf_addc(out, '[');
    for (int i = 0; i < count; i++) {
        if (i)
            buf_addc(out, ',');
        view_id(out, ids[i]);
    }
    buf_addc(out, ']');
}

static void add_waiting_for(struct buf *out, const struct invocation *row)
{
    if (row->status != STATUS_WAITING) {
        buf_addl(out, "null");
        return;
    }
    add_ids(out, row->waiting_for, row->waiting_for_count);
}

/* What it comes after of its own will; in a chain it is the member before it. */
static void add_after(struct buf *out, const struct invocation *row)
{
    if (row->after_count)
        add_ids(out, row->after, row->after_count);
    else
        buf_addl(out, "null");
}

/* Of several that which somebody has to end. */
static void add_hold(struct buf *out, unsigned holds)
{
    if (holds & HOLD_PROMISE)
        buf_addl(out, "\"promise\"");
    else if (holds & HOLD_DEPENDENCY)
        buf_addl(out, "\"dependency\"");
    else if (holds & HOLD_SLOT)
        buf_addl(out, "\"slot\"");
    else
        buf_addl(out, "null");
}

void view_invocation(struct buf *out, const struct invocation *row, const char *task, bool payloads)
{
    buf_addl(out, "{\"id\":\"");
    id_add(out, row->id);
    buf_addl(out, "\",\"task\":");
    json_add_string(out, span_of(task));
    buf_addl(out, ",\"status\":");
    add_status(out, row->status);
    buf_addl(out, ",\"hold\":");
    add_hold(out, row->holds);
    buf_addl(out, ",\"priority\":");
    buf_add_int(out, row->priority);
    if (payloads) {
        buf_addl(out, ",\"args\":");
        view_json(out, row->args);
        buf_addl(out, ",\"result\":");
        view_json(out, row->result);
    }
    buf_addl(out, ",\"error\":");
    view_json(out, row->error);
    buf_addl(out, ",\"attempt\":");
    buf_add_int(out, row->attempt);
    buf_addl(out, ",\"max_retries\":");
    buf_add_int(out, row->max_retries);
    buf_addl(out, ",\"timeout\":");
    if (row->timeout_ms)
        add_duration(out, row->timeout_ms);
    else
        buf_addl(out, "null");
    buf_addl(out, ",\"retention\":");
    add_duration(out, row->retention_ms);
    buf_addl(out, ",\"created_at\":");
    view_time(out, id_time_ms(row->id));
    buf_addl(out, ",\"run_at\":");
    view_time(out, row->run_at);
    buf_addl(out, ",\"started_at\":");
    view_time(out, row->started_at);
    buf_addl(out, ",\"finished_at\":");
    view_time(out, row->finished_at);
    buf_addl(out, ",\"expires_at\":");
    view_time(out, row->expires_at);
    buf_addl(out, ",\"deadline\":");
    view_time(out, row->deadline);
    buf_addl(out, ",\"cancel_requested_at\":");
    view_time(out, row->cancel_requested_at);
    buf_addl(out, ",\"labels\":");
    view_json(out, row->labels);
    buf_addl(out, ",\"key\":");
    view_text(out, row->key);
    buf_addl(out, ",\"worker\":");
    view_text(out, row->worker);
    buf_addl(out, ",\"group\":");
    view_id(out, row->group);
    buf_addl(out, ",\"index\":");
    if (row->group)
        buf_add_int(out, row->index);
    else
        buf_addl(out, "null");
    buf_addl(out, ",\"parent\":");
    view_id(out, row->parent);
    buf_addl(out, ",\"step\":");
    view_text(out, row->step);
    buf_addl(out, ",\"cached_from\":");
    view_id(out, row->cached_from);
    if (payloads) {
        buf_addl(out, ",\"after\":");
        add_after(out, row);
        buf_addl(out, ",\"waiting_for\":");
        add_waiting_for(out, row);
        buf_addl(out, ",\"wakes_at\":");
        view_time(out, row->wakes_at);
        buf_addl(out, ",\"turns\":");
        buf_add_int(out, row->turns);
    }
    buf_addl(out, ",\"loop\":");
    view_id(out, row->loop);
    buf_addl(out, ",\"iteration\":");
    if (row->loop)
        buf_add_int(out, row->iteration);
    else
        buf_addl(out, "null");
    buf_addl(out, ",\"progress\":");
    add_progress(out, row);
    buf_addc(out, '}');
}

void view_minimal(struct buf *out, int64_t id, enum status status)
{
    buf_addl(out, "{\"id\":\"");
    id_add(out, id);
    buf_addl(out, "\",\"status\":");
    add_status(out, status);
    buf_addc(out, '}');
}

void view_attempt(struct buf *out, const struct attempt_row *row)
{
    buf_addl(out, "{\"attempt\":");
    buf_add_int(out, row->attempt);
    buf_addl(out, ",\"status\":");
    add_status(out, row->status);
    buf_addl(out, ",\"started_at\":");
    view_time(out, row->started_at);
    buf_addl(out, ",\"finished_at\":");
    view_time(out, row->finished_at);
    buf_addl(out, ",\"worker\":");
    view_text(out, row->worker);
    buf_addl(out, ",\"error\":");
    view_json(out, row->error);
    buf_addc(out, '}');
}

void view_message(struct buf *out, const struct message *message, bool on_one_line)
{
    buf_addl(out, "{\"seq\":");
    buf_add_int(out, message->seq);
    buf_adds(out, message->kind == MESSAGE_IN ? ",\"kind\":\"in\"" : ",\"kind\":\"out\"");
    buf_addl(out, ",\"invocation\":\"");
    id_add(out, message->id);
    buf_addl(out, "\",\"at\":");
    view_time(out, message->at);
    buf_addl(out, ",\"body\":");
    if (on_one_line)
        json_add_line(out, message->body);
    else
        buf_add_span(out, message->body);
    buf_addc(out, '}');
}

void view_counts(struct buf *out, const int64_t counts[STATUS_SLOTS])
{
    enum status status;
    for (int k = 0; (status = status_at(k)); k++) {
        if (k)
            buf_addc(out, ',');
        add_status(out, status);
        buf_addc(out, ':');
        buf_add_int(out, counts[status]);
    }
}
