/* Parked requests: those that wait for a commit (not suspended: the loop calls
 * them again by itself), those that wait for something longer (suspended), and
 * those whose work is done on a reader thread.
 *
 * A request is woken by whoever comes first, its event or its deadline: the
 * flag `waked`, set under the lock, decides. While its work is under way a
 * wake-up changes nothing: it goes on when that is back. Only the HTTP thread
 * touches libmicrohttpd. */
#include "base/clock.h"
#include "base/log.h"
#include "server/http/answer.h"
#include "server/http/freshness.h"
#include "server/http/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <utlist.h>

enum {
    ROWS_MAX = 1100, /* a page of 1000, and a look ahead in each of its streams */
    LEAVERS_AT_ONCE = 256,
};

#define CONTAINER(type, member, pointer) ((type *)((char *)(pointer)-offsetof(type, member)))

/* --- waking ------------------------------------------------------------------------ */

static void signal_loop(struct http *http)
{
    uint64_t one = 1;
    if (write(http->event_fd, &one, sizeof one) != sizeof one && errno != EAGAIN)
        log_error("the loop could not be woken", LOG_STR("error", strerror(errno)));
}

static void wake_locked(struct http *http, struct exchange *exchange)
{
    if (exchange->waked)
        return;
    exchange->waked = true;
    exchange->woken_next = http->woken;
    http->woken = exchange;
}

void request_wake_later(struct request *rq)
{
    struct http *http = rq->http;
    pthread_mutex_lock(&http->lock);
    wake_locked(http, rq->exchange);
    pthread_mutex_unlock(&http->lock);
}

void request_wake_marking(struct request *rq, atomic_bool *mark)
{
    struct http *http = rq->http;
    pthread_mutex_lock(&http->lock);
    atomic_store(mark, true);
    wake_locked(http, rq->exchange); /* whoever frees it waits for the lock */
    pthread_mutex_unlock(&http->lock);
}

void http_flush(struct http *http)
{
    pthread_mutex_lock(&http->lock);
    bool wanted = (http->woken || http->finished) && !http->signalled;
    http->signalled |= wanted;
    pthread_mutex_unlock(&http->lock);
    if (wanted)
        signal_loop(http);
}

void request_wake(struct request *rq)
{
    struct http *http = rq->http;
    request_wake_later(rq);
    http_flush(http);
}

/* --- clients that leave ------------------------------------------------------------- */

/* The others wait for a batch that is under way. */
static bool waits_for_long(const struct exchange *exchange)
{
    return exchange->rq.deadline_us || exchange->streaming;
}

/* libmicrohttpd does not look at a suspended connection. */
static void watch_client(struct exchange *exchange)
{
    struct epoll_event event = {.events = EPOLLRDHUP | EPOLLONESHOT, .data.ptr = exchange};
    exchange->watched = exchange->peer && !exchange->orphan &&
                        epoll_ctl(exchange->http->leave_fd, EPOLL_CTL_ADD, exchange->peer->fd, &event) == 0;
}

static void unwatch_client(struct exchange *exchange)
{
    if (exchange->watched)
        epoll_ctl(exchange->http->leave_fd, EPOLL_CTL_DEL, exchange->peer->fd, NULL);
    exchange->watched = false;
}

/* Their waits are over, as if their time had come. */
void http_check_left(struct http *http)
{
    struct epoll_event events[LEAVERS_AT_ONCE];
    int count = epoll_wait(http->leave_fd, events, LEAVERS_AT_ONCE, 0);
    for (int i = 0; i < count; i++) {
        struct exchange *exchange = events[i].data.ptr;
        exchange->rq.timed_out = exchange->rq.left = true;
        request_wake_later(&exchange->rq);
    }
}

bool request_has_left(const struct request *rq)
{
    const struct connection *peer = rq->exchange->peer;
    return rq->left || rq->gone || (peer && http_has_left(peer));
}

/* --- parking ------------------------------------------------------------------------ */

