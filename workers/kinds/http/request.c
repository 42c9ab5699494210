/* A request: made of the task's definition and of the attempt, as a transfer of
 * curl's that nobody drives yet. */
#include "workers/kinds/http/http.h"

#include "base/clock.h"
#include "base/id.h"
#include "workers/transfers/signature.h"

#include <stdlib.h>
#include <string.h>

enum {
    ERROR_BODY_BYTES = 4096,
    UNWANTED_BYTES = 256 * 1024, /* so much is read past what is kept, so that the connection is of use again */
    HEADERS_BYTES = 256 * 1024,
};

/* --- what comes back ----------------------------------------------------------------- */

static size_t take_body(char *bytes, size_t one, size_t n, void *context)
{
    struct request *request = context;
    bool good = transfer_status(&request->transfer) / 100 == 2;
    size_t limit = (size_t)request->attempt->limits->result_bytes;
    size_t kept_max = good ? limit : ERROR_BODY_BYTES, seen_max = good ? limit : UNWANTED_BYTES;
    size_t room = kept_max - request->body.len;
    (void)one;
    request->body_seen += n;
    buf_add(&request->body, bytes, n < room ? n : room);
    request->cut = request->body_seen > seen_max ? CUT_BODY : CUT_NONE;
    return request->cut ? 0 : n;
}

/* Trailers too, and those of a 1xx before it. Curl takes a head that breaks off for a whole one. */
static size_t take_header(char *line, size_t one, size_t n, void *context)
{
    struct request *request = context;
    (void)one;
    request->headers_seen += n;
    request->cut = request->headers_seen > HEADERS_BYTES ? CUT_HEADERS : CUT_NONE;
    if (!request->body_seen)
        request->head_ended = n > 0 && (*line == '\r' || *line == '\n');
    return request->cut ? 0 : n;
}

/* --- headers -------------------------------------------------------------------------- */

static void add_line(struct request *request, struct buf *line)
{
    struct curl_slist *more = curl_slist_append(request->headers, buf_cstr(line));
    if (more)
        request->headers = more;
    line->len = 0;
}

/* The rules want the same id for each try of one message. */
static void add_signature(struct request *request, const char *id, struct buf *line)
{
    int64_t at_s = clock_now_ms() / 1000;
    buf_addf(line, "webhook-id: %s", id);
    add_line(request, line);
    buf_addf(line, "webhook-timestamp: %lld", (long long)at_s);
    add_line(request, line);
    buf_addl(line, "webhook-signature: ");
    signature_add(line, buf_span(&request->task->secret), span_of(id), at_s, request->attempt->args);
    add_line(request, line);
}

static void add_lease(struct request *request, struct buf *line)
{
    struct attempt *attempt = request->attempt;
    struct buf url = {0};
    if (request->task->lease_ms && attempt->sink && attempt->sink->add_lease_url)
        attempt->sink->add_lease_url(attempt, &url);
    request->offers_lease = url.len;
    if (request->offers_lease) {
        buf_addl(line, "Errand-Lease: ");
        buf_add_span(line, buf_span(&url));
        add_line(request, line);
    }
    buf_release(&url);
}

static bool is_given(const struct http_task *http, const char *name)
{
    size_t n = strlen(name);
    for (char **line = http->headers; line && *line; line++)
        if (strncasecmp(*line, name, n) == 0 && ((*line)[n] == ':' || (*line)[n] == ';'))
            return true;
    return false;
}

static void add_unless_given(struct request *request, const char *name, const char *value, struct buf *line)
{
    if (is_given(request->task, name))
        return;
    buf_addf(line, "%s: %s", name, value);
    add_line(request, line);
}

static void add_headers(struct request *request)
{
    const struct http_task *http = request->task;
    const struct attempt *attempt = request->attempt;
    char id[ID_TEXT_LEN + 1] = "";
    struct buf line = {0};
    id_format(attempt->id, id);
    buf_addf(&line, "Errand-Id: %s", id);
    add_line(request, &line);
    buf_addf(&line, "Errand-Attempt: %d", attempt->number);
    add_line(request, &line);
    buf_addf(&line, "Errand-Task: %s", attempt->task->name);
    add_line(request, &line);
    if (attempt->deadline_at) {
        buf_addl(&line, "Errand-Deadline: ");
        time_add(&line, attempt->deadline_at);
        add_line(request, &line);
    }
    buf_addf(&line, "Idempotency-Key: %s", id);
    add_line(request, &line);
    if (attempt->state.p || attempt->woken.p) {
        buf_addl(&line, "Errand-Resumes: true");
        add_line(request, &line);
    }
    add_lease(request, &line);
    if (http->secret.len)
        add_signature(request, id, &line);
    add_unless_given(request, "Content-Type", "application/json", &line);
    add_unless_given(request, "Accept", http->result == HTTP_JSON ? "application/json" : "*/*", &line);
    add_unless_given(request, "User-Agent", "errand", &line);
    buf_addl(&line, "Expect:"); /* none: who does not know it lets us wait */
    add_line(request, &line);
    for (char **more = http->headers; more && *more; more++) {
        buf_adds(&line, *more);
        add_line(request, &line);
    }
    buf_release(&line);
}

