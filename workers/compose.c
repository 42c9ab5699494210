#include "workers/compose.h"

#include "workers/kinds/kind.h"

#include <stdlib.h>

static const char common_pointer[] = "/common_args";
static const char args_pointer[] = "/args";

static struct span trimmed(struct span json)
{
    return json.p && json.len ? json_trim(json) : (struct span){NULL, 0};
}

/* --- walking ---------------------------------------------------------------------------------- */

struct walk {
    compose_each *each;
    void *context;
    struct faults *faults;
    struct buf pointer, key, name, words;
    int depth, count;
    bool over;
};

static void walk_value(struct walk *w, struct span value);

static void walk_at(struct walk *w, struct span key, struct span value)
{
    size_t len = w->pointer.len;
    pointer_add(&w->pointer, key);
    walk_value(w, value);
    w->pointer.len = len;
}

static void walk_object(struct walk *w, struct span object)
{
    struct json_iter it = json_iter(object);
    struct span key, item;
    while (!w->over && json_member(&it, &key, &item)) {
        if (!reference_maybe(item))
            continue;
        w->key.len = 0;
        json_unescape(key, &w->key);
        if (w->depth == 1) {
            w->name.len = 0;
            buf_add_span(&w->name, buf_span(&w->key));
        }
        walk_at(w, buf_span(&w->key), item);
    }
}

static void walk_array(struct walk *w, struct span array)
{
    struct json_iter it = json_iter(array);
    struct span item;
    for (int i = 0; !w->over && json_element(&it, &item); i++) {
        char digits[16];
        struct buf text = {digits, 0, sizeof digits}; /* an int never makes it grow */
        buf_add_int(&text, i);
        walk_at(w, buf_span(&text), item);
    }
}

static void visit(struct walk *w, struct span value)
{
    struct reference reference;
    w->words.len = 0;
    if (w->count == COMPOSE_REFERENCES_MAX) {
        faults_add(w->faults, 0, buf_cstr(&w->pointer), "there are more than %d references",
                   COMPOSE_REFERENCES_MAX);
        w->over = true;
    } else if (reference_read(value, buf_cstr(&w->pointer), &w->words, &reference, w->faults)) {
        w->count++;
        reference.depth = w->depth;
        reference.name = w->name.data ? buf_span(&w->name) : (struct span){NULL, 0};
        w->over = w->each && !w->each(w->context, &reference);
    }
}

static void walk_value(struct walk *w, struct span value)
{
    if (!reference_maybe(value))
        return;
    if (reference_is(value)) {
        visit(w, value);
        return;
    }
    w->depth++;
    if (*value.p == '{')
        walk_object(w, value);
    else if (*value.p == '[')
        walk_array(w, value);
    w->depth--;
}

int compose_find(struct span args, const char *pointer, compose_each *each, void *context, struct faults *faults)
{
    struct walk w = {.each = each, .context = context, .faults = faults};
    if (!args.p || !reference_maybe(args))
        return 0;
    buf_adds(&w.pointer, pointer);
    walk_value(&w, json_trim(args));
    if (w.count && args.len > COMPOSE_BYTES_MAX)
        faults_add(faults, 0, pointer, "are longer than %d MiB, with a result to come", COMPOSE_MIB_MAX);
    buf_release(&w.pointer);
    buf_release(&w.key);
    buf_release(&w.name);
    buf_release(&w.words);
    return w.count;
}

/* --- what a group shares ---------------------------------------------------------------------- */

static int count_items(struct span value)
{
    struct json_iter it = json_iter(value);
    struct span key, item;
    int count = 0;
    while (*value.p == '{' ? json_member(&it, &key, &item) : json_element(&it, &item))
        count++;
    return count;
}

static int count_references(struct span value)
{
    struct faults faults = {0}; /* whoever looks for them hears of those */
    int count = compose_find(value, "", NULL, NULL, &faults);
    faults_release(&faults);
    return count;
}

