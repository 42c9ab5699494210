/* A small log is read at once on a reader thread and sent with its length. A
 * large one, and one that is followed, is read a piece at a time while it is
 * sent; no read transaction stays open between two pieces.
 *
 * As an event stream (Accept: text/event-stream) each piece is an event: its
 * data is the text as a JSON string, its id how many bytes of the log were sent
 * with it, so that Last-Event-ID goes on behind them. A last event, `end`, has
 * the status. Comments in between keep proxies from hanging up. */
#include "server/resources/logs.h"

#include "base/clock.h"
#include "base/json.h"
#include "server/http/answer.h"
#include "server/http/freshness.h"
#include "server/http/gate.h"
#include "server/http/parameters.h"
#include "server/http/range.h"
#include "server/resources/await.h"
#include "server/resources/context.h"
#include "server/resources/resource.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    WHOLE_BYTES_MAX = 1 << 20, /* more is sent in pieces */
    PIECE_BYTES = 64 << 10,
    FOLLOW_BYTES = 64 << 10,
    FOLLOW_WAKE_US = 10 * 1000000, /* a follower that hears nothing is looked after this often */
};

static const char text_type[] = "text/plain; charset=utf-8", events_type[] = "text/event-stream";

struct log_state {
    struct request *rq;
    int64_t id;
    int attempt;        /* 0: all */
    int64_t at, to;     /* of bytes, `to` not included: what is still to be sent */
    int64_t seq;        /* followed: the last piece that was read */
    struct buf piece;   /* was read and is to be sent */
    bool over;          /* nothing comes after it */
    bool looked;        /* followed: it was read after it began to listen */
    int64_t offset;     /* where it begins; followed: where the next byte stands */
    int64_t skip;       /* followed: bytes that are still to be left out */
    bool events;        /* followed: as an event stream */
    bool ended;         /* its last event was sent */
    enum status status; /* as of the last look */
    struct listener listener;
};

static void log_state_free(void *state)
{
    struct log_state *log = state;
    topics_leave(&log->listener);
    buf_release(&log->piece);
    free(log);
}

/* --- what is there ------------------------------------------------------------------ */

/* What was read goes out; only then is more read. */
static enum pull send_piece(struct request *rq, struct buf *out)
{
    struct log_state *log = rq->state;
    buf_add_span(out, buf_span(&log->piece));
    log->piece.len = 0;
    return PULL_MORE;
}

static void read_piece(struct request *rq)
{
    struct log_state *log = rq->state;
    int64_t left = log->to - log->at, total;
    enum err err = reader_log(rq->reader, log->id, log->attempt, log->at, left < PIECE_BYTES ? left : PIECE_BYTES,
                              &log->piece, &total);
    log->at += (int64_t)log->piece.len;
    log->over = err != OK || !log->piece.len;
}

static enum pull pull_piece(struct request *rq, struct buf *out)
{
    const struct log_state *log = rq->state;
    if (log->piece.len)
        return send_piece(rq, out);
    if (log->over || log->at >= log->to || rq->gone)
        return PULL_END;
    rq->work = read_piece;
    return PULL_WORK;
}

/* Says which part is sent; false with 416 answered if there is no such part. */
static bool settle_range(struct request *rq, struct log_state *log, int64_t total)
{
    char text[80];
    int64_t from, to;
    /* A log's tag is weak, so that an If-Range never holds: then the whole is due. */
    struct span header = request_header(rq, "If-Range").p ? (struct span){NULL, 0} : request_header(rq, "Range");
    enum range range = range_parse(header, total, &from, &to);
    rq->answer.status = range == RANGE_PART ? 206 : 200;
    log->at = log->offset < total ? log->offset : total;
    log->to = total;
    if (range == RANGE_ALL)
        return true;
    if (range == RANGE_PART) {
        snprintf(text, sizeof text, "bytes %" PRId64 "-%" PRId64 "/%" PRId64, from, to, total);
        answer_header(rq, "Content-Range", text);
        log->at = from;
        log->to = to + 1;
        return true;
    }
    snprintf(text, sizeof text, "bytes */%" PRId64, total);
    answer_header(rq, "Content-Range", text);
    answer_problem(rq, 416, "range-not-satisfiable", "the log has %" PRId64 " bytes", total);
    return false;
}

