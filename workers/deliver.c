/* Deliveries on their way: what is due is read from disk (store/deliveries.h) when the dispatcher's
 * timer says so, its bodies are made on the starter's thread, and it is sent with all other
 * transfers. How each went is an op that says what was believed of it, so whoever dies in
 * the middle, or stands beside another on the same database, only sends it again.
 *
 * Nothing stands in memory but what is under way: in_flight of them at most. */
#include "workers/runner_internal.h"

#include "base/clock.h"
#include "base/digest.h"
#include "base/id.h"
#include "base/log.h"
#include "workers/callbacks/judge.h"
#include "workers/transfers/signature.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <utlist.h>

enum { REPORT_AGAIN_MS = 10 * 1000, HEADERS = 5 };

/* A host and port that something is on its way to. */
struct receiver {
    char *place;
    int users;
    struct lookup lookup;
    struct receiver *prev, *next;
};

struct sending {
    struct runner *runner;
    struct registry *registry; /* keeps the policy alive */
    struct receiver *receiver;
    struct delivery delivery; /* its texts: */
    char *url, *place;
    struct buf body, error;
    char *headers[HEADERS + 1];
    struct op_delivered report;
    struct post *post;           /* NULL: it is not on its way, or no more */
    bool faulted;                /* its report met a fault, and is to be said again */
    struct sending *prev, *next; /* in runner->sendings */
    struct sending *next_unmade; /* in runner->unmade: its body is still to be made */
};

static const struct policy *policy_of(const struct sending *sending)
{
    return registry_callbacks(sending->registry);
}

/* --- life ----------------------------------------------------------------------------- */

static struct receiver *receiver_locked(struct runner *runner, const char *place)
{
    struct receiver *receiver;
    DL_FOREACH (runner->receivers, receiver)
        if (strcmp(receiver->place, place) == 0)
            return receiver->users++, receiver;
    receiver = xcalloc(1, sizeof *receiver);
    receiver->place = xstrdup(place);
    receiver->users = 1;
    DL_APPEND(runner->receivers, receiver);
    return receiver;
}

static void leave_receiver_locked(struct runner *runner, struct receiver *receiver)
{
    if (--receiver->users)
        return;
    DL_DELETE(runner->receivers, receiver);
    free(receiver->place);
    free(receiver);
}

static void add_locked(struct runner *runner, const struct delivery *delivery)
{
    struct sending *sending = xcalloc(1, sizeof *sending);
    sending->runner = runner;
    sending->registry = registry_ref(runner->registry);
    sending->delivery = *delivery;
    sending->url = span_dup(delivery->url);
    sending->place = span_dup(delivery->place);
    sending->delivery.url = span_of(sending->url);
    sending->delivery.place = span_of(sending->place);
    sending->receiver = receiver_locked(runner, sending->place);
    DL_APPEND(runner->sendings, sending);
    LL_APPEND2(runner->unmade, sending, next_unmade);
    runner->sending_count++;
}

static void forget_locked(struct sending *sending)
{
    struct runner *runner = sending->runner;
    DL_DELETE(runner->sendings, sending);
    runner->sending_count--;
    leave_receiver_locked(runner, sending->receiver);
    pthread_cond_broadcast(&runner->quiet);
}

static void sending_free(struct sending *sending)
{
    registry_unref(sending->registry);
    buf_release(&sending->body);
    buf_release(&sending->error);
    for (char **line = sending->headers; *line; line++)
        free(*line);
    free(sending->url);
    free(sending->place);
    free(sending);
}

/* It is due still, and found again at that time. */
static void drop(struct sending *sending, int64_t again_at)
{
    struct runner *runner = sending->runner;
    pthread_mutex_lock(&runner->lock);
    forget_locked(sending);
    dispatcher_set_locked(runner, TIMER_CALLBACKS, again_at);
    pthread_mutex_unlock(&runner->lock);
    sending_free(sending);
}

/* --- how it went ------------------------------------------------------------------------ */

static void log_failed(const struct sending *sending)
{
    char id[ID_TEXT_LEN + 1] = "";
    int left_out;
    if (!runner_may_log(sending->runner, 0, &left_out))
        return;
    id_format(sending->delivery.owner, id);
    log_warn("a callback was given up", LOG_STR("id", id), LOG_INT("n", sending->delivery.n),
             LOG_STR("host", sending->place),
             LOG_INT("tries", sending->delivery.attempts + sending->report.counts),
             LOG_SPAN("error", buf_span(&sending->error)), LOG_INT("left_out", left_out));
}

static void reported(struct op *op)
{
    struct sending *sending = op->owner;
    struct runner *runner = sending->runner;
    bool failed = op->err == OK && sending->report.status == DELIVERY_FAILED;
    pthread_mutex_lock(&runner->lock);
    sending->faulted = err_is_fault(op->err) && !runner->closing;
    if (!sending->faulted)
        forget_locked(sending);
    dispatcher_set_locked(runner, TIMER_CALLBACKS, sending->faulted ? clock_now_ms() + REPORT_AGAIN_MS : 0);
    bool faulted = sending->faulted;
    pthread_mutex_unlock(&runner->lock);
    if (faulted) /* the dispatcher has it */
        return;
    if (failed)
        log_failed(sending);
    sending_free(sending);
}