static void suspend(struct exchange *exchange)
{
    exchange->phase = PHASE_PARKED;
    exchange->suspended = true;
    if (!exchange->orphan)
        MHD_suspend_connection(exchange->connection);
    DL_PREPEND(exchange->http->parked, exchange);
}

void http_park(struct exchange *exchange, enum phase phase)
{
    struct http *http = exchange->http;
    if (phase == PHASE_COMMIT) {
        exchange->phase = phase;
        http->awaiting++;
        return;
    }
    suspend(exchange);
    http->parked_count += !exchange->follows;
    if (waits_for_long(exchange))
        watch_client(exchange);
    if (exchange->rq.deadline_us)
        deadlines_add(&http->deadlines, &exchange->deadline, exchange->rq.deadline_us);
}

static void leave_list(struct exchange *exchange)
{
    struct http *http = exchange->http;
    DL_DELETE(http->parked, exchange);
    deadlines_remove(&http->deadlines, &exchange->deadline);
    unwatch_client(exchange);
    http->parked_count -= !exchange->working && !exchange->follows;
}

/* After this it may be parked, and woken, anew. */
void http_unpark(struct exchange *exchange)
{
    pthread_mutex_lock(&exchange->http->lock);
    exchange->waked = false;
    pthread_mutex_unlock(&exchange->http->lock);
}

/* A request that ends must not stand in the list of the woken: a deadline and
 * an event may both have come. */
void http_forget_wake(struct exchange *exchange)
{
    struct http *http = exchange->http;
    pthread_mutex_lock(&http->lock);
    for (struct exchange **at = &http->woken; exchange->waked && *at; at = &(*at)->woken_next)
        if (*at == exchange) {
            *at = exchange->woken_next;
            break;
        }
    pthread_mutex_unlock(&http->lock);
}

static bool is_stopping(struct http *http)
{
    pthread_mutex_lock(&http->lock);
    bool stopping = http->stop_asked;
    pthread_mutex_unlock(&http->lock);
    return stopping;
}

/* One whose client left: it lives until nothing is under way for it, and until
 * its end where it goes on for nobody. */
void http_resume_orphan(struct exchange *exchange)
{
    struct request *rq = &exchange->rq;
    http_unpark(exchange);
    if (exchange->sink && exchange->sink->busy(rq))
        return;
    bool goes_on = rq->goes_on && rq->resume && !rq->answer.status && !is_stopping(exchange->http);
    enum next next = goes_on ? rq->resume(rq) : NEXT_ANSWER;
    if (next == NEXT_ANSWER)
        http_free_exchange(exchange);
    else
        http_next(exchange, next);
}

/* It was woken, or its work is back: taken off the lists, its connection runs
 * again. */
static void resume(struct exchange *exchange)
{
    struct http *http = exchange->http;
    bool suspended = exchange->suspended;
    if (suspended)
        leave_list(exchange);
    else if (exchange->phase == PHASE_COMMIT)
        http->awaiting--;
    exchange->suspended = exchange->working = false;
    if (exchange->orphan) {
        http_resume_orphan(exchange);
        return;
    }
    if (exchange->phase != PHASE_COMMIT && exchange->phase != PHASE_PARKED) {
        http_unpark(exchange); /* a batch came back while the body was still coming */
        return;
    }
    if (exchange->streaming) {
        http_unpark(exchange);
        exchange->phase = PHASE_SENT;
    } else {
        exchange->phase = PHASE_WOKEN;
    }
    if (suspended)
        MHD_resume_connection(exchange->connection);
    http->progress = true;
}

bool http_resume_woken(struct http *http)
{
    pthread_mutex_lock(&http->lock);
    struct exchange *woken = http->woken;
    struct job *finished = http->finished, *job, *next_job;
    http->woken = NULL;
    http->finished = NULL;
    http->signalled = false;
    pthread_mutex_unlock(&http->lock);
    bool any = woken || finished;
    for (struct exchange *next; woken; woken = next) {
        next = woken->woken_next;
        if (woken->working)
            http_unpark(woken);
        else
            resume(woken);
    }
    DL_FOREACH_SAFE (finished, job, next_job) {
        DL_DELETE(finished, job);
        struct http_job *done = CONTAINER(struct http_job, job, job);
        done->finish(done);
    }
    return any;
}

