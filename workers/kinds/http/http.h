/* Inside the http kind: an attempt is one request to a fixed address, which is
 * driven with all others that go out (workers/transfers/).
 *
 *     definition.c   what a configuration says
 *     request.c      the request, made of that and the attempt
 *     answer.c       what came back, as an outcome
 *
 * Threads: a request is its starter's until driver_add(), then the driver's. */
#pragma once

#include "workers/kinds/attempt.h"
#include "workers/kinds/kind.h"
#include "workers/transfers/transfer.h"

enum http_result { HTTP_BY_TYPE, HTTP_JSON, HTTP_TEXT };

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

enum cut { CUT_NONE, CUT_HEADERS, CUT_BODY };

struct request {
    struct transfer transfer; /* first: found by it */
    struct attempt *attempt;
    struct http_task *task;
    struct curl_slist *headers;
    bool offers_lease; /* the address of the turn was sent */
    int redirects;     /* that were followed */

    struct buf body;     /* of the answer, as much of it as is wanted */
    size_t body_seen;    /* all of it */
    size_t headers_seen; /* bytes of them */
    bool head_ended;     /* with an empty line: its status counts */
    enum cut cut;        /* of what no more is wanted */
};

/* --- definition.c */
extern const struct key http_keys[];
void http_check(const struct keys_input *in, const cJSON *item, const char *pointer, struct task *task);
void http_advise(const struct task *task, struct faults *advice);
void http_release(void *definition);

/* --- request.c */

/* NULL: there is no memory for one. */
struct request *request_new(struct attempt *attempt);
void request_free(struct request *request);

/* --- answer.c */

/* Fills the attempt's outcome. */
void answer_take(struct request *request, enum ending ending, CURLcode code);
