/* Loops: a task that is renewed each time it completes.
 *
 * Each iteration is an invocation; the next one is made in the very transaction
 * that finishes the last, so that a crash neither loses nor doubles one. A loop
 * knows its current iteration and how many there were; what those leave is pruned
 * like anybody's. Its messages are its own: whichever iteration is current reads
 * its inbox. */
#pragma once

#include "store/op.h"
#include "store/read.h"
#include "store/set.h"
#include "store/status.h"

enum { LOOP_NAME_MAX = 255 /* characters */ };

/* On disk: they never change. */
#define LOOP_NUMBER_ACTIVE 1
#define LOOP_NUMBER_PAUSED 2
#define LOOP_NUMBER_STOPPING 3
#define LOOP_NUMBER_STOPPED 4
#define LOOP_NUMBER_SUCCEEDED 5
#define LOOP_NUMBER_FAILED 6
#define LOOP_NUMBER_CANCELLED 7
enum loop_status {
    LOOP_ACTIVE = LOOP_NUMBER_ACTIVE,     /* shown as queued or running */
    LOOP_PAUSED = LOOP_NUMBER_PAUSED,     /* at once; its current iteration may end, and counts */
    LOOP_STOPPING = LOOP_NUMBER_STOPPING, /* after the current iteration */
    LOOP_STOPPED = LOOP_NUMBER_STOPPED,   /* final, as are those that follow */
    LOOP_SUCCEEDED = LOOP_NUMBER_SUCCEEDED,
    LOOP_FAILED = LOOP_NUMBER_FAILED, /* but this one can be resumed */
    LOOP_CANCELLED = LOOP_NUMBER_CANCELLED,
};

static inline bool loop_is_final(enum loop_status status)
{
    return status >= LOOP_STOPPED;
}

/* As it is shown. */
enum loop_shown {
    LOOP_SHOWN_QUEUED, /* it waits for a slot, or its iteration does */
    LOOP_SHOWN_RUNNING,
    LOOP_SHOWN_PAUSED,
    LOOP_SHOWN_STOPPING,
    LOOP_SHOWN_STOPPED,
    LOOP_SHOWN_SUCCEEDED,
    LOOP_SHOWN_FAILED,
    LOOP_SHOWN_CANCELLED,
    LOOP_SHOWN_COUNT,
};
const char *loop_shown_name(enum loop_shown shown);
bool loop_shown_parse(struct span text, enum loop_shown *shown);

/* Where the next arguments come from. On disk: they never change. */
enum loop_next {
    LOOP_NEXT_INPUT = 1,  /* the last arguments */
    LOOP_NEXT_OUTPUT = 2, /* the result */
    LOOP_NEXT_CHOSEN = 3, /* the result's `next`; the last arguments if it has none */
};

/* What a loop is to be. Spans are borrowed until done(). */
struct loop_spec {
    int task;
    enum loop_next next;
    bool continues; /* after a failure */
    int priority, max_retries;
    int64_t retention_ms;
    int64_t delay_ms;         /* between the end of one and the next */
    int64_t timeout_ms;       /* of an iteration; 0: none */
    int64_t max_iterations;   /* 0: no limit */
    struct span args, labels; /* JSON; absent: none */
    struct set_spec set;
};

/* By its id, or else by its name. */
struct loop_ref {
    int64_t id;       /* 0: it is no id */
    struct span name; /* absent: it has none */
};

/* Makes one. With a name it is made once: ERR_MISMATCH: one of that name is there,
 * made from something else. Of its set: ERR_CONFLICT: it is there, with other values;
 * ERR_INVALID: it is not there, and nothing says how many slots it is to have. */
struct op_loop_make {
    struct op op;
    struct loop_spec spec;
    struct span name;   /* absent: none */
    uint8_t digest[32]; /* of what it is made from */
    int64_t id;         /* out */
    bool there;         /* out: it was, and nothing was made */
};
void op_loop_make_init(struct op_loop_make *op);

/* What a client asks of one. ERR_NOT_FOUND; ERR_CONFLICT: it is `status`, from where that
 * does not lead; ERR_LIMIT: it has had its max_iterations, and is not resumed. */
enum loop_alter {
    LOOP_PAUSE,
    LOOP_RESUME, /* paused and failed ones */
    LOOP_STOP,   /* final ones stay as they are: OK */
    LOOP_CANCEL, /* likewise */
    LOOP_PATCH,  /* paused and failed ones */
    LOOP_DELETE, /* final ones whose last iteration has ended */
};
struct op_loop_alter {
    struct op op;
    enum loop_alter what;
    struct loop_ref ref;
    struct {      /* PATCH */
        int task; /* 0: as it is */
        bool set_args, set_delay;
        struct span args; /* absent: none */
        int64_t delay_ms;
    } patch;
    int64_t id;              /* out */
    enum loop_status status; /* out: before the change */
};
void op_loop_alter_init(struct op_loop_alter *op, enum loop_alter what, struct loop_ref ref);

/* --- reading ------------------------------------------------------------------------- */

struct loop_view {
    int64_t id;
    struct span name; /* absent: none */
    enum loop_shown shown;
    int task;
    enum loop_next next;
    bool continues;
    int priority, max_retries;
    int64_t retention_ms, delay_ms, timeout_ms, max_iterations, iteration;
    int64_t invocation;       /* 0: none is made */
    int64_t slot, slot_since; /* -1: none */
    int64_t due_at, finished_at;
    struct span labels, error, set; /* absent: none */
    struct span args, result;       /* VIEW_FULL */
};

/* Its spans live as long as `bytes`. ERR_NOT_FOUND. */
MUST_USE enum err reader_loop(struct reader *reader, struct loop_ref ref, enum view view, struct loop_view *out,
                              struct buf *bytes);

/* The id alone. */
MUST_USE enum err reader_loop_id(struct reader *reader, struct loop_ref ref, int64_t *id);

struct loop_query {
    unsigned shown;  /* bits 1 << enum loop_shown; 0: any */
    int task;        /* 0: any; -1: none can match */
    struct span set; /* absent: any */
    bool oldest_first;
    int64_t cursor; /* ids after this one in the order; 0: from the start */
    int limit;
    enum view view;
    int64_t scan_until_us;
};

/* As reader_list(). */
MUST_USE enum err reader_loops(struct reader *reader, const struct loop_query *query,
                               bool (*row)(void *context, const struct loop_view *row), void *context,
                               int64_t *next);

/* Whose iteration it is; 0: nobody's. */
MUST_USE enum err reader_iteration(struct reader *reader, int64_t id, int64_t *loop, int64_t *number);
