/* Ids are changed a thousand an operation. A filter is read a page at a time on
 * a reader thread, oldest first, and each page is changed before the next is
 * read; what is submitted after the request began is left out. Every step is
 * short, so that neither readers nor the committer are held up.
 *
 * `matched` counts the ids that are there, or those that match the filter and
 * have a status to which the change does anything. */
#include "server/resources/alter_bulk.h"

#include "base/clock.h"
#include "base/id.h"
#include "server/http/answer.h"
#include "base/keys.h"
#include "server/http/parameters.h"
#include "server/resources/context.h"
#include "server/resources/resource.h"
#include "server/resources/selection.h"

#include <stdlib.h>

enum {
    IDS_MAX = 10000,
    STEP_IDS = 1000,
    STEP_US = 50000,
    ERRORS_MAX = 1000,
    UNFINISHED = 1u << STATUS_HELD | 1u << STATUS_SCHEDULED | 1u << STATUS_QUEUED | 1u << STATUS_RUNNING |
                 1u << STATUS_WAITING,
    RETRIABLE = 1u << STATUS_FAILED | 1u << STATUS_CANCELLED,
};

struct bulk_alter {
    struct selection selection; /* first: selection_read() fills it */
    struct op_alter op;
    enum alter what;
    bool dry_run;
    int64_t *ids;
    enum err errs[STEP_IDS];
    int count;      /* of ids: all that were named, or those of the page */
    int at;         /* the first of the step that is under way */
    int64_t cursor; /* of the next page; 0: it was the last */
    int64_t matched, changed;
    struct buf errors; /* the elements of the answer's `errors` */
    int error_count;
    struct buf arena;
    struct buf who; /* the token's name */
    enum err err;   /* of reading */
};

static void bulk_alter_free(void *state)
{
    struct bulk_alter *bulk = state;
    free(bulk->ids);
    buf_release(&bulk->errors);
    buf_release(&bulk->arena);
    buf_release(&bulk->who);
    free(bulk);
}

/* --- what is asked ------------------------------------------------------------------- */

static void read_ids(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    struct bulk_alter *bulk = target;
    struct keys_place place = {at, {NULL, 0}, 0};
    struct span item;
    if (json_type(value) != JSON_ARRAY) {
        keys_fault(in, at, "must be an array of ids");
        return;
    }
    struct json_iter it = json_iter(value);
    bulk->ids = xcalloc(IDS_MAX, sizeof *bulk->ids);
    for (; json_element(&it, &item); place.index++) {
        struct span text = {item.p + 1, item.len - 2};
        if (place.index >= IDS_MAX)
            continue; /* counted, for the fault */
        if (json_type(item) != JSON_STRING || !id_parse(text, &bulk->ids[place.index]))
            keys_fault(in, &place, "is not an id");
    }
    bulk->count = place.index;
    if (place.index > IDS_MAX)
        keys_fault(in, at, "has %d ids, the limit is %d", place.index, IDS_MAX);
}

enum { GIVEN_IDS = 1 << 0, GIVEN_FILTER = 1 << 1 };

static const struct key bulk_fields[] = {
    {.name = "ids", .type = KEY_OTHER, .read_json = read_ids},
    {.name = "filter", .type = KEY_OTHER, .read_json = selection_read},
    {.name = "dry_run", .type = KEY_BOOL, .offset = offsetof(struct bulk_alter, dry_run)},
    {0},
};

static bool read_body(struct request *rq, struct bulk_alter *bulk)
{
    struct faults faults = {0};
    struct keys_json in = {&faults, &bulk->arena};
    uint64_t given = keys_read_json(&in, NULL, buf_span(&rq->body), bulk_fields, bulk);
    if ((given & GIVEN_IDS) && (given & GIVEN_FILTER))
        faults_add(&faults, 0, "/filter", "ids and filter exclude each other");
    else if (!(given & (GIVEN_IDS | GIVEN_FILTER)) && !faults.total)
        faults_add(&faults, 0, "", "needs ids or filter ({} is all of them)");
    if (!faults.total)
        return true;
    answer_bad_body(rq, &faults);
    return false;
}

