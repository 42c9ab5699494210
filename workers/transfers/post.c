#include "workers/transfers/post.h"

#include "base/clock.h"
#include "workers/transfers/transfer.h"

#include <stdatomic.h>
#include <stdlib.h>

enum { WANTED_BYTES = 64 * 1024, HEADERS_BYTES = 64 * 1024 };

struct post {
    struct transfer transfer; /* first: found by it */
    struct curl_slist *headers;
    int64_t deadline_us;
    atomic_bool stopped;
    size_t body_seen, headers_seen;
    bool head_ended, cut; /* its status counts; no more of its body is wanted */
    void (*done)(void *context, const struct post_answer *answer);
    void *context;
};

/* --- what comes back ----------------------------------------------------------------- */

/* So much is read that the connection is of use again. */
static size_t take_body(char *bytes, size_t one, size_t n, void *context)
{
    struct post *post = context;
    (void)bytes, (void)one;
    post->body_seen += n;
    post->cut = post->body_seen > WANTED_BYTES;
    return post->cut ? 0 : n;
}

/* Curl takes a head that breaks off for a whole one. */
static size_t take_header(char *line, size_t one, size_t n, void *context)
{
    struct post *post = context;
    (void)one;
    post->headers_seen += n;
    if (!post->body_seen)
        post->head_ended = n > 0 && (*line == '\r' || *line == '\n');
    return post->headers_seen > HEADERS_BYTES ? 0 : n;
}

static struct post_answer broken(const struct post *post, CURLcode code)
{
    const char *why = post->headers_seen > HEADERS_BYTES ? "the answer has too many headers"
                      : code == CURLE_OK                 ? "it hung up in the middle of the answer's headers"
                      : *post->transfer.why              ? post->transfer.why
                                                         : curl_easy_strerror(code);
    return (struct post_answer){.end = POST_BROKEN, .error = transfer_errno(&post->transfer, code), .why = why};
}

static struct post_answer answer_of(const struct post *post, enum ending ending, CURLcode code)
{
    if (ending == ENDING_STOPPED)
        return (struct post_answer){.end = POST_STOPPED};
    if (ending == ENDING_TIMEOUT)
        return (struct post_answer){.end = POST_TIMED_OUT};
    if (!post->head_ended || (code != CURLE_OK && !post->cut))
        return broken(post, code);
    return (struct post_answer){.end = POST_ANSWERED,
                                .status = (int)transfer_status(&post->transfer),
                                .retry_after_ms = transfer_retry_after_ms(&post->transfer)};
}

/* --- of struct transfer_class ---------------------------------------------------------- */

static bool is_stopped(const struct transfer *transfer)
{
    return atomic_load(&((const struct post *)transfer)->stopped);
}

static int64_t deadline_us(const struct transfer *transfer)
{
    return ((const struct post *)transfer)->deadline_us;
}

static void post_free(struct post *post)
{
    transfer_release(&post->transfer);
    curl_slist_free_all(post->headers);
    free(post);
}

static void end(struct transfer *transfer, enum ending ending, CURLcode code)
{
    struct post *post = (struct post *)transfer;
    struct post_answer answer = answer_of(post, ending, code);
    post->done(post->context, &answer);
    post_free(post);
}

/* --- sending ------------------------------------------------------------------------------ */

static void add_header(struct post *post, const char *line)
{
    struct curl_slist *more = curl_slist_append(post->headers, line);
    if (more)
        post->headers = more;
}

static void set_up(struct post *post, const struct post_request *request)
{
    CURL *easy = post->transfer.easy;
    for (const char *const *line = request->headers; *line; line++)
        add_header(post, *line);
    add_header(post, "Expect:"); /* none: who does not know it lets us wait */
    transfer_set_route(&post->transfer, request->ca, request->proxy);
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.len);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request->body.p);
    curl_easy_setopt(easy, CURLOPT_URL, request->url);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, post->headers);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, post);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, post);
}

struct post *post_send(const struct post_request *request, struct reason *why)
{
    static const struct transfer_class class = {is_stopped, deadline_us, NULL, end};
    struct post *post = xcalloc(1, sizeof *post);
    post->done = request->done;
    post->context = request->context;
    post->deadline_us = clock_mono_us() + request->timeout_ms * 1000;
    if (!transfer_init(&post->transfer, &class, request->lookup)) {
        reason_set(why, "no memory for a transfer");
        free(post);
        return NULL;
    }
    set_up(post, request);
    if (driver_add(&post->transfer, why))
        return post;
    post_free(post);
    return NULL;
}

void post_stop(struct post *post)
{
    atomic_store(&post->stopped, true);
    driver_look();
}
