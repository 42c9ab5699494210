/* Inside the http kind: an attempt is one request to a fixed address. One thread
 * drives all of them with a curl multi handle, however many there are.
 *
 *     definition.c   what a configuration says
 *     request.c      the request, made of that and the attempt
 *     driver.c       the thread: sockets, deadlines, stops
 *     lookup.c       one name is looked up by one transfer at a time
 *     answer.c       what came back, as an outcome
 *
 * Threads: a transfer is its starter's until driver_add(), then the driver's. */
#pragma once

#include "base/deadlines.h"
#include "workers/kinds/attempt.h"
#include "workers/kinds/kind.h"

#include <curl/curl.h>

struct transfer;

enum http_result { HTTP_BY_TYPE, HTTP_JSON, HTTP_TEXT };

/* The name of a task's host, on its way to an address. The driver's alone. */
struct lookup {
    struct transfer *by;   /* who is at it; NULL: nobody */
    struct transfer *held; /* who waits for that */
    int64_t known_us;      /* when it was last known */
};

struct http_task {
    char *url;
    int method;
    char **headers; /* "Name: value", as curl wants them; NULL-terminated */
    int in_flight;
    int redirects;
    int64_t lease_ms; /* of a turn that was answered by 202; 0: such an answer is like any other */
    enum http_result result;
    char *ca;          /* NULL: those of the system */
    char *proxy;       /* NULL: none */
    struct buf secret; /* bytes; empty: requests are not signed */
    struct lookup lookup;
};

static inline struct http_task *http_task(const struct task *task)
{
    return task->definition;
}

enum ending { ENDING_ANSWER, ENDING_STOPPED, ENDING_TIMEOUT };

enum cut { CUT_NONE, CUT_HEADERS, CUT_BODY };

struct transfer {
    struct deadline deadline; /* first: found by it */
    struct attempt *attempt;
    struct http_task *task;
    CURL *easy;
    struct curl_slist *headers;
    bool offers_lease; /* the address of the turn was sent */
    int redirects;     /* that were followed */

    struct buf body;     /* of the answer, as much of it as is wanted */
    size_t body_seen;    /* all of it */
    size_t headers_seen; /* bytes of them */
    bool head_ended;     /* with an empty line: its status counts */
    enum cut cut;        /* of what no more is wanted */
    int socket_error;    /* errno of a socket that could not be made; 0: none */
    char why[CURL_ERROR_SIZE];

    bool driven;                   /* curl has it */
    struct transfer *prev, *next;  /* of the driver's */
    struct transfer *next_arrived; /* on the way to it */
    struct transfer *next_held;    /* of a lookup */
};

/* --- definition.c */
extern const struct key http_keys[];
void http_check(const struct keys_input *in, const cJSON *item, const char *pointer, struct task *task);
void http_advise(const struct task *task, struct faults *advice);
void http_release(void *definition);

/* --- request.c */

/* NULL: there is no memory for one. */
struct transfer *transfer_new(struct attempt *attempt);
void transfer_free(struct transfer *transfer);

/* Is the answer a redirect that is to be followed? Then it is ready to be driven again. */
bool transfer_follow(struct transfer *transfer);

/* --- driver.c */

/* It is driven to its end, which is attempt_end(). False: there is no thread
 * for it, with the reason, and it stays the caller's. */
bool driver_add(struct transfer *transfer, struct reason *why);

/* Some attempt is to be looked at. Async-signal-safe. */
void driver_look(struct attempt *attempt);

/* Nothing is driven any more: ends the thread. */
void driver_end(void);

/* --- lookup.c */

/* May it be driven now? Else it is held until lookup_next() gives it back. */
bool lookup_begin(struct transfer *transfer);

/* Its connection is on its way, in one of curl's callbacks. */
void lookup_done(struct transfer *transfer);

/* It has ended: those that waited for it go on. */
void lookup_leave(struct transfer *transfer);

/* One that waits for it, and does no longer; NULL: there is none. */
struct transfer *lookup_share(struct transfer *transfer);

/* One of those that may go on; NULL: there is none. */
struct transfer *lookup_next(void);

/* --- answer.c */

/* Fills the attempt's outcome. */
void answer_take(struct transfer *transfer, enum ending ending, CURLcode code);
