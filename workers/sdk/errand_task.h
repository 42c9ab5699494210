/* errand_task.h - a native task for Errand, the one header it needs.
 *
 *     #include <errand_task.h>
 *     #include <inttypes.h>
 *     #include <stdio.h>
 *
 *     void add(struct errand_call *call)
 *     {
 *         int64_t x, y;
 *         char sum[24];
 *         if (errand_arg_int64(call, "x", &x) != 0 || errand_arg_int64(call, "y", &y) != 0) {
 *             errand_fail_for_good(call, "invalid_args", "x and y must be whole numbers");
 *             return;
 *         }
 *         int length = snprintf(sum, sizeof sum, "%" PRId64, x + y);
 *         errand_result(call, sum, (size_t)length);
 *     }
 *
 *     cc -shared -fPIC -o tasks.so tasks.c
 *
 * A task is a C function in a shared object, run by a thread of the server, or of a child
 * of it (`isolate: true`). It needs
 * no library: every function here goes through a table that the caller brings,
 * so a task links against nothing and can be tested with a table of its own.
 *
 * Contract: a body that returns without errand_result() or errand_fail()
 * succeeds with the result null. The last call of the two counts. A body that
 * is long asks errand_cancelled() now and then: threads cannot be killed, so a
 * timeout or a cancellation only sets that flag, and the attempt ends when the
 * body returns. A body that crashes takes the server with it; the server comes
 * back, and the invocation pays for it from its max_recoveries. Isolated, it takes its
 * child with it, and what does not listen is killed.
 *
 * Threads: a call belongs to the thread that got it. A body may start threads,
 * which may use errand_progress, errand_log and errand_cancelled only, and
 * must have ended when the body returns. */
#ifndef ERRAND_TASK_H
#define ERRAND_TASK_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct errand_call;

enum errand_arg_type { ERRAND_INT64, ERRAND_DOUBLE, ERRAND_BOOL, ERRAND_TEXT, ERRAND_JSON };

/* What the server brings. Members are only ever added at the end; `size` says
 * how many there are. */
struct errand_host {
    size_t size;
    const char *(*args)(struct errand_call *call, size_t *length);
    const char *(*id)(struct errand_call *call);
    const char *(*task)(struct errand_call *call);
    int (*attempt)(struct errand_call *call);
    int (*result)(struct errand_call *call, const char *json, size_t length);
    void (*fail)(struct errand_call *call, const char *type, const char *message, int retry,
                 int64_t retry_after_ms);
    void (*progress)(struct errand_call *call, double value, const char *note);
    void (*log)(struct errand_call *call, const char *format, va_list args);
    int (*cancelled)(struct errand_call *call);
    int (*arg)(struct errand_call *call, const char *name, enum errand_arg_type type, void *value, size_t *length);
    int (*submit)(struct errand_call *call, const char *submission, size_t length, char *id);
    int (*wait)(struct errand_call *call, const char *const *ids, size_t count, int any, int64_t timeout_ms);
    int (*look)(struct errand_call *call, const char *id, const char **status, const char **value, size_t *length);
    const char *(*why)(struct errand_call *call);
    int (*step)(struct errand_call *call, const char *name, const char *json, size_t length, const char **kept,
                size_t *kept_length);
    int (*step_get)(struct errand_call *call, const char *name, const char **value, size_t *length);
    int (*message)(struct errand_call *call, const char *json, size_t length);
    int (*inbox)(struct errand_call *call, int64_t after_seq, int64_t timeout_ms, const char **body,
                 size_t *length, int64_t *seq);
    int (*suspend)(struct errand_call *call, const char *json, size_t length);
    const char *(*state)(struct errand_call *call, size_t *length);
    const char *(*woken)(struct errand_call *call, size_t *length);
    int64_t (*time_left)(struct errand_call *call);
};

struct errand_call {
    const struct errand_host *host;
};

#define ERRAND_ID_BYTES 14 /* of an id as text, with its NUL */
enum { ERRAND_TIMED_OUT = 1, ERRAND_FOUND = 1, ERRAND_NONE = 2, ERRAND_REFUSED = -1 };

/* The type of a task's function. */
typedef void errand_task_fn(struct errand_call *call);

/* The arguments: NUL-terminated JSON text, valid until the body returns. With
 * `params` in the configuration it is the bound object, defaults filled in.
 * `length` may be NULL. */
static inline const char *errand_args(struct errand_call *call, size_t *length)
{
    return call->host->args(call, length);
}

/* An argument by its name, if the arguments are an object (with `params` they
 * always are). Each returns 0, or -1 if there is none of that name, or if it is
 * not of that type, and then leaves *value as it was. */
static inline int errand_arg(struct errand_call *call, const char *name, enum errand_arg_type type, void *value,
                             size_t *length)
{
    if (call->host->size <= offsetof(struct errand_host, arg))
        return -1; /* an older server */
    return call->host->arg(call, name, type, value, length);
}