static void report(struct sending *sending, const struct judgement *judgement, int status)
{
    struct op_delivered *op = &sending->report;
    op_delivered_init(op, &sending->delivery);
    op->status = judgement->status;
    op->counts = judgement->counts;
    op->silent = judgement->silent;
    op->answered = status;
    op->rest_max_ms = policy_of(sending)->rest_ms;
    op->next_at = clock_now_ms() + judgement->delay_ms;
    op->last_status = status;
    op->last_error = sending->error.len ? buf_span(&sending->error) : (struct span){NULL, 0};
    op->op.owner = sending;
    op->op.done = reported;
    store_queue(sending->runner->store, &op->op);
}

static double random_fraction(void)
{
    uint32_t bits;
    random_bytes(&bits, sizeof bits);
    return (double)bits / 4294967296.0;
}

static void judge(struct sending *sending, const struct post_answer *answer)
{
    struct judgement judgement =
        judge_answer(policy_of(sending), sending->delivery.attempts, answer, random_fraction(), &sending->error);
    report(sending, &judgement, answer->end == POST_ANSWERED ? answer->status : 0);
}

/* On the thread that drives transfers. */
static void sent(void *context, const struct post_answer *answer)
{
    struct sending *sending = context;
    struct runner *runner = sending->runner;
    pthread_mutex_lock(&runner->lock);
    sending->post = NULL;
    pthread_mutex_unlock(&runner->lock);
    if (answer->end == POST_STOPPED)
        drop(sending, INT64_MAX);
    else
        judge(sending, answer);
}

/* --- what is sent ------------------------------------------------------------------------- */

static void add_header(struct sending *sending, int *count, struct buf *line)
{
    sending->headers[(*count)++] = buf_take(line);
}

/* The rules want the same id for each try of one message. */
static void add_headers(struct sending *sending)
{
    const struct delivery *delivery = &sending->delivery;
    int64_t at_s = clock_now_ms() / 1000;
    char id[ID_TEXT_LEN + 1] = "", message[64];
    struct buf line = {0};
    int count = 0;
    id_format(delivery->owner, id);
    snprintf(message, sizeof message, "msg_%s_%d", id, delivery->n);
    buf_addl(&line, "Content-Type: application/json");
    add_header(sending, &count, &line);
    buf_addl(&line, "User-Agent: errand");
    add_header(sending, &count, &line);
    buf_addf(&line, "webhook-id: %s", message);
    add_header(sending, &count, &line);
    buf_addf(&line, "webhook-timestamp: %lld", (long long)at_s);
    add_header(sending, &count, &line);
    buf_addl(&line, "webhook-signature: ");
    signature_add(&line, buf_span(&policy_of(sending)->secret), span_of(message), at_s, buf_span(&sending->body));
    add_header(sending, &count, &line);
}

/* The transfer may be over before this knows of it, so sent() waits for the lock. */
static void send_it(struct sending *sending)
{
    const struct policy *policy = policy_of(sending);
    struct runner *runner = sending->runner;
    struct reason why = {""};
    struct post_request request = {
        .url = sending->url,
        .headers = (const char *const *)sending->headers,
        .body = buf_span(&sending->body),
        .timeout_ms = policy->timeout_ms,
        .ca = policy->ca,
        .proxy = policy->proxy,
        .lookup = &sending->receiver->lookup,
        .done = sent,
        .context = sending,
    };
    pthread_mutex_lock(&runner->lock);
    struct post *post = runner->closing ? NULL : post_send(&request, &why);
    bool closing = runner->closing;
    sending->post = post;
    pthread_mutex_unlock(&runner->lock);
    if (!post && closing)
        drop(sending, INT64_MAX);
    else if (!post)
        judge(sending, &(struct post_answer){.end = POST_BROKEN, .error = EAGAIN, .why = why.text});
}

static void refuse(struct sending *sending, const struct reason *why)
{
    struct judgement judgement = {.status = DELIVERY_FAILED};
    judge_add_error(&sending->error, "not_allowed", why->text);
    report(sending, &judgement, 0);
}

/* ERR_NOT_FOUND: the owner is gone, and its deliveries are going. */
static void make(struct sending *sending, struct thread *thread)
{
    struct runner *runner = sending->runner;
    struct reason why;
    if (!policy_allows(policy_of(sending), sending->url, NULL, &why)) {
        refuse(sending, &why);
        return;
    }
    enum err err = thread->reader ? OK : reader_open(runner->store, &thread->reader, NULL);
    if (err == OK)
        err = runner->callbacks.add_body(runner->callbacks.context, thread->reader, &sending->delivery,
                                         policy_of(sending)->result_bytes, &sending->body);
    if (err == OK)
        add_headers(sending);
    if (err == OK)
        send_it(sending);
    else
        drop(sending, clock_now_ms() + FAILED_AGAIN_MS);
}

