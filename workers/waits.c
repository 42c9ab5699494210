#include "workers/waits.h"

#include "base/clock.h"
#include "workers/leases_internal.h"
#include "workers/runner_internal.h"

#include <stdlib.h>
#include <utlist.h>

enum { QUIET_US = 60 * 1000000 };

enum wait_state {
    WAIT_REGISTERING, /* op_wait is on its way */
    WAIT_ASLEEP,
    WAIT_RESUMES, /* a command's that wants its slot: in runner->resumes */
};

struct wait {
    struct deadline deadline; /* first: found by it */
    struct turn turn;         /* found by turn.id */
    struct runner *runner;
    struct run *run; /* NULL: it is run elsewhere */
    struct op_wait op;
    struct op_resume resume; /* of one that is run elsewhere; a run has its own */
    int64_t *ids;
    int count; /* 0: not known, the last server registered it; or it waits for a message alone */
    bool any;
    bool inbox; /* a message after that ends it */
    int64_t after_seq;
    enum wait_state state;
    bool waits;            /* its row does */
    bool woken, timed_out; /* it may go on */
    bool over;             /* while it was registering: it is freed when that is back */
    int64_t until_us;      /* when it is given up */
    int64_t quiet_us;      /* when it is over if nobody asks */
    struct wait_ask *ask;  /* who asks; NULL: nobody */
    UT_hash_handle hh;
};

/* --- one wait --------------------------------------------------------------------- */

static struct wait *find_locked(struct runner *runner, int64_t id)
{
    struct wait *wait;
    HASH_FIND(hh, runner->waits, &id, sizeof id, wait);
    return wait;
}

static struct wait *new_locked(struct runner *runner, const struct turn *turn, struct run *run)
{
    struct wait *wait = xcalloc(1, sizeof *wait);
    wait->turn = *turn;
    wait->runner = runner;
    wait->run = run;
    wait->state = WAIT_ASLEEP;
    wait->until_us = INT64_MAX;
    wait->quiet_us = clock_mono_us() + QUIET_US;
    if (run)
        run->wait = wait;
    HASH_ADD(hh, runner->waits, turn.id, sizeof wait->turn.id, wait);
    return wait;
}

static void wait_free(struct wait *wait)
{
    free(wait->ids);
    free(wait);
}

/* Found no more. */
static void forget_locked(struct wait *wait)
{
    struct runner *runner = wait->runner;
    deadlines_remove(&runner->wait_deadlines, &wait->deadline);
    HASH_DELETE(hh, runner->waits, wait);
    if (wait->run)
        wait->run->wait = NULL;
    wait->run = NULL;
    wait->over = true;
    if (wait->state != WAIT_REGISTERING)
        wait_free(wait);
}

static void end_ask_locked(struct wait *wait, enum wait_end end, enum err err)
{
    struct wait_ask *ask = wait->ask;
    wait->quiet_us = clock_mono_us() + QUIET_US;
    if (!ask)
        return;
    wait->ask = NULL;
    ask->wait = NULL;
    ask->end = end;
    ask->err = err;
    ask->bad = wait->op.bad;
    ask->over(ask);
}

static void watch_locked(struct wait *wait)
{
    struct runner *runner = wait->runner;
    int64_t at_us = wait->timed_out ? INT64_MAX : wait->until_us;
    if (!wait->ask && wait->quiet_us < at_us)
        at_us = wait->quiet_us;
    deadlines_remove(&runner->wait_deadlines, &wait->deadline);
    if (at_us == INT64_MAX || wait->state != WAIT_ASLEEP)
        return;
    deadlines_add(&runner->wait_deadlines, &wait->deadline, at_us);
    dispatcher_set_locked(runner, TIMER_WAITS, at_us);
}

/* --- going on ------------------------------------------------------------------------ */

static enum wait_end end_of(const struct wait *wait)
{
    return wait->woken ? WAIT_MET : wait->timed_out ? WAIT_TIMED_OUT : WAIT_GOES_ON;
}

static void resumed_elsewhere(struct op *op)
{
    wait_free(op->owner);
}

/* It needs no slot. The wait is freed when its row is written. */
static void go_on_elsewhere_locked(struct wait *wait, enum wait_end end)
{
    struct runner *runner = wait->runner;
    leases_go_on_locked(runner, &wait->turn);
    end_ask_locked(wait, end, OK);
    deadlines_remove(&runner->wait_deadlines, &wait->deadline);
    HASH_DELETE(hh, runner->waits, wait);
    op_resume_init(&wait->resume, &wait->turn);
    wait->resume.turn.op.owner = wait;
    wait->resume.turn.op.done = resumed_elsewhere;
    store_queue(runner->store, &wait->resume.turn.op);
}

