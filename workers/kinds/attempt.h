/* One attempt in progress, and how it came out: what stands between those who
 * want a body run and the kinds, which run it.
 *
 * Who wants one fills an attempt, calls attempt_start() or attempt_run(), and
 * takes the outcome. A kind knows nothing of the store: logs and progress leave
 * through the sink.
 *
 * Threads: an attempt belongs to whoever fills it, but from attempt_start() to
 * its end to its kind (kind.h). Any thread may call attempt_stop(), and until
 * the end what logs and reports, which has a lock. */
#pragma once

#include "base/id.h"
#include "workers/tasks/task.h"

#include <pthread.h>
#include <stdatomic.h>

enum stream { STREAM_STDOUT = 1, STREAM_STDERR = 2 };

/* Why a body must end early. */
enum stop { STOP_NONE, STOP_CANCEL /* the client's */, STOP_KILL /* the server's, at closing */ };

struct attempt_limits {
    int64_t result_bytes;  /* of a result: 8 MiB */
    int64_t log_bytes;     /* of an attempt's log: 10 MiB */
    int64_t kill_grace_ms; /* between SIGTERM and SIGKILL: 5s */
};

/* A piece of the log: bytes of one stream, in the order in which they came. */
struct log_piece {
    enum stream stream;
    size_t len;
};

/* What was logged and not yet flushed: `bytes` in pieces. */
struct log_pending {
    struct buf bytes;
    struct log_piece *pieces;
    int count, cap;
};

struct attempt;
struct journal_record;

/* What a wait came to. */
enum waited { WAITED_MET, WAITED_TIMED_OUT, WAITED_STOPPED /* the body is to end */, WAITED_REFUSED };

/* What came of a word that a body has put on record, or asked for. */
enum said {
    SAID,         /* it is on disk; or what was asked for is there */
    SAID_BEFORE,  /* another value stood under that name */
    SAID_NOTHING, /* nothing is there */
    SAID_STOPPED, /* the body is to end, and it is not known to be on disk */
    SAID_REFUSED,
};

/* A message of the inbox. */
struct inbox_message {
    int64_t seq;
    struct buf body; /* JSON; the caller's to release */
};

/* How another invocation stands. */
struct child_view {
    const char *status;       /* "succeeded", ...; static */
    struct buf result, error; /* JSON; empty: none. The caller's to release */
};

/* What a body asks by a kind that has no thread to wait for the answer. */
enum asked {
    ASKED_SUBMIT,
    ASKED_GROUP,
    ASKED_WAIT,
    ASKED_LOOK,
    ASKED_STEP,
    ASKED_STEPS,
    ASKED_MESSAGE,
    ASKED_INBOX,
    ASKED_SUSPEND
};

/* One such request, as workers/sdk/PROTOCOL.md has it. Its owner's; it stays as it is
 * until it is answered. */
struct question {
    struct attempt *attempt; /* which has not ended before that */
    enum asked asked;
    struct span body; /* a checked JSON object; `type`, `run` and `seq` in it are not looked at */

    /* Called once, on any thread, under locks: it only wakes. */
    void (*answered)(struct question *question);
    atomic_bool dropped; /* nobody wants the answer: what cannot be done now is not tried again */

    /* out */
    const char *refused; /* a word, static; NULL: it was done */
    struct reason why;   /* of what was refused */
    struct buf answer;   /* members of an object, each after a comma. The owner's to release */
};

/* Does the body wait in place? It has no thread that would. */
enum waits {
    WAITS_NOT,
    WAITS,     /* and holds no room of its kind */
    WAITS_OVER /* it is to have room again: then the kind calls sink->goes_on() */
};

/* Where logs and progress go while the attempt runs. The callee takes the
 * bytes out of `pending` (the caller resets it); progress is copied. May be
 * called on any thread, under the attempt's lock: no blocking.
 *
 * The others are what a body asks of the service, on the thread that it runs on,
 * one at a time; they block. NULL where there is no service (`errand run`). */
struct attempt_sink {
    bool log_at_once; /* nothing is held back: a process that dies has said all that it logged */
    void (*log)(struct attempt *attempt, struct log_pending *pending);
    void (*progress)(struct attempt *attempt, double value, struct span note);

    /* A child, made from a submission as JSON. False with the reason. */
    bool (*submit)(struct attempt *attempt, struct span submission, int64_t *id, struct reason *why);