bool deliver_work_locked(struct runner *runner, struct thread *thread)
{
    struct sending *sending = runner->unmade;
    if (!sending)
        return false;
    LL_DELETE2(runner->unmade, sending, next_unmade);
    pthread_mutex_unlock(&runner->lock);
    make(sending, thread);
    pthread_mutex_lock(&runner->lock);
    return true;
}

/* --- what is due -------------------------------------------------------------------------- */

/* What is asked of the disk; what is under way is copied, as that may end meanwhile. */
struct asking {
    struct op_due op;
    struct runner *runner;
    struct delivery *busy;
    struct buf places;
};

static void asking_free(struct asking *asking)
{
    op_due_release(&asking->op);
    buf_release(&asking->places);
    free(asking->busy);
    free(asking);
}

static void found(struct op *op)
{
    struct asking *asking = op->owner;
    struct runner *runner = asking->runner;
    const struct op_due *due = &asking->op;
    pthread_mutex_lock(&runner->lock);
    timers_done(&runner->timers, TIMER_CALLBACKS);
    for (int i = 0; i < due->count && op->err == OK; i++)
        add_locked(runner, &due->items[i]);
    if (op->err != OK)
        dispatcher_set_locked(runner, TIMER_CALLBACKS, clock_now_ms() + FAILED_AGAIN_MS);
    else if (due->next_at)
        dispatcher_set_locked(runner, TIMER_CALLBACKS, due->next_at);
    dispatcher_wake_locked(runner); /* it may have been set while it was under way */
    if (runner->unmade)
        starter_ring_locked(runner);
    pthread_mutex_unlock(&runner->lock);
    asking_free(asking);
}

static struct asking *ask_locked(struct runner *runner, const struct policy *policy)
{
    struct asking *asking = xcalloc(1, sizeof *asking);
    struct sending *sending;
    int count = 0;
    asking->runner = runner;
    asking->busy = xcalloc((size_t)runner->sending_count + 1, sizeof *asking->busy);
    size_t total = 0;
    DL_FOREACH (runner->sendings, sending)
        total += sending->delivery.place.len;
    buf_reserve(&asking->places, total + 1);
    DL_FOREACH (runner->sendings, sending) {
        struct delivery *busy = &asking->busy[count++];
        *busy = (struct delivery){.owner = sending->delivery.owner, .n = sending->delivery.n};
        busy->place = (struct span){asking->places.data + asking->places.len, sending->delivery.place.len};
        buf_add_span(&asking->places, sending->delivery.place);
    }
    op_due_init(&asking->op);
    asking->op.busy = asking->busy;
    asking->op.busy_count = count;
    asking->op.room = policy->in_flight - count;
    asking->op.room_per_place = policy->per_host;
    asking->op.op.owner = asking;
    asking->op.op.done = found;
    return asking;
}

static void report_again_locked(struct runner *runner, struct ops *ops)
{
    struct sending *sending;
    DL_FOREACH (runner->sendings, sending) {
        if (!sending->faulted)
            continue;
        sending->faulted = false;
        ops_add(ops, &sending->report.op);
    }
}

void deliver_due(struct runner *runner)
{
    struct ops ops = {0};
    pthread_mutex_lock(&runner->lock);
    report_again_locked(runner, &ops);
    const struct policy *policy = registry_callbacks(runner->registry);
    bool asks = runner->callbacks.add_body && runner->healthy && !runner->closing &&
                runner->sending_count < policy->in_flight;
    struct asking *asking = asks ? ask_locked(runner, policy) : NULL;
    if (!asking)
        timers_done(&runner->timers, TIMER_CALLBACKS);
    pthread_mutex_unlock(&runner->lock);
    if (asking)
        ops_add(&ops, &asking->op.op);
    ops_queue(runner->store, &ops);
}

/* --- the end ------------------------------------------------------------------------------- */

static struct sending *take_unsent_locked(struct runner *runner)
{
    struct sending *sending;
    DL_FOREACH (runner->sendings, sending)
        if (sending->faulted)
            break;
    if (!sending && (sending = runner->unmade))
        LL_DELETE2(runner->unmade, sending, next_unmade);
    if (sending)
        forget_locked(sending);
    return sending;
}

void deliver_end(struct runner *runner)
{
    struct sending *sending;
    pthread_mutex_lock(&runner->lock);
    while ((sending = take_unsent_locked(runner)))
        sending_free(sending);
    DL_FOREACH (runner->sendings, sending)
        if (sending->post)
            post_stop(sending->post);
    while (runner->sendings)
        pthread_cond_wait(&runner->quiet, &runner->lock);
    pthread_mutex_unlock(&runner->lock);
}
