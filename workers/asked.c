/* What bodies ask that have no thread here: those of a pool's children.
 *
 * A request is read where it is asked, queued as an op of its turn, and answered from
 * its commit. While the disk takes nothing it is said again each second, until it
 * does, or the body is to end. What is to be read from disk, the starter reads.
 *
 * A wait is one of waits.c, as over HTTP: it tells when it is over, and by then the body
 * has room again. */
#include "workers/asked_internal.h"

#include "base/clock.h"

#include <stdlib.h>

enum { AGAIN_US = 1000 * 1000 };

static void call_free(struct asked_call *call)
{
    suspension_release(&call->suspension);
    submission_release(&call->submission);
    group_read_free(call->group);
    buf_release(&call->arena);
    buf_release(&call->text);
    submission_release(&call->submission);
    free(call->ids);
    free(call);
}

/* --- answering ----------------------------------------------------------------------- */

void asked_answer(struct asked_call *call)
{
    struct question *question = call->question;
    if (call->waits) {
        pthread_mutex_lock(&call->run->runner->lock);
        call->run->waiter = NULL;
        pthread_mutex_unlock(&call->run->runner->lock);
    }
    call_free(call);
    question->answered(question);
}

void asked_refuse(struct asked_call *call, const char *word, const char *why)
{
    call->question->refused = word;
    reason_set(&call->question->why, "%s", why);
    asked_answer(call);
}

void asked_stopped(struct asked_call *call)
{
    asked_refuse(call, "stopped", "the run is to end, or is over");
}

void asked_refuse_id(struct asked_call *call, enum err err, int64_t bad)
{
    char id[ID_TEXT_LEN + 1] = "";
    struct reason why;
    id_format(bad, id);
    if (err == ERR_NOT_FOUND)
        reason_set(&why, "there is no invocation %s", id);
    else
        reason_set(&why, "%s waits for this one: neither would ever go on", id);
    asked_refuse(call, err == ERR_NOT_FOUND ? "refused" : "wait-cycle", why.text);
}

/* Of what was written, or could not be. */
void asked_refuse_write(struct asked_call *call, enum err err, const char *limit)
{
    switch (err) {
    case ERR_CONFLICT: /* the lease is another's, or the claim was refused */
    case ERR_UNAVAILABLE: asked_stopped(call); break;
    case ERR_LIMIT: asked_refuse(call, "limit", limit); break;
    case ERR_BUSY: asked_refuse(call, "refused", "a child has that name"); break;
    default: asked_refuse(call, "refused", "it could not be written or read (see the log)");
    }
}

/* --- the starter's lists ---------------------------------------------------------------- */

void asked_give_starter_locked(struct asked_call *call)
{
    struct starter *starter = &call->run->runner->starter;
    call->next = NULL;
    if (starter->asked_last)
        starter->asked_last->next = call;
    else
        starter->asked = call;
    starter->asked_last = call;
    starter_ring_locked(call->run->runner);
}

void asked_give_starter(struct asked_call *call, void (*act)(struct asked_call *call, struct reader *reader))
{
    struct runner *runner = call->run->runner;
    call->act = act;
    pthread_mutex_lock(&runner->lock);
    asked_give_starter_locked(call);
    pthread_mutex_unlock(&runner->lock);
}

/* All wait as long: the list is in order. */
void asked_give_starter_later(struct asked_call *call, void (*act)(struct asked_call *call, struct reader *reader))
{
    struct runner *runner = call->run->runner;
    struct starter *starter = &runner->starter;
    call->act = act;
    call->due_us = clock_mono_us() + AGAIN_US;
    call->next = NULL;
    pthread_mutex_lock(&runner->lock);
    if (starter->later_last)
        starter->later_last->next = call;
    else
        starter->later = call;
    starter->later_last = call;
    starter_ring_locked(runner);
    pthread_mutex_unlock(&runner->lock);
}

static struct asked_call *take_locked(struct asked_call **first, struct asked_call **last)
{
    struct asked_call *call = *first;
    *first = call->next;
    if (!*first)
        *last = NULL;
    return call;
}

