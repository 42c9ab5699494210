#include "server/resources/schedules.h"

#include "base/clock.h"
#include "server/http/answer.h"
#include "server/http/freshness.h"
#include "server/http/parameters.h"
#include "server/http/query.h"
#include "server/resources/context.h"
#include "server/resources/resource.h"
#include "server/resources/schedule_view.h"
#include "server/resources/view.h"
#include "workers/schedule_definition.h"

#include <stdlib.h>

enum { LIMIT_DEFAULT = 50, LIMIT_MAX = 1000, PAGE_MAX_BYTES = 1 << 20, TIMES_DEFAULT = 10 };

/* --- the list ---------------------------------------------------------------------- */

struct schedule_page {
    int64_t cursor;
    int limit, count;
    int64_t last;
    bool more;
    struct buf body;
};

static void page_free(void *state)
{
    struct schedule_page *page = state;
    buf_release(&page->body);
    free(page);
}

/* One row more than the page shows says that there is a next one. */
static bool add_row(void *context, const struct schedule *row)
{
    struct schedule_page *page = context;
    size_t start = page->body.len;
    page->more = page->count == page->limit;
    if (page->more)
        return false;
    if (page->count)
        buf_addc(&page->body, ',');
    view_schedule(&page->body, row);
    page->more = page->count && page->body.len > PAGE_MAX_BYTES;
    if (page->more) {
        page->body.len = start;
        return false;
    }
    page->count++;
    page->last = row->id;
    return true;
}

/* On a reader thread. */
static void read_page(struct request *rq)
{
    struct schedule_page *page = rq->state;
    buf_addl(&page->body, "{\"items\":[");
    enum err err = reader_schedules(rq->reader, page->cursor, page->limit + 1, add_row, page);
    if (err != OK) {
        answer_fault(rq, err);
        return;
    }
    if (page->more) {
        buf_addl(&page->body, "],\"next\":\"");
        cursor_add(&page->body, page->last);
        buf_addl(&page->body, "\"}");
        resource_link_next(rq, page->last);
    } else {
        buf_addl(&page->body, "],\"next\":null}");
    }
    answer_json(rq, 200, &page->body);
}

static enum next offer(struct request *rq)
{
    freshness_offer(rq);
    return NEXT_ANSWER;
}

enum next schedules_list(struct request *rq)
{
    static const char *const known[] = {"limit", "cursor", NULL};
    struct faults faults = {0};
    struct schedule_page *page = xcalloc(1, sizeof *page);
    rq->state = page;
    rq->release = page_free;
    parameters_check(rq, known, NULL, &faults);
    page->limit = (int)parameters_int(rq, "limit", 1, LIMIT_MAX, LIMIT_DEFAULT, &faults);
    struct span cursor = parameters_get(rq, "cursor");
    if (cursor.len && !cursor_parse(cursor, &page->cursor))
        faults_add(&faults, 0, "cursor", "must be the `next` of the page before, as it was given");
    if (faults.total)
        return answer_bad_query(rq, &faults);
    if (freshness_unchanged(rq, 0) || freshness_page(rq))
        return NEXT_ANSWER;
    rq->work = read_page;
    rq->resume = offer;
    return NEXT_WORK;
}

/* --- one ------------------------------------------------------------------------------- */

enum next schedules_unread(struct request *rq, enum err err)
{
    if (err == ERR_NOT_FOUND)
        return answer_not_found(rq, "there is no such schedule; GET /schedules names them all");
    return answer_fault(rq, err);
}

static bool render(void *context, const struct schedule *row)
{
    view_schedule(context, row);
    return true;
}

static void read_one(struct request *rq, int status)
{
    struct buf body = {0};
    enum err err = reader_schedule(rq->reader, rq->segment, render, &body);
    if (err == OK) {
        answer_json(rq, status, &body);
        return;
    }
    buf_release(&body);
    schedules_unread(rq, err);
}

static void read_ok(struct request *rq)
{
    read_one(rq, 200);
}

static void read_created(struct request *rq)
{
    read_one(rq, 201);
}

enum next schedules_show(struct request *rq, int status)
{
    rq->work = status == 201 ? read_created : read_ok;
    rq->resume = NULL;
    return NEXT_WORK;
}

enum next schedules_get(struct request *rq)
{
    return !parameters_are_none(rq) || freshness_unchanged(rq, 0) ? NEXT_ANSWER : schedules_show(rq, 200);
}

/* --- what a line means ---------------------------------------------------------------------- */

struct preview {
    struct span cron, timezone;
    struct cron_dst dst;
    int64_t after;
    int count;
};

static void add_times(struct buf *out, const struct cron_clock *clock, const struct preview *preview)
{
    int64_t at = preview->after;
    for (int i = 0; i < preview->count && cron_next(clock, at, &at); i++) {
        if (i)
            buf_addc(out, ',');
        view_time(out, at);
    }
}

/* On a reader thread, as a zone is a file. */
static void read_preview(struct request *rq)
{
    const struct preview *preview = rq->state;
    struct schedule_definition definition;
    struct faults faults = {0};
    struct buf body = {0}, words = {0};
    if (schedule_read_times(preview->cron, preview->timezone, preview->dst, &definition, &faults) != OK) {
        answer_bad_query(rq, &faults);
    } else {
        struct cron_clock clock = schedule_clock(&definition);
        cron_add_words(&words, &definition.cron);
        buf_addl(&body, "{\"items\":[");
        add_times(&body, &clock, preview);
        buf_addl(&body, "],\"words\":\"");
        buf_add_span(&body, buf_span(&words));
        buf_addl(&body, "\"}");
        answer_json(rq, 200, &body);
    }
    schedule_release(&definition);
    buf_release(&words);
}

static void read_parameters(struct request *rq, struct preview *preview, struct faults *faults)
{
    static const char *const known[] = {"cron", "timezone", "after", "count", "dst.gap", "dst.fold", NULL};
    struct span after = parameters_get(rq, "after");
    parameters_check(rq, known, NULL, faults);
    preview->cron = parameters_get(rq, "cron");
    preview->timezone = parameters_get(rq, "timezone");
    if (!preview->cron.p)
        faults_add(faults, 0, "cron", "is missing: minute, hour, day of the month, month, day of the week");
    if (!after.p)
        preview->after = clock_now_ms();
    else if (!time_parse(after, &preview->after))
        faults_add(faults, 0, "after", "must be a time such as 2026-01-31T12:00:00Z (RFC 3339)");
    preview->count = (int)parameters_int(rq, "count", 1, SCHEDULE_TIMES_MAX, TIMES_DEFAULT, faults);
    preview->dst = (struct cron_dst){
        (enum cron_gap)parameters_word(rq, "dst.gap", schedule_gap_words, 0, faults),
        (enum cron_fold)parameters_word(rq, "dst.fold", schedule_fold_words, 0, faults),
    };
}

enum next schedules_preview(struct request *rq)
{
    struct faults faults = {0};
    struct preview *preview = xcalloc(1, sizeof *preview);
    rq->state = preview;
    rq->release = free;
    read_parameters(rq, preview, &faults);
    if (faults.total)
        return answer_bad_query(rq, &faults);
    rq->work = read_preview;
    return NEXT_WORK;
}
