#include "server/resources/callback_body.h"

#include "base/id.h"
#include "server/resources/context.h"
#include "server/resources/group_view.h"
#include "server/resources/view.h"

struct told {
    struct context *context;
    struct reader *reader;
    const struct delivery *delivery;
    int64_t result_bytes;
};

/* --- an invocation ---------------------------------------------------------------------- */

/* The attempt that ended so, if the invocation runs again by now. */
struct past {
    struct invocation *row;
    int attempt;
    struct buf error, worker;
};

static struct span kept(struct buf *buf, struct span text)
{
    buf_add_span(buf, text);
    return text.p ? buf_span(buf) : text;
}

static void take_attempt(void *context, const struct attempt_row *attempt)
{
    struct past *past = context;
    if (attempt->attempt != past->attempt)
        return;
    past->row->started_at = attempt->started_at;
    past->row->error = kept(&past->error, attempt->error);
    past->row->worker = kept(&past->worker, attempt->worker);
}

static bool is_as_it_ended(const struct invocation *row, const struct delivery *delivery)
{
    return (int)row->status == delivery->event && row->attempt == delivery->attempt &&
           row->finished_at == delivery->at;
}

/* Only what failed or was cancelled can be retried, so there is no result. */
static enum err show_as_it_ended(const struct told *told, struct past *past)
{
    struct invocation *row = past->row;
    past->attempt = row->attempt = told->delivery->attempt;
    row->status = (enum status)told->delivery->event;
    row->finished_at = told->delivery->at;
    row->started_at = 0;
    row->has_progress = false;
    row->result = row->error = row->worker = (struct span){NULL, 0};
    return reader_attempts(told->reader, row->id, take_attempt, past);
}

/* Behind the members of the basic view. */
static void add_result(const struct told *told, const struct invocation *row, struct buf *out)
{
    bool fits = (int64_t)row->result.len <= told->result_bytes;
    out->len--;
    buf_addl(out, ",\"result\":");
    buf_add_span(out, row->result.p && fits ? row->result : SPAN("null"));
    if (row->result.p && !fits) {
        buf_addl(out, ",\"result_url\":\"");
        runner_add_url(told->context->runner, out);
        buf_addl(out, "/invocations/");
        id_add(out, row->id);
        buf_addl(out, "/result\"");
    }
    buf_addc(out, '}');
}

static enum err add_invocation(const struct told *told, struct buf *out)
{
    struct invocation row;
    struct past past = {.row = &row};
    enum err err = reader_get(told->reader, told->delivery->owner, VIEW_FULL, &row);
    if (err == OK && !is_as_it_ended(&row, told->delivery))
        err = show_as_it_ended(told, &past);
    if (err == OK) {
        view_invocation(out, &row, store_task_name(told->context->store, row.task), false);
        add_result(told, &row, out);
    }
    buf_release(&past.error);
    buf_release(&past.worker);
    return err;
}

static enum err add_group(const struct told *told, struct buf *out)
{
    struct group_row row;
    enum err err = reader_group(told->reader, told->delivery->owner, &row);
    if (err != OK)
        return err;
    group_view_begin(out, &row);
    buf_addc(out, '}');
    return OK;
}

static const char *status_event(int event)
{
    return status_name((enum status)event);
}

/* --- which -------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    const char *(*event)(int event); /* what became of it */
    enum err (*add)(const struct told *told, struct buf *out);
} owners[] = {
    [CALLBACK_INVOCATION] = {"invocation", status_event, add_invocation},
    [CALLBACK_GROUP] = {"group", status_event, add_group},
};
enum { OWNERS = sizeof owners / sizeof *owners };

enum err callback_body_add(void *context, struct reader *reader, const struct delivery *delivery,
                           int64_t result_bytes, struct buf *out)
{
    struct told told = {context, reader, delivery, result_bytes};
    if ((int)delivery->kind >= OWNERS || !owners[delivery->kind].name)
        return ERR_NOT_FOUND; /* of a newer program */
    const char *event = owners[delivery->kind].event(delivery->event);
    buf_addf(out, "{\"type\":\"%s.%s\",\"timestamp\":", owners[delivery->kind].name, event ? event : "ended");
    view_time(out, delivery->at);
    buf_addl(out, ",\"data\":");
    enum err err = owners[delivery->kind].add(&told, out);
    buf_addc(out, '}');
    return err;
}