void http_check_deadlines(struct http *http, int64_t now_us)
{
    struct deadline *first;
    while ((first = deadlines_first(&http->deadlines)) && first->at_us <= now_us) {
        struct exchange *exchange = CONTAINER(struct exchange, deadline, first);
        deadlines_remove(&http->deadlines, first);
        exchange->rq.timed_out = true;
        request_wake_later(&exchange->rq);
    }
}

/* The server stops: everyone is answered with what is known now. Those whose
 * work or batch is under way are woken by that. */
void http_wake_all(struct http *http)
{
    struct exchange *exchange;
    DL_FOREACH (http->parked, exchange) {
        exchange->rq.closing = true;
        if (waits_for_long(exchange))
            request_wake_later(&exchange->rq);
    }
}

/* --- work -------------------------------------------------------------------------------- */

/* On a reader thread, or in the background. */
static void run_job(struct job *job, struct reader *reader)
{
    struct http_job *mine = CONTAINER(struct http_job, job, job);
    struct http *http = mine->http;
    mine->run(mine, reader);
    pthread_mutex_lock(&http->lock);
    DL_APPEND(http->finished, job);
    pthread_mutex_unlock(&http->lock);
    http_flush(http);
}

static void give(struct http *http, struct readers *to, struct http_job *job)
{
    job->http = http;
    job->job.run = run_job;
    readers_give(to, &job->job);
}

void http_do(struct http *http, struct http_job *job)
{
    give(http, http->background, job);
}

static void run_work(struct http_job *job, struct reader *reader)
{
    struct request *rq = &CONTAINER(struct exchange, job, job)->rq;
    if (reader) {
        rq->reader = reader;
        rq->work(rq);
        freshness_seal(rq);
    } else {
        rq->resume = NULL; /* there is nothing it could go on with */
        answer_fault(rq, ERR_DB);
    }
}

static void finish_work(struct http_job *job)
{
    struct exchange *exchange = CONTAINER(struct exchange, job, job);
    exchange->rq.reader = exchange->http->reader;
    http_forget_wake(exchange); /* it goes on now, whoever else wanted that */
    http_unpark(exchange);
    resume(exchange);
}

void http_park_for_work(struct exchange *exchange)
{
    exchange->rq.deadline_us = 0; /* work is bounded by itself */
    exchange->working = true;
    suspend(exchange);
    exchange->job.run = run_work;
    exchange->job.finish = finish_work;
    give(exchange->http, exchange->http->readers, &exchange->job);
}

/* What takes long here holds up everybody: a handler that reads more than a
 * page has taken something for short that is not. */
void http_check_rows(struct exchange *exchange)
{
    struct http *http = exchange->http;
    int64_t rows = reader_rows_seen(http->reader), taken = rows - http->rows_seen;
    http->rows_seen = rows;
    if (taken > ROWS_MAX)
        log_error("too much was read on the loop's thread", LOG_STR("route", exchange->rq.route->pattern),
                  LOG_INT("rows", taken));
}

/* --- what comes next ------------------------------------------------------------------- */

enum MHD_Result http_next(struct exchange *exchange, enum next next)
{
    exchange->rq.timed_out = false;
    switch (next) {
    case NEXT_ANSWER: return http_send(exchange);
    case NEXT_COMMIT: http_park(exchange, PHASE_COMMIT); break;
    case NEXT_PARK: http_park(exchange, PHASE_PARKED); break;
    case NEXT_WORK: http_park_for_work(exchange); break;
    }
    return MHD_YES;
}

void request_queue(struct request *rq, struct op *op)
{
    struct http *http = rq->http;
    op->next = NULL;
    *http->ops_tail = op;
    http->ops_tail = &op->next;
    http->op_count++;
}

int http_parked(const struct http *http)
{
    return http->parked_count;
}

void http_follow(struct request *rq)
{
    rq->exchange->follows = true;
    rq->http->parked_count++;
}
