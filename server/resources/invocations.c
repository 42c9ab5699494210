#include "server/resources/invocations.h"

#include "base/clock.h"
#include "server/http/answer.h"
#include "server/http/freshness.h"
#include "server/http/parameters.h"
#include "server/http/query.h"
#include "server/resources/context.h"
#include "server/resources/resource.h"
#include "server/resources/selection.h"
#include "server/resources/view.h"

#include <stdlib.h>

enum {
    LIMIT_DEFAULT = 50,
    LIMIT_MAX = 1000,
    LIMIT_HERE = 100, /* rows that are read on the HTTP thread at most */
    LISTING_BYTES_MAX = 8 << 20,
    WHOLE_BYTES_MAX = 256 << 10, /* a larger page is read anew while it is sent, */
    PIECE_BYTES = 64 << 10,      /* so much at a time */
    SCAN_MAX_US = 50000,
};

struct listing {
    struct request *rq;
    struct list_query query;
    struct buf body;    /* the page, or a piece of it */
    int64_t bytes;      /* of the page */
    int64_t last, next; /* the page's last row; the cursor of the page after it, 0: there is none */
    int64_t piece_last; /* the last row of the first piece, */
    size_t piece_len;   /* and its length */
    int64_t cursor;     /* in pieces: the last row that was sent */
    bool over;          /* in pieces: the last one was read */
    int count;
    int task; /* of the last row, and its name */
    const char *task_name;
};

static void listing_free(void *state)
{
    struct listing *listing = state;
    buf_release(&listing->body);
    free(listing);
}

/* --- what is asked -------------------------------------------------------------- */

/* An empty one is the start: clients loop with it. */
static void read_cursor(struct listing *listing, struct faults *faults)
{
    struct span cursor = parameters_get(listing->rq, "cursor");
    if (cursor.len && !cursor_parse(cursor, &listing->query.cursor))
        faults_add(faults, 0, "cursor", "must be the `next` of the page before, as it was given");
}

/* Of the children of one, or with 0 of all. */
static bool read_query(struct listing *listing, int64_t parent)
{
    static const char *const known[] = {"parent", "group",         "status",         "task",  "worker", "error",
                                        "key",    "created_after", "created_before", "order", "view",   "limit",
                                        "cursor", "label",         "label.",         "loop",  "arg.",   NULL};
    static const char *const repeatable[] = {"status", "label", NULL};
    static const char *const orders[] = {"newest", "oldest", NULL};
    struct request *rq = listing->rq;
    struct faults faults = {0};
    struct selection selection;
    selection_init(&selection, rq);
    parameters_check(rq, known + (parent != 0), repeatable, &faults);
    selection_read_query(&selection, rq, &faults);
    listing->query.filter = selection.filter;
    if (parent)
        listing->query.filter.parent = parent;
    listing->query.oldest_first = parameters_word(rq, "order", orders, 0, &faults) == 1;
    listing->query.view = resource_view(rq, VIEW_BASIC, &faults);
    listing->query.limit = (int)parameters_int(rq, "limit", 1, LIMIT_MAX, LIMIT_DEFAULT, &faults);
    read_cursor(listing, &faults);
    if (!faults.total)
        return true;
    answer_bad_query(rq, &faults);
    return false;
}

/* --- the page ------------------------------------------------------------------------ */

static void render_row(struct listing *listing, const struct invocation *row)
{
    if (row->task != listing->task) {
        listing->task = row->task;
        listing->task_name = store_task_name(listing->rq->context->store, row->task);
    }
    if (listing->count)
        buf_addc(&listing->body, ',');
    view_invocation(&listing->body, row, listing->task_name, listing->query.view == VIEW_FULL);
}

/* Of a page that is too large to be whole only the first piece is kept; the
 * rows after it are measured, to know where the page ends. */
static bool add_row(void *context, const struct invocation *row)
{
    struct listing *listing = context;
    struct buf *body = &listing->body;
    size_t start = body->len;
    render_row(listing, row);
    int64_t size = (int64_t)(body->len - start);
    bool fits = !listing->count || listing->bytes + size <= LISTING_BYTES_MAX;
    if (!fits || listing->bytes > WHOLE_BYTES_MAX)
        body->len = start;
    if (!fits)
        return false;
    listing->bytes += size;
    listing->count++;
    listing->last = row->id;
    if (body->len <= PIECE_BYTES || listing->count == 1) {
        listing->piece_last = row->id;
        listing->piece_len = body->len;
    }
    return true;
}

/* The page was measured: its further rows, a piece at a time. One that was
 * deleted since is left out, and none comes that is not the page's. */
