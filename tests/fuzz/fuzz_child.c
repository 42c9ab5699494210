/* What a pool's child writes on its socket: lines are the same however they arrive, none
 * is longer than a limit, and each is a message that is sound, or a reason why not. The
 * first byte says in what pieces the rest arrives. */
#include "base/json.h"
#include "base/lines.h"
#include "workers/kinds/pool/message.h"

#include <assert.h>
#include <math.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect_failure(const struct message *message)
{
    struct outcome outcome = {0};
    failure_settle(&message->error, &outcome);
    assert(outcome.end == OUTCOME_FAILED && outcome.type.len);
    assert(json_check(outcome.error.data, outcome.error.len, JSON_DEPTH_MAX, NULL) == OK);
    outcome_release(&outcome);
}

static void expect_message(const struct message *message)
{
    if (message->type != MESSAGE_NONE && message->type != MESSAGE_READY && message->type != MESSAGE_LOG)
        assert(message->run > 0);
    switch (message->type) {
    case MESSAGE_NONE: break;
    case MESSAGE_READY: assert(message->protocol > 0); break;
    case MESSAGE_DONE:
        assert(!message->result.p ||
               json_check(message->result.p, message->result.len, JSON_DEPTH_MAX, NULL) == OK);
        break;
    case MESSAGE_FAILED: expect_failure(message); break;
    case MESSAGE_PROGRESS: assert(isfinite(message->value)); break;
    case MESSAGE_LOG: assert(message->text.p && message->run >= 0); break;
    case MESSAGE_REQUEST: assert(message->seq > 0); break;
    }
}

static void take_line(struct span line)
{
    struct message message;
    struct buf arena = {0};
    struct reason why = {""};
    assert(line.len < LINE_BYTES_MAX && !memchr(line.p, '\n', line.len));
    if (message_read(line, &message, &arena, &why))
        expect_message(&message);
    else
        assert(why.text[0]);
    buf_release(&arena);
}

/* How many bytes of lines there were, line breaks included. */
static size_t take(const uint8_t *data, size_t size, size_t piece, bool looks)
{
    struct lines lines = {0};
    struct span line;
    size_t taken = 0;
    for (size_t at = 0; at < size; at += piece) {
        lines_add(&lines, (struct span){(const char *)data + at, size - at < piece ? size - at : piece});
        while (lines_next(&lines, &line)) {
            taken += line.len + 1;
            if (looks)
                take_line(line);
        }
        assert(!lines_are_too_long(&lines));
    }
    lines_release(&lines);
    return taken;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    size_t whole = take(data + 1, size - 1, size, true);
    assert(take(data + 1, size - 1, (size_t)data[0] + 1, false) == whole);
    return 0;
}