/* Why it cannot be shared; NULL: it can. */
static const char *common_fault(struct span common)
{
    if (json_type(common) != JSON_OBJECT)
        return "must be an object: what is shared is merged by name";
    if (common.len > COMPOSE_COMMON_BYTES_MAX)
        return "is longer than 1 MiB";
    if (reference_is(common))
        return "must name what is shared: a reference alone has no name";
    if (count_items(common) > COMPOSE_COMMON_NAMES_MAX)
        return "has more than 256 names";
    if (count_references(common) > COMPOSE_COMMON_REFERENCES_MAX)
        return "has more than 16 references";
    return NULL;
}

enum err compose_check_common(struct span common, const char *pointer, struct faults *faults)
{
    const char *fault = common_fault(json_trim(common));
    if (fault)
        faults_add(faults, 0, pointer, "%s", fault);
    return fault ? ERR_INVALID : OK;
}

static bool has_name(struct span object, struct span name)
{
    struct json_iter it = json_iter(object);
    struct span key, item;
    struct buf plain = {0};
    bool found = false;
    while (!found && json_member(&it, &key, &item)) {
        if (memchr(key.p, '\\', key.len)) {
            plain.len = 0;
            json_unescape(key, &plain);
            key = buf_span(&plain);
        }
        found = span_equal(key, name);
    }
    buf_release(&plain);
    return found;
}

bool compose_covers(const struct params *params, struct span args, struct span name)
{
    args = trimmed(args);
    if (!args.p || !name.p)
        return false;
    if (*args.p == '{')
        return !reference_is(args) && has_name(args, name);
    int position = *args.p == '[' && params ? params_position(params, name) : -1;
    return position >= 0 && position < count_items(args);
}

void compose_add_uncovered(struct buf *out, const struct params *params, struct span common, struct span args)
{
    struct json_iter it = json_iter(trimmed(common));
    struct span key, item;
    struct buf plain = {0};
    bool first = true;
    buf_addc(out, '{');
    while (json_member(&it, &key, &item)) {
        plain.len = 0;
        json_unescape(key, &plain);
        if (compose_covers(params, args, buf_span(&plain)))
            continue;
        buf_adds(out, first ? "\"" : ",\"");
        buf_add_span(out, key);
        buf_addl(out, "\":");
        buf_add_span(out, item);
        first = false;
    }
    buf_addc(out, '}');
    buf_release(&plain);
}

void compose_add_sketch(struct buf *out, struct span common)
{
    struct json_iter it = json_iter(json_trim(common));
    struct span key, item;
    bool first = true;
    buf_addc(out, '{');
    while (json_member(&it, &key, &item)) {
        buf_adds(out, first ? "\"" : ",\"");
        buf_add_span(out, key);
        buf_addl(out, "\":{\"$result\":true}");
        first = false;
    }
    buf_addc(out, '}');
}

/* --- one object over another ------------------------------------------------------------------ */

struct shared_name {
    struct span name, value;
    bool covered;
};

struct merge {
    struct shared_name shared[COMPOSE_COMMON_NAMES_MAX];
    int count;
    struct buf plain, key; /* names that have escapes */
    struct buf *out;
    bool any;
};

static int compare_names(const void *a, const void *b)
{
    const struct shared_name *one = a, *other = b;
    size_t shorter = one->name.len < other->name.len ? one->name.len : other->name.len;
    int order = shorter ? memcmp(one->name.p, other->name.p, shorter) : 0;
    return order ? order : (one->name.len > other->name.len) - (one->name.len < other->name.len);
}

