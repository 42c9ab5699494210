#include "server/resources/sets.h"

#include "server/http/answer.h"
#include "server/http/freshness.h"
#include "server/http/parameters.h"
#include "server/http/query.h"
#include "server/resources/context.h"
#include "server/resources/loop_view.h"
#include "server/resources/resource.h"
#include "workers/loop_body.h"

#include <stdlib.h>

static enum next answer_unread(struct request *rq, enum err err)
{
    if (err == ERR_NOT_FOUND)
        return answer_not_found(rq, "there is no such set; the first loop that names one makes it");
    return answer_fault(rq, err);
}

static enum next show(struct request *rq, struct span name, int status)
{
    struct set_view view;
    struct buf body = {0};
    enum err err = reader_set(rq->reader, name, &view);
    if (err != OK)
        return answer_unread(rq, err);
    view_set(&body, &view);
    return answer_json(rq, status, &body);
}

enum next sets_get(struct request *rq)
{
    return !parameters_are_none(rq) || freshness_unchanged(rq, 0) ? NEXT_ANSWER : show(rq, rq->segment, 200);
}

/* --- changed --------------------------------------------------------------------------- */

struct altering {
    struct op_set_alter op;
    struct buf name; /* a copy: the client may leave before the commit */
};

static void altering_free(void *state)
{
    struct altering *altering = state;
    buf_release(&altering->name);
    free(altering);
}

static enum next altered(struct request *rq)
{
    const struct altering *altering = rq->state;
    if (altering->op.op.err != OK)
        return answer_unread(rq, altering->op.op.err);
    return show(rq, altering->op.name, altering->op.left ? 202 : 200);
}

static struct altering *begin(struct request *rq, enum set_alter what)
{
    struct altering *altering = xcalloc(1, sizeof *altering);
    rq->state = altering;
    rq->release = altering_free;
    buf_add_span(&altering->name, rq->segment);
    op_set_alter_init(&altering->op, what, buf_span(&altering->name));
    altering->op.op.owner = rq;
    altering->op.op.done = resource_wake;
    return altering;
}

static enum next commit(struct request *rq, struct altering *altering)
{
    rq->resume = altered;
    request_queue(rq, &altering->op.op);
    return NEXT_COMMIT;
}

static enum next alter(struct request *rq, enum set_alter what)
{
    return resource_is_plain(rq) ? commit(rq, begin(rq, what)) : NEXT_ANSWER;
}

enum next sets_pause(struct request *rq)
{
    return alter(rq, SET_PAUSE);
}

enum next sets_resume(struct request *rq)
{
    return alter(rq, SET_RESUME);
}

enum next sets_stop(struct request *rq)
{
    return alter(rq, SET_STOP);
}

enum next sets_cancel(struct request *rq)
{
    return alter(rq, SET_CANCEL);
}

enum next sets_patch(struct request *rq)
{
    struct faults faults = {0};
    if (!parameters_are_none(rq))
        return NEXT_ANSWER;
    struct altering *altering = begin(rq, SET_PATCH);
    if (loop_set_patch_read(buf_span(&rq->body), &altering->op, &faults) != OK)
        return answer_bad_body(rq, &faults);
    return commit(rq, altering);
}

/* --- listed ------------------------------------------------------------------------------- */

enum { LIMIT_DEFAULT = 50, LIMIT_MAX = 1000, PAGE_BYTES = 8 << 20 };

struct listing {
    struct buf body;
    int64_t cursor;
    int limit;
};

static void listing_free(void *state)
{
    struct listing *listing = state;
    buf_release(&listing->body);
    free(listing);
}

/* Before each but the first of an array. */
static void add_comma(struct buf *body)
{
    if (body->data[body->len - 1] == '}')
        buf_addc(body, ',');
}

static bool add_set(void *context, const struct set_view *row)
{
    struct buf *body = context;
    add_comma(body);
    view_set(body, row);
    return true;
}

static void end_page(struct request *rq, struct buf *body, int64_t next)
{
    buf_addl(body, "],\"next\":");
    if (next) {
        buf_addc(body, '"');
        cursor_add(body, next);
        buf_addl(body, "\"}");
        resource_link_next(rq, next);
    } else {
        buf_addl(body, "null}");
    }
    answer_json(rq, 200, body);
}