static bool add_row_again(void *context, const struct invocation *row)
{
    struct listing *listing = context;
    struct buf *body = &listing->body;
    size_t start = body->len;
    if (listing->query.oldest_first ? row->id > listing->last : row->id < listing->last) {
        listing->over = true;
        return false;
    }
    render_row(listing, row);
    if (body->len > PIECE_BYTES && start) {
        body->len = start;
        return false;
    }
    listing->cursor = row->id;
    return true;
}

static void end_page(struct listing *listing)
{
    if (listing->next) {
        buf_addl(&listing->body, "],\"next\":\"");
        cursor_add(&listing->body, listing->next);
        buf_addl(&listing->body, "\"}");
    } else {
        buf_addl(&listing->body, "],\"next\":null}");
    }
    listing->over = true;
}

/* On a reader thread. */
static void read_piece(struct request *rq)
{
    struct listing *listing = rq->state;
    struct list_query query = listing->query;
    int64_t next;
    query.cursor = listing->cursor;
    enum err err = reader_list(rq->reader, &query, add_row_again, listing, &next);
    if (err != OK)
        rq->answer.pull = NULL; /* the answer is cut off: its status was sent */
    else if (!next || listing->over || listing->cursor == listing->last)
        end_page(listing);
}

static enum pull pull_piece(struct request *rq, struct buf *out)
{
    struct listing *listing = rq->state;
    if (listing->body.len) {
        struct buf sent = *out;
        *out = listing->body;
        listing->body = sent;
        return PULL_MORE;
    }
    if (listing->over || rq->gone)
        return PULL_END;
    rq->work = read_piece;
    return PULL_WORK;
}

static void answer_in_pieces(struct request *rq)
{
    struct listing *listing = rq->state;
    listing->body.len = listing->piece_len;
    buf_shrink(&listing->body);
    listing->cursor = listing->piece_last;
    listing->query.scan_until_us = 0; /* what was scanned once in time will be again */
    rq->answer.status = 200;
    rq->answer.content_type = "application/json";
    rq->answer.pull = pull_piece;
}

static void read_page(struct request *rq)
{
    struct listing *listing = rq->state;
    buf_addl(&listing->body, "{\"items\":[");
    enum err err = reader_list(rq->reader, &listing->query, add_row, listing, &listing->next);
    if (err != OK) {
        answer_fault(rq, err);
        return;
    }
    if (listing->next)
        resource_link_next(rq, listing->next);
    if (listing->bytes > WHOLE_BYTES_MAX && listing->count > 1) {
        answer_in_pieces(rq);
        return;
    }
    end_page(listing);
    answer_json(rq, 200, &listing->body);
}

/* On a reader thread: rows that no index serves may take long. */
static void read_long_page(struct request *rq)
{
    struct listing *listing = rq->state;
    listing->query.scan_until_us = clock_mono_us() + SCAN_MAX_US;
    read_page(rq);
}

static enum next offer(struct request *rq)
{
    freshness_offer(rq);
    return NEXT_ANSWER;
}

/* Queued ones are a merge of as many streams as there are pairs of a task and a
 * priority, and a scan where those are too many. */
static bool is_short(const struct list_query *query)
{
    return query->view == VIEW_BASIC && query->limit <= LIMIT_HERE && filter_is_indexed(&query->filter) &&
           !(query->filter.statuses & 1u << STATUS_QUEUED);
}

/* Of one that is not there the list would be empty. */
static bool has_parent(struct request *rq, int64_t parent)
{
    enum status status;
    enum err err = parent ? reader_status(rq->reader, parent, &status) : OK;
    if (err != OK)
        resource_unread(rq, err);
    return err == OK;
}

static enum next list(struct request *rq, int64_t parent)
{
    struct listing *listing = xcalloc(1, sizeof *listing);
    rq->state = listing;
    rq->release = listing_free;
    listing->rq = rq;
    if (!read_query(listing, parent) || freshness_unchanged(rq, 0) || !has_parent(rq, parent) ||
        freshness_page(rq))
        return NEXT_ANSWER;
    if (is_short(&listing->query)) {
        read_page(rq);
        return offer(rq);
    }
    rq->work = read_long_page;
    rq->resume = offer;
    return NEXT_WORK;
}

enum next invocations_list(struct request *rq)
{
    return list(rq, 0);
}

enum next invocations_children(struct request *rq)
{
    int64_t parent;
    if (!resource_id(rq, &parent))
        return NEXT_ANSWER;
    return list(rq, parent ? parent : -1); /* nobody has that id */
}
