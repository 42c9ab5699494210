#include "workers/composed.h"

#include "base/id.h"
#include "base/json.h"
#include "store/group.h"
#include "store/hold.h"
#include "store/read.h"
#include "workers/compose.h"

#include <stdio.h>
#include <stdlib.h>

/* Results that were read stay, as one is often looked into more than once; all go when there are more
 * bytes of them than this. */
enum { RESULTS_BYTES = 12 << 20 };

struct result {
    bool read, succeeded;
    struct buf json;
};

struct composing {
    struct reader *reader;
    int64_t id, group;
    int64_t *after;
    int after_count;
    struct result *results; /* of `after` */
    size_t bytes;
    struct faults faults;
    enum err err; /* of reading */
};

/* --- whose result --------------------------------------------------------------------------- */

static int index_of(const struct composing *c, int64_t id)
{
    for (int i = 0; i < c->after_count; i++)
        if (c->after[i] == id)
            return i;
    return -1;
}

/* The one in whose chain it stands, if it comes after others, too. */
static int link_before(struct composing *c)
{
    int found = -1;
    for (int i = 0; i < c->after_count && c->group && c->err == OK; i++) {
        struct invocation row;
        enum err err = reader_get(c->reader, c->after[i], VIEW_BASIC, &row);
        if (err == OK && row.group == c->group)
            found = found == -1 ? i : -2;
        else if (err_is_fault(err))
            c->err = err;
    }
    return found;
}

static int named(struct composing *c, struct span name)
{
    int64_t id = 0;
    enum err err = c->group ? reader_group_named(c->reader, c->group, name, &id) : ERR_NOT_FOUND;
    if (err_is_fault(err))
        c->err = err;
    return err == OK || (err == ERR_NOT_FOUND && id_parse(name, &id)) ? index_of(c, id) : -1;
}

static int find(struct composing *c, const struct reference *reference)
{
    if (reference->whose.p)
        return named(c, reference->whose);
    return c->after_count == 1 ? 0 : link_before(c);
}

/* --- what it is -------------------------------------------------------------------------------- */

static void forget_results(struct composing *c)
{
    for (int i = 0; i < c->after_count; i++) {
        buf_release(&c->results[i].json);
        c->results[i].read = false;
    }
    c->bytes = 0;
}

static bool read_result(struct composing *c, int index, struct reason *why)
{
    struct result *result = &c->results[index];
    struct invocation row;
    enum err err = reader_get(c->reader, c->after[index], VIEW_FULL, &row);
    if (err != OK) {
        char text[ID_TEXT_LEN + 1] = "";
        id_format(c->after[index], text);
        reason_set(why, "%s, whose result it is to have, is not there any more", text);
        c->err = err_is_fault(err) ? err : c->err;
        return false;
    }
    if (c->bytes + row.result.len > RESULTS_BYTES)
        forget_results(c);
    result->read = true;
    result->succeeded = row.status == STATUS_SUCCEEDED;
    buf_add_span(&result->json, row.result.p ? row.result : SPAN("null"));
    c->bytes += result->json.len;
    return true;
}

/* One that did not succeed has none: null, wherever the path would lead. */
static bool give_result(void *context, const struct reference *reference, struct span *value, struct reason *why)
{
    struct composing *c = context;
    int index = c->err == OK ? find(c, reference) : -1;
    *value = (struct span){NULL, 0};
    if (index < 0) {
        struct span whose = reference->whose.p ? reference->whose : SPAN("one alone");
        reason_set(why, "it does not come after %.*s", (int)whose.len, whose.p);
        return false;
    }
    if (!c->results[index].read && !read_result(c, index, why))
        return false;
    if (c->results[index].succeeded)
        *value = buf_span(&c->results[index].json);
    return true;
}

/* --- together ---------------------------------------------------------------------------------- */

struct parts {
    struct buf own, shared;
};

static struct span or_absent(const struct buf *json)
{
    return json->len ? buf_span(json) : (struct span){NULL, 0};
}

