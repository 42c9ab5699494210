/* A page is measured first, on a reader thread: where it ends is said in its head.
 * What is too large to be whole is read a second time while it is sent, a piece
 * at a time: messages never change, so that it is the same page. */
#include "server/resources/messages.h"

#include "base/clock.h"
#include "server/http/answer.h"
#include "server/http/freshness.h"
#include "server/http/gate.h"
#include "server/http/query.h"
#include "server/resources/context.h"
#include "server/resources/message_stream.h"
#include "server/resources/resource.h"
#include "server/resources/view.h"

#include <stdlib.h>

enum {
    LIST_BYTES_MAX = 8 << 20,
    WHOLE_BYTES_MAX = 256 << 10, /* a larger page is read anew while it is sent, */
    PIECE_BYTES = 64 << 10,      /* so much at a time */
    SCAN_MAX_US = 50000,
};

struct message_page {
    struct message_scope scope;
    int limit;
    struct kin kin;
    struct buf body;    /* the page, or a piece of it */
    int64_t bytes;      /* of the page */
    int count;          /* of its messages */
    int64_t last, next; /* the page's last message; the cursor of the page after it, 0: there is none */
    int64_t piece_last; /* the last message of the first piece, */
    size_t piece_len;   /* and its length */
    int64_t sent;       /* in pieces: the last message that was read again */
    bool over;          /* in pieces: all were */
};

static void page_free(void *state)
{
    struct message_page *page = state;
    buf_release(&page->body);
    free(page);
}

/* --- the page ------------------------------------------------------------------------ */

static void render(struct message_page *page, const struct message *message)
{
    if (page->sent || page->count)
        buf_addc(&page->body, ',');
    view_message(&page->body, message, false);
}

/* Of a page that is too large to be whole only the first piece is kept. */
static bool add_message(void *context, const struct message *message)
{
    struct message_page *page = context;
    struct buf *body = &page->body;
    size_t start = body->len;
    render(page, message);
    int64_t size = (int64_t)(body->len - start);
    bool fits = !page->count || page->bytes + size <= LIST_BYTES_MAX;
    if (!fits || page->bytes > WHOLE_BYTES_MAX)
        body->len = start;
    if (!fits)
        return false;
    page->bytes += size;
    page->count++;
    page->last = message->seq;
    if (body->len <= PIECE_BYTES || page->count == 1) {
        page->piece_last = message->seq;
        page->piece_len = body->len;
    }
    return true;
}

/* None comes that is not the page's. */
static bool add_again(void *context, const struct message *message)
{
    struct message_page *page = context;
    struct buf *body = &page->body;
    size_t start = body->len;
    page->over = message->seq > page->last;
    if (page->over)
        return false;
    render(page, message);
    if (body->len > PIECE_BYTES && start) {
        body->len = start;
        return false;
    }
    page->sent = message->seq;
    return true;
}

static void end_page(struct message_page *page)
{
    if (page->next) {
        buf_addl(&page->body, "],\"next\":\"");
        cursor_add(&page->body, page->next);
        buf_addl(&page->body, "\"}");
    } else {
        buf_addl(&page->body, "],\"next\":null}");
    }
    page->over = true;
}

/* On a reader thread. */
static void read_piece(struct request *rq)
{
    struct message_page *page = rq->state;
    struct message_query query = message_scope_query(&page->scope, &page->kin);
    bool more;
    query.after_seq = page->sent;
    query.limit = page->limit;
    enum err err = reader_messages(rq->reader, &query, add_again, page, &more);
    if (err != OK)
        rq->answer.pull = NULL; /* the answer is cut off: its status was sent */
    else if (!more || page->over || page->sent == page->last)
        end_page(page);
}

static enum pull pull_piece(struct request *rq, struct buf *out)
{
    struct message_page *page = rq->state;
    if (page->body.len) {
        struct buf sent = *out;
        *out = page->body;
        page->body = sent;
        return PULL_MORE;
    }
    if (page->over || rq->gone)
        return PULL_END;
    rq->work = read_piece;
    return PULL_WORK;
}

static void answer_in_pieces(struct request *rq)
{
    struct message_page *page = rq->state;
    page->body.len = page->piece_len;
    buf_shrink(&page->body);
    page->sent = page->piece_last;
    rq->answer.status = 200;
    rq->answer.content_type = "application/json";
    rq->answer.pull = pull_piece;
}

/* Of one that is not there the list would be empty. */
static enum err find(struct request *rq, const struct message_scope *scope)
{
    enum status status;
    if (scope->root)
        return reader_root_status(rq->reader, scope->root, &status);
    return scope->id ? reader_status(rq->reader, scope->id, &status) : OK;
}

/* On a reader thread: bodies may be large, and of a tree nobody knows how many are
 * left out. */
static void read_page(struct request *rq)
{
    struct message_page *page = rq->state;
    struct message_query query = message_scope_query(&page->scope, &page->kin);
    bool more = false;
    query.limit = page->limit;
    query.scan_until_us = page->scope.root ? clock_mono_us() + SCAN_MAX_US : 0;
    buf_addl(&page->body, "{\"items\":[");
    enum err err = find(rq, &page->scope);
    if (err == OK)
        err = reader_messages(rq->reader, &query, add_message, page, &more);
    if (err != OK) {
        resource_unread(rq, err);
        return;
    }
    page->next = more ? query.after_seq : 0;
    if (more)
        resource_link_next(rq, page->next);
    if (page->bytes > WHOLE_BYTES_MAX && page->count > 1) {
        answer_in_pieces(rq);
        return;
    }
    end_page(page);
    answer_json(rq, 200, &page->body);
}

static enum next list(struct request *rq, int64_t id)
{
    struct message_page *page = xcalloc(1, sizeof *page);
    rq->state = page;
    rq->release = page_free;
    if (!message_scope_read(rq, id, &page->scope, &page->limit))
        return NEXT_ANSWER;
    answer_header(rq, "Vary", "Accept");
    if (gate_accepts(request_header(rq, "Accept"), "text/event-stream")) {
        struct message_scope scope = page->scope;
        page_free(page);
        rq->state = NULL;
        rq->release = NULL;
        enum err err = find(rq, &scope);
        return err == OK ? message_stream_begin(rq, &scope) : resource_unread(rq, err);
    }
    if (freshness_unchanged(rq, 0))
        return NEXT_ANSWER;
    rq->work = read_page;
    return NEXT_WORK;
}

enum next messages_list(struct request *rq)
{
    return list(rq, 0);
}

enum next messages_of_invocation(struct request *rq)
{
    int64_t id;
    if (!resource_id(rq, &id))
        return NEXT_ANSWER;
    return list(rq, id ? id : NOBODY);
}
