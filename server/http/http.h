/* HTTP as the resources see it: a request, what it asks, and what is answered.
 *
 * One thread, the HTTP thread, runs the loop in http.c: it parses, calls
 * handlers, and sends. Handlers know nothing of libmicrohttpd. A handler
 * returns what comes next:
 *
 *   NEXT_ANSWER  rq->answer is filled; send it.
 *   NEXT_COMMIT  an operation is on its way to the committer, whose done()
 *                calls request_wake_later(); then rq->resume is called. For
 *                what takes a commit's time only.
 *   NEXT_PARK    suspended until request_wake() or rq->deadline_us, whichever
 *                comes first (rq->timed_out says which); then rq->resume.
 *   NEXT_WORK    rq->work runs on a reader thread with that thread's reader,
 *                while the request is suspended; then rq->resume, or without
 *                one the answer that work has filled is sent.
 *
 * rq->resume runs on the HTTP thread and returns the same. A request is woken
 * at most once for each time it is parked: whoever calls request_wake first
 * wins, further calls do nothing. A client that leaves cancels nothing:
 * rq->gone is set, the request lives on until it is woken, and its answer is
 * dropped.
 *
 * Threads: everything of a request belongs to the HTTP thread, or to the
 * reader thread while rq->work runs; request_wake*() may be called from any. */
#pragma once

#include "base/buf.h"
#include "base/faults.h"
#include "server/config/config.h"
#include "store/store.h"

#include <stdatomic.h>

struct server;
struct request;
struct MHD_Connection;

enum method { METHOD_GET, METHOD_POST, METHOD_PUT, METHOD_PATCH, METHOD_DELETE, METHOD_OPTIONS, METHOD_OTHER };

enum next { NEXT_ANSWER, NEXT_COMMIT, NEXT_PARK, NEXT_WORK };

typedef enum next handler_fn(struct request *rq);
typedef void work_fn(struct request *rq, struct reader *reader);

/* --- the answer --------------------------------------------------------------- */

enum { ANSWER_HEADERS_MAX = 12 };

enum pull {
    PULL_MORE /* bytes were appended */,
    PULL_WAIT /* nothing yet: until woken or rq->deadline_us */,
    PULL_END
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
};

/* --- the request ----------------------------------------------------------------- */

struct query_param {
    struct span name, value; /* decoded */
};

enum { QUERY_PARAMS_MAX = 64, PATH_SEGMENTS_MAX = 4 };

struct request {
    struct server *server;
    enum method method;
    bool head; /* HEAD: as GET, without the body */
    const struct route *route;
    struct span path;      /* as sent, without the query */
    struct span raw_query; /* as sent, without '?' */
    struct span segment;   /* the decoded {id} or {name} of the route; absent if it has none */
    int query_count;       /* of query, below */
    struct buf body;       /* whole; checked JSON if the route takes JSON */
    bool has_body;
    const struct token *token; /* who asks; NULL if no tokens are configured */
    unsigned scopes;           /* of enum scope */
    struct config *config;     /* the configuration when the request began; counted */

    enum next (*resume)(struct request *rq);
    work_fn *work;
    int64_t deadline_us; /* clock_mono_us; 0: none */
    bool timed_out;
    bool gone;    /* the client has left */
    bool closing; /* the server stops: answer what is known now */
    bool between; /* a commit was under way when its ETag was made: it is good for nobody else */
    struct answer answer;

    /* For the handler: freed with `release` when the request ends. */
    void *state;
    void (*release)(void *state);

    struct http_request *glue;                  /* http.c's own */
    struct query_param query[QUERY_PARAMS_MAX]; /* last: only query_count of them are set */
};

/* A request header's value, or an absent span. */
struct span request_header(const struct request *rq, const char *name);

/* The headers that http.c has at hand: Idempotency-Key and Prefer. As all
 * headers, they are gone once the client has left. */
struct span request_key(const struct request *rq);
struct span request_prefer(const struct request *rq);

/* The query parameter of that name (the first), or an absent span. */
struct span request_query(const struct request *rq, const char *name);

/* Faults (400) for every parameter that is not in `known` (NULL-terminated;
 * a name ending in '.' is a prefix), each with its nearest known name, and for
 * every one that is there twice and not in `repeatable` (may be NULL). */
