/* Parked requests: those that wait for a commit (not suspended: the loop calls
 * them again by itself), those that wait for something longer (suspended), and
 * those whose work is done on a reader thread.
 *
 * A request is woken by whoever comes first, its event or its deadline: the
 * flag `waked`, set under the lock, decides. Only the HTTP thread touches
 * libmicrohttpd. */
#include "server/http/internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

static struct http_request *glue_of(struct request *rq)
{
    return rq->glue;
}

/* --- waking ------------------------------------------------------------------------ */

static void signal_loop(struct http *http)
{
    uint64_t one = 1;
    if (write(http->event_fd, &one, sizeof one) != sizeof one && errno != EAGAIN)
        log_error("the loop could not be woken", LOG_STR("error", strerror(errno)));
}

static bool wake_locked(struct http *http, struct http_request *glue)
{
    if (glue->waked)
        return false;
    glue->waked = true;
    glue->woken_next = http->woken;
    http->woken = glue;
    return true;
}

void request_wake_later(struct request *rq)
{
    struct http *http = glue_of(rq)->http;
    pthread_mutex_lock(&http->lock);
    wake_locked(http, glue_of(rq));
    pthread_mutex_unlock(&http->lock);
}

void request_wake_marking(struct request *rq, atomic_bool *mark)
{
    struct http *http = glue_of(rq)->http;
    pthread_mutex_lock(&http->lock);
    atomic_store(mark, true);
    wake_locked(http, glue_of(rq)); /* whoever frees it waits for the lock */
    pthread_mutex_unlock(&http->lock);
}

void http_flush(struct http *http)
{
    pthread_mutex_lock(&http->lock);
    bool wanted = http->woken && !http->signalled;
    http->signalled |= wanted;
    pthread_mutex_unlock(&http->lock);
    if (wanted)
        signal_loop(http);
}

void request_wake(struct request *rq)
{
    struct http *http = glue_of(rq)->http;
    request_wake_later(rq);
    http_flush(http);
}

struct http_request *http_take_woken(struct http *http)
{
    pthread_mutex_lock(&http->lock);
    struct http_request *list = http->woken;
    http->woken = NULL;
    http->signalled = false;
    pthread_mutex_unlock(&http->lock);
    return list;
}

/* --- parking ------------------------------------------------------------------------ */

void http_park(struct http_request *glue, enum phase phase)
{
    struct http *http = glue->http;
    glue->phase = phase;
    if (phase == PHASE_COMMIT) {
        http->awaiting++;
        return;
    }
    glue->suspended = true;
    MHD_suspend_connection(glue->connection);
    glue->parked_previous = NULL;
    glue->parked_next = http->parked;
    if (http->parked)
        http->parked->parked_previous = glue;
    http->parked = glue;
    http->parked_count++;
    if (glue->rq.deadline_us && glue->rq.deadline_us < http->next_deadline_us)
        http->next_deadline_us = glue->rq.deadline_us;
}

static void leave_list(struct http_request *glue)
{
    struct http *http = glue->http;
    if (glue->parked_previous)
        glue->parked_previous->parked_next = glue->parked_next;
    else
        http->parked = glue->parked_next;
    if (glue->parked_next)
        glue->parked_next->parked_previous = glue->parked_previous;
    glue->parked_previous = glue->parked_next = NULL;
    http->parked_count--;
}

/* After this it may be parked, and woken, anew. */
void http_unpark(struct http_request *glue)
{
    pthread_mutex_lock(&glue->http->lock);
    glue->waked = false;
    pthread_mutex_unlock(&glue->http->lock);
}

/* A request that ends must not stand in the list of the woken: a deadline and
 * an event may both have come. */
void http_forget_wake(struct http_request *glue)
{
    struct http *http = glue->http;
    pthread_mutex_lock(&http->lock);
    for (struct http_request **at = &http->woken; glue->waked && *at; at = &(*at)->woken_next)
        if (*at == glue) {
            *at = glue->woken_next;
            break;
        }
    pthread_mutex_unlock(&http->lock);
}

/* One whose client left: kept until nothing is under way for it. */
static void resume_orphan(struct http_request *glue)
{
    if (glue->bulk && bulk_busy(glue->bulk))
        http_unpark(glue);
    else
        http_free_request(glue);
}

