/* A request as its handler sees it.
 *
 * One thread, the HTTP thread, runs the loop in loop.c: it parses, calls
 * handlers, and sends. Handlers know nothing of libmicrohttpd. A handler
 * returns what comes next:
 *
 *   NEXT_ANSWER  rq->answer is filled; send it.
 *   NEXT_COMMIT  an operation is on its way to the committer, whose done()
 *                calls request_wake_later(); then rq->resume is called. For
 *                what takes a commit's time only.
 *   NEXT_PARK    suspended until request_wake() or rq->deadline_us, whichever
 *                comes first (rq->timed_out says which); then rq->resume.
 *   NEXT_WORK    rq->work runs on a reader thread, while the request is
 *                suspended; then rq->resume, or without one the answer that
 *                work has filled is sent.
 *
 * rq->resume runs on the HTTP thread and returns the same. A request is woken
 * at most once for each time it is parked: whoever calls request_wake first
 * wins, further calls do nothing. A client that leaves cancels nothing: one
 * that waits with a deadline is woken as if that had come, with rq->left; else
 * rq->gone is set, the request lives on until it is woken (with rq->goes_on,
 * until its last step), and its answer is dropped.
 *
 * Threads: everything of a request belongs to the HTTP thread, or to the
 * reader thread while rq->work runs; request_wake*() may be called from any. */
#pragma once

#include "base/buf.h"
#include "server/config/config.h"
#include "store/store.h"

#include <stdatomic.h>

struct context; /* what the handlers share; nothing here looks into it */
struct exchange;
struct http;
struct request;

enum method { METHOD_GET, METHOD_POST, METHOD_PUT, METHOD_PATCH, METHOD_DELETE, METHOD_OPTIONS, METHOD_OTHER };

enum next { NEXT_ANSWER, NEXT_COMMIT, NEXT_PARK, NEXT_WORK };

typedef enum next handler_fn(struct request *rq);

/* --- the answer --------------------------------------------------------------- */

enum { ANSWER_HEADERS_MAX = 12 };

enum pull {
    PULL_MORE, /* bytes were appended */
    PULL_WAIT, /* nothing yet: until woken or rq->deadline_us */
    PULL_WORK, /* nothing yet: rq->work is run on a reader thread first */
    PULL_END,  /* after bytes of the same call it is asked once more */
};

struct answer {
    int status;
    const char *content_type; /* static; NULL without a body */
    struct buf body;          /* owned; given to libmicrohttpd */
    struct {
        const char *name; /* static */
        char *value;      /* owned */
    } headers[ANSWER_HEADERS_MAX];
    int header_count;
    /* A body that is made while it is sent (chunked): pull() appends some bytes
     * to `out`, on the HTTP thread. NULL: `body` is all. */
    enum pull (*pull)(struct request *rq, struct buf *out);
    int64_t length; /* of what pull() makes, if that is known; else 0 */
};

/* --- its tag -------------------------------------------------------------------- */

enum { ETAG_BYTES = 64 };

struct freshness {
    bool wanted;          /* the answer is to have an ETag */
    bool unsettled;       /* a commit was under way when it was begun: it tells of no one time */
    uint64_t asked;       /* a hash of what was asked, and by whom */
    uint64_t as_of;       /* a hash of all that it may depend on */
    char tag[ETAG_BYTES]; /* of the answer; empty: it was not made yet */
};

/* --- the request ----------------------------------------------------------------- */

struct query_param {
    struct span name, value; /* decoded */
};

enum { QUERY_PARAMS_MAX = 64 };

struct request {
    struct http *http;
    struct context *context;
    enum method method;
    bool head; /* HEAD: as GET, without the body */
    const struct route *route;
    struct span path;      /* as sent, without the query */
    struct span raw_query; /* as sent, without '?' */
    struct span segment;   /* the decoded {id} or {name} of the route; absent if it has none */
    struct span second;    /* of a route with two, the other one */
    int query_count;       /* of query, below */
    struct buf body;       /* whole; checked JSON if the route takes JSON */
    bool has_body;
    bool lines;                /* the body is application/x-ndjson; of a route with `whole_bulk` */
    const struct token *token; /* who asks; NULL if no tokens are configured */
    unsigned scopes;           /* of enum scope */
    struct config *config;     /* the configuration when the request began; counted */
    uint64_t generation;       /* which configuration that was: another number after each reload */
    struct reader *reader;     /* of the thread that has the request */

    handler_fn *before; /* a permit's: called in place of the route's handler, which it calls when it may */
    enum next (*resume)(struct request *rq);
    void (*work)(struct request *rq);
    int64_t deadline_us; /* clock_mono_us; 0: none */
    bool timed_out;
    bool left;              /* it sends nothing more, and was waiting: most likely it has left */
    bool gone;              /* the client has left, or its answer could not be sent to its end */
    bool goes_on;           /* to the end of its steps even so; the handler's */
    bool closing;           /* the server stops: answer what is known now */
    struct freshness fresh; /* freshness.c's own */
    struct answer answer;

    /* For the handler: freed with `release` when the request ends. */
    void *state;
    void (*release)(void *state);

    struct exchange *exchange;                  /* the connection's side of it */
    struct query_param query[QUERY_PARAMS_MAX]; /* last: only query_count of them are set */
};

/* A request header's value, or an absent span. */
struct span request_header(const struct request *rq, const char *name);

/* The headers that are at hand: Idempotency-Key and Prefer. As all headers,
 * they are gone once the client has left. */
struct span request_key(const struct request *rq);
struct span request_prefer(const struct request *rq);

/* Has the client closed its side by now? Then it reads no answer, most likely. On
 * the HTTP thread. */
bool request_has_left(const struct request *rq);

/* So many bytes are held for what is made of its body: they count with all large bodies, until the
 * request ends. False with 503 answered: there is no room. HTTP thread. */
bool request_charge(struct request *rq, size_t bytes);

/* Hands an op to the committer together with all others of this pass of the
 * loop; for handlers that return NEXT_COMMIT, on the HTTP thread. */
void request_queue(struct request *rq, struct op *op);

void request_wake(struct request *rq);       /* any thread */
void request_wake_later(struct request *rq); /* in a done(): the loop is woken once, after the batch */

/* The same, for one of several ops of a request that may end as soon as all are
 * back: `mark` is set and the request woken in one, so that it is still there
 * to be woken. */
void request_wake_marking(struct request *rq, atomic_bool *mark);