/* A whole number that fits. */
static inline int errand_arg_int64(struct errand_call *call, const char *name, int64_t *value)
{
    return errand_arg(call, name, ERRAND_INT64, value, NULL);
}

/* Any number, to the nearest double. */
static inline int errand_arg_double(struct errand_call *call, const char *name, double *value)
{
    return errand_arg(call, name, ERRAND_DOUBLE, value, NULL);
}

/* 1 or 0. */
static inline int errand_arg_bool(struct errand_call *call, const char *name, int *value)
{
    return errand_arg(call, name, ERRAND_BOOL, value, NULL);
}

/* A string, its escapes resolved, in UTF-8 with a NUL behind it, valid until the
 * body returns. `length` may be NULL; with it, a NUL within is seen too. */
static inline int errand_arg_text(struct errand_call *call, const char *name, const char **value, size_t *length)
{
    return errand_arg(call, name, ERRAND_TEXT, value, length);
}

/* Any value, as JSON text with a NUL behind it, valid until the body returns.
 * `length` may be NULL. */
static inline int errand_arg_json(struct errand_call *call, const char *name, const char **value, size_t *length)
{
    return errand_arg(call, name, ERRAND_JSON, value, length);
}

/* The invocation's id, 13 characters. */
static inline const char *errand_id(struct errand_call *call)
{
    return call->host->id(call);
}

/* The name under which the task was submitted. */
static inline const char *errand_task(struct errand_call *call)
{
    return call->host->task(call);
}

/* 1 for the first attempt, 2 for the next, recoveries counted. */
static inline int errand_attempt(struct errand_call *call)
{
    return call->host->attempt(call);
}

/* Succeed with this JSON text, copied. Returns 0, or -1 if it is not valid
 * JSON or larger than the limit: then the attempt fails as `bad_result`. */
static inline int errand_result(struct errand_call *call, const char *json, size_t length)
{
    return call->host->result(call, json, length);
}

/* Fail with a type (the task's own word, 1..100 bytes) and a message, both
 * copied. It is retried as the task's options say. */
static inline void errand_fail(struct errand_call *call, const char *type, const char *message)
{
    call->host->fail(call, type, message, 1, -1);
}

/* Fail for good: no retry whatever the options say. */
static inline void errand_fail_for_good(struct errand_call *call, const char *type, const char *message)
{
    call->host->fail(call, type, message, 0, -1);
}

/* Fail, and if there is a retry left, try again no sooner than in so many
 * milliseconds (in place of the backoff; a hundred years at most). */
static inline void errand_fail_retry_after(struct errand_call *call, const char *type, const char *message,
                                           int64_t milliseconds)
{
    call->host->fail(call, type, message, 1, milliseconds < 0 ? 0 : milliseconds);
}

/* Say how far it is: a value of the task's own scale (0 to 1 is customary)
 * and a note or NULL. Cheap; written to disk a few times a second at most. */
static inline void errand_progress(struct errand_call *call, double value, const char *note)
{
    call->host->progress(call, value, note);
}

/* Submit a child: a submission as POST /tasks takes it, in JSON; with "step": NAME
 * it is found again, instead of made again, when this invocation runs another
 * time. A cancellation of this one reaches it, unless "detached": true. Returns 0
 * with its id once it is on disk, or ERRAND_REFUSED (errand_why() says why). */
static inline int errand_submit(struct errand_call *call, const char *submission, size_t length,
                                char id[ERRAND_ID_BYTES])
{
    if (call->host->size <= offsetof(struct errand_host, submit))
        return ERRAND_REFUSED; /* an older server */
    return call->host->submit(call, submission, length, id);
}

/* Wait until all of these have ended (or one of them: any is not 0), at most so
 * many milliseconds (-1: as long as it takes). The body keeps its thread and
 * gives its slot to others meanwhile, and its timeout stands still. Returns 0,
 * ERRAND_TIMED_OUT, or ERRAND_REFUSED: one of them waits for this one, or is not
 * there, or the body is to stop (then errand_cancelled() says so, too). */
static inline int errand_wait(struct errand_call *call, const char *const *ids, size_t count, int any,
                              int64_t timeout_ms)
{
    if (call->host->size <= offsetof(struct errand_host, wait))
        return ERRAND_REFUSED;
    return call->host->wait(call, ids, count, any, timeout_ms);
}

/* How an invocation stands: its status ("succeeded", ...), and its result, or
 * its error if it failed, as JSON text with a NUL behind it ("null": it has
 * none), valid until the body returns. `length` may be NULL. Returns 0 or ERRAND_REFUSED. */
static inline int errand_look(struct errand_call *call, const char *id, const char **status, const char **value,
                              size_t *length)
{
    if (call->host->size <= offsetof(struct errand_host, look))
        return ERRAND_REFUSED;
    return call->host->look(call, id, status, value, length);
}

