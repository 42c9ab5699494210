#include "workers/kinds/attempt.h"
#include "workers/kinds/kind.h"

#include "base/clock.h"
#include "base/json.h"
#include <errno.h>
#include <semaphore.h>
#include <stdlib.h>
#include <unistd.h>

enum { TYPE_BYTES = 100, MESSAGE_BYTES = 16 * 1024 };

void attempt_init(struct attempt *attempt)
{
    attempt->deadline_us = attempt->timeout_ms > 0 ? clock_mono_us() + attempt->timeout_ms * 1000 : 0;
    atomic_init(&attempt->stop, STOP_NONE);
    atomic_init(&attempt->child, 0);
    atomic_init(&attempt->waits, WAITS_NOT);
    pthread_mutex_init(&attempt->lock, NULL);
    attempt->pending = (struct log_pending){0};
    attempt->log_total = 0;
    attempt->log_stdout = 0;
    attempt->pending_since_us = 0;
}

void attempt_release(struct attempt *attempt)
{
    buf_release(&attempt->pending.bytes);
    free(attempt->pending.pieces);
    attempt->pending = (struct log_pending){0};
    pthread_mutex_destroy(&attempt->lock);
}

void attempt_stop(struct attempt *attempt, enum stop why)
{
    int now = atomic_load(&attempt->stop);
    while (now < (int)why && !atomic_compare_exchange_weak(&attempt->stop, &now, (int)why)) {
    }
    attempt_look(attempt);
}

void attempt_look(struct attempt *attempt)
{
    if (attempt->task->kind->stop)
        attempt->task->kind->stop(attempt);
}

void attempt_wake(struct attempt *attempt)
{
    uint64_t one = 1;
    /* Full means that it is readable already. */
    if (attempt->wake_fd >= 0 && write(attempt->wake_fd, &one, sizeof(one)) < 0)
        return;
}

bool attempt_should_stop(struct attempt *attempt)
{
    return atomic_load_explicit(&attempt->stop, memory_order_relaxed) != STOP_NONE ||
           (attempt->deadline_us && clock_mono_us() >= attempt->deadline_us);
}

/* A failure that follows from a stop is no failure. Of a timeout and a cancel
 * the cancel counts: whoever cancelled wants no retry. */
static void settle(struct attempt *attempt, struct outcome *outcome)
{
    enum stop stop = (enum stop)atomic_load(&attempt->stop);
    if ((outcome->end != OUTCOME_FAILED && outcome->end != OUTCOME_LOST) || stop == STOP_NONE)
        return;
    if (stop == STOP_KILL && span_is(buf_span(&outcome->type), "timeout"))
        return;
    outcome->end = stop == STOP_CANCEL ? OUTCOME_CANCELLED : OUTCOME_STOPPED;
    outcome->result.len = outcome->type.len = outcome->error.len = outcome->types.len = 0;
}

void attempt_end(struct attempt *attempt)
{
    settle(attempt, attempt->outcome);
    attempt->ended(attempt, attempt->context);
}

void attempt_refuse(struct attempt *attempt, struct outcome *outcome, attempt_ended *ended, void *context)
{
    attempt->outcome = outcome;
    attempt->ended = ended;
    attempt->context = context;
    attempt_end(attempt);
}

void attempt_start(struct attempt *attempt, struct outcome *outcome, attempt_ended *ended, void *context)
{
    attempt->outcome = outcome;
    attempt->ended = ended;
    attempt->context = context;
    outcome->retry = true;
    outcome->retry_after_ms = -1;

    enum stop stop = (enum stop)atomic_load(&attempt->stop);
    if (stop == STOP_NONE) {
        attempt->task->kind->start(attempt);
        return;
    }
    outcome->end = stop == STOP_CANCEL ? OUTCOME_CANCELLED : OUTCOME_STOPPED;
    attempt_end(attempt);
}

static void post(struct attempt *attempt, void *end)
{
    (void)attempt;
    sem_post(end);
}

void attempt_run(struct attempt *attempt, struct outcome *outcome)
{
    sem_t end;
    sem_init(&end, 0, 0);
    attempt_start(attempt, outcome, post, &end);
    while (sem_wait(&end) != 0 && errno == EINTR) {
    }
    sem_destroy(&end);
}

static void add_type(struct buf *out, struct span type)
{
    utf8_add_lossy(out, utf8_cut(type, TYPE_BYTES));
    if (out->len == 0)
        buf_addl(out, "failed");
    out->len = utf8_cut(buf_span(out), TYPE_BYTES).len;
}

void outcome_fail(struct outcome *outcome, struct span type, struct span message, struct span detail)
{
    outcome->end = OUTCOME_FAILED;
    outcome->retry = true;
    outcome->insists = false;
    outcome->retry_after_ms = -1;
    outcome->drop_stdout = false;
    outcome->result.len = outcome->type.len = outcome->error.len = outcome->types.len = 0;

    add_type(&outcome->type, type);
    buf_addl(&outcome->error, "{\"type\":");
    json_add_string(&outcome->error, buf_span(&outcome->type));
    buf_addl(&outcome->error, ",\"message\":");
    json_add_lossy(&outcome->error, utf8_cut(message, MESSAGE_BYTES));
    if (detail.len) {
        buf_addc(&outcome->error, ',');
        buf_add_span(&outcome->error, detail);
    }
    buf_addc(&outcome->error, '}');
}

void outcome_lose(struct outcome *outcome, bool pays, struct span message, struct span detail)
{
    outcome_fail(outcome, SPAN("worker_crashed"), message, detail);
    outcome->end = OUTCOME_LOST;
    outcome->pays = pays;
}

bool error_is_shortage(int error)
{
    return error == EAGAIN || error == EMFILE || error == ENFILE || error == ENOMEM;
}

void outcome_unstarted(struct outcome *outcome, struct span message)
{
    outcome->end = OUTCOME_UNSTARTED;
    outcome->result.len = outcome->type.len = outcome->error.len = outcome->types.len = 0;
    utf8_add_lossy(&outcome->error, utf8_cut(message, MESSAGE_BYTES));
}

void outcome_release(struct outcome *outcome)
{
    buf_release(&outcome->result);
    buf_release(&outcome->type);
    buf_release(&outcome->error);
    buf_release(&outcome->types);
    *outcome = (struct outcome){0};
}