/* Names without escapes, in `plain` where they had some; that never moves. */
static void read_shared(struct merge *m, struct span common)
{
    struct json_iter it = json_iter(common);
    struct span key, value;
    buf_reserve(&m->plain, common.len + 1);
    while (m->count < COMPOSE_COMMON_NAMES_MAX && json_member(&it, &key, &value)) {
        size_t start = m->plain.len;
        json_unescape(key, &m->plain);
        m->shared[m->count++] = (struct shared_name){
            .name = {m->plain.data + start, m->plain.len - start},
            .value = value,
        };
    }
    qsort(m->shared, (size_t)m->count, sizeof *m->shared, compare_names);
}

static void add_member(struct merge *m, struct span key, struct span value)
{
    buf_adds(m->out, m->any ? ",\"" : "\"");
    buf_add_span(m->out, key);
    buf_addl(m->out, "\":");
    buf_add_span(m->out, value);
    m->any = true;
}

static struct shared_name *find_shared(struct merge *m, struct span key)
{
    m->key.len = 0;
    json_unescape(key, &m->key);
    struct shared_name wanted = {.name = buf_span(&m->key)};
    return bsearch(&wanted, m->shared, (size_t)m->count, sizeof *m->shared, compare_names);
}

/* What is shared comes first, where nothing stands over it. */
static void merge_objects(struct span common, struct span args, struct buf *out)
{
    struct merge *m = xcalloc(1, sizeof *m);
    struct json_iter it;
    struct span key, value;
    m->out = out;
    read_shared(m, common);
    for (it = json_iter(args); json_member(&it, &key, &value);) {
        struct shared_name *name = find_shared(m, key);
        if (name)
            name->covered = true;
    }
    buf_addc(out, '{');
    for (it = json_iter(common); json_member(&it, &key, &value);) {
        struct shared_name *name = find_shared(m, key);
        if (name && !name->covered)
            add_member(m, key, value);
    }
    for (it = json_iter(args); json_member(&it, &key, &value);)
        add_member(m, key, value);
    buf_addc(out, '}');
    buf_release(&m->plain);
    buf_release(&m->key);
    free(m);
}

static enum err merge(struct span common, struct span args, struct buf *out, struct faults *faults)
{
    if (!common.p || !args.p) {
        buf_add_span(out, args.p ? args : common.p ? common : SPAN("null"));
        return OK;
    }
    if (json_type(args) != JSON_OBJECT) {
        faults_add(faults, 0, args_pointer,
                   "must be an object, to be merged with common_args: the task has no `params` by which "
                   "positions would have names");
        return ERR_INVALID;
    }
    merge_objects(common, args, out);
    return OK;
}

/* --- do they fit? ------------------------------------------------------------------------------- */

static enum err bind(const struct params *params, struct span common, struct span args, bool sketched,
                     bool references, struct buf *out, struct faults *faults)
{
    struct params_given given = {
        .args = args,
        .common = common,
        .pointer = args_pointer,
        .common_pointer = common_pointer,
        .sketched = sketched,
        .references = references,
    };
    return params ? params_bind_given(params, &given, out, faults) : merge(common, args, out, faults);
}

enum err compose_check(const struct task *task, struct span common, struct span args, bool refers,
                       struct buf *scratch, struct faults *faults)
{
    struct span made = args = trimmed(args);
    enum err err = OK;
    common = trimmed(common);
    bool whole = refers && args.p && reference_is(args);
    scratch->len = 0;
    if (common.p && args.len > COMPOSE_BYTES_MAX - COMPOSE_COMMON_BYTES_MAX) {
        faults_add(faults, 0, args_pointer, "are longer than %d MiB, with what is shared", COMPOSE_MIB_MAX);
        return ERR_INVALID;
    }
    if (task->params || (common.p && !whole)) {
        err = bind(task->params, common, args, true, refers, scratch, faults);
        made = buf_span(scratch);
    }
    if (err != OK || whole)
        return err;
    return kind_check_args(task, made, faults);
}

/* --- making them ---------------------------------------------------------------------------------- */