/* Nobody reads all of a log for its tag. It only grows, but for the output that
 * its end takes out of it as the result. */
static void tag(struct request *rq, const struct invocation *row, int64_t total)
{
    char text[ETAG_BYTES / 2];
    snprintf(text, sizeof text, "%" PRIx64 "-%x-%x", total, (unsigned)row->attempt, (unsigned)row->status);
    freshness_tag(rq, text);
}

static enum next answer_no_attempt(struct request *rq, const struct invocation *row)
{
    return answer_problem(rq, 404, "not-found", "there is no such attempt; there %s %d so far",
                          row->attempt == 1 ? "was" : "were", row->attempt);
}

/* On a reader thread. */
static void read_log(struct request *rq)
{
    struct log_state *log = rq->state;
    struct reader *reader = rq->reader;
    struct invocation row;
    int64_t total = 0;
    enum err err = reader_get(reader, log->id, VIEW_BASIC, &row);
    if (err == OK && log->attempt > row.attempt) {
        answer_no_attempt(rq, &row);
        return;
    }
    if (err == OK)
        err = reader_log(reader, log->id, log->attempt, 0, 0, &rq->answer.body, &total);
    if (err != OK) {
        resource_unread(rq, err);
        return;
    }
    tag(rq, &row, total);
    if (!settle_range(rq, log, total))
        return;
    rq->answer.content_type = text_type;
    rq->answer.length = log->to - log->at;
    if (rq->answer.length > WHOLE_BYTES_MAX)
        rq->answer.pull = pull_piece;
    else if (reader_log(reader, log->id, log->attempt, log->at, log->to - log->at, &rq->answer.body, &total) != OK)
        answer_fault(rq, ERR_DB);
}

/* --- as it comes ---------------------------------------------------------------------- */

/* Takes what was read from `start` on out of the piece, as far as it is to be left out. */
static void leave_out(struct log_state *log, size_t start)
{
    int64_t read = (int64_t)(log->piece.len - start);
    size_t n = (size_t)(log->skip < read ? log->skip : read);
    if (n) {
        memmove(log->piece.data + start, log->piece.data + start + n, log->piece.len - start - n);
        log->piece.len -= n;
        log->skip -= (int64_t)n;
    }
}

/* On a reader thread: what was written since. The status is read first: if it
 * is final, the log that is read after it is whole. */
static void read_new(struct request *rq)
{
    struct log_state *log = rq->state;
    struct invocation row;
    size_t start = log->piece.len;
    int64_t seq = log->seq;
    enum err found = reader_get(rq->reader, log->id, VIEW_BASIC, &row);
    bool final = found != OK || status_is_final(row.status) || (log->attempt && row.attempt > log->attempt);
    enum err err = reader_log_after(rq->reader, log->id, log->attempt, &log->seq, FOLLOW_BYTES, &log->piece);
    log->status = found == OK ? row.status : 0;
    log->over = err != OK || (final && log->seq == seq);
    log->looked &= log->seq == seq; /* there may be more: look again */
    leave_out(log, start);
}

/* Listens first, then reads: what comes in between is announced. */
static enum pull listen_and_read(struct request *rq)
{
    struct log_state *log = rq->state;
    topics_leave(&log->listener);
    topics_listen(rq->context->topics, &log->listener, rq, (struct topic){TOPIC_INVOCATION, log->id});
    log->looked = true;
    rq->work = read_new;
    return PULL_WORK;
}

static void begin_event(struct buf *out, const struct log_state *log, const char *name)
{
    buf_addf(out, "event: %s\nid: %" PRId64 "\ndata: ", name, log->offset);
}

/* The piece as an event, but for a character of which not all is there yet. */
static bool add_event(struct buf *out, struct log_state *log)
{
    struct span text = log->over ? buf_span(&log->piece) : utf8_cut(buf_span(&log->piece), log->piece.len);
    if (!text.len)
        return false;
    log->offset += (int64_t)text.len;
    begin_event(out, log, "log");
    json_add_lossy(out, text);
    buf_addl(out, "\n\n");
    log->piece.len -= text.len;
    memmove(log->piece.data, log->piece.data + text.len, log->piece.len);
    return true;
}

