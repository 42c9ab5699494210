/* A look takes a piece of what is there, on a reader thread, and what it found is sent before the
 * next: so a result is in memory once, however many there are. Whether the group is final is read
 * before the results: if it was, and nothing more is found, that was all.
 *
 * A page ends early when it is long, but has one result at least. */
#include "server/resources/group_results.h"

#include "base/clock.h"
#include "server/http/answer.h"
#include "server/http/freshness.h"
#include "server/http/gate.h"
#include "server/http/parameters.h"
#include "server/http/query.h"
#include "server/resources/await.h"
#include "server/resources/context.h"
#include "server/resources/group_view.h"
#include "server/resources/groups.h"
#include "server/resources/resource.h"

#include <stdlib.h>

enum {
    LIMIT_DEFAULT = 50,
    LIMIT_MAX = 1000,
    RESULTS_BYTES_MAX = 8 << 20,
    PIECE_BYTES = 64 << 10,
    PIECE_ROWS = 1000,
    WHOLE_BYTES_MAX = 256 << 10, /* a larger page is read anew while it is sent */
    LINE_US = 10 * 1000000,      /* an empty line keeps proxies from hanging up, and finds who has left */
};

struct results {
    int64_t id;
    bool by_completion, lines;
    int limit;
    int64_t position; /* of the last one that was taken */
    struct buf piece; /* the page; of lines, what was read and is to be sent */
    int count;        /* in it */
    bool full;        /* what is there was not all taken */
    bool looked;      /* lines: read after it began to listen, and nothing is left */
    bool over;
    bool more;          /* there is a page after this one */
    int64_t bytes;      /* of the page */
    int64_t piece_last; /* the last one of its first piece, */
    size_t piece_len;   /* and the length of that */
    int64_t sent;       /* in pieces: the last one that was read again */
    int64_t sent_us;    /* when the last line was */
    struct listener listener;
};

static void results_free(void *state)
{
    struct results *results = state;
    topics_leave(&results->listener);
    buf_release(&results->piece);
    free(results);
}

/* --- a page ------------------------------------------------------------------------------ */

static void render(struct results *results, const struct group_result *row)
{
    if (results->count || results->sent)
        buf_addc(&results->piece, ',');
    group_view_result(&results->piece, row, false);
    buf_addc(&results->piece, '}');
}

/* Of a page that is too large to be whole only the first piece is kept; what comes after it is
 * measured, to know where the page ends. */
static bool add_to_page(void *context, const struct group_result *row)
{
    struct results *results = context;
    size_t start = results->piece.len;
    results->full = results->count == results->limit; /* one more was asked for, to know whether there is one */
    if (results->full)
        return false;
    render(results, row);
    int64_t size = (int64_t)(results->piece.len - start);
    results->full = results->count && results->bytes + size > RESULTS_BYTES_MAX;
    if (results->full || results->bytes > WHOLE_BYTES_MAX)
        results->piece.len = start;
    if (results->full)
        return false;
    results->bytes += size;
    results->count++;
    results->position = row->position;
    if (results->piece.len <= PIECE_BYTES || results->count == 1) {
        results->piece_last = row->position;
        results->piece_len = results->piece.len;
    }
    return true;
}

static void end_page(struct results *results)
{
    if (results->more) {
        buf_addl(&results->piece, "],\"next\":\"");
        cursor_add(&results->piece, results->position);
        buf_addl(&results->piece, "\"}");
    } else {
        buf_addl(&results->piece, "],\"next\":null}");
    }
    results->over = true;
}

/* The page was measured: its further rows. */
static bool add_again(void *context, const struct group_result *row)
{
    struct results *results = context;
    size_t start = results->piece.len;
    results->full = row->position > results->position;
    if (results->full)
        return false;
    render(results, row);
    if (results->piece.len > PIECE_BYTES && start) {
        results->piece.len = start;
        return false;
    }
    results->sent = row->position;
    return true;
}

/* On a reader thread. */
static void read_piece(struct request *rq)
{
    struct results *results = rq->state;
    int64_t from = results->sent;
    results->full = false;
    enum err err = reader_group_results(rq->reader, results->id, results->by_completion, from, results->limit,
                                        add_again, results);
    if (err != OK)
        rq->answer.pull = NULL; /* the answer is cut off: its status was sent */
    else if (results->full || results->sent == from || results->sent == results->position)
        end_page(results);
}

static enum pull pull_piece(struct request *rq, struct buf *out)
{
    struct results *results = rq->state;
    if (results->piece.len) {
        struct buf sent = *out;
        *out = results->piece;
        results->piece = sent;
        return PULL_MORE;
    }
    if (results->over || rq->gone)
        return PULL_END;
    rq->work = read_piece;
    return PULL_WORK;
}

static void answer_in_pieces(struct request *rq)
{
    struct results *results = rq->state;
    results->piece.len = results->piece_len;
    buf_shrink(&results->piece);
    results->sent = results->piece_last;
    rq->answer.status = 200;
    rq->answer.content_type = "application/json";
    rq->answer.pull = pull_piece;
}