/* It was woken: taken off the lists, its connection runs again. */
void http_resume(struct http_request *glue)
{
    struct http *http = glue->http;
    bool suspended = glue->suspended;
    if (suspended)
        leave_list(glue);
    else if (glue->phase == PHASE_COMMIT)
        http->awaiting--;
    glue->suspended = false;
    if (glue->orphan) {
        resume_orphan(glue);
        return;
    }
    if (glue->phase != PHASE_COMMIT && glue->phase != PHASE_PARKED) {
        http_unpark(glue); /* a batch came back while the body was still coming */
        return;
    }
    if (glue->streaming) {
        http_unpark(glue);
        glue->phase = PHASE_SENT;
    } else {
        glue->phase = PHASE_WOKEN;
    }
    if (suspended)
        MHD_resume_connection(glue->connection);
    http->progress = true;
}

void http_check_deadlines(struct http *http, int64_t now_us)
{
    if (now_us < http->next_deadline_us)
        return;
    http->next_deadline_us = INT64_MAX;
    for (struct http_request *next, *glue = http->parked; glue; glue = next) {
        next = glue->parked_next;
        int64_t deadline = glue->rq.deadline_us;
        if (!deadline)
            continue;
        if (deadline > now_us) {
            if (deadline < http->next_deadline_us)
                http->next_deadline_us = deadline;
            continue;
        }
        glue->rq.timed_out = true;
        request_wake_later(&glue->rq);
    }
}

/* The server stops: everyone is answered with what is known now. Those whose
 * work or batch is under way are woken by that. */
void http_wake_all(struct http *http)
{
    for (struct http_request *glue = http->parked; glue; glue = glue->parked_next) {
        glue->rq.closing = true;
        if (glue->rq.deadline_us || glue->streaming)
            request_wake_later(&glue->rq);
    }
}

/* --- what comes next ------------------------------------------------------------------- */

static void give_work(struct http_request *glue)
{
    struct http *http = glue->http;
    pthread_mutex_lock(&http->work_lock);
    glue->woken_next = NULL;
    *http->work_tail = glue;
    http->work_tail = &glue->woken_next;
    pthread_cond_signal(&http->work_wake);
    pthread_mutex_unlock(&http->work_lock);
}

enum MHD_Result http_next(struct http_request *glue, enum next next)
{
    struct request *rq = &glue->rq;
    if (next == NEXT_ANSWER)
        return http_send(glue);
    if (next == NEXT_COMMIT) {
        http_park(glue, PHASE_COMMIT);
        return MHD_YES;
    }
    rq->timed_out = false;
    if (next == NEXT_WORK)
        rq->deadline_us = 0; /* work is bounded by itself */
    http_park(glue, PHASE_PARKED);
    if (next == NEXT_WORK)
        give_work(glue);
    return MHD_YES;
}

void request_queue(struct request *rq, struct op *op)
{
    struct http *http = glue_of(rq)->http;
    op->next = NULL;
    *http->ops_tail = op;
    http->ops_tail = &op->next;
    http->op_count++;
}

int http_parked(const struct http *http)
{
    return http->parked_count;
}

/* --- reader threads ---------------------------------------------------------------------- */

static struct http_request *take_work(struct http *http)
{
    pthread_mutex_lock(&http->work_lock);
    while (!http->work && !http->work_ended)
        pthread_cond_wait(&http->work_wake, &http->work_lock);
    struct http_request *glue = http->work;
    if (glue) {
        http->work = glue->woken_next;
        if (!http->work)
            http->work_tail = &http->work;
    }
    pthread_mutex_unlock(&http->work_lock);
    return glue;
}

static void *worker_thread(void *arg)
{
    struct worker *worker = arg;
    struct http_request *glue;
    while ((glue = take_work(worker->http))) {
        struct request *rq = &glue->rq;
        struct reason why;
        if (worker->reader || reader_open(rq->server->store, &worker->reader, &why) == OK) {
            rq->work(rq, worker->reader);
        } else {
            rq->resume = NULL; /* there is nothing it could go on with */
            answer_fault(rq, ERR_DB);
        }
        request_wake(rq);
    }
    return NULL;
}

enum err http_workers_start(struct http *http, struct reason *why)
{
    for (int i = 0; i < WORKERS; i++) {
        struct worker *worker = &http->workers[i];
        worker->http = http;
        int code = pthread_create(&worker->thread, NULL, worker_thread, worker);
        if (code != 0) {
            reason_set(why, "no thread for reading: %s", strerror(code));
            return ERR_IO;
        }
        pthread_setname_np(worker->thread, "reader");
        worker->started = true;
    }
    return OK;
}

void http_workers_stop(struct http *http)
{
    pthread_mutex_lock(&http->work_lock);
    http->work_ended = true;
    pthread_cond_broadcast(&http->work_wake);
    pthread_mutex_unlock(&http->work_lock);
    for (int i = 0; i < WORKERS; i++) {
        if (http->workers[i].started)
            pthread_join(http->workers[i].thread, NULL);
        reader_close(http->workers[i].reader);
    }
}