struct substitution {
    compose_result *result;
    void *context;
    struct buf *out;
    struct faults *faults;
    size_t start;   /* of what is made, in `out` */
    const char *at; /* so far the arguments have been taken over */
    const char *end;
    enum err err;
};

/* How deep is it nested? 0: a scalar. */
static int depth_of(struct span value)
{
    int depth = 0, deepest = 0;
    for (const char *p = value.p, *end = p + value.len; p < end; p++) {
        if (*p == '"')
            for (p++; p < end && *p != '"'; p++)
                p += *p == '\\';
        else if (*p == '{' || *p == '[')
            deepest = ++depth > deepest ? depth : deepest;
        else if (*p == '}' || *p == ']')
            depth--;
    }
    return deepest;
}

static bool refuse(struct substitution *s, const struct reference *reference, enum err err, const char *detail)
{
    faults_add(s->faults, 0, reference->pointer, "%s", detail);
    s->err = err;
    return err != ERR_LIMIT;
}

static bool say_no_part(struct substitution *s, const struct reference *reference)
{
    struct reason why;
    struct span whose = reference->whose.p ? reference->whose : SPAN("the one it comes after");
    reason_set(&why, "the result of %.*s has no `%.*s`", (int)whose.len, whose.p, (int)reference->path.len,
               reference->path.p);
    return refuse(s, reference, ERR_INVALID, why.text);
}

static bool refuse_size(struct substitution *s, const struct reference *reference)
{
    struct reason why;
    reason_set(&why, "makes the arguments longer than %d MiB", COMPOSE_MIB_MAX);
    return refuse(s, reference, ERR_LIMIT, why.text);
}

static bool refuse_depth(struct substitution *s, const struct reference *reference)
{
    struct reason why;
    reason_set(&why, "makes the arguments nested more than %d deep", COMPOSE_DEPTH_MAX);
    return refuse(s, reference, ERR_INVALID, why.text);
}

static bool replace(void *context, const struct reference *reference)
{
    struct substitution *s = context;
    struct span value;
    struct reason why = {""};
    if (!s->result(s->context, reference, &value, &why))
        return refuse(s, reference, ERR_INVALID, why.text);
    if (!value.p)
        value = SPAN("null");
    else if (reference->path.p)
        value = reference_at(json_trim(value), reference->path);
    if (!value.p)
        return say_no_part(s, reference);
    value = json_trim(value);
    size_t made = s->out->len - s->start + value.len + (size_t)(s->end - s->at);
    if (made > COMPOSE_BYTES_MAX)
        return refuse_size(s, reference);
    if (reference->depth + depth_of(value) > COMPOSE_DEPTH_MAX)
        return refuse_depth(s, reference);
    buf_add(s->out, s->at, (size_t)(reference->text.p - s->at));
    buf_add_span(s->out, value);
    s->at = reference->text.p + reference->text.len;
    return true;
}

enum err compose_substitute(struct span args, const char *pointer, compose_result *result, void *context,
                            struct buf *out, struct faults *faults)
{
    int before = faults->total;
    struct substitution s = {
        .result = result,
        .context = context,
        .out = out,
        .faults = faults,
        .start = out->len,
        .at = args.p,
        .end = args.p + args.len,
    };
    compose_find(args, pointer, replace, &s, faults);
    if (s.err == OK && faults->total != before)
        s.err = ERR_INVALID;
    if (s.err == OK)
        buf_add(out, s.at, (size_t)(s.end - s.at));
    else
        out->len = s.start;
    return s.err;
}

enum err compose_bind(const struct params *params, struct span common, struct span args, struct buf *out,
                      struct faults *faults)
{
    common = trimmed(common);
    args = trimmed(args);
    if (common.p && common.len + args.len > COMPOSE_BYTES_MAX) {
        faults_add(faults, 0, args_pointer, "are longer than %d MiB, with what is shared", COMPOSE_MIB_MAX);
        return ERR_LIMIT;
    }
    return bind(params, common, args, false, false, out, faults);
}