/* As soon as there is a slot, if it has none. */
static void go_on_here_locked(struct wait *wait)
{
    struct runner *runner = wait->runner;
    wait->state = WAIT_RESUMES;
    deadlines_remove(&runner->wait_deadlines, &wait->deadline);
    if (wait->run->task->kind->has_room) { /* which it waits for in its kind */
        atomic_store(&wait->run->attempt.waits, WAITS_OVER);
        attempt_look(&wait->run->attempt);
        return;
    }
    in_place_want_slot_locked(wait->run);
    if (wait->run->grant.in_flight) /* it needs none */
        waits_resume_locked(wait->run);
    else
        in_place_freed_locked(runner);
}

void waits_resume_locked(struct run *run)
{
    struct wait *wait = run->wait;
    struct attempt *attempt = &run->attempt;
    in_place_take_slot_locked(run);
    if (run->timeout_left_us)
        attempt->deadline_us = clock_mono_us() + run->timeout_left_us;
    run->timeout_left_us = 0;
    attempt_look(attempt); /* who minds it sleeps until its deadline */
    if (wait->waits)
        in_place_resume_row(run);
    end_ask_locked(wait, end_of(wait), OK);
    forget_locked(wait);
}

/* What it waits for is there, or its time is over. */
static void go_on_locked(struct wait *wait, bool unasked)
{
    if (!wait->run)
        go_on_elsewhere_locked(wait, end_of(wait));
    else if (wait->ask || unasked)
        go_on_here_locked(wait);
    else
        watch_locked(wait);
}

/* --- registering ----------------------------------------------------------------------- */

/* It gives its slot back, and its timeout stands still. */
static void fall_asleep_locked(struct wait *wait)
{
    struct run *run = wait->run;
    wait->state = WAIT_ASLEEP;
    wait->waits = true;
    if (!run) {
        leases_stand_still_locked(wait->runner, &wait->turn);
    } else if (!run->waits) {
        int64_t deadline_us = run->attempt.deadline_us, left_us = deadline_us - clock_mono_us();
        run->timeout_left_us = !deadline_us ? 0 : left_us > 0 ? left_us : 1;
        run->attempt.deadline_us = 0;
        in_place_give_slot_locked(run);
        threads_replace_later_locked(wait->runner);
    }
}

static bool is_cancelled(const struct wait *wait)
{
    return wait->run ? atomic_load(&wait->run->attempt.stop) == STOP_CANCEL
                     : leases_is_cancelled_locked(wait->runner, &wait->turn);
}

/* It was not registered, or there was nothing to wait for. One that waited before
 * goes on: nobody knows for what. */
static void not_registered_locked(struct wait *wait, enum wait_end end, enum err err)
{
    wait->state = WAIT_ASLEEP;
    wait->waits &= end != WAIT_MET;
    if (wait->run && wait->run->waits && end == WAIT_MET) {
        wait->woken = true;
        go_on_here_locked(wait);
        return;
    }
    end_ask_locked(wait, end, err);
    if (!wait->run)
        leases_go_on_locked(wait->runner, &wait->turn);
    if (wait->run && wait->run->waits)
        go_on_here_locked(wait);
    else if (!wait->run && wait->waits)
        go_on_elsewhere_locked(wait, end);
    else
        forget_locked(wait);
}

static bool has_suspended(const struct wait *wait)
{
    return wait->run && atomic_load(&wait->run->attempt.suspended);
}

/* What is left of a body whose turn has suspended goes on, to its end, with a slot. */
static void outlive_turn_locked(struct wait *wait)
{
    wait->waits = false;
    end_ask_locked(wait, WAIT_REFUSED, ERR_CONFLICT);
    if (wait->state == WAIT_ASLEEP)
        go_on_here_locked(wait);
}