    /* Until all of them have ended, or one of them (`any`), or so many
     * milliseconds are over (-1: as long as it takes). It holds no slot
     * meanwhile, and its timeout stands still. Refused with the reason. */
    enum waited (*wait)(struct attempt *attempt, const int64_t *ids, int count, bool any, int64_t timeout_ms,
                        struct reason *why);

    /* ERR_NOT_FOUND, or a fault. */
    enum err (*look)(struct attempt *attempt, int64_t id, struct child_view *out);

    /* These keep at it while the disk takes nothing, until the body is to end.
     *
     * A step, recorded once: `kept` is the value that stands, this one or (SAID_BEFORE) the
     * first. Name and value were checked. What is recorded under a name: SAID or SAID_NOTHING. */
    enum said (*step)(struct attempt *attempt, struct span name, struct span value, struct buf *kept,
                      struct reason *why);
    enum said (*step_get)(struct attempt *attempt, struct span name, struct buf *value, struct reason *why);

    /* A message out, of checked JSON. */
    enum said (*message)(struct attempt *attempt, struct span body, struct reason *why);

    /* The first message in that no turn before has read, after that one (0: of all). Waits for it as
     * `wait` does, then SAID_NOTHING. What was given is read when the body succeeds. */
    enum said (*inbox)(struct attempt *attempt, int64_t after_seq, int64_t timeout_ms, struct inbox_message *out,
                       struct reason *why);

    /* The turn ends, to go on later as checked JSON says (workers/suspension.h): SAID, and how the
     * body ends is nobody's business from then on. Refused: the turn goes on. */
    enum said (*suspend)(struct attempt *attempt, struct span suspension, struct reason *why);

    /* Of kinds whose bodies are `in_flight` alone. The turn begins, on that worker (copied);
     * until then its invocation is queued. Asks for something: answered later. A body that waited
     * in place has room again, and is no longer waiting when this returns. Any thread; no
     * locks are held. */
    void (*begins)(struct attempt *attempt, const char *worker);
    void (*ask)(struct question *question);
    void (*goes_on)(struct attempt *attempt);

    /* It is to end, or has: a request that waits for something is answered now. */
    void (*wait_no_more)(struct attempt *attempt);

    /* Appends the address of the turn's own lease: whoever has it has the turn, and
     * no log shows it. Nothing if the service has no address. Does not block. */
    void (*add_lease_url)(struct attempt *attempt, struct buf *out);
};

/* The attempt is over and its outcome is decided. Any thread, perhaps before
 * attempt_start() has returned. */
typedef void attempt_ended(struct attempt *attempt, void *context);

struct attempt {
    const struct task *task;
    int64_t id;
    int number;       /* 1 for the first */
    struct span args; /* JSON, bound if the task has params; NUL-terminated */
    struct span state,
        woken; /* what the last turn left, and what woke it (workers/woken.h): JSON, NUL-terminated; absent: none */
    struct span steps; /* `{"name":value, ...}`, recorded so far; absent: none is. Of kinds that have room alone */
    int64_t timeout_ms;  /* 0: none */
    int64_t told_end_us; /* clock_mono_us, where another process has the clock of its timeout; 0: none */
    int64_t deadline_at; /* of its invocation, by the wall clock: the server stops it then; 0: none */
    const struct attempt_limits *limits;
    const struct attempt_sink *sink;
    struct journal_record *record; /* in the turn journal, until nothing is left to flush; NULL in `errand run` */
    int wake_fd;                   /* an eventfd, for a kind that minds the body on the caller's thread */

    /* the attempt's own; attempt_init() and attempt_start() set them */
    _Atomic int64_t deadline_us; /* clock_mono_us; 0: none */
    atomic_int stop;             /* enum stop */
    atomic_bool suspended; /* its turn has: how the body ends is nobody's business, and what it prints is log */
    atomic_int waits;      /* enum waits; stop() says that it has changed */
    atomic_int child;      /* the process that a kind waits for, whoever else looks for ended ones; 0: none */
    struct outcome *outcome;
    attempt_ended *ended;
    void *context;
    pthread_mutex_t lock; /* guards what follows */
    struct log_pending pending;
    int64_t log_total;  /* bytes taken, at most limits->log_bytes and a notice */
    int64_t log_stdout; /* bytes of stdout already flushed to the sink */
    int64_t pending_since_us;
};