/* On a reader thread. */
static void read_page(struct request *rq)
{
    struct results *results = rq->state;
    struct group_row row;
    enum err err = reader_group(rq->reader, results->id, &row);
    buf_addl(&results->piece, "{\"items\":[");
    if (err == OK)
        err = reader_group_results(rq->reader, results->id, results->by_completion, results->position,
                                   results->limit + 1, add_to_page, results);
    if (err != OK) {
        groups_unread(rq, err);
        return;
    }
    results->more = results->full;
    if (results->more)
        resource_link_next(rq, results->position);
    if (results->bytes > WHOLE_BYTES_MAX && results->count > 1) {
        answer_in_pieces(rq);
        return;
    }
    end_page(results);
    answer_json(rq, 200, &results->piece);
}

/* --- lines ---------------------------------------------------------------------------------- */

/* In the order of submission nothing comes before one that is not final. */
static bool add_line(void *context, const struct group_result *row)
{
    struct results *results = context;
    size_t start = results->piece.len;
    if (!status_is_final(row->status))
        return false;
    group_view_result(&results->piece, row, true);
    buf_addl(&results->piece, ",\"cursor\":\"");
    cursor_add(&results->piece, row->position);
    buf_addl(&results->piece, "\"}\n");
    results->full = results->count && results->piece.len > PIECE_BYTES;
    if (results->full) {
        results->piece.len = start;
        return false;
    }
    results->count++;
    results->position = row->position;
    return true;
}

/* On a reader thread. */
static void look(struct request *rq)
{
    struct results *results = rq->state;
    struct group_row row;
    enum err found = reader_group(rq->reader, results->id, &row), err = OK;
    bool final = found != OK || row.status >= GROUP_SUCCEEDED;
    results->count = 0;
    results->full = false;
    if (found == OK)
        err = reader_group_results(rq->reader, results->id, results->by_completion, results->position, PIECE_ROWS,
                                   add_line, results);
    if (err_is_fault(found) || err != OK) {
        rq->answer.pull = NULL; /* it is cut off: who comes again goes on behind the last cursor */
        return;
    }
    results->looked &= !results->count;
    results->over = final && !results->count;
}

/* Listens first, then reads: what comes in between is announced. */
static enum pull listen_and_look(struct request *rq)
{
    struct results *results = rq->state;
    topics_leave(&results->listener);
    topics_listen(rq->context->topics, &results->listener, rq, (struct topic){TOPIC_GROUP, results->id});
    results->looked = true;
    rq->timed_out = false;
    rq->work = look;
    return PULL_WORK;
}

static enum pull pull_lines(struct request *rq, struct buf *out)
{
    struct results *results = rq->state;
    int64_t now_us = clock_mono_us();
    if (results->piece.len) {
        struct buf sent = *out;
        *out = results->piece;
        results->piece = sent;
        results->sent_us = now_us;
        return PULL_MORE;
    }
    if (rq->closing || rq->gone || results->over)
        return PULL_END;
    if (!results->looked || !topics_listens(&results->listener))
        return listen_and_look(rq);
    if (now_us - results->sent_us >= LINE_US) {
        results->sent_us = now_us;
        buf_addc(out, '\n');
        return PULL_MORE;
    }
    rq->timed_out = false;
    rq->deadline_us = results->sent_us + LINE_US;
    return PULL_WAIT;
}

static enum next follow(struct request *rq)
{
    struct results *results = rq->state;
    struct group_row row;
    enum err err = reader_group(rq->reader, results->id, &row);
    if (err != OK)
        return groups_unread(rq, err);
    if (!await_may_follow(rq))
        return NEXT_ANSWER;
    results->sent_us = clock_mono_us();
    answer_header(rq, "Cache-Control", "no-store");
    answer_header(rq, "X-Accel-Buffering", "no");
    rq->answer.status = 200;
    rq->answer.content_type = "application/x-ndjson";
    rq->answer.pull = pull_lines;
    return NEXT_ANSWER;
}

/* --- what is asked ------------------------------------------------------------------------------ */

static bool read_query(struct request *rq, struct results *results)
{
    static const char *const known[] = {"order", "limit", "cursor", NULL};
    static const char *const orders[] = {"submission", "completion", NULL};
    struct faults faults = {0};
    parameters_check(rq, known, NULL, &faults);
    results->by_completion = parameters_word(rq, "order", orders, 0, &faults) == 1;
    results->limit = (int)parameters_int(rq, "limit", 1, LIMIT_MAX, LIMIT_DEFAULT, &faults);
    struct span cursor = parameters_get(rq, "cursor");
    if (cursor.len && !cursor_parse(cursor, &results->position))
        faults_add(&faults, 0, "cursor", "must be the `next` of the page before, or the `cursor` of a line");
    if (results->lines && parameters_get(rq, "limit").p)
        faults_add(&faults, 0, "limit", "is a page's; lines come until the group is final");
    if (!faults.total)
        return true;
    answer_bad_query(rq, &faults);
    return false;
}

enum next group_results_get(struct request *rq)
{
    struct results *results = xcalloc(1, sizeof *results);
    rq->state = results;
    rq->release = results_free;
    results->lines = gate_accepts(request_header(rq, "Accept"), "application/x-ndjson");
    if (!groups_id(rq, &results->id) || !read_query(rq, results))
        return NEXT_ANSWER;
    answer_header(rq, "Vary", "Accept");
    if (results->lines)
        return follow(rq);
    if (freshness_unchanged(rq, 0))
        return NEXT_ANSWER;
    rq->work = read_page;
    return NEXT_WORK;
}