/* Record a step: a value (JSON) under a name (1 to 100 bytes of UTF-8), once. It stays with the
 * invocation: when the body runs again, after a crash or as a retry, errand_step_get()
 * gives it, and the work behind it need not be done again. Returns 0 once it is on disk,
 * ERRAND_FOUND if a value stood there already, or ERRAND_REFUSED. *kept is then what
 * stands: this value, or the first one; with a NUL behind it, valid until the body
 * returns. `kept` and `kept_length` may be NULL. */
static inline int errand_step(struct errand_call *call, const char *name, const char *json, size_t length,
                              const char **kept, size_t *kept_length)
{
    if (call->host->size <= offsetof(struct errand_host, step))
        return ERRAND_REFUSED; /* an older server */
    return call->host->step(call, name, json, length, kept, kept_length);
}

/* What is recorded under that name, by this turn or an earlier one: 0 with the
 * value, valid until the body returns; ERRAND_NONE; or ERRAND_REFUSED. `length` may be NULL. */
static inline int errand_step_get(struct errand_call *call, const char *name, const char **value, size_t *length)
{
    if (call->host->size <= offsetof(struct errand_host, step_get))
        return ERRAND_REFUSED;
    return call->host->step_get(call, name, value, length);
}

/* Send a message out: JSON, at most 64 KiB. Returns 0 once it is on disk, for
 * whoever follows this invocation, or ERRAND_REFUSED. A body that runs again sends again
 * what it says again. */
static inline int errand_message(struct errand_call *call, const char *json, size_t length)
{
    if (call->host->size <= offsetof(struct errand_host, message))
        return ERRAND_REFUSED;
    return call->host->message(call, json, length);
}

/* The next message that was sent to this invocation, after the one with the number
 * `after_seq` (0: the first): 0 with the body, as JSON text with a NUL behind it, valid
 * until the next call of this function; ERRAND_NONE if there is none within so many
 * milliseconds (0: do not wait, -1: wait as long as it takes, without a slot, as
 * errand_wait() does); or ERRAND_REFUSED. `length` and `seq` may be NULL. What was given is
 * read when the body succeeds; else the next run of it gets it again. */
static inline int errand_inbox(struct errand_call *call, int64_t after_seq, int64_t timeout_ms, const char **body,
                               size_t *length, int64_t *seq)
{
    if (call->host->size <= offsetof(struct errand_host, inbox))
        return ERRAND_REFUSED;
    return call->host->inbox(call, after_seq, timeout_ms, body, length, seq);
}

/* End this turn to go on later: `{"on": {"ids": [...], "mode": "all" or "any",
 * "inbox": true, "until": a time or a duration}, "state": any JSON}`. The first of those
 * that is there wakes it. Returns 0 once it is on disk: the body is to return then, no
 * thread, slot or memory is kept, and nothing else that it says counts, but its log; a new
 * turn starts when it is woken, with the state and with what woke it. ERRAND_REFUSED: the
 * turn goes on. */
static inline int errand_suspend(struct errand_call *call, const char *json, size_t length)
{
    if (call->host->size <= offsetof(struct errand_host, suspend))
        return ERRAND_REFUSED; /* an older server */
    return call->host->suspend(call, json, length);
}

/* The state that the last turn left when it suspended, as JSON text with a NUL
 * behind it, valid until the body returns; NULL: none did, or it left none. `length`
 * may be NULL. */
static inline const char *errand_state(struct errand_call *call, size_t *length)
{
    return call->host->size <= offsetof(struct errand_host, state) ? NULL : call->host->state(call, length);
}

/* What woke it: `{"by": "ids", "inbox" or "until", "results": [{"id", "step", "status",
 * "result", "error"}], "messages": [{"seq", "body"}]}`, in the same way. The messages are
 * read when the turn suspends again; else the next one gets them again. */
static inline const char *errand_woken(struct errand_call *call, size_t *length)
{
    return call->host->size <= offsetof(struct errand_host, woken) ? NULL : call->host->woken(call, length);
}

/* Why the last of those that can be refused was. */
static inline const char *errand_why(struct errand_call *call)
{
    return call->host->size <= offsetof(struct errand_host, why) ? "the server is older" : call->host->why(call);
}

/* Append to the invocation's log, as printf; nothing is added at the end. */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
static inline void
errand_log(struct errand_call *call, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    call->host->log(call, format, args);
    va_end(args);
}

/* Not 0 once the invocation is cancelled, its timeout has passed, or the
 * server stops what runs. Cheap enough for an inner loop. */
static inline int errand_cancelled(struct errand_call *call)
{
    return call->host->cancelled(call);
}

/* Milliseconds until its turn times out or its invocation's deadline comes, whichever is
 * first; 0: it is over. -1: it has as long as it takes (or the server is older than
 * this). Waits are left out of the timeout. */
static inline int64_t errand_time_left(struct errand_call *call)
{
    if (call->host->size <= offsetof(struct errand_host, time_left))
        return -1;
    return call->host->time_left(call);
}

#ifdef __cplusplus
}
#endif
#endif
