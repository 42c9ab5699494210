#include "server/resources/bulk.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/json.h"
#include "server/http/answer.h"
#include "server/http/problem.h"
#include "server/resources/context.h"
#include "server/resources/resource.h"
#include "server/resources/turn.h"
#include "workers/particulars.h"
#include "workers/submission.h"

#include <stdlib.h>

enum {
    BATCH_LINES = 1000,
    BATCH_BYTES = 512 * 1024,
    BATCHES_MAX = 2,
    PULL_BYTES = 32768,
    PROBLEM_BYTES = 1 << 20
};

/* One line's answer. */
struct answer_line {
    int64_t id;
    const char *type; /* of the problem, static; NULL: it was accepted */
    char *problem;    /* owned JSON; NULL: there were too many */
    char *unique;     /* owned JSON; NULL: it met nobody in its unique place */
    int status;
};

struct batch {
    struct op_submit op;
    struct submission items[BATCH_LINES];
    int index[BATCH_LINES]; /* of the answer */
    int count;
    struct buf text;  /* the lines; the items point into it */
    struct buf *keys; /* of items whose key has escapes; NULL: none has */
    bool under_way;
    atomic_bool back;
};

struct bulk {
    struct request *rq;
    struct turn parent; /* whose children they are; id 0: they are a client's */
    struct buf text;    /* of the batch that is being filled: whole lines and the start of one */
    size_t last_line;   /* where the last line in it begins */
    int lines;          /* whole ones in it */
    int64_t bytes;      /* of the body that were taken */
    bool skipping;      /* the line is too long: what comes up to its end is dropped */
    bool over;          /* past the limit of lines: nothing more is read */
    struct batch *batches[BATCHES_MAX];
    struct answer_line *answers;
    int count, cap;
    int rendered;
    size_t problem_bytes; /* of all answers, */
    size_t unique_bytes;  /* and of these */
    struct buf scratch;
};

static void batch_release_lines(struct batch *batch)
{
    for (int i = 0; i < batch->count; i++)
        submission_release(&batch->items[i]);
    for (int i = 0; batch->keys && i < batch->count; i++)
        buf_release(&batch->keys[i]);
    for (int i = 0; i < batch->count; i++)
        submission_release(&batch->items[i]);
    free(batch->keys);
    batch->keys = NULL;
    buf_release(&batch->text);
    batch->count = 0;
}

static void bulk_free(void *state)
{
    struct bulk *bulk = state;
    for (int i = 0; i < BATCHES_MAX; i++) {
        if (bulk->batches[i])
            batch_release_lines(bulk->batches[i]);
        free(bulk->batches[i]);
    }
    for (int i = 0; i < bulk->count; i++)
        free(bulk->answers[i].problem);
    for (int i = 0; i < bulk->count; i++)
        free(bulk->answers[i].unique);
    free(bulk->answers);
    buf_release(&bulk->text);
    buf_release(&bulk->scratch);
    free(bulk);
}

/* Is a batch still on its way? */
static bool bulk_busy(const struct request *rq)
{
    const struct bulk *bulk = rq->state;
    for (int i = 0; i < BATCHES_MAX; i++)
        if (bulk->batches[i] && bulk->batches[i]->under_way && !atomic_load(&bulk->batches[i]->back))
            return true;
    return false;
}

/* --- answers ---------------------------------------------------------------------- */

static struct answer_line *add_answer(struct bulk *bulk)
{
    if (bulk->count == bulk->cap) {
        bulk->cap = bulk->cap ? bulk->cap * 2 : 256;
        bulk->answers = xrealloc(bulk->answers, (size_t)bulk->cap * sizeof *bulk->answers);
    }
    struct answer_line *line = &bulk->answers[bulk->count++];
    *line = (struct answer_line){0};
    return line;
}

/* The first ones say all that is wrong. A body of nothing but faults must not
 * cost many times its size: the others are told while they are sent. */
