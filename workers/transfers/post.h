/* A POST, for those who know nothing of curl. Redirects are not followed; of the answer only its
 * status counts, and what comes after 64 KiB of it is not read.
 *
 * Threads: post_send() by any; done() is called on the thread that drives all transfers. */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "workers/transfers/lookup.h"

struct post;

enum post_end {
    POST_ANSWERED,
    POST_TIMED_OUT,
    POST_BROKEN, /* no answer, or not one of HTTP's */
    POST_STOPPED,
};

struct post_answer {
    enum post_end end;
    int status;             /* POST_ANSWERED */
    int64_t retry_after_ms; /* that it asks for; 0: it does not */
    int error;              /* POST_BROKEN: errno, where it is known; else 0 */
    const char *why;        /* POST_BROKEN: a few words */
};

struct post_request {
    const char *url;
    const char *const *headers; /* "Name: value", NULL-terminated */
    struct span body;           /* borrowed until done() */
    int64_t timeout_ms;         /* for all of it */
    const char *ca, *proxy;     /* NULL: the system's, none */
    struct lookup *lookup;      /* of its host; outlives it */

    /* It is over. The post is gone when this returns. */
    void (*done)(void *context, const struct post_answer *answer);
    void *context;
};

/* NULL: there is no memory or no thread for it, with the reason, and done() is not called. It
 * may be called before this returns. */
struct post *post_send(const struct post_request *request, struct reason *why);

/* It is to end early, which done() says. Before done() has returned. Does not block. */
void post_stop(struct post *post);