static enum pull add_end(struct buf *out, struct log_state *log)
{
    const char *status = status_name(log->status);
    if (log->events && !log->ended) {
        begin_event(out, log, "end");
        buf_addf(out, "\"%s\"\n\n", status ? status : "deleted");
    }
    log->ended = true;
    return PULL_END;
}

static enum pull pull_new(struct request *rq, struct buf *out)
{
    struct log_state *log = rq->state;
    bool looked = log->looked;
    if (log->piece.len && !log->events)
        return send_piece(rq, out);
    if (log->piece.len && add_event(out, log))
        return PULL_MORE;
    if (rq->closing || rq->gone)
        return PULL_END;
    if (log->over)
        return add_end(out, log);
    log->looked = false;
    if (rq->timed_out && log->events) {
        rq->timed_out = false;
        buf_addl(out, ":\n\n");
        return PULL_MORE;
    }
    if (!looked || !topics_listens(&log->listener)) /* something was announced while it was read */
        return listen_and_read(rq);
    rq->timed_out = false;
    rq->deadline_us = clock_mono_us() + FOLLOW_WAKE_US;
    return PULL_WAIT;
}

/* Where to begin: behind the last event that was heard, at the Range (`bytes=N-`,
 * which is answered as RFC 8673 says), or at `offset`. */
static void settle_start(struct request *rq, struct log_state *log)
{
    static const int64_t far = (INT64_C(1) << 53) - 1;
    char text[80];
    int64_t from, to, last;
    struct span heard = request_header(rq, "Last-Event-ID");
    enum range range = range_parse(request_header(rq, "Range"), far + 1, &from, &to);
    rq->answer.status = 200;
    if (log->events && heard.p && json_int64(heard, &last) && last >= 0) {
        log->offset = last;
    } else if (range == RANGE_PART && to == far && request_header(rq, "Range").p[6] != '-') {
        log->offset = from;
        rq->answer.status = 206;
        snprintf(text, sizeof text, "bytes %" PRId64 "-%" PRId64 "/*", from, far);
        answer_header(rq, "Content-Range", text);
    }
    log->skip = log->offset;
}

static enum next follow(struct request *rq, struct log_state *log)
{
    struct invocation row;
    enum err err = reader_get(rq->reader, log->id, VIEW_BASIC, &row);
    if (err != OK)
        return resource_unread(rq, err);
    if (log->attempt > row.attempt)
        return answer_no_attempt(rq, &row);
    if (!await_may_follow(rq))
        return NEXT_ANSWER;
    settle_start(rq, log);
    answer_header(rq, "Cache-Control", "no-store");
    answer_header(rq, "X-Accel-Buffering", "no");
    rq->answer.content_type = log->events ? events_type : text_type;
    rq->answer.pull = pull_new;
    return NEXT_ANSWER;
}

enum next logs_get(struct request *rq)
{
    static const char *const known[] = {"attempt", "follow", "offset", NULL};
    static const char *const truths[] = {"false", "true", NULL};
    struct faults faults = {0};
    struct log_state *log = xcalloc(1, sizeof *log);
    rq->state = log;
    rq->release = log_state_free;
    log->rq = rq;
    if (!resource_id(rq, &log->id))
        return NEXT_ANSWER;
    parameters_check(rq, known, NULL, &faults);
    log->attempt = (int)parameters_int(rq, "attempt", 1, INT32_MAX, 0, &faults);
    log->offset = parameters_int(rq, "offset", 0, INT64_MAX, 0, &faults);
    bool followed = parameters_word(rq, "follow", truths, 0, &faults) == 1;
    if (faults.total)
        return answer_bad_query(rq, &faults);
    log->events = gate_accepts(request_header(rq, "Accept"), events_type);
    answer_header(rq, "Vary", "Accept");
    if (followed || log->events)
        return follow(rq, log);
    if (freshness_unchanged(rq, 0))
        return NEXT_ANSWER;
    answer_header(rq, "Accept-Ranges", "bytes");
    rq->work = read_log;
    return NEXT_WORK;
}