static void registered(struct op *op)
{
    struct wait *wait = op->owner;
    struct runner *runner = wait->runner;
    pthread_mutex_lock(&runner->lock);
    if (wait->over) {
        wait_free(wait);
    } else if (op->err != OK || wait->op.met) {
        not_registered_locked(wait, op->err == OK ? WAIT_MET : WAIT_REFUSED, op->err);
    } else {
        fall_asleep_locked(wait);
        if (has_suspended(wait))
            outlive_turn_locked(wait);
        else if (is_cancelled(wait))
            waits_cancelled_locked(runner, wait->turn.id);
        else if (wait->woken)
            go_on_locked(wait, false);
        else
            watch_locked(wait);
    }
    pthread_mutex_unlock(&runner->lock);
}

/* Returns what is to be queued without the lock. */
static struct op *register_locked(struct wait *wait, const struct wait_ask *ask)
{
    bool timed = ask->timeout_ms >= 0;
    deadlines_remove(&wait->runner->wait_deadlines, &wait->deadline);
    free(wait->ids);
    wait->ids = xmalloc((size_t)(ask->count + 1) * sizeof *wait->ids);
    memcpy(wait->ids, ask->ids, (size_t)ask->count * sizeof *wait->ids);
    wait->count = ask->count;
    wait->any = ask->any || ask->inbox;
    wait->inbox = ask->inbox;
    wait->after_seq = ask->after_seq;
    wait->until_us = timed ? clock_mono_us() + ask->timeout_ms * 1000 : INT64_MAX;
    wait->state = WAIT_REGISTERING;
    wait->woken = wait->timed_out = false;
    if (wait->run) {
        wait->run->woken = false;
        wait->run->hears = wait->inbox;
    }
    op_wait_init(&wait->op, &wait->turn);
    wait->op.ids = wait->ids;
    wait->op.count = wait->count;
    wait->op.any = wait->any;
    wait->op.inbox = wait->inbox;
    wait->op.after_seq = wait->after_seq;
    wait->op.timed = timed || wait->inbox; /* a message comes from anywhere: it closes no circle */
    wait->op.again = true;
    wait->op.turn.op.owner = wait;
    wait->op.turn.op.done = registered;
    return &wait->op.turn.op;
}

/* --- asking ------------------------------------------------------------------------------ */

static bool is_same(const struct wait *wait, const struct wait_ask *ask)
{
    return wait->count == ask->count && wait->any == (ask->any || ask->inbox) && wait->inbox == ask->inbox &&
           wait->after_seq == ask->after_seq &&
           memcmp(wait->ids, ask->ids, (size_t)ask->count * sizeof *ask->ids) == 0;
}

static void refuse_locked(struct wait_ask *ask, enum wait_end end, enum err err)
{
    ask->end = end;
    ask->err = err;
    ask->over(ask);
}

static void attach_locked(struct wait *wait, struct wait_ask *ask)
{
    end_ask_locked(wait, WAIT_GOES_ON, OK); /* who asked before may ask again */
    wait->ask = ask;
    ask->wait = wait;
}

static void join_locked(struct wait *wait, struct wait_ask *ask)
{
    attach_locked(wait, ask);
    if (wait->state == WAIT_ASLEEP && (wait->woken || wait->timed_out))
        go_on_locked(wait, false);
    else
        watch_locked(wait);
}

static struct run *find_run_locked(struct runner *runner, const struct turn *turn)
{
    struct run *run;
    DL_FOREACH (runner->runs, run)
        if (run->grant.turn.id == turn->id && run->grant.turn.lease == turn->lease)
            return run;
    return NULL;
}

/* Returns what is to be queued without the lock, or NULL. */
static struct op *ask_locked(struct runner *runner, struct wait_ask *ask)
{
    struct run *run = ask->elsewhere ? NULL : find_run_locked(runner, &ask->turn);
    struct wait *wait = find_locked(runner, ask->turn.id);
    bool is_over = (!ask->elsewhere && !run) || (wait && wait->turn.lease != ask->turn.lease);
    if (is_over || (run && run->grant.in_process)) {
        refuse_locked(ask, is_over ? WAIT_REFUSED : WAIT_BUSY, is_over ? ERR_CONFLICT : OK);
        return NULL;
    }
    if (wait && is_same(wait, ask)) {
        join_locked(wait, ask);
        return NULL;
    }
    if (wait && (wait->ask || wait->state != WAIT_ASLEEP)) {
        refuse_locked(ask, WAIT_BUSY, OK);
        return NULL;
    }
    if (!wait)
        wait = new_locked(runner, &ask->turn, run);
    attach_locked(wait, ask);
    return register_locked(wait, ask);
}