/* The service closes, and the disk is not well: it is not waited for. */
bool asked_gives_up(struct asked_call *call)
{
    struct runner *runner = call->run->runner;
    pthread_mutex_lock(&runner->lock);
    bool closes = runner->closing && runner->policy != CLOSE_JOIN && !runner->healthy;
    pthread_mutex_unlock(&runner->lock);
    if (closes)
        attempt_stop(&call->run->attempt, STOP_KILL);
    return closes || atomic_load(&call->question->dropped) || attempt_should_stop(&call->run->attempt);
}

int64_t asked_work_locked(struct runner *runner, struct thread *thread)
{
    struct starter *starter = &runner->starter;
    int64_t now_us = clock_mono_us();
    while (starter->later && starter->later->due_us <= now_us)
        asked_give_starter_locked(take_locked(&starter->later, &starter->later_last));
    if (starter->asked) { /* one, as others want the starter as well */
        struct asked_call *call = take_locked(&starter->asked, &starter->asked_last);
        pthread_mutex_unlock(&runner->lock);
        enum err err = thread->reader ? OK : reader_open(runner->store, &thread->reader, NULL);
        if (err == OK)
            call->act(call, thread->reader);
        else if (asked_gives_up(call))
            asked_stopped(call);
        else
            asked_give_starter_later(call, call->act);
        pthread_mutex_lock(&runner->lock);
    }
    return starter->later ? starter->later->due_us : INT64_MAX;
}

/* --- ops ------------------------------------------------------------------------------------ */

void asked_say(struct asked_call *call)
{
    call->mark = patient_mark(call->run);
    store_queue(call->run->runner->store, &call->op);
}

static void say_again(struct asked_call *call, struct reader *reader)
{
    (void)reader;
    if (asked_gives_up(call)) {
        asked_stopped(call);
        return;
    }
    call->again = true;
    asked_say(call);
}

/* The disk takes nothing, or the claim, which met a fault, was not on it. */
bool asked_is_refused_for_now(struct asked_call *call, enum err err)
{
    return err == ERR_UNAVAILABLE || (err == ERR_CONFLICT && patient_was_unclaimed(call->run, call->mark));
}

bool asked_put_off(struct asked_call *call, enum err err)
{
    if (!asked_is_refused_for_now(call, err))
        return false;
    asked_give_starter_later(call, say_again);
    return true;
}

/* A disk or descriptors that give nothing now will give later. */
bool asked_put_off_reading(struct asked_call *call, enum err err)
{
    if ((err != ERR_UNAVAILABLE && err != ERR_IO) || asked_gives_up(call))
        return false;
    call->question->answer.len = 0;
    asked_give_starter_later(call, call->act);
    return true;
}

/* --- what is asked, read ---------------------------------------------------------------------- */

void asked_ignore(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    (void)in, (void)at, (void)value, (void)target;
}

/* False: it was refused. */
bool asked_settle_faults(struct asked_call *call, struct faults *faults)
{
    struct reason why;
    bool fine = !faults->total;
    if (!fine)
        reason_set(&why, "%s%s%s", faults->items[0].pointer, *faults->items[0].pointer ? ": " : "",
                   faults->items[0].detail);
    faults_release(faults);
    if (!fine)
        asked_refuse(call, "invalid", why.text);
    return fine;
}

bool asked_read(struct asked_call *call, const struct key *fields)
{
    struct faults faults = {0};
    keys_read_json(&(struct keys_json){&faults, &call->arena}, NULL, call->question->body, fields, call);
    return asked_settle_faults(call, &faults);
}

void asked_read_id(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    struct asked_call *call = target;
    keys_json_id(in, at, value, &call->id);
}

/* --- asking ------------------------------------------------------------------------------------------------------------ */

void asked_ask(struct question *question)
{
    static void (*const asks[])(struct asked_call * call) = {
        [ASKED_SUBMIT] = asked_submit,   [ASKED_GROUP] = asked_group, [ASKED_WAIT] = asked_wait,
        [ASKED_LOOK] = asked_look,       [ASKED_STEP] = asked_step,   [ASKED_STEPS] = asked_steps,
        [ASKED_MESSAGE] = asked_message, [ASKED_INBOX] = asked_inbox, [ASKED_SUSPEND] = asked_suspend,
    };
    struct asked_call *call = xcalloc(1, sizeof *call);
    call->question = question;
    call->run = run_of(question->attempt);
    asks[question->asked](call);
}
