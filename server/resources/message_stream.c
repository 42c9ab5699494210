/* What is there is found in steps on a reader thread; no read transaction stays
 * open between two of them, and nothing is read before what was found is sent.
 *
 * Two things are looked at by turns: the messages after the last one that was sent,
 * and the *unended*: those whose end is still to be told. Of one invocation that is
 * itself; of a tree its root, and each child of an unended one; of all those who
 * have sent a message here. An unended one is looked at in three steps, and their
 * order is what nothing is missed by: is it final? what further children has it (a
 * final one gets none)? has it messages that were not sent yet? If so, the last of
 * these brings it back. Else its end is told.
 *
 * When both have nothing more, and nothing was announced since they were begun, the
 * stream waits for an announcement. Before a tree is over it is walked once more:
 * one that was told as final may have been retried.
 *
 * After a restart of the stream the ends of all that are older than its first
 * message come again: of a tree those of the whole, of all the senders' that ended
 * MARGIN_MS before that message at the earliest. */
#include "server/resources/message_stream.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/json.h"
#include "server/http/answer.h"
#include "server/resources/await.h"
#include "server/resources/context.h"
#include "server/resources/unended.h"
#include "server/resources/view.h"

#include <stdlib.h>

enum {
    PIECE_BYTES = 64 << 10,
    PAGE_LIMIT = 1000,
    STEP_US = 50000,
    CLOCK_EVERY = 64,
    REST_US = 20000,           /* between two looks, where everybody's messages and ends may wake it, */
    REST_FACTOR = 10,          /* and so many times what the last one took, */
    REST_MAX_US = 5000000,     /* but no longer */
    COMMENT_US = 10 * 1000000, /* keeps proxies from hanging up */
    MARGIN_MS = 600000,        /* times are no order: clocks are set, ends are kept while the disk is full */
};

struct message_stream {
    struct message_scope scope; /* .after: the last message that was looked at */
    struct kin kin;
    struct unended unended;
    struct buf piece;    /* was found and is to be sent */
    bool walks_senders;  /* of all: before anything else, */
    int64_t sender;      /* the last one that was looked at, */
    int64_t ended_since; /* for those that ended since then */
    bool dirty;          /* the unended are to be looked at once more */
    bool caught_up;      /* there are no further messages */
    bool verified;       /* of a tree: it is walked the second time, and all was final so far */
    bool begun;          /* a look was, and has not come to its end */
    bool listens;
    bool over;
    int64_t pass_us, pass_due_us; /* what looking at the unended took, and when it may be done again */
    int64_t look_us, rest_until_us;
    struct listener listener;
};

static void stream_free(void *state)
{
    struct message_stream *stream = state;
    topics_leave(&stream->listener);
    unended_release(&stream->unended);
    buf_release(&stream->piece);
    free(stream);
}

static bool is_full(const struct message_stream *stream)
{
    return stream->piece.len >= PIECE_BYTES;
}

/* --- ends ------------------------------------------------------------------------ */

static void begin_event(struct buf *out, const char *name, int64_t id)
{
    buf_addf(out, "event: %s\ndata: {\"invocation\":\"", name);
    id_add(out, id);
}

static void tell_end(struct buf *out, int64_t id, const struct invocation *row)
{
    if (row && row->status == STATUS_FAILED && row->error.p) {
        begin_event(out, "error", id);
        buf_addl(out, "\",\"error\":");
        json_add_line(out, row->error);
        buf_addl(out, "}\n\n");
    }
    begin_event(out, "end", id);
    buf_addf(out, "\",\"status\":\"%s\"}\n\n", row ? status_name(row->status) : "deleted");
}

static enum err end_of(struct request *rq, const struct unended_item *item)
{
    struct message_stream *stream = rq->state;
    struct invocation row;
    enum err err = reader_get_awaited(rq->reader, item->id, VIEW_BASIC, &row);
    if (err == OK && status_is_final(row.status))
        tell_end(&stream->piece, item->id, &row);
    else if (err == ERR_NOT_FOUND)
        tell_end(&stream->piece, item->id, NULL);
    else if (err == OK) /* it was retried since: its next end counts */
        unended_add(&stream->unended, *item);
    return err == ERR_NOT_FOUND ? OK : err;
}

/* --- the unended ------------------------------------------------------------------ */

/* Its children after the last one that is known; *all: there are no others. Where
 * there is no room they are for a later look, which somebody's end brings. */
static enum err add_children(struct request *rq, int index, bool silent, int64_t until_us, bool *all)
{
    struct message_stream *stream = rq->state;
    struct unended *unended = &stream->unended;
    *all = unended->items[index].last_child == UNENDED_CHILDLESS;
    for (int n = 1; !*all; n++) {
        int64_t child;
        const struct unended_item *parent = &unended->items[index];
        enum err err = reader_child_after(rq->reader, parent->id, parent->last_child, &child);
        *all = err == OK && !child;
        if (err != OK || *all || !unended_has_room(unended))
            return err;
        unended->items[index].last_child = child;
        unended_add(unended, (struct unended_item){.id = child, .silent = silent}); /* stands behind its parent */
        stream->dirty = n % CLOCK_EVERY == 0 && clock_mono_us() > until_us;
        if (stream->dirty)
            return OK;
    }
    return OK;
}