static void refuse(struct bulk *bulk, struct answer_line *line, int status, const char *type, const char *detail,
                   const struct faults *faults)
{
    struct buf problem = {0};
    line->status = status;
    line->type = type;
    if (bulk->problem_bytes >= PROBLEM_BYTES)
        return;
    problem_add(&problem, status, type, detail, faults, (struct span){NULL, 0});
    bulk->problem_bytes += problem.len;
    buf_shrink(&problem);
    line->problem = buf_take(&problem);
}

static void add_problem(struct buf *out, const struct answer_line *line)
{
    if (line->problem)
        json_add_line(out, span_of(line->problem));
    else
        problem_add(out, line->status, line->type, "so many lines are refused that this one's faults are not kept",
                    NULL, (struct span){NULL, 0});
}

/* Whom it met in its unique place. Of many long ones it is only said that they differ. */
static void note_first(struct bulk *bulk, struct answer_line *line, const struct submission *s)
{
    struct buf unique = {0};
    if (!submission_met_first(s))
        return;
    if (bulk->unique_bytes < PROBLEM_BYTES)
        submission_add_unique(&unique, bulk->rq->config->registry, s);
    else
        buf_adds(&unique, s->particulars->first.replaced
                              ? "{\"returned\":false,\"replaced\":true,\"differs\":[\"\"]}"
                              : "{\"returned\":true,\"replaced\":false,\"differs\":[\"\"]}");
    bulk->unique_bytes += unique.len;
    buf_shrink(&unique);
    line->unique = buf_take(&unique);
}

/* Takes in the batches that came back. */
static void collect(struct bulk *bulk)
{
    for (int b = 0; b < BATCHES_MAX; b++) {
        struct batch *batch = bulk->batches[b];
        if (!batch || !batch->under_way || !atomic_load(&batch->back))
            continue;
        for (int i = 0; i < batch->count; i++) {
            struct submission *s = &batch->items[i];
            struct answer_line *line = &bulk->answers[batch->index[i]];
            if (batch->op.op.err == OK && s->err == OK) {
                line->id = s->id;
                line->status = s->replayed ? 200 : 201;
                note_first(bulk, line, s);
            } else {
                struct refusal refusal = submission_refusal(s, batch->op.op.err);
                struct buf detail = {0};
                submission_add_detail(&detail, s, &refusal);
                refuse(bulk, line, refusal.status, refusal.type, buf_cstr(&detail), NULL);
                buf_release(&detail);
            }
        }
        batch_release_lines(batch);
        batch->under_way = false;
    }
}

/* --- a batch ----------------------------------------------------------------------- */

static struct batch *free_batch(struct bulk *bulk)
{
    for (int b = 0; b < BATCHES_MAX; b++) {
        if (!bulk->batches[b])
            bulk->batches[b] = xcalloc(1, sizeof *bulk->batches[b]);
        if (!bulk->batches[b]->under_way)
            return bulk->batches[b];
    }
    return NULL;
}

static void batch_done(struct op *op)
{
    struct batch *batch = (struct batch *)op;
    request_wake_marking(op->owner, &batch->back);
}

/* A callback, and a key or a step that had escapes, stands in scratch: it must outlive the line. */
static void own_key(struct batch *batch, const struct submission *s, struct buf *scratch)
{
    if (!scratch->data || (s->key.p != scratch->data && s->step.p != scratch->data && !s->callback.p))
        return;
    if (!batch->keys)
        batch->keys = xcalloc(BATCH_LINES, sizeof *batch->keys);
    batch->keys[batch->count] = *scratch;
    *scratch = (struct buf){0};
}

/* Does another object begin where the first should have ended? */
static bool is_several(struct span text, size_t at)
{
    size_t before = at;
    while (before > 0 && (text.p[before - 1] == ' ' || text.p[before - 1] == '\t'))
        before--;
    return at < text.len && text.p[at] == '{' && before > 0 && text.p[before - 1] == '}';
}

