/* What few submissions have beside their row: a place that only one may have, a
 * result that others have given, a time by which they must be final, arguments
 * by which they are looked for.
 *
 * A row with any of it says so (FLAG_PARTICULAR); those without pay nothing. */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "store/status.h"

struct submission;

/* How long a place is taken. On disk: they never change. */
#define UNIQUE_NUMBER_QUEUED 1
#define UNIQUE_NUMBER_UNFINISHED 2
#define UNIQUE_NUMBER_TIMED 3
#define SQL_UNIQUE_QUEUED SQL_NUMBER(UNIQUE_NUMBER_QUEUED)
#define SQL_UNIQUE_TIMED SQL_NUMBER(UNIQUE_NUMBER_TIMED)
enum unique_scope {
    UNIQUE_NONE,
    UNIQUE_QUEUED = UNIQUE_NUMBER_QUEUED,         /* until the turn starts */
    UNIQUE_UNFINISHED = UNIQUE_NUMBER_UNFINISHED, /* until it is final */
    UNIQUE_TIMED = UNIQUE_NUMBER_TIMED,           /* for so long from the submission */
};

/* What a submission gets that finds its place taken. */
enum unique_conflict { UNIQUE_RETURN, UNIQUE_REJECT, UNIQUE_REPLACE };

enum { PARTICULAR_KEY_BYTES = 32 };

struct unique_place {
    enum unique_scope scope; /* UNIQUE_NONE: it needs no place */
    uint8_t key[PARTICULAR_KEY_BYTES];
    int64_t for_ms; /* of UNIQUE_TIMED */
    enum unique_conflict on_conflict;
    int64_t debounce_ms, max_wait_ms; /* 0: none */
};

/* Who had the place, as it stood then. */
struct unique_first {
    bool returned, replaced; /* one of them: it is what the submission was answered with */
    bool args_are_known;     /* they were not too long to be read with so many others */
    int priority, max_retries;
    int64_t timeout_ms, retention_ms, run_at;
    struct span args, labels; /* in `text` */
    struct buf text;
};

struct cached {
    uint8_t key[PARTICULAR_KEY_BYTES];
    int64_t for_ms; /* how long its success answers others; 0: it does not */
    /* out */
    int64_t source; /* whose result it has got; 0: nobody's */
    bool has_result;
    struct buf result;
};

/* One that its task has an index of: bytes of `argument_text`. */
struct argument {
    size_t path, path_len, value, value_len;
};

enum { ARGUMENTS_MAX = 16 };

struct particulars {
    struct unique_place unique;
    struct cached cached;
    int64_t deadline_at; /* 0: none */
    bool times_given;    /* run_at is the client's own, and no delay */
    struct argument arguments[ARGUMENTS_MAX];
    int argument_count;
    struct buf argument_text;
    /* out */
    struct unique_first first;
};

/* Owned by whoever read the submission, until submission_release(). */
struct particulars *particulars_new(void);
void particulars_free(struct particulars *particulars); /* takes NULL */

/* What was read for it and is the submission's own goes. */
void submission_release(struct submission *s);
