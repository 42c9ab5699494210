#include "server/resources/invocations.h"

#include "base/clock.h"
#include "server/http/query.h"
#include "server/resources/resource.h"
#include "server/resources/selection.h"
#include "server/server.h"
#include "server/resources/view.h"

#include <stdlib.h>

enum {
    LIMIT_STANDARD = 50,
    LIMIT_MAX = 1000,
    LIMIT_HERE = 100, /* rows that are read on the HTTP thread at most */
    PAGE_BYTES_MAX = 8 << 20,
    SCAN_MAX_US = 50000,
    LINK_MAX = 4096, /* a longer one is left out: `next` says the same */
};

struct page {
    struct request *rq;
    struct list_query query;
    struct buf body;
    int count;
    int task; /* of the last row, and its name */
    const char *task_name;
};

static void page_free(void *state)
{
    struct page *page = state;
    buf_release(&page->body);
    free(page);
}

/* --- what is asked -------------------------------------------------------------- */

/* An empty one is the start: clients loop with it. */
static void read_cursor(struct page *page, struct faults *faults)
{
    struct span cursor = request_query(page->rq, "cursor");
    if (cursor.len && !cursor_parse(cursor, &page->query.cursor))
        faults_add(faults, 0, "cursor", "is none that this server gave");
}

static bool read_query(struct page *page)
{
    static const char *const known[] = {"status",        "task",           "worker", "error", "key",
                                        "created_after", "created_before", "order",  "view",  "limit",
                                        "cursor",        "label.",         NULL};
    static const char *const repeatable[] = {"status", NULL};
    static const char *const orders[] = {"newest", "oldest", NULL};
    struct request *rq = page->rq;
    struct faults faults = {0};
    struct selection selection;
    selection_init(&selection, rq);
    request_check_query(rq, known, repeatable, &faults);
    selection_read_query(&selection, rq, &faults);
    page->query.filter = selection.filter;
    page->query.oldest_first = resource_word(rq, "order", orders, 0, &faults) == 1;
    page->query.view = resource_view(rq, VIEW_BASIC, &faults);
    page->query.limit = (int)resource_int(rq, "limit", 1, LIMIT_MAX, LIMIT_STANDARD, &faults);
    read_cursor(page, &faults);
    if (!faults.total)
        return true;
    resource_bad_query(rq, &faults);
    return false;
}

/* --- the page ------------------------------------------------------------------------ */

static bool add_row(void *context, const struct invocation *row)
{
    struct page *page = context;
    size_t start = page->body.len;
    if (row->task != page->task) {
        page->task = row->task;
        page->task_name = store_task_name(page->rq->server->store, row->task);
    }
    if (page->count)
        buf_addc(&page->body, ',');
    view_invocation(&page->body, row, page->task_name, page->query.view == VIEW_FULL);
    if (page->body.len > PAGE_BYTES_MAX && page->count) {
        page->body.len = start;
        return false;
    }
    page->count++;
    return true;
}

static void add_encoded(struct buf *out, struct span text)
{
    static const char hex[] = "0123456789ABCDEF";
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.p[i];
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("-_.~", c)) {
            buf_addc(out, (char)c);
        } else {
            buf_addc(out, '%');
            buf_addc(out, hex[c >> 4]);
            buf_addc(out, hex[c & 15]);
        }
    }
}

/* The same query with another cursor. */
static void add_link(struct request *rq, int64_t next)
{
    struct buf link = {0};
    buf_addl(&link, "</invocations?");
    for (int i = 0; i < rq->query_count; i++) {
        if (span_is(rq->query[i].name, "cursor"))
            continue;
        add_encoded(&link, rq->query[i].name);
        buf_addc(&link, '=');
        add_encoded(&link, rq->query[i].value);
        buf_addc(&link, '&');
    }
    buf_addl(&link, "cursor=");
    cursor_add(&link, next);
    buf_addl(&link, ">; rel=\"next\"");
    if (link.len <= LINK_MAX)
        answer_header(rq, "Link", buf_cstr(&link));
    buf_release(&link);
}

static void read_page(struct request *rq, struct reader *reader)
{
    struct page *page = rq->state;
    int64_t next;
    buf_addl(&page->body, "{\"items\":[");
    enum err err = reader_list(reader, &page->query, add_row, page, &next);
    if (err != OK) {
        answer_fault(rq, err);
        return;
    }
    if (next) {
        buf_addl(&page->body, "],\"next\":\"");
        cursor_add(&page->body, next);
        buf_addl(&page->body, "\"}");
        add_link(rq, next);
    } else {
        buf_addl(&page->body, "],\"next\":null}");
    }
    answer_json(rq, 200, &page->body);
}

/* On a reader thread: rows that no index serves may take long. */
static void read_long_page(struct request *rq, struct reader *reader)
{
    struct page *page = rq->state;
    page->query.scan_until_us = clock_mono_us() + SCAN_MAX_US;
    read_page(rq, reader);
}

static enum next keep(struct request *rq)
{
    answer_keep(rq);
    return NEXT_ANSWER;
}

static bool is_short(const struct list_query *query)
{
    return query->view == VIEW_BASIC && query->limit <= LIMIT_HERE && filter_is_indexed(&query->filter);
}

enum next invocations_list(struct request *rq)
{
    struct page *page = xcalloc(1, sizeof *page);
    rq->state = page;
    rq->release = page_free;
    page->rq = rq;
    if (!read_query(page) || answer_if_unchanged(rq) || answer_kept(rq))
        return NEXT_ANSWER;
    if (is_short(&page->query)) {
        read_page(rq, rq->server->reader);
        return keep(rq);
    }
    rq->work = read_long_page;
    rq->resume = keep;
    return NEXT_WORK;
}
