/* Whatever JSON a client submits: it is refused with faults that say where, or
 * it is a submission within its limits that can be shown again. */
#include "base/json.h"
#include "server/config/config.h"
#include "workers/submission.h"
#include "server/resources/view.h"

#include <assert.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const int64_t now_ms = INT64_C(1767225600000);

static const char text[] =
    "tasks:\n"
    "  any: {kind: command, run: [cat]}\n"
    "  add: {kind: command, run: [echo, \"{x}\", \"{y}\"], params: {x: integer, y: {type: integer, default: 1}}}\n"
    "  all:\n"
    "    kind: command\n"
    "    run: [echo, \"{s}\", \"-{n}-\"]\n"
    "    params:\n"
    "      s: string\n"
    "      n: number\n"
    "      b: {type: boolean, default: true}\n"
    "      a: {type: array, default: []}\n"
    "      o: {type: object, default: {}}\n";

static const struct config *config(void)
{
    static struct config *made;
    struct faults faults = {0};
    if (!made)
        made = config_parse(SPAN(text), "/", &faults);
    if (!made)
        abort();
    return made;
}

static void expect_faults(const struct faults *faults)
{
    assert(faults->total > 0 && faults->count > 0);
    for (int i = 0; i < faults->count; i++) {
        assert(faults->items[i].detail[0] && utf8_valid(span_of(faults->items[i].detail)));
        assert(utf8_valid(span_of(faults->items[i].pointer)));
    }
}

static void expect_submission(const struct submission *s)
{
    struct invocation row;
    struct buf out = {0};
    assert(s->task > 0 || registry_count(config()->registry) > 0);
    assert(s->priority >= 0 && s->priority <= 127 && s->max_retries >= 0);
    assert(s->timeout_ms >= 0 && s->retention_ms >= 0 && s->expires_at >= 0);
    assert(!s->key.p || (s->key.len > 0 && utf8_valid(s->key) && utf8_length(s->key) <= KEY_MAX));
    submission_row(s, &row);
    row.status = STATUS_QUEUED;
    row.id = INT64_C(1) << 40;
    view_invocation(&out, &row, "any", true);
    assert(json_check(out.data, out.len, JSON_DEPTH_MAX, NULL) == OK);
    buf_release(&out);
}

static void submit(struct span body, struct span header_key)
{
    struct buf scratch = {0}, key = {0};
    struct faults faults = {0};
    struct submission s;
    struct submission_context context = {.registry = config()->registry,
                                         .owner = SPAN(""),
                                         .key = header_key,
                                         .now_ms = now_ms,
                                         .scratch = &scratch};
    if (submission_read(&context, body, &s, &key, &faults) == OK) {
        assert(faults.total == 0);
        expect_submission(&s);
        submission_release(&s);
    } else {
        expect_faults(&faults);
    }
    faults_release(&faults);
    buf_release(&scratch);
    buf_release(&key);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span body = {size ? (const char *)data : "", size};
    if (json_check(body.p, body.len, JSON_DEPTH_MAX, NULL) != OK)
        return 0;
    submit(body, (struct span){NULL, 0});
    submit(body, body); /* a header's bytes may be any */
    return 0;
}