void waits_ask(struct runner *runner, struct wait_ask *ask)
{
    ask->wait = NULL;
    ask->end = WAIT_GOES_ON;
    pthread_mutex_lock(&runner->lock);
    struct op *op = ask_locked(runner, ask);
    pthread_mutex_unlock(&runner->lock);
    if (op)
        store_queue(runner->store, op);
}

void waits_leave(struct runner *runner, struct wait_ask *ask)
{
    pthread_mutex_lock(&runner->lock);
    struct wait *wait = ask->wait;
    ask->wait = NULL;
    if (wait) {
        wait->ask = NULL;
        wait->quiet_us = clock_mono_us() + QUIET_US;
        watch_locked(wait);
    }
    pthread_mutex_unlock(&runner->lock);
}

void waits_stir(struct runner *runner, const struct turn *turn)
{
    pthread_mutex_lock(&runner->lock);
    struct wait *wait = find_locked(runner, turn->id);
    if (wait && wait->turn.lease == turn->lease && wait->state == WAIT_ASLEEP && !wait->ask)
        go_on_locked(wait, true);
    pthread_mutex_unlock(&runner->lock);
}

/* --- what happens meanwhile ----------------------------------------------------------------- */

void waits_woken_locked(struct runner *runner, int64_t id)
{
    struct wait *wait = find_locked(runner, id);
    if (!wait)
        return;
    wait->woken = true;
    if (wait->state == WAIT_ASLEEP)
        go_on_locked(wait, false);
}

void waits_heard_locked(struct runner *runner, int64_t id)
{
    struct wait *wait = find_locked(runner, id);
    if (wait && wait->inbox)
        waits_woken_locked(runner, id);
}

/* A command hears it by a signal, too, and ends without a slot, or is ended. */
void waits_cancelled_locked(struct runner *runner, int64_t id)
{
    struct wait *wait = find_locked(runner, id);
    if (!wait)
        return;
    if (!wait->run && wait->state == WAIT_ASLEEP)
        go_on_elsewhere_locked(wait, WAIT_CANCELLED);
    else
        end_ask_locked(wait, WAIT_CANCELLED, OK);
}

void waits_ended_locked(struct runner *runner, int64_t id)
{
    struct wait *wait = find_locked(runner, id);
    if (wait && has_suspended(wait)) {
        outlive_turn_locked(wait);
    } else if (wait && !wait->run) {
        end_ask_locked(wait, WAIT_REFUSED, ERR_CONFLICT);
        forget_locked(wait);
    }
}

void waits_end_ask_locked(struct run *run)
{
    if (run->wait)
        end_ask_locked(run->wait, WAIT_CANCELLED, OK);
}

void waits_left_locked(struct run *run)
{
    struct wait *wait = run->wait;
    if (!wait)
        return;
    end_ask_locked(wait, WAIT_REFUSED, ERR_CONFLICT);
    if (run->waits)
        in_place_forget_slot_locked(run, wait->state == WAIT_RESUMES);
    forget_locked(wait);
}

void waits_take_over_locked(struct run *run)
{
    struct wait *wait = run->wait;
    if (!wait)
        return;
    if (run->waits)
        in_place_forget_slot_locked(run, wait->state == WAIT_RESUMES);
    run->wait = NULL;
    wait->run = NULL;
}

void waits_expire(struct runner *runner)
{
    int64_t now_us = clock_mono_us();
    struct deadline *first;
    pthread_mutex_lock(&runner->lock);
    while ((first = deadlines_first(&runner->wait_deadlines)) && first->at_us <= now_us) {
        struct wait *wait = (struct wait *)first;
        bool was_asked = wait->ask, quiet = !was_asked && wait->quiet_us <= now_us;
        deadlines_remove(&runner->wait_deadlines, first);
        wait->timed_out |= wait->until_us <= now_us;
        if (wait->timed_out || quiet)
            go_on_locked(wait, quiet);
        else
            watch_locked(wait);
    }
    if (first)
        dispatcher_set_locked(runner, TIMER_WAITS, first->at_us);
    pthread_mutex_unlock(&runner->lock);
}

void waits_load_locked(struct runner *runner, const struct turn *turn)
{
    struct wait *wait = new_locked(runner, turn, NULL);
    wait->waits = true;
    watch_locked(wait);
}

void waits_release(struct runner *runner)
{
    struct wait *wait, *next;
    HASH_ITER (hh, runner->waits, wait, next)
        forget_locked(wait);
    deadlines_release(&runner->wait_deadlines);
}