static void take_line(struct bulk *bulk, struct batch *batch, struct span text, struct submission_context *context)
{
    static struct buf key;
    struct json_fault fault;
    struct faults faults = {0};
    struct answer_line *line = add_answer(bulk);
    struct submission *s = &batch->items[batch->count];
    if ((int64_t)text.len > bulk->rq->config->limits.body_bytes) {
        refuse(bulk, line, 413, "payload-too-large", "the line is longer than a body may be", NULL);
    } else if (json_check(text.p, text.len, JSON_DEPTH_MAX, &fault) != OK) {
        struct buf detail = {0};
        buf_addf(&detail, "column %d: %s", json_place(text, fault.offset).column, fault.detail);
        if (bulk->count == 1 && is_several(text, fault.offset))
            buf_addl(&detail,
                     "; each submission is a line (with curl: --data-binary, as -d takes the line breaks out)");
        refuse(bulk, line, 400, "invalid-json", buf_cstr(&detail), NULL);
        buf_release(&detail);
    } else if (submission_read(context, text, s, &key, &faults) != OK) {
        struct buf detail = {0};
        problem_add_detail(&detail, &faults);
        refuse(bulk, line, 422, "invalid-request", buf_cstr(&detail), &faults);
        buf_release(&detail);
    } else if (!submission_has_task(s)) {
        struct refusal refusal = submission_refusal(s, OK);
        submission_release(s);
        refuse(bulk, line, refusal.status, refusal.type, refusal.detail, NULL);
        submission_release(s);
    } else {
        own_key(batch, s, &key);
        batch->index[batch->count++] = bulk->count - 1;
    }
    faults_release(&faults);
}

static bool is_blank(struct span line)
{
    for (size_t i = 0; i < line.len; i++)
        if (line.p[i] != ' ' && line.p[i] != '\t' && line.p[i] != '\r')
            return false;
    return true;
}

static void take_lines(struct bulk *bulk, struct batch *batch)
{
    struct request *rq = bulk->rq;
    struct submission_context context = {
        .registry = rq->config->registry,
        .owner = rq->token ? span_of(rq->token->name) : SPAN(""),
        .parent = bulk->parent.id,
        .parent_lease = bulk->parent.lease,
        .now_ms = clock_now_ms(),
        .scratch = &bulk->scratch,
    };
    const char *p = batch->text.data, *end = p + batch->text.len;
    while (p < end && !bulk->over) {
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        struct span line = {p, (size_t)((newline ? newline : end) - p)};
        p = newline ? newline + 1 : end;
        if (is_blank(line))
            continue;
        if (bulk->count >= rq->config->limits.bulk_lines) {
            bulk->over = true;
            refuse(bulk, add_answer(bulk), 413, "too-many-lines",
                   "the limit of lines is reached: this one and those after it were not read", NULL);
            break;
        }
        take_line(bulk, batch, line, &context);
    }
}

/* Gives the whole lines that are there to the committer; `all`: and the last
 * one, which has no line break. */
static void send_batch(struct bulk *bulk, struct batch *batch, bool all)
{
    size_t whole = all ? bulk->text.len : bulk->last_line;
    struct buf rest = {0};
    buf_add(&rest, bulk->text.data + whole, bulk->text.len - whole);
    batch->text = bulk->text;
    batch->text.len = whole;
    bulk->text = rest;
    bulk->last_line = 0;
    bulk->lines = 0;
    batch->count = 0;
    take_lines(bulk, batch);
    if (!batch->count) {
        batch_release_lines(batch);
        return;
    }
    op_submit_init(&batch->op, batch->items, batch->count);
    batch->op.op.owner = bulk->rq;
    batch->op.op.done = batch_done;
    atomic_store(&batch->back, false);
    batch->under_way = true;
    store_queue(bulk->rq->context->store, &batch->op.op);
}

/* --- the body ------------------------------------------------------------------------- */

/* Appends up to the end of a line or of the data. Of a line longer than a body
 * may be, just enough is taken for take_line() to see it. */
static size_t take_piece(struct bulk *bulk, const char *data, size_t size)
{
    const char *newline = memchr(data, '\n', size);
    size_t n = newline ? (size_t)(newline - data) + 1 : size;
    size_t most = (size_t)bulk->rq->config->limits.body_bytes + 1;
    if (!bulk->skipping) {
        buf_add(&bulk->text, data, n - (newline != NULL));
        if (bulk->text.len - bulk->last_line > most) {
            bulk->text.len = bulk->last_line + most;
            bulk->skipping = true;
        }
    }
    if (newline) {
        buf_addc(&bulk->text, '\n');
        bulk->last_line = bulk->text.len;
        bulk->lines++;
        bulk->skipping = false;
    }
    return n;
}