/* It is final, or gone. */
static enum err settle(struct request *rq, int index)
{
    struct message_stream *stream = rq->state;
    struct unended_item item = stream->unended.items[index];
    bool more;
    enum err err = reader_has_message(rq->reader, item.id, stream->scope.kinds, stream->scope.after, &more);
    if (err != OK)
        return err;
    unended_remove(&stream->unended, index);
    stream->caught_up &= !more;
    return more || item.silent ? OK : end_of(rq, &item);
}

static enum err look_at(struct request *rq, int index, int64_t until_us)
{
    struct message_stream *stream = rq->state;
    struct unended_item *item = &stream->unended.items[index];
    enum status status = 0;
    bool all, silent = item->silent;
    enum err err = reader_root_status(rq->reader, item->id, &status);
    if (err != OK && err != ERR_NOT_FOUND)
        return err;
    bool ended = err == ERR_NOT_FOUND || status_is_final(status);
    if (!ended && silent)
        item->silent = stream->verified = false;
    err = add_children(rq, index, silent, until_us, &all);
    return err == OK && ended && all ? settle(rq, index) : err;
}

/* One pass over all of them, as far as there is time and room. */
static enum err look_at_unended(struct request *rq, int64_t until_us)
{
    struct message_stream *stream = rq->state;
    struct unended *unended = &stream->unended;
    enum err err = OK;
    int64_t began_us = clock_mono_us();
    if (!unended->at) {
        stream->dirty = false;
        stream->pass_us = 0;
    }
    for (int n = 1; unended->at < unended->count && err == OK && !is_full(stream); n++) {
        int index = unended->at++;
        if (!unended->items[index].removed)
            err = look_at(rq, index, until_us);
        if (n % CLOCK_EVERY == 0 && clock_mono_us() > until_us)
            break;
    }
    int64_t now_us = clock_mono_us();
    stream->pass_us += now_us - began_us;
    if (unended->at == unended->count) {
        unended_end_pass(unended);
        stream->pass_due_us = now_us + stream->pass_us * REST_FACTOR;
    }
    return err;
}

/* --- messages ------------------------------------------------------------------------ */

static bool add_message(void *context, const struct message *message)
{
    struct message_stream *stream = context;
    if (is_full(stream))
        return false;
    buf_addf(&stream->piece, "event: message\nid: %lld\ndata: ", (long long)message->seq);
    view_message(&stream->piece, message, true);
    buf_addl(&stream->piece, "\n\n");
    unended_add(&stream->unended, (struct unended_item){.id = message->id, .last_child = UNENDED_CHILDLESS});
    stream->dirty = true;
    return true;
}

static enum err read_messages(struct request *rq, int64_t until_us)
{
    struct message_stream *stream = rq->state;
    struct message_query query = message_scope_query(&stream->scope, &stream->kin);
    bool more;
    query.limit = PAGE_LIMIT;
    query.scan_until_us = until_us;
    enum err err = reader_messages(rq->reader, &query, add_message, stream, &more);
    stream->scope.after = query.after_seq;
    stream->caught_up = !more;
    return err;
}

/* --- who has sent before -------------------------------------------------------------- */

/* Those that send after the first message of this stream bring themselves in. */
static enum err look_at_sender(struct request *rq, int64_t id)
{
    struct message_stream *stream = rq->state;
    struct invocation row;
    bool of_kind, more = false;
    enum err err = reader_has_message(rq->reader, id, stream->scope.kinds, 0, &of_kind);
    if (err == OK && of_kind)
        err = reader_has_message(rq->reader, id, stream->scope.kinds, stream->scope.after, &more);
    if (err != OK || !of_kind || more)
        return err;
    err = reader_get(rq->reader, id, VIEW_BASIC, &row);
    if (err == OK && !status_is_final(row.status))
        unended_add(&stream->unended, (struct unended_item){.id = id, .last_child = UNENDED_CHILDLESS});
    else if (err == OK && row.finished_at >= stream->ended_since)
        tell_end(&stream->piece, id, &row);
    return err == ERR_NOT_FOUND ? OK : err;
}

static enum err walk_senders(struct request *rq, int64_t until_us)
{
    struct message_stream *stream = rq->state;
    enum err err = OK;
    for (int n = 1; stream->walks_senders && err == OK && !is_full(stream); n++) {
        int64_t id;
        err = reader_next_sender(rq->reader, stream->sender, &id);
        stream->walks_senders = err == OK && id;
        if (!stream->walks_senders)
            break;
        stream->sender = id;
        err = look_at_sender(rq, id);
        if (n % CLOCK_EVERY == 0 && clock_mono_us() > until_us)
            break;
    }
    return err;
}

static enum err begin_walk(struct request *rq)
{
    struct message_stream *stream = rq->state;
    int64_t at;
    enum err err = reader_message_time(rq->reader, stream->scope.after, &at);
    stream->ended_since = at - MARGIN_MS;
    return err;
}