/* --- the answer ------------------------------------------------------------------------ */

/* `index` is the id's in the body. */
static void note_error(struct bulk_alter *bulk, int index, enum err err)
{
    if (bulk->error_count++ >= ERRORS_MAX)
        return;
    buf_adds(&bulk->errors, bulk->errors.len ? ",{\"pointer\":\"/ids/" : "{\"pointer\":\"/ids/");
    buf_add_int(&bulk->errors, index);
    buf_addl(&bulk->errors, "\",\"detail\":\"");
    buf_adds(&bulk->errors, err == ERR_NOT_FOUND ? "there is no such invocation"
                            : err == ERR_BUSY    ? "another invocation has its unique place"
                                                 : "it is neither failed nor cancelled");
    buf_addl(&bulk->errors, "\"}");
}

static enum next answer_counts(struct request *rq)
{
    const struct bulk_alter *bulk = rq->state;
    struct buf body = {0};
    buf_addl(&body, "{\"matched\":");
    buf_add_int(&body, bulk->matched);
    buf_addl(&body, ",\"changed\":");
    buf_add_int(&body, bulk->changed);
    buf_adds(&body, bulk->dry_run ? ",\"dry_run\":true" : ",\"dry_run\":false");
    buf_addl(&body, ",\"errors\":[");
    buf_add_span(&body, buf_span(&bulk->errors));
    buf_addl(&body, "]}");
    return answer_json(rq, 200, &body);
}

/* The statuses to which the change does anything. */
static unsigned applicable(const struct bulk_alter *bulk)
{
    return bulk->what == ALTER_RETRY ? RETRIABLE : UNFINISHED;
}

/* --- by id -------------------------------------------------------------------------------- */

static enum next ids_changed(struct request *rq);

static int step_size(const struct bulk_alter *bulk)
{
    int left = bulk->count - bulk->at;
    return left < STEP_IDS ? left : STEP_IDS;
}

static enum next change_step(struct request *rq, enum next (*then)(struct request *rq))
{
    struct bulk_alter *bulk = rq->state;
    op_alter_init(&bulk->op, bulk->what, bulk->ids + bulk->at, step_size(bulk));
    bulk->op.errs = bulk->errs;
    bulk->op.who = buf_span(&bulk->who);
    bulk->op.op.owner = rq;
    bulk->op.op.done = resource_wake;
    rq->resume = then;
    request_queue(rq, &bulk->op.op);
    return NEXT_COMMIT;
}

static enum next next_ids(struct request *rq)
{
    const struct bulk_alter *bulk = rq->state;
    return bulk->at < bulk->count ? change_step(rq, ids_changed) : answer_counts(rq);
}

static enum next ids_changed(struct request *rq)
{
    struct bulk_alter *bulk = rq->state;
    if (bulk->op.op.err != OK)
        return answer_fault(rq, bulk->op.op.err);
    for (int i = 0; i < bulk->op.count; i++) {
        bulk->matched += bulk->errs[i] != ERR_NOT_FOUND;
        if (bulk->errs[i] != OK)
            note_error(bulk, bulk->at + i, bulk->errs[i]);
    }
    bulk->changed += bulk->op.changed;
    bulk->at += bulk->op.count;
    return next_ids(rq);
}

static enum err try_id(struct bulk_alter *bulk, struct reader *reader, int index)
{
    struct invocation row;
    enum err err = reader_get(reader, bulk->ids[index], VIEW_BASIC, &row);
    if (err == OK && !(applicable(bulk) & 1u << row.status) && bulk->what == ALTER_RETRY)
        note_error(bulk, index, ERR_CONFLICT);
    else if (err == ERR_NOT_FOUND)
        note_error(bulk, index, err);
    bulk->matched += err == OK;
    return err == ERR_NOT_FOUND ? OK : err;
}