void request_check_query(const struct request *rq, const char *const *known, const char *const *repeatable,
                         struct faults *faults);

/* {id} of the path as an id; answers 404 and returns false if it is none. */
bool request_id(struct request *rq, int64_t *id);

/* Hands an op to the committer together with all others of this pass of the
 * loop; for handlers that return NEXT_COMMIT, on the HTTP thread. */
void request_queue(struct request *rq, struct op *op);

void request_wake(struct request *rq);       /* any thread */
void request_wake_later(struct request *rq); /* in a done(): the loop is woken once, after the batch */

/* The same, for one of several ops of a request that may end as soon as all are
 * back: `mark` is set and the request woken in one, so that it is still there
 * to be woken. */
void request_wake_marking(struct request *rq, atomic_bool *mark);

/* --- answering: each fills rq->answer and returns NEXT_ANSWER --------------------- */

enum next answer_json(struct request *rq, int status, struct buf *body); /* takes the body's bytes */
enum next answer_empty(struct request *rq, int status);

/* RFC 9457. `type` is the stable last part of the problem's URI ("not-found");
 * the title follows from it. `detail` is a format. */
enum next answer_problem(struct request *rq, int status, const char *type, const char *detail, ...)
    __attribute__((format(printf, 4, 5)));

/* The same with `errors[]`; releases the faults. */
enum next answer_faults(struct request *rq, int status, const char *type, const char *detail,
                        struct faults *faults);

/* The usual ones. */
enum next answer_not_found(struct request *rq, const char *what); /* 404 */
enum next answer_unavailable(struct request *rq);                 /* 503: not known to be on disk */
enum next answer_fault(struct request *rq, enum err err);         /* 500, or 503 for ERR_UNAVAILABLE */

/* Adds a header; the value is copied. */
void answer_header(struct request *rq, const char *name, const char *value);

/* Appends a problem object: for NDJSON lines and bulk answers. */
void problem_add(struct buf *out, int status, const char *type, const char *detail, const struct faults *faults,
                 struct span instance);

/* --- ETags -------------------------------------------------------------------------- */

/* Call before any row is read. Makes the weak ETag of (boot id, change counter,
 * path, query, scopes), adds it to the answer, and if the client has it answers
 * 304 and returns true. */
bool answer_if_unchanged(struct request *rq);

/* A page that was rendered since the last change is sent again without reading
 * anything: if there is one for this path, query and scopes, fills the answer
 * and returns true. answer_keep() offers the answer for that use. Call after
 * answer_if_unchanged(), on the HTTP thread. */
bool answer_kept(struct request *rq);
void answer_keep(struct request *rq);

/* --- routes ------------------------------------------------------------------------ */

enum body_rule {
    BODY_NONE,     /* none is needed; an empty one or {} is fine */
    BODY_JSON,     /* application/json, checked */
    BODY_OPTIONAL, /* as BODY_JSON, or none */
    BODY_SUBMIT,   /* JSON, or NDJSON read as it arrives (bulk.c) */
};

struct route {
    enum method method;
    const char *pattern; /* "/invocations/{id}/log": one segment may be a variable */
    unsigned scope;      /* of enum scope; 0: open to all */
    enum body_rule body;
    handler_fn *handler;
};

/* NULL-pattern-terminated; routes.c. */
extern const struct route routes[];

/* --- the loop ------------------------------------------------------------------------- */

struct http;

/* Binds and listens. The port that was picked comes back in *port. */
MUST_USE enum err http_open(struct server *server, struct http **out, int *port, struct reason *why);

/* Runs until http_stop(); then answers what is parked, finishes what is being
 * sent (5 s at most) and returns. */
void http_run(struct http *http);
void http_stop(struct http *http);  /* any thread */
void http_close(struct http *http); /* takes NULL */

/* The committer's: after a batch's done()s, wakes the loop if any request was
 * woken in it. */
void http_flush(struct http *http);

/* Watches one more descriptor (the signalfd): `ready` is called on the HTTP
 * thread when it can be read. */
void http_watch(struct http *http, int fd, void (*ready)(void *context), void *context);

const char *http_library_version(void);

/* Requests suspended now, for limits and /stats. */
int http_parked(const struct http *http);