/* --- a look ---------------------------------------------------------------------------- */

static bool is_of_all(const struct message_stream *stream)
{
    return !stream->scope.id && !stream->scope.root;
}

/* Nothing more is there. True if it is to be looked at once more. */
static bool walk_again(struct message_stream *stream)
{
    if (is_of_all(stream) || stream->unended.count)
        return false;
    stream->over = stream->verified || !stream->scope.root;
    if (stream->over)
        return false;
    unended_add(&stream->unended, (struct unended_item){.id = stream->scope.root, .silent = true});
    stream->verified = stream->dirty = true;
    return true;
}

/* Ends that are found come before messages that are read after them; while there
 * are many messages to come, passes over many unended ones are rare. */
static enum err go_on(struct request *rq, int64_t until_us)
{
    struct message_stream *stream = rq->state;
    enum err err = OK;
    while (err == OK && stream->begun && !is_full(stream) && clock_mono_us() <= until_us) {
        bool is_due = stream->caught_up || clock_mono_us() >= stream->pass_due_us;
        if (stream->walks_senders)
            err = walk_senders(rq, until_us);
        else if (stream->unended.at || (stream->dirty && is_due))
            err = look_at_unended(rq, until_us);
        else if (!stream->caught_up)
            err = read_messages(rq, until_us);
        else
            stream->begun = walk_again(stream);
    }
    return err;
}

/* On a reader thread. */
static void look(struct request *rq)
{
    struct message_stream *stream = rq->state;
    int64_t began_us = clock_mono_us();
    enum err err = go_on(rq, began_us + STEP_US);
    int64_t now_us = clock_mono_us(), rest_us;
    stream->look_us += now_us - began_us;
    rest_us = stream->look_us * REST_FACTOR;
    if (rest_us < REST_US)
        rest_us = stream->scope.id ? 0 : REST_US;
    stream->rest_until_us = now_us + (rest_us < REST_MAX_US ? rest_us : REST_MAX_US);
    if (err != OK)
        rq->answer.pull = NULL; /* it is cut off: who comes again goes on behind the last message */
}

/* Listens first, then reads: what comes in between is announced. */
static enum pull begin_look(struct request *rq)
{
    struct message_stream *stream = rq->state;
    struct topic topic =
        stream->scope.id ? (struct topic){TOPIC_INVOCATION, stream->scope.id} : (struct topic){TOPIC_MESSAGES, 0};
    rq->timed_out = false;
    topics_leave(&stream->listener);
    topics_listen(rq->context->topics, &stream->listener, rq, topic);
    stream->listens = stream->begun = stream->dirty = true;
    stream->caught_up = false;
    stream->look_us = 0;
    return PULL_WORK;
}

static enum pull wait_until(struct request *rq, int64_t at_us)
{
    rq->timed_out = false;
    rq->deadline_us = at_us;
    return PULL_WAIT;
}

static enum pull pull_events(struct request *rq, struct buf *out)
{
    struct message_stream *stream = rq->state;
    int64_t now_us = clock_mono_us();
    rq->work = look;
    if (stream->piece.len) {
        struct buf sent = *out;
        *out = stream->piece;
        stream->piece = sent;
        return PULL_MORE;
    }
    if (rq->closing || rq->gone || stream->over)
        return PULL_END;
    if (stream->begun)
        return PULL_WORK;
    stream->listens = stream->listens && topics_listens(&stream->listener);
    if (!stream->listens)
        return now_us < stream->rest_until_us ? wait_until(rq, stream->rest_until_us) : begin_look(rq);
    if (!rq->timed_out)
        return wait_until(rq, now_us + COMMENT_US);
    rq->timed_out = false;
    buf_addl(out, ":\n\n");
    return PULL_MORE;
}

/* --- its beginning ----------------------------------------------------------------------- */

static void settle_start(struct request *rq, struct message_stream *stream)
{
    int64_t last;
    struct span heard = request_header(rq, "Last-Event-ID");
    if (heard.p && json_int64(heard, &last) && last >= 0)
        stream->scope.after = last;
}

enum next message_stream_begin(struct request *rq, const struct message_scope *scope)
{
    if (!await_may_follow(rq))
        return NEXT_ANSWER;
    struct message_stream *stream = xcalloc(1, sizeof *stream);
    rq->state = stream;
    rq->release = stream_free;
    stream->scope = *scope;
    settle_start(rq, stream);
    stream->walks_senders = is_of_all(stream) && stream->scope.after;
    if (scope->id)
        unended_add(&stream->unended, (struct unended_item){.id = scope->id, .last_child = UNENDED_CHILDLESS});
    if (scope->root)
        unended_add(&stream->unended, (struct unended_item){.id = scope->root});
    if (stream->walks_senders && begin_walk(rq) != OK)
        return answer_fault(rq, ERR_DB);
    answer_header(rq, "Cache-Control", "no-store");
    answer_header(rq, "X-Accel-Buffering", "no");
    rq->answer.status = 200;
    rq->answer.content_type = "text/event-stream";
    rq->answer.pull = pull_events;
    return NEXT_ANSWER;
}
