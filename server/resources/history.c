/* Every change of status of an invocation, and how long it had each. */
#include "server/resources/history.h"

#include "base/clock.h"
#include "base/json.h"
#include "server/http/answer.h"
#include "server/http/parameters.h"
#include "server/resources/resource.h"
#include "server/resources/view.h"

#include <stdlib.h>

static void add_text(struct buf *out, const char *name, struct span text)
{
    buf_addf(out, ",\"%s\":", name);
    view_text(out, text);
}

static void add_number(struct buf *out, const char *name, int number)
{
    buf_addf(out, ",\"%s\":", name);
    if (number)
        buf_add_int(out, number);
    else
        buf_addl(out, "null");
}

static void add_item(struct buf *out, const struct history_item *item)
{
    const char *status = status_name(item->status);
    buf_addl(out, "{\"at\":");
    view_time(out, item->at);
    add_text(out, "status", span_of(status ? status : "held"));
    add_text(out, "reason", item->reason);
    add_number(out, "attempt", item->attempt);
    add_number(out, "turn", item->turn);
    add_text(out, "worker", item->worker);
    add_text(out, "by", item->who);
    buf_addc(out, '}');
}

static void add_durations(struct buf *out, const struct history *history)
{
    static const struct {
        const char *name;
        enum status status;
    } all[] = {{"held", STATUS_HELD},
               {"scheduled", STATUS_SCHEDULED},
               {"queued", STATUS_QUEUED},
               {"waiting", STATUS_WAITING},
               {"running", STATUS_RUNNING}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        buf_addf(out, "%s\"%s\":\"", i ? "," : "{", all[i].name);
        duration_add(out, history->spent_ms[all[i].status]);
        buf_addc(out, '"');
    }
    buf_addc(out, '}');
}

static void add_history(struct buf *out, const struct history *history)
{
    buf_addl(out, "{\"items\":[");
    for (int i = 0; i < history->count; i++) {
        if (i)
            buf_addc(out, ',');
        add_item(out, &history->items[i]);
    }
    buf_adds(out, history->cut ? "],\"cut\":true,\"durations\":" : "],\"cut\":false,\"durations\":");
    add_durations(out, history);
    buf_addc(out, '}');
}

/* On a reader thread. */
static void read_history(struct request *rq)
{
    struct history history = {0};
    struct buf body = {0};
    int64_t id;
    if (!resource_id(rq, &id))
        return;
    enum err err = reader_history(rq->reader, id, clock_now_ms(), &history);
    if (err == OK) {
        add_history(&body, &history);
        answer_json(rq, 200, &body);
    } else {
        resource_unread(rq, err);
    }
    history_release(&history);
}

enum next history_get(struct request *rq)
{
    int64_t id;
    if (!resource_id(rq, &id) || !parameters_are_none(rq))
        return NEXT_ANSWER;
    rq->work = read_history;
    return NEXT_WORK;
}