/* On a reader thread. */
static void read_page(struct request *rq)
{
    struct listing *listing = rq->state;
    int64_t next;
    buf_addl(&listing->body, "{\"items\":[");
    enum err err = reader_sets(rq->reader, listing->cursor, listing->limit, add_set, &listing->body, &next);
    if (err != OK)
        answer_fault(rq, err);
    else
        end_page(rq, &listing->body, next);
}

static struct listing *begin_listing(struct request *rq)
{
    static const char *const known[] = {"limit", "cursor", NULL};
    struct faults faults = {0};
    struct listing *listing = xcalloc(1, sizeof *listing);
    struct span cursor = parameters_get(rq, "cursor");
    rq->state = listing;
    rq->release = listing_free;
    parameters_check(rq, known, NULL, &faults);
    listing->limit = (int)parameters_int(rq, "limit", 1, LIMIT_MAX, LIMIT_DEFAULT, &faults);
    if (cursor.len && !cursor_parse(cursor, &listing->cursor))
        faults_add(&faults, 0, "cursor", "must be the `next` of the page before, as it was given");
    if (!faults.total)
        return listing;
    answer_bad_query(rq, &faults);
    return NULL;
}

enum next sets_list(struct request *rq)
{
    if (!begin_listing(rq) || freshness_unchanged(rq, 0))
        return NEXT_ANSWER;
    rq->work = read_page;
    return NEXT_WORK;
}

/* --- slots ---------------------------------------------------------------------------------- */

struct showing {
    struct request *rq;
    struct buf *body;
    const struct set_view *set;
    int64_t slot; /* the next one of that set */
    enum err err;
};

static void add_slot(struct buf *body, const struct slot_shown *slot)
{
    add_comma(body);
    view_slot(body, slot);
}

static void add_idle(struct showing *showing, int64_t until)
{
    for (; showing->slot < until; showing->slot++)
        add_slot(showing->body, &(struct slot_shown){.slot = showing->slot, .set = showing->set->name});
}

static void add_held(void *context, const struct set_slot *row)
{
    struct showing *showing = context;
    add_idle(showing, row->slot);
    add_slot(showing->body, &(struct slot_shown){.slot = row->slot,
                                                 .set = showing->set->name,
                                                 .invocation = row->invocation,
                                                 .loop = row->loop,
                                                 .since = row->since});
    showing->slot = row->slot + 1;
}

static bool add_slots_of(void *context, const struct set_view *set)
{
    struct showing *showing = context;
    if (showing->body->len > PAGE_BYTES)
        return false;
    showing->set = set;
    showing->slot = 0;
    showing->err = reader_set_slots(showing->rq->reader, set->id, add_held, showing);
    add_idle(showing, set->slots);
    return showing->err == OK;
}

/* The server's own stand on the first page. */
static enum err add_own(struct showing *showing)
{
    int count;
    enum err err = OK;
    struct slot_view *slots = runner_slots(showing->rq->context->runner, &count);
    for (int i = 0; i < count && err == OK; i++) {
        struct slot_shown slot = {
            .slot = slots[i].slot, .runner = SPAN("local"), .invocation = slots[i].id, .since = slots[i].since};
        int64_t number;
        if (slots[i].id)
            err = reader_iteration(showing->rq->reader, slots[i].id, &slot.loop, &number);
        add_slot(showing->body, &slot);
    }
    free(slots);
    return err;
}

/* On a reader thread. */
static void read_slots(struct request *rq)
{
    struct listing *listing = rq->state;
    struct showing showing = {.rq = rq, .body = &listing->body};
    int64_t next = 0;
    buf_addl(&listing->body, "{\"items\":[");
    enum err err = listing->cursor ? OK : add_own(&showing);
    if (err == OK)
        err = reader_sets(rq->reader, listing->cursor, listing->limit, add_slots_of, &showing, &next);
    if (err == OK)
        err = showing.err;
    if (err != OK)
        answer_fault(rq, err);
    else
        end_page(rq, &listing->body, next);
}

enum next sets_slots(struct request *rq)
{
    if (!begin_listing(rq))
        return NEXT_ANSWER;
    rq->work = read_slots;
    return NEXT_WORK;
}