/* Of a body in chunks nobody knows how long it will be. */
static void check_size(struct bulk *bulk, size_t more)
{
    if (bulk->over || bulk->bytes + (int64_t)more <= bulk->rq->config->limits.bulk_body_bytes)
        return;
    bulk->over = true;
    refuse(bulk, add_answer(bulk), 413, "payload-too-large",
           "the limit of bytes is reached: this line and those after it were not read", NULL);
}

static size_t bulk_feed(struct request *rq, const char *data, size_t size)
{
    struct bulk *bulk = rq->state;
    size_t taken = 0;
    collect(bulk);
    check_size(bulk, size);
    while (taken < size) {
        if (bulk->over)
            return size;
        if (bulk->lines >= BATCH_LINES || (bulk->lines && bulk->text.len >= BATCH_BYTES)) {
            struct batch *batch = free_batch(bulk);
            if (!batch)
                return taken;
            send_batch(bulk, batch, false);
        }
        size_t piece = take_piece(bulk, data + taken, size - taken);
        bulk->bytes += (int64_t)piece;
        taken += piece;
    }
    return size;
}

/* --- the end ---------------------------------------------------------------------------- */

static enum pull pull_lines(struct request *rq, struct buf *out)
{
    struct bulk *bulk = rq->state;
    while (bulk->rendered < bulk->count && out->len < PULL_BYTES) {
        const struct answer_line *line = &bulk->answers[bulk->rendered];
        buf_addl(out, "{\"index\":");
        buf_add_int(out, bulk->rendered++);
        buf_addl(out, ",\"status\":");
        buf_add_int(out, line->status);
        if (line->type) {
            buf_addl(out, ",\"problem\":");
            add_problem(out, line);
        } else {
            buf_addl(out, ",\"id\":\"");
            id_add(out, line->id);
            buf_addc(out, '"');
            if (line->unique) {
                buf_addl(out, ",\"unique\":");
                buf_adds(out, line->unique);
            }
        }
        buf_addl(out, "}\n");
    }
    return bulk->rendered < bulk->count ? PULL_MORE : PULL_END;
}

static enum next bulk_end(struct request *rq)
{
    struct bulk *bulk = rq->state;
    collect(bulk);
    if (bulk->text.len && !bulk->over) {
        struct batch *batch = free_batch(bulk);
        if (batch)
            send_batch(bulk, batch, true);
    }
    if (bulk_busy(rq) || (bulk->text.len && !bulk->over)) {
        rq->resume = bulk_end;
        return NEXT_PARK;
    }
    collect(bulk);
    if (!bulk->count)
        return answer_problem(rq, 400, "invalid-request", "the body has no submission; each line is one");
    rq->answer.status = 200;
    rq->answer.content_type = "application/x-ndjson";
    rq->answer.pull = pull_lines;
    return NEXT_ANSWER;
}

/* --- the beginning --------------------------------------------------------------------- */

static bool has_no_key(struct request *rq)
{
    if (!request_key(rq).p)
        return true;
    answer_problem(rq, 400, "invalid-header",
                   "Idempotency-Key does not fit many submissions; give each line its own \"key\"");
    return false;
}

static struct bulk *begin(struct request *rq)
{
    struct bulk *bulk = xcalloc(1, sizeof *bulk);
    bulk->rq = rq;
    rq->state = bulk;
    rq->release = bulk_free;
    return bulk;
}

static bool bulk_open(struct request *rq)
{
    if (!has_no_key(rq) || resource_is_closing(rq))
        return false;
    begin(rq);
    return true;
}

static bool bulk_open_children(struct request *rq)
{
    if (!has_no_key(rq))
        return false;
    struct turn parent = turn_leave(rq);
    begin(rq)->parent = parent;
    return true;
}

const struct body_sink bulk_sink = {bulk_open, bulk_feed, bulk_end, bulk_busy};
const struct body_sink bulk_children_sink = {bulk_open_children, bulk_feed, bulk_end, bulk_busy};