/* --- the transfer ---------------------------------------------------------------------- */

static void set_body(struct request *request)
{
    static const char *const others[] = {NULL, "PUT", "PATCH"};
    const struct span args = request->attempt->args;
    curl_easy_setopt(request->transfer.easy, CURLOPT_POST, 1L);
    curl_easy_setopt(request->transfer.easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)args.len);
    curl_easy_setopt(request->transfer.easy, CURLOPT_POSTFIELDS, args.p);
    curl_easy_setopt(request->transfer.easy, CURLOPT_CUSTOMREQUEST, others[request->task->method]);
}

/* --- redirects -------------------------------------------------------------------------- */

static bool same_part(CURLU *a, CURLU *b, CURLUPart part)
{
    char *of_a = NULL, *of_b = NULL;
    bool same = curl_url_get(a, part, &of_a, CURLU_DEFAULT_PORT) == CURLUE_OK &&
                curl_url_get(b, part, &of_b, CURLU_DEFAULT_PORT) == CURLUE_OK && strcasecmp(of_a, of_b) == 0;
    curl_free(of_a);
    curl_free(of_b);
    return same;
}

/* What is sent is for the host that the configuration names. */
static bool is_same_host(const char *from, const char *to)
{
    CURLU *a = curl_url(), *b = curl_url();
    bool same = curl_url_set(a, CURLUPART_URL, from, 0) == CURLUE_OK &&
                curl_url_set(b, CURLUPART_URL, to, 0) == CURLUE_OK && same_part(a, b, CURLUPART_SCHEME) &&
                same_part(a, b, CURLUPART_HOST) && same_part(a, b, CURLUPART_PORT);
    curl_url_cleanup(a);
    curl_url_cleanup(b);
    return same;
}

/* Others may have a Location as well, and mean something else by it. */
static bool is_redirect(long status)
{
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

static bool follow(struct transfer *transfer)
{
    struct request *request = (struct request *)transfer;
    CURL *easy = request->transfer.easy;
    long status = transfer_status(&request->transfer);
    char *to = NULL;
    curl_easy_getinfo(easy, CURLINFO_REDIRECT_URL, &to);
    if (!to || !is_redirect(status) || !request->head_ended || request->redirects >= request->task->redirects ||
        !is_same_host(request->task->url, to))
        return false;
    char *url = xstrdup(to); /* it is curl's, and gone with the next option */
    curl_easy_setopt(easy, CURLOPT_URL, url);
    free(url);
    if (status == 303) { /* the answer is there, and got */
        curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, NULL);
        curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
    }
    request->redirects++;
    request->body.len = 0;
    request->body_seen = request->headers_seen = 0;
    request->head_ended = false;
    return true;
}

/* --- the request ------------------------------------------------------------------------ */

static bool is_stopped(const struct transfer *transfer)
{
    const struct request *request = (const struct request *)transfer;
    return atomic_load(&request->attempt->stop) != STOP_NONE;
}

/* It stands still while the body waits. */
static int64_t deadline_us(const struct transfer *transfer)
{
    return ((const struct request *)transfer)->attempt->deadline_us;
}

static void end(struct transfer *transfer, enum ending ending, CURLcode code)
{
    struct request *request = (struct request *)transfer;
    struct attempt *attempt = request->attempt;
    answer_take(request, ending, code);
    request_free(request);
    attempt_end(attempt);
}

struct request *request_new(struct attempt *attempt)
{
    static const struct transfer_class class = {is_stopped, deadline_us, follow, end};
    struct request *request = xcalloc(1, sizeof *request);
    request->attempt = attempt;
    request->task = http_task(attempt->task);
    if (!transfer_init(&request->transfer, &class, &request->task->lookup)) {
        free(request);
        return NULL;
    }
    CURL *easy = request->transfer.easy;
    add_headers(request);
    transfer_set_route(&request->transfer, request->task->ca, request->task->proxy);
    set_body(request);
    curl_easy_setopt(easy, CURLOPT_URL, request->task->url);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, request->headers);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, request);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, request);
    return request;
}

void request_free(struct request *request)
{
    if (!request)
        return;
    transfer_release(&request->transfer);
    curl_slist_free_all(request->headers);
    buf_release(&request->body);
    free(request);
}
