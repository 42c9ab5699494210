/* Inside the native kind: a call, between native.c, which runs the body, and
 * native_record.c, where it records.
 *
 * Threads: the body's own, but for the flag. */
#pragma once

#include "base/id.h"
#include "workers/kinds/attempt.h"
#include "workers/sdk/errand_task.h"

/* What the body gets; it sees the first member only. */
struct native_call {
    struct errand_call call;
    struct attempt *attempt;
    struct outcome *outcome;
    bool answered;         /* a result or a failure was given */
    atomic_bool told_stop; /* errand_cancelled() said yes */
    char id[ID_TEXT_LEN + 1];
    struct reason why;            /* of what was refused last */
    struct native_text *texts;    /* that it was given, freed when it returns */
    struct inbox_message message; /* the last one that it was given */
};

static inline struct native_call *native_call(struct errand_call *call)
{
    return (struct native_call *)call;
}

/* A text that lives as long as the body runs; given to it as one with a NUL behind
 * it (`length` may be NULL), 0 comes back. */
struct buf *native_call_text(struct native_call *native);
int native_call_give(struct buf *text, const char **value, size_t *length);

/* ERRAND_REFUSED, with the reason. */
int native_call_refuse(struct native_call *native, const char *why);
int native_call_stopped(struct native_call *native);

/* --- native_record.c: of struct errand_host ------------------------------------- */

int native_record_step(struct errand_call *call, const char *name, const char *json, size_t length,
                       const char **kept, size_t *kept_length);
int native_record_step_get(struct errand_call *call, const char *name, const char **value, size_t *length);
int native_record_message(struct errand_call *call, const char *json, size_t length);
int native_record_inbox(struct errand_call *call, int64_t after_seq, int64_t timeout_ms, const char **body,
                        size_t *length, int64_t *seq);
int native_record_suspend(struct errand_call *call, const char *json, size_t length);
const char *native_record_state(struct errand_call *call, size_t *length);
const char *native_record_woken(struct errand_call *call, size_t *length);
