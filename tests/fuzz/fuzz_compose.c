/* Arguments, what a group shares and a result, a line each: references are found or refused, and what
 * is made of them is JSON within its limits. */
#include "workers/compose.h"

#include <assert.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char text[] =
    "{a: integer, b: {type: object, enum: [{c: 1}, {c: 2}], default: {c: 1}}, c: {default: null}}";

static const struct params *params(void)
{
    static struct params *made;
    struct faults faults = {0};
    struct yaml *doc = made ? NULL : yaml_parse(SPAN(text), &faults);
    if (!made)
        made = params_parse(doc, yaml_root(doc), "/params", &faults);
    if (!made)
        abort();
    yaml_free(doc);
    return made;
}

static void expect_faults(struct faults *faults, enum err err)
{
    assert((err == OK) == (faults->total == 0));
    for (int i = 0; i < faults->count; i++) {
        assert(faults->items[i].detail[0] && utf8_valid(span_of(faults->items[i].detail)));
        assert(utf8_valid(span_of(faults->items[i].pointer)));
    }
    faults_release(faults);
}

static void expect_json(const struct buf *made)
{
    assert(json_check(made->data, made->len, JSON_DEPTH_MAX, NULL) == OK);
}

static bool look(void *context, const struct reference *r)
{
    struct span args = *(const struct span *)context;
    assert(r->text.p >= args.p && r->text.p + r->text.len <= args.p + args.len && reference_is(r->text));
    assert(r->pointer && (!r->whose.p || r->whose.len) && (!r->path.p || r->path.len));
    assert(r->depth >= 0 && r->depth < JSON_DEPTH_MAX && (!r->name.p || r->depth > 0));
    return true;
}

static bool find(struct span args)
{
    struct faults faults = {0};
    int count = compose_find(args, "/args", look, &args, &faults);
    bool good = faults.total == 0;
    assert(count >= 0 && count <= COMPOSE_REFERENCES_MAX);
    assert((count > 0 || !good) == reference_within(json_trim(args)));
    expect_faults(&faults, good ? OK : ERR_INVALID);
    return good;
}

static bool give(void *context, const struct reference *r, struct span *value, struct reason *why)
{
    *value = *(const struct span *)context;
    if (r->whose.p && r->whose.len == 1)
        reason_set(why, "there is no %.*s", (int)r->whose.len, r->whose.p);
    return !r->whose.p || r->whose.len != 1;
}

static bool substitute(struct span args, struct span result, struct buf *made)
{
    struct faults faults = {0};
    enum err err = compose_substitute(args, "/args", give, &result, made, &faults);
    if (err == OK)
        expect_json(made);
    else
        assert(made->len == 0);
    expect_faults(&faults, err);
    return err == OK;
}

/* What is covered makes no difference. */
static void bind(const struct params *by, struct span common, struct span args)
{
    struct faults faults = {0}, others = {0};
    struct buf made = {0}, uncovered = {0}, again = {0};
    enum err err = compose_bind(by, common, args, &made, &faults);
    if (err == OK)
        expect_json(&made);
    if (err == OK && common.p && !reference_is(json_trim(args))) {
        compose_add_uncovered(&uncovered, by, common, args);
        expect_json(&uncovered);
        assert(compose_bind(by, buf_span(&uncovered), args, &again, &others) == OK);
        assert(again.len == made.len && memcmp(again.data, made.data, made.len) == 0);
    }
    expect_faults(&faults, err);
    faults_release(&others);
    buf_release(&made);
    buf_release(&uncovered);
    buf_release(&again);
}

/* What fits when it runs was not refused when it was submitted. */
static void check(struct span common, struct span args, struct span made)
{
    struct buf bound = {0}, sketch = {0};
    struct faults faults = {0}, none = {0};
    struct params_given given = {.args = args, .common = common, .pointer = "", .common_pointer = ""};
    given.references = given.sketched = true;
    enum err before = params_bind_given(params(), &given, &bound, &faults);
    enum err after = compose_bind(params(), common, made, &bound, &none);
    assert(after != OK || before == OK);
    if (common.p) {
        compose_add_sketch(&sketch, common);
        expect_json(&sketch);
        given.common = buf_span(&sketch);
        faults_release(&faults);
        assert(params_bind_given(params(), &given, &bound, &faults) == OK || after != OK);
    }
    faults_release(&faults);
    faults_release(&none);
    buf_release(&bound);
    buf_release(&sketch);
}

static void compose(struct span args, struct span common, struct span result)
{
    struct faults faults = {0};
    struct buf made = {0};
    enum err err = common.p ? compose_check_common(common, "/common_args", &faults) : OK;
    expect_faults(&faults, err);
    if (err != OK || !find(args) || (common.p && !find(common)) || !substitute(args, result, &made))
        return buf_release(&made);
    bind(NULL, common, buf_span(&made));
    bind(params(), common, buf_span(&made));
    check(common, args, buf_span(&made));
    buf_release(&made);
}

/* Absent if it is not JSON. */
static struct span next_line(struct span *input)
{
    const char *end = input->len ? memchr(input->p, '\n', input->len) : NULL;
    struct span line = {input->p, end ? (size_t)(end - input->p) : input->len};
    *input = end ? (struct span){end + 1, input->len - line.len - 1} : (struct span){input->p + input->len, 0};
    return json_check(line.p, line.len, JSON_DEPTH_MAX, NULL) == OK ? line : (struct span){NULL, 0};
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span input = {size ? (const char *)data : "", size};
    struct span args = next_line(&input), common = next_line(&input), result = next_line(&input);
    if (args.p)
        compose(args, common, result.p ? result : SPAN("null"));
    return 0;
}