static enum err substitute(struct composing *c, struct buf *json, const char *pointer)
{
    struct buf made = {0};
    if (!json->len)
        return OK;
    enum err err = compose_substitute(buf_span(json), pointer, give_result, c, &made, &c->faults);
    buf_release(json);
    *json = made;
    return c->err != OK ? c->err : err;
}

/* Of what is shared, what it does not cover itself. */
static void leave_uncovered(const struct params *params, struct parts *parts)
{
    struct buf uncovered = {0};
    if (!parts->shared.len)
        return;
    compose_add_uncovered(&uncovered, params, buf_span(&parts->shared), or_absent(&parts->own));
    buf_release(&parts->shared);
    parts->shared = uncovered;
}

/* What comes after nobody refers to nobody: a `$result` in it is data. */
static enum err replace_references(struct composing *c, const struct params *params, struct parts *parts)
{
    if (!c->after_count)
        return OK;
    leave_uncovered(params, parts);
    enum err own = substitute(c, &parts->own, "/args");
    enum err shared = err_is_fault(own) ? OK : substitute(c, &parts->shared, "/common_args");
    return own != OK ? own : shared;
}

static enum err compose(struct composing *c, const struct params *params, struct parts *parts, struct buf *out)
{
    enum err err = replace_references(c, params, parts);
    if (err == OK)
        err = compose_bind(params, or_absent(&parts->shared), or_absent(&parts->own), out, &c->faults);
    return err;
}

static enum err read_after(struct composing *c)
{
    c->after = xcalloc(AFTER_MAX + 1, sizeof *c->after);
    enum err err = reader_after(c->reader, c->id, c->after, &c->after_count);
    c->results = xcalloc((size_t)c->after_count + 1, sizeof *c->results);
    return err;
}

/* All that is wrong, as far as there is room. */
static void say(struct reason *why, const struct faults *faults)
{
    struct buf text = {0};
    for (int i = 0; i < faults->count && text.len < sizeof why->text; i++)
        buf_addf(&text, "%s%s: %s", i ? "; " : "", faults->items[i].pointer, faults->items[i].detail);
    reason_set(why, "%s", text.len ? buf_cstr(&text) : "they do not fit the parameters");
    buf_release(&text);
}

enum err composed_bind(const struct params *params, struct span args, struct buf *out, struct reason *why)
{
    struct faults faults = {0};
    enum err err = compose_bind(params, (struct span){NULL, 0}, args, out, &faults);
    if (err != OK)
        say(why, &faults);
    faults_release(&faults);
    return err;
}

/* Of one that is composed. */
static enum err read_beside(struct composing *c, struct parts *parts)
{
    if (reader_is_brief(c->reader))
        return ERR_LIMIT;
    enum err err = read_after(c);
    if (err == OK && c->group)
        err = reader_group_args(c->reader, c->group, &parts->shared);
    return err;
}

static void composing_release(struct composing *c)
{
    for (int i = 0; c->results && i < c->after_count; i++)
        buf_release(&c->results[i].json);
    free(c->results);
    free(c->after);
    faults_release(&c->faults);
}

enum err composed_read(struct reader *reader, int64_t id, const struct params *params, struct buf *out,
                       struct reason *why)
{
    struct composing c = {.reader = reader, .id = id};
    struct parts parts = {0};
    struct invocation row;
    size_t start = out->len;
    enum err err = reader_get(reader, id, VIEW_FULL, &row);
    if (err == OK) {
        c.group = row.group;
        buf_add_span(&parts.own, row.args);
    }
    if (err == OK && row.composed)
        err = read_beside(&c, &parts);
    if (err == OK)
        err = compose(&c, params, &parts, out);
    if (err != OK)
        out->len = start;
    if (c.faults.total && !err_is_fault(err)) {
        say(why, &c.faults);
        err = ERR_INVALID;
    }
    composing_release(&c);
    buf_release(&parts.own);
    buf_release(&parts.shared);
    return err;
}
