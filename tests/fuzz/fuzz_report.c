/* What is said of a turn from outside: a token has one text, and a text that is none is
 * refused; a report ({result}, {error}, or what it suspends on) is refused with
 * faults that say where, or decides an end within its limits. */
#include "base/clock.h"
#include "base/json.h"
#include "workers/lease_token.h"
#include "server/resources/turn_end.h"
#include "store/wait.h"
#include "workers/suspension.h"

#include <assert.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const int64_t now_ms = INT64_C(1767225600000);
enum { RESULT_BYTES = 1000, ERROR_BYTES = 1 << 20, TYPE_CHARACTERS = 100 };

/* --- tokens ---------------------------------------------------------------------- */

static void expect_token(struct span text)
{
    struct turn turn = {0};
    struct buf again = {0};
    if (!lease_token_parse(text, &turn.id, &turn.lease))
        return;
    lease_token_add(&again, &turn);
    assert(text.len == LEASE_TOKEN_LEN && span_equal(buf_span(&again), text));
    buf_release(&again);
}

static void expect_turn(struct turn turn)
{
    struct buf text = {0};
    int64_t id, lease;
    lease_token_add(&text, &turn);
    assert(lease_token_parse(buf_span(&text), &id, &lease) && id == turn.id && lease == turn.lease);
    buf_release(&text);
}

/* --- reports ---------------------------------------------------------------------- */

static void expect_faults(const struct faults *faults)
{
    assert(faults->total > 0 && faults->count > 0);
    for (int i = 0; i < faults->count; i++) {
        assert(faults->items[i].detail[0] && utf8_valid(span_of(faults->items[i].detail)));
        assert(utf8_valid(span_of(faults->items[i].pointer)));
    }
}

static bool is_json(struct span text)
{
    return json_check(text.p, text.len, JSON_DEPTH_MAX, NULL) == OK;
}

static void expect_failure(const struct op_finish *finish)
{
    assert(finish->error_type.len && utf8_valid(finish->error_type));
    assert(utf8_length(finish->error_type) <= TYPE_CHARACTERS);
    assert(is_json(finish->error) && json_type(finish->error) == JSON_OBJECT);
    assert(json_get(finish->error, "type").p && json_get(finish->error, "message").p && !finish->result.p);
    if (finish->next == FINISH_RETRY)
        assert(finish->run_at == 0 ||
               (finish->run_at >= now_ms && finish->run_at <= now_ms + DURATION_MAX_MS * 2));
    else
        assert(finish->next == FINISH_FINAL);
}

static void decide(struct turn_end *end, const struct task *task)
{
    const struct turn_row row = {.turn = {.id = 7, .lease = 8, .task = 9, .attempt = 2},
                                 .failures = 1,
                                 .max_retries = 3,
                                 .retention_ms = 1000};
    turn_end_decide(end, &row, task, RESULT_BYTES, now_ms, 0.5);
    if (end->finish.status == STATUS_SUCCEEDED)
        assert(!end->failed && end->finish.result.len <= RESULT_BYTES);
    else
        expect_failure(&end->finish);
    turn_end_release(end);
    end->error_type = end->error = (struct buf){0};
}

static void report(struct span body)
{
    static const struct key fields[] = {
        {.name = "result", .type = KEY_OTHER, .read_json = turn_end_read_result},
        {.name = "error", .type = KEY_OTHER, .read_json = turn_end_read_error},
        {0},
    };
    static char star[] = "O*";
    static char *patterns[] = {star, NULL};
    const struct task task = {.options.retry = {BACKOFF_DEFAULT, patterns}};
    struct turn_end end = {0};
    struct faults faults = {0};
    struct buf arena = {0};
    keys_read_json(&(struct keys_json){&faults, &arena}, NULL, body, fields, &end);
    if (faults.total) {
        expect_faults(&faults);
    } else {
        decide(&end, &task);
        decide(&end, NULL); /* the task has left the configuration */
    }
    faults_release(&faults);
    buf_release(&arena);
}

static void suspend(struct span body)
{
    struct suspension_read read = {.now_ms = now_ms};
    struct faults faults = {0};
    struct buf arena = {0};
    suspension_read(&(struct keys_json){&faults, &arena}, NULL, body, &read);
    const struct suspension *on = &read.on;
    if (faults.total) {
        expect_faults(&faults);
    } else {
        assert(on->count || on->inbox || on->until);
        assert(on->count <= WAIT_IDS_MAX && on->until >= 0);
        assert(!on->state.p || is_json(on->state));
        for (int i = 0; i < on->count; i++)
            for (int k = 0; k < i; k++)
                assert(on->ids[i] != on->ids[k]);
    }
    suspension_release(&read);
    faults_release(&faults);
    buf_release(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span text = {size ? (const char *)data : "", size};
    struct turn turn = {0};
    expect_token(text);
    if (size == 2 * sizeof(int64_t)) {
        memcpy(&turn.id, data, sizeof turn.id);
        memcpy(&turn.lease, data + sizeof turn.id, sizeof turn.lease);
        turn.id &= INT64_MAX;
        if (turn.lease && turn.id)
            expect_turn(turn);
    }
    if (is_json(text)) {
        report(text);
        suspend(text);
    }
    return 0;
}