enum outcome_end {
    OUTCOME_SUCCEEDED,
    OUTCOME_FAILED,
    OUTCOME_CANCELLED,   /* it ended because of STOP_CANCEL */
    OUTCOME_STOPPED,     /* it ended because of STOP_KILL: to be run again */
    OUTCOME_HANDED_OVER, /* the turn goes on elsewhere, under a lease of lease_ms: who has its address ends it */
    OUTCOME_LOST,        /* its process died; type and error say how */
    OUTCOME_UNSTARTED,   /* it never began, for want of something: `error` says of what */
};

struct outcome {
    enum outcome_end end;
    struct buf result;      /* JSON; empty is null */
    struct buf type;        /* of a failure */
    struct buf error;       /* of a failure: the whole object {type, message, ...} as JSON; else a text */
    struct buf types;       /* of a failure: the class and its bases, a JSON array; empty: it has none */
    bool retry;             /* false: the body said not to */
    bool insists;           /* the body said to, whatever retry_for says */
    bool pays;              /* of a lost one: it is to blame */
    int64_t lease_ms;       /* of a turn that was handed over */
    int64_t retry_after_ms; /* -1: the backoff decides */
    bool drop_stdout;       /* stdout became the result: leave it out of the log, take
                         * flushed pieces of it back */
};

/* Sets the attempt's own fields from the ones above it; the deadline counts
 * from now. */
void attempt_init(struct attempt *attempt);
void attempt_release(struct attempt *attempt);

/* Has the body run by its task's kind and the outcome filled (all zeros
 * before); `ended` is called once. Decides: a body that succeeded is SUCCEEDED
 * even if it was cancelled meanwhile; one that returned or was killed after its
 * deadline FAILED as `timeout`; else a stop asked for before it ended makes it
 * CANCELLED or STOPPED. What is left in attempt->pending at the end was not
 * flushed: the caller stores it with the outcome. Blocks as long as the kind's
 * start() does. */
void attempt_start(struct attempt *attempt, struct outcome *outcome, attempt_ended *ended, void *context);

/* No body is started: the outcome says already why it failed. */
void attempt_refuse(struct attempt *attempt, struct outcome *outcome, attempt_ended *ended, void *context);

/* The same as attempt_start(), and waits for the end. */
void attempt_run(struct attempt *attempt, struct outcome *outcome);

/* For kinds: the body has ended and attempt->outcome says how. */
void attempt_end(struct attempt *attempt);

/* Asks it to end. Any thread; async-signal-safe. A later, stronger reason wins. */
void attempt_stop(struct attempt *attempt, enum stop why);

/* Has whoever minds it look at its flag and its deadline. As attempt_stop(). */
void attempt_look(struct attempt *attempt);

/* Makes wake_fd readable: a kind's stop(), if it polls that. */
void attempt_wake(struct attempt *attempt);

/* Is it to end (stopped or past its deadline)? */
bool attempt_should_stop(struct attempt *attempt);

/* Appends to the log; cut at the limit with a notice that says so. Flushes to
 * the sink when 32 kB are pending or the oldest is 100 ms old, or at once if it wants that. */
void attempt_log(struct attempt *attempt, enum stream stream, struct span bytes);

/* The notice, in `text`. */
enum { LOG_NOTICE_BYTES = 128 };
struct span attempt_log_notice(int64_t limit, char *text, size_t size);

/* Flushes what is pending if it is 100 ms old; returns the milliseconds until
 * the next call is due, -1 when nothing is pending. Minders call it. */
int attempt_log_tick(struct attempt *attempt);

/* stdout became the result: takes it out of the log, as far as it was not
 * flushed, and has the caller take back what was. */
void attempt_drop_stdout(struct attempt *attempt);

/* How far it is: any finite value, and a note (absent, or any bytes: mended and
 * cut). */
void attempt_progress(struct attempt *attempt, double value, struct span note);

/* Makes it a failure: type and message, `detail` (NULL or JSON members such as
 * `"exit_code":1,"stderr":"..."`, without braces) added to the error object. */
void outcome_fail(struct outcome *outcome, struct span type, struct span message, struct span detail);

/* The process in which it ran has died: a failure as `worker_crashed`, that is recovered
 * from. `pays`: from max_recoveries. */
void outcome_lose(struct outcome *outcome, bool pays, struct span message, struct span detail);

/* Is that a shortage that passes: of descriptors, processes, memory? */
bool error_is_shortage(int error);

/* The body did not begin for such a want: nobody's failure, to be tried again. */
void outcome_unstarted(struct outcome *outcome, struct span message);
void outcome_release(struct outcome *outcome);
