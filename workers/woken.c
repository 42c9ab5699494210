#include "workers/woken.h"

#include "base/id.h"
#include "base/json.h"
#include "store/message.h"
#include "store/group.h"
#include "store/read.h"
#include "store/suspend.h"

#include <stdlib.h>

static const char *const words[] = {
    [WOKEN_BY_IDS] = "ids", [WOKEN_BY_INBOX] = "inbox", [WOKEN_BY_UNTIL] = "until"};

/* --- results -------------------------------------------------------------------------- */

static void add_or_null(struct buf *out, struct span json)
{
    buf_add_span(out, json.p ? json : SPAN("null"));
}

/* One that is gone by now is said to be: it was not kept for who waits (kept are
 * those that are waited for). */
enum err woken_add_result(struct reader *reader, int64_t id, bool whole, struct buf *out)
{
    struct invocation row;
    enum err err = reader_get_awaited(reader, id, whole ? VIEW_FULL : VIEW_BASIC, &row);
    if (err == OK || err == ERR_NOT_FOUND) {
        buf_addl(out, "{\"id\":\"");
        id_add(out, id);
        buf_addl(out, "\",\"step\":");
        if (err == OK && row.step.p)
            json_add_string(out, row.step);
        else
            buf_addl(out, "null");
        buf_addf(out, ",\"status\":%s%s%s,\"result\":", err == OK ? "\"" : "",
                 err == OK ? status_name(row.status) : "null", err == OK ? "\"" : "");
        add_or_null(out, err == OK && whole ? row.result : (struct span){NULL, 0});
        buf_addl(out, ",\"error\":");
        add_or_null(out, err == OK && whole ? row.error : (struct span){NULL, 0});
        buf_addc(out, '}');
    }
    return err;
}

static enum err add_listed(struct reader *reader, const int64_t *ids, int count, bool whole, size_t limit,
                           struct buf *out)
{
    enum err err = OK;
    size_t start = out->len;
    for (int i = 0; i < count && err == OK; i++) {
        if (i)
            buf_addc(out, ',');
        err = woken_add_result(reader, ids[i], whole, out);
        if (err == ERR_NOT_FOUND)
            err = OK;
        if (err == OK && whole && limit && out->len - start > limit)
            return ERR_LIMIT;
    }
    return err;
}

enum err woken_add_results(struct reader *reader, const int64_t *ids, int count, size_t limit, struct buf *out,
                           bool *left_out)
{
    size_t start = out->len;
    enum err err = add_listed(reader, ids, count, true, limit, out);
    *left_out = err == ERR_LIMIT;
    if (!*left_out)
        return err;
    out->len = start;
    return add_listed(reader, ids, count, false, 0, out);
}

/* Ids as text, with commas between. */
static int64_t *read_ids(struct span targets, int *count)
{
    int64_t *ids = xcalloc(targets.len / (ID_TEXT_LEN + 1) + 1, sizeof *ids);
    *count = 0;
    for (size_t at = 0; at < targets.len; at += ID_TEXT_LEN + 1)
        if (id_parse((struct span){targets.p + at, ID_TEXT_LEN}, &ids[*count]))
            ++*count;
    return ids;
}

/* --- messages ------------------------------------------------------------------------- */

struct adding {
    struct buf *out;
    int64_t up_to; /* 0: all */
    int64_t last;
    size_t bytes;
};

static bool add_message(void *context, const struct message *message)
{
    struct adding *adding = context;
    if (adding->up_to ? message->seq > adding->up_to : adding->bytes >= WOKEN_MESSAGES_BYTES)
        return false;
    adding->bytes += message->body.len;
    buf_adds(adding->out, adding->last ? ",{\"seq\":" : "{\"seq\":");
    buf_add_int(adding->out, message->seq);
    buf_addl(adding->out, ",\"body\":");
    buf_add_span(adding->out, message->body);
    buf_addc(adding->out, '}');
    adding->last = message->seq;
    return true;
}

/* --- together ------------------------------------------------------------------------- */

static enum err add_all(struct reader *reader, int64_t id, const struct suspended *s, struct span targets,
                        enum woken_of of, size_t limit, struct woken *out)
{
    struct adding messages = {.out = &out->json, .up_to = of == WOKEN_ELSEWHERE ? s->given : 0};
    buf_addf(&out->json, "{\"by\":\"%s\",\"results\":[", words[s->by]);
    int count;
    bool left_out;
    int64_t *ids = read_ids(targets, &count);
    enum err err = woken_add_results(reader, ids, count, limit, &out->json, &left_out);
    free(ids);
    buf_adds(&out->json, left_out ? "],\"results_left_out\":true,\"messages\":[" : "],\"messages\":[");
    if (err == OK && (of == WOKEN_HERE || s->given))
        err = reader_inbox(reader, id, add_message, &messages);
    buf_addl(&out->json, "]}");
    out->read = messages.last;
    return err;
}

enum err woken_read(struct reader *reader, int64_t id, enum woken_of of, size_t limit, struct woken *out)
{
    struct suspended s;
    struct buf targets = {0};
    *out = (struct woken){0};
    enum err err = reader_suspended(reader, id, &s);
    if (err == ERR_NOT_FOUND)
        return OK;
    if (err == OK) {
        buf_add_span(&targets, s.targets);
        err = reader_state(reader, id, &out->state);
        err = err == ERR_NOT_FOUND ? OK : err;
    }
    if (err == OK && s.by != WOKEN_BY_NOTHING)
        err = add_all(reader, id, &s, buf_span(&targets), of, limit, out);
    buf_release(&targets);
    if (err != OK)
        woken_release(out);
    return err;
}

void woken_release(struct woken *woken)
{
    buf_release(&woken->state);
    buf_release(&woken->json);
    *woken = (struct woken){0};
}