/* On a reader thread: at most IDS_MAX rows by their key. */
static void try_ids(struct request *rq)
{
    struct bulk_alter *bulk = rq->state;
    enum err err = OK;
    for (int i = 0; i < bulk->count && err == OK; i++)
        err = try_id(bulk, rq->reader, i);
    if (err == OK)
        answer_counts(rq);
    else
        answer_fault(rq, err);
}

/* --- by filter -------------------------------------------------------------------------- */

static enum next page_read(struct request *rq);

static bool take_row(void *context, const struct invocation *row)
{
    struct bulk_alter *bulk = context;
    bulk->matched++;
    if (!bulk->dry_run)
        bulk->ids[bulk->count++] = row->id;
    return true;
}

/* On a reader thread. */
static void read_page(struct request *rq)
{
    struct bulk_alter *bulk = rq->state;
    struct list_query query = {
        .filter = bulk->selection.filter,
        .oldest_first = true,
        .cursor = bulk->cursor,
        .limit = bulk->dry_run ? INT32_MAX : STEP_IDS,
        .view = VIEW_BASIC,
        .scan_until_us = clock_mono_us() + STEP_US,
    };
    bulk->count = bulk->at = 0;
    bulk->err = reader_list(rq->reader, &query, take_row, bulk, &bulk->cursor);
}

static enum next next_page(struct request *rq)
{
    rq->work = read_page;
    rq->resume = page_read;
    return NEXT_WORK;
}

static enum next after_page(struct request *rq)
{
    const struct bulk_alter *bulk = rq->state;
    return bulk->cursor ? next_page(rq) : answer_counts(rq);
}

/* What became final meanwhile, or was deleted, is no error: the filter no
 * longer matches it. */
static enum next page_changed(struct request *rq)
{
    struct bulk_alter *bulk = rq->state;
    if (bulk->op.op.err != OK)
        return answer_fault(rq, bulk->op.op.err);
    bulk->changed += bulk->op.changed;
    return after_page(rq);
}

static enum next page_read(struct request *rq)
{
    struct bulk_alter *bulk = rq->state;
    if (bulk->err != OK)
        return answer_fault(rq, bulk->err);
    return bulk->count ? change_step(rq, page_changed) : after_page(rq);
}

static enum next begin_filter(struct request *rq)
{
    struct bulk_alter *bulk = rq->state;
    struct filter *filter = &bulk->selection.filter;
    int64_t later = clock_now_ms() + 1;
    if (!filter->created_before || filter->created_before > later)
        filter->created_before = later;
    filter->statuses = filter->statuses ? filter->statuses & applicable(bulk) : applicable(bulk);
    if (!filter->statuses)
        return answer_counts(rq); /* only such that it does nothing to */
    bulk->ids = xcalloc(STEP_IDS, sizeof *bulk->ids);
    return next_page(rq);
}

/* --- the handlers ------------------------------------------------------------------------- */

static enum next alter_many(struct request *rq, enum alter what)
{
    struct bulk_alter *bulk = xcalloc(1, sizeof *bulk);
    rq->state = bulk;
    rq->release = bulk_alter_free;
    rq->goes_on = true; /* half a change would be worse than one that nobody hears of */
    bulk->what = what;
    if (rq->token)
        buf_adds(&bulk->who, rq->token->name);
    selection_init(&bulk->selection, rq);
    if (!parameters_are_none(rq) || !read_body(rq, bulk))
        return NEXT_ANSWER;
    if (bulk->ids && bulk->dry_run) {
        rq->work = try_ids;
        return NEXT_WORK;
    }
    if (bulk->ids)
        return next_ids(rq);
    return begin_filter(rq);
}

enum next alter_bulk_cancel(struct request *rq)
{
    return alter_many(rq, ALTER_CANCEL);
}

enum next alter_bulk_retry(struct request *rq)
{
    return alter_many(rq, ALTER_RETRY);
}
