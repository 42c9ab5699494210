/* An attempt's log and progress: pieces pile up under the lock and leave in
 * batches, so that a chatty body costs the store little and a quiet one is seen
 * soon. */
#include "workers/kinds/attempt.h"

#include "base/clock.h"
#include "workers/journal.h"
#include "workers/kinds/kind.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

enum { FLUSH_BYTES = 32 * 1024, FLUSH_US = 100 * 1000, NOTE_BYTES = 1000 };

/* Nobody else has what a body in this process says. */
static bool is_in_journal(const struct attempt *attempt)
{
    return attempt->record && attempt->task->kind->in_process;
}

static void append_locked(struct attempt *attempt, enum stream stream, struct span bytes)
{
    struct log_pending *pending = &attempt->pending;
    if (pending->count > 0 && pending->pieces[pending->count - 1].stream == stream) {
        pending->pieces[pending->count - 1].len += bytes.len;
    } else {
        if (pending->count == pending->cap) {
            pending->cap = pending->cap ? pending->cap * 2 : 4;
            pending->pieces = xrealloc(pending->pieces, (size_t)pending->cap * sizeof(*pending->pieces));
        }
        pending->pieces[pending->count++] = (struct log_piece){stream, bytes.len};
    }
    buf_add_span(&pending->bytes, bytes);
    if (is_in_journal(attempt))
        journal_log(attempt->record, bytes);
    attempt->log_total += (int64_t)bytes.len;
}

static void flush_locked(struct attempt *attempt)
{
    struct log_pending *pending = &attempt->pending;
    for (int i = 0; i < pending->count; i++)
        if (pending->pieces[i].stream == STREAM_STDOUT)
            attempt->log_stdout += (int64_t)pending->pieces[i].len;
    attempt->sink->log(attempt, pending);
    if (is_in_journal(attempt))
        journal_log_sent(attempt->record);
    pending->bytes.len = 0;
    pending->count = 0;
}

static bool has_sink(const struct attempt *attempt)
{
    return attempt->sink && attempt->sink->log;
}

/* The limit in the largest unit that says it without a fraction. */
struct span attempt_log_notice(int64_t limit, char *text, size_t size)
{
    const char *unit = " bytes";
    if (limit > 0 && limit % (1024 * 1024) == 0) {
        limit /= 1024 * 1024;
        unit = " MiB";
    } else if (limit > 0 && limit % 1024 == 0) {
        limit /= 1024;
        unit = " KiB";
    }
    int n = snprintf(text, size, "\n[errand: the log reached its limit of %" PRId64 "%s, the rest is left out]\n",
                     limit, unit);
    return (struct span){text, (size_t)n};
}

static bool is_due_locked(const struct attempt *attempt)
{
    const struct log_pending *pending = &attempt->pending;
    return has_sink(attempt) && pending->count > 0 &&
           (attempt->sink->log_at_once || pending->bytes.len >= FLUSH_BYTES ||
            clock_mono_us() - attempt->pending_since_us >= FLUSH_US);
}

static void add_locked(struct attempt *attempt, enum stream stream, struct span bytes)
{
    int64_t limit = attempt->limits->log_bytes;
    if (attempt->log_total > limit)
        return; /* the notice made it larger */
    int64_t room = limit - attempt->log_total;
    bool cut = (int64_t)bytes.len > room;
    if (cut)
        bytes.len = (size_t)room;

    if (attempt->pending.count == 0)
        attempt->pending_since_us = clock_mono_us();
    if (bytes.len)
        append_locked(attempt, stream, bytes);
    if (cut) {
        char text[LOG_NOTICE_BYTES];
        append_locked(attempt, STREAM_STDERR, attempt_log_notice(limit, text, sizeof(text)));
    }
}

void attempt_log(struct attempt *attempt, enum stream stream, struct span bytes)
{
    if (bytes.len == 0)
        return;
    pthread_mutex_lock(&attempt->lock);
    add_locked(attempt, stream, bytes);
    if (is_due_locked(attempt))
        flush_locked(attempt);
    pthread_mutex_unlock(&attempt->lock);
}

int attempt_log_tick(struct attempt *attempt)
{
    int due_ms = -1;
    pthread_mutex_lock(&attempt->lock);
    if (has_sink(attempt) && attempt->pending.count > 0) {
        int64_t left_us = attempt->pending_since_us + FLUSH_US - clock_mono_us();
        if (left_us > 0)
            due_ms = (int)((left_us + 999) / 1000);
        else
            flush_locked(attempt);
    }
    pthread_mutex_unlock(&attempt->lock);
    return due_ms;
}

void attempt_drop_stdout(struct attempt *attempt)
{
    struct log_pending *pending = &attempt->pending;
    size_t from = 0, to = 0;
    int kept = 0;
    attempt->outcome->drop_stdout = true;
    pthread_mutex_lock(&attempt->lock);
    for (int i = 0; i < pending->count; i++) {
        struct log_piece piece = pending->pieces[i];
        if (piece.stream != STREAM_STDOUT) {
            memmove(pending->bytes.data + to, pending->bytes.data + from, piece.len);
            to += piece.len;
            pending->pieces[kept++] = piece;
        }
        from += piece.len;
    }
    pending->bytes.len = to;
    pending->count = kept;
    pthread_mutex_unlock(&attempt->lock);
}

void attempt_progress(struct attempt *attempt, double value, struct span note)
{
    if (!isfinite(value) || !attempt->sink || !attempt->sink->progress)
        return;
    struct buf mended = {0};
    struct span text = utf8_cut(note, NOTE_BYTES);
    if (!utf8_valid(text)) {
        utf8_add_lossy(&mended, text);
        text = utf8_cut(buf_span(&mended), NOTE_BYTES);
    }
    pthread_mutex_lock(&attempt->lock);
    attempt->sink->progress(attempt, value, text);
    pthread_mutex_unlock(&attempt->lock);
    buf_release(&mended);
}
