/* A body's word that is to reach the disk, however long that takes none: it is said
 * again until commits work, or until the body is to end. */
#include "workers/runner_internal.h"

#include "base/clock.h"

#include <time.h>
#include <utlist.h>

enum { AGAIN_MS = 1000, UNCLAIMED = -1 };

int patient_mark(struct run *run)
{
    pthread_mutex_lock(&run->runner->lock);
    int mark = run->claim_faulted ? UNCLAIMED : run->claim_faults; /* it may come after the op, in one batch */
    pthread_mutex_unlock(&run->runner->lock);
    return mark;
}

bool patient_was_unclaimed(struct run *run, int mark)
{
    return mark == UNCLAIMED || patient_mark(run) != mark;
}

/* The service closes, and the disk is not well: it is not waited for, and the body
 * runs again, at no cost. */
static bool gives_up_locked(struct run *run)
{
    struct runner *runner = run->runner;
    if (runner->closing && runner->policy != CLOSE_JOIN)
        attempt_stop(&run->attempt, STOP_KILL);
    return attempt_should_stop(&run->attempt);
}

void patient_well_locked(struct runner *runner)
{
    struct run *run;
    DL_FOREACH (runner->runs, run)
        in_place_notify_locked(run);
}

bool patient_rest(struct run *run)
{
    struct runner *runner = run->runner;
    int64_t until_us = clock_mono_us() + AGAIN_MS * 1000;
    if (run->attempt.deadline_us && run->attempt.deadline_us < until_us)
        until_us = run->attempt.deadline_us;
    struct timespec until = {until_us / 1000000, until_us % 1000000 * 1000};
    pthread_mutex_lock(&runner->lock);
    bool on = !gives_up_locked(run);
    if (on) {
        pthread_cond_timedwait(&run->resumes, &runner->lock, &until);
        on = !gives_up_locked(run);
    }
    pthread_mutex_unlock(&runner->lock);
    return on;
}

enum err patient_do(struct run *run, struct op *op, bool *again)
{
    for (*again = false;; *again = true) {
        int mark = patient_mark(run);
        enum err err = store_do(run->runner->store, op);
        if (err != ERR_UNAVAILABLE && (err != ERR_CONFLICT || !patient_was_unclaimed(run, mark)))
            return err;
        if (!patient_rest(run))
            return ERR_UNAVAILABLE;
    }
}
