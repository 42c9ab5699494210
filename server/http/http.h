/* The loop: an address, a table of routes, and whom they lead to. It knows no
 * resource.
 *
 * Threads: http_run() is the HTTP thread; the rest says who may call it. */
#pragma once

#include "server/http/readers.h"
#include "server/http/request.h"

/* --- routes ------------------------------------------------------------------------ */

enum body_rule {
    BODY_NONE,  /* none is needed; an empty one or {} is fine */
    BODY_JSON,  /* application/json, checked */
    BODY_TEXT,  /* text/plain, any bytes */
    BODY_LINES, /* application/x-ndjson alone, for the route's sink */
};

/* Takes a body as it arrives. */
struct body_sink {
    /* Its first word, before any byte: false with a refusal answered. What it
     * needs goes to rq->state and rq->release. */
    bool (*open)(struct request *rq);
    /* Returns how many bytes it took: fewer than given means that the request
     * is to be suspended until it is woken. A filled answer refuses the rest. */
    size_t (*feed)(struct request *rq, const char *data, size_t size);
    /* The body is whole: what comes next. */
    enum next (*end)(struct request *rq);
    /* Is anything under way that will wake the request? */
    bool (*busy)(const struct request *rq);
};

struct route {
    enum method method;
    const char *pattern; /* "/invocations/{id}/log": one segment, or two, may be variables */
    unsigned scope;      /* of enum scope; 0: open to all */
    enum body_rule body;
    handler_fn *handler;
    const struct body_sink *lines; /* takes application/x-ndjson; NULL: the route does not */
    bool no_query;                 /* parameters are refused before the body is read */
    bool holds_result;             /* its body may be as long as a result, and what is around that */
    bool whole_bulk; /* its body may be as long as many submissions, also as one document, and has then
                                    * a share of what all such bodies may have; the handler checks it, as it may
                                    * take long. application/x-ndjson is taken as well: rq->lines */
    bool secret;     /* its first variable segment is one: no log shows the path */
    /* Its first word, before any byte of the body: false with a refusal answered.
     * What it needs later goes to rq->state and rq->release; what must be waited
     * for before the handler may be called, to rq->before. */
    bool (*permit)(struct request *rq);
};

/* --- the loop ------------------------------------------------------------------------- */

struct http_options {
    const struct route *routes; /* ends with one without a pattern */
    struct context *context;    /* every request's */
    struct config *config;      /* a reference is taken */
    struct store *store;        /* what ops go to and readers read; outlives the loop */
    int connections;            /* at most so many; 0: limits.connections */
};

/* Binds and listens. The port that was picked comes back in *port. */
MUST_USE enum err http_open(const struct http_options *options, struct http **out, int *port, struct reason *why);

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

/* The configuration of requests that begin from now on; a reference is taken.
 * HTTP thread. */
void http_set_config(struct http *http, struct config *config);

/* Something long that is nobody's request: run() on a thread that requests have
 * no part of (without a reader), then finish() on the HTTP thread. */
struct http_job {
    void (*run)(struct http_job *job, struct reader *reader);
    void (*finish)(struct http_job *job);
    struct http *http; /* the loop's own, as is what follows */
    struct job job;
};
void http_do(struct http *http, struct http_job *job); /* any thread */

/* Where it listens: "127.0.0.1:8080", "unix:/run/errand.sock". */
const char *http_address(const struct http *http);

const char *http_library_version(void);

/* Requests that wait or follow now, for limits and /stats. HTTP thread. */
int http_parked(const struct http *http);

/* From now on it counts among them until it ends, whatever it is doing. Once. HTTP thread. */
void http_follow(struct request *rq);
