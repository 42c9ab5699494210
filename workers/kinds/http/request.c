/* A request: made of the task's definition and of the attempt, as a transfer of
 * curl's that nobody drives yet. */
#include "workers/kinds/http/http.h"

#include "base/clock.h"
#include "base/digest.h"
#include "base/id.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
    CONNECT_MS = 30 * 1000, /* a host that is silent is none for longer than that */
    ERROR_BODY_BYTES = 4096,
    UNWANTED_BYTES = 256 * 1024, /* so much is read past what is kept, so that the connection is of use again */
    HEADERS_BYTES = 256 * 1024,
};

/* --- what comes back ----------------------------------------------------------------- */

static long status_of(const struct transfer *transfer)
{
    long status = 0;
    curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
    return status;
}

static size_t take_body(char *bytes, size_t one, size_t n, void *context)
{
    struct transfer *transfer = context;
    bool good = status_of(transfer) / 100 == 2;
    size_t limit = (size_t)transfer->attempt->limits->result_bytes;
    size_t kept_max = good ? limit : ERROR_BODY_BYTES, seen_max = good ? limit : UNWANTED_BYTES;
    size_t room = kept_max - transfer->body.len;
    (void)one;
    transfer->body_seen += n;
    buf_add(&transfer->body, bytes, n < room ? n : room);
    transfer->cut = transfer->body_seen > seen_max ? CUT_BODY : CUT_NONE;
    return transfer->cut ? 0 : n;
}

/* Trailers too, and those of a 1xx before it. Curl takes a head that breaks off for a whole one. */
static size_t take_header(char *line, size_t one, size_t n, void *context)
{
    struct transfer *transfer = context;
    (void)one;
    transfer->headers_seen += n;
    transfer->cut = transfer->headers_seen > HEADERS_BYTES ? CUT_HEADERS : CUT_NONE;
    if (!transfer->body_seen)
        transfer->head_ended = n > 0 && (*line == '\r' || *line == '\n');
    return transfer->cut ? 0 : n;
}

/* --- sockets ------------------------------------------------------------------------- */

/* Curl's own would be inherited by every program that is started. */
static curl_socket_t open_socket(void *context, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct transfer *transfer = context;
    (void)purpose;
    lookup_done(transfer);
    int fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
    transfer->socket_error = fd < 0 ? errno : 0;
    return fd < 0 ? CURL_SOCKET_BAD : fd;
}

/* A connection that was there already needs no socket. */
static int before_request(void *context, char *ip, char *local_ip, int port, int local_port)
{
    (void)ip, (void)local_ip, (void)port, (void)local_port;
    lookup_done(context);
    return CURL_PREREQFUNC_OK;
}

/* --- headers -------------------------------------------------------------------------- */

static void add_line(struct transfer *transfer, struct buf *line)
{
    struct curl_slist *more = curl_slist_append(transfer->headers, buf_cstr(line));
    if (more)
        transfer->headers = more;
    line->len = 0;
}

/* The rules want the same id for each try of one message. */
static void add_signature(struct transfer *transfer, const char *id, struct buf *line)
{
    uint8_t digest[SHA256_BYTES];
    char time[24] = "";
    struct buf at = {time, 0, sizeof time};
    buf_add_int(&at, clock_now_ms() / 1000);
    struct span pieces[] = {span_of(id), SPAN("."), buf_span(&at), SPAN("."), transfer->attempt->args};
    hmac_sha256(buf_span(&transfer->task->secret), pieces, 5, digest);
    buf_addf(line, "webhook-id: %s", id);
    add_line(transfer, line);
    buf_addl(line, "webhook-timestamp: ");
    buf_add_span(line, buf_span(&at));
    add_line(transfer, line);
    buf_addl(line, "webhook-signature: v1,");
    base64_add(line, digest, sizeof digest);
    add_line(transfer, line);
}

static void add_lease(struct transfer *transfer, struct buf *line)
{
    struct attempt *attempt = transfer->attempt;
    struct buf url = {0};
    if (transfer->task->lease_ms && attempt->sink && attempt->sink->add_lease_url)
        attempt->sink->add_lease_url(attempt, &url);
    transfer->offers_lease = url.len;
    if (transfer->offers_lease) {
        buf_addl(line, "Errand-Lease: ");
        buf_add_span(line, buf_span(&url));
        add_line(transfer, line);
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

static void add_unless_given(struct transfer *transfer, const char *name, const char *value, struct buf *line)
{
    if (is_given(transfer->task, name))
        return;
    buf_addf(line, "%s: %s", name, value);
    add_line(transfer, line);
}

static void add_headers(struct transfer *transfer)
{
    const struct http_task *http = transfer->task;
    const struct attempt *attempt = transfer->attempt;
    char id[ID_TEXT_LEN + 1] = "";
    struct buf line = {0};
    id_format(attempt->id, id);
    buf_addf(&line, "Errand-Id: %s", id);
    add_line(transfer, &line);
    buf_addf(&line, "Errand-Attempt: %d", attempt->number);
    add_line(transfer, &line);
    buf_addf(&line, "Errand-Task: %s", attempt->task->name);
    add_line(transfer, &line);
    if (attempt->deadline_at) {
        buf_addl(&line, "Errand-Deadline: ");
        time_add(&line, attempt->deadline_at);
        add_line(transfer, &line);
    }
    buf_addf(&line, "Idempotency-Key: %s", id);
    add_line(transfer, &line);
    if (attempt->state.p || attempt->woken.p) {
        buf_addl(&line, "Errand-Resumes: true");
        add_line(transfer, &line);
    }
    add_lease(transfer, &line);
    if (http->secret.len)
        add_signature(transfer, id, &line);
    add_unless_given(transfer, "Content-Type", "application/json", &line);
    add_unless_given(transfer, "Accept", http->result == HTTP_JSON ? "application/json" : "*/*", &line);
    add_unless_given(transfer, "User-Agent", "errand", &line);
    buf_addl(&line, "Expect:"); /* none: who does not know it lets us wait */
    add_line(transfer, &line);
    for (char **more = http->headers; more && *more; more++) {
        buf_adds(&line, *more);
        add_line(transfer, &line);
    }
    buf_release(&line);
}

/* --- the transfer ---------------------------------------------------------------------- */

static void set_body(struct transfer *transfer)
{
    static const char *const others[] = {NULL, "PUT", "PATCH"};
    const struct span args = transfer->attempt->args;
    curl_easy_setopt(transfer->easy, CURLOPT_POST, 1L);
    curl_easy_setopt(transfer->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)args.len);
    curl_easy_setopt(transfer->easy, CURLOPT_POSTFIELDS, args.p);
    curl_easy_setopt(transfer->easy, CURLOPT_CUSTOMREQUEST, others[transfer->task->method]);
}

static void set_connection(struct transfer *transfer)
{
    CURL *easy = transfer->easy;
    const struct http_task *http = transfer->task;
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L); /* who is given up does not wait for its look-up */
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1); /* what breaks, breaks for one */
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(easy, CURLOPT_PROXY, http->proxy ? http->proxy : "");
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "");
    curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, before_request);
    curl_easy_setopt(easy, CURLOPT_PREREQDATA, transfer);
    if (http->ca) {
        curl_easy_setopt(easy, CURLOPT_CAINFO, http->ca);
        curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    }
}

struct transfer *transfer_new(struct attempt *attempt)
{
    struct transfer *transfer = xcalloc(1, sizeof *transfer);
    transfer->attempt = attempt;
    transfer->task = http_task(attempt->task);
    transfer->easy = curl_easy_init();
    if (!transfer->easy) {
        free(transfer);
        return NULL;
    }
    add_headers(transfer);
    set_connection(transfer);
    set_body(transfer);
    curl_easy_setopt(transfer->easy, CURLOPT_URL, transfer->task->url);
    curl_easy_setopt(transfer->easy, CURLOPT_HTTPHEADER, transfer->headers);
    curl_easy_setopt(transfer->easy, CURLOPT_PRIVATE, transfer);
    curl_easy_setopt(transfer->easy, CURLOPT_ERRORBUFFER, transfer->why);
    curl_easy_setopt(transfer->easy, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(transfer->easy, CURLOPT_WRITEDATA, transfer);
    curl_easy_setopt(transfer->easy, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(transfer->easy, CURLOPT_HEADERDATA, transfer);
    return transfer;
}

void transfer_free(struct transfer *transfer)
{
    if (!transfer)
        return;
    curl_easy_cleanup(transfer->easy);
    curl_slist_free_all(transfer->headers);
    buf_release(&transfer->body);
    free(transfer);
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

bool transfer_follow(struct transfer *transfer)
{
    CURL *easy = transfer->easy;
    long status = status_of(transfer);
    char *to = NULL;
    curl_easy_getinfo(easy, CURLINFO_REDIRECT_URL, &to);
    if (!to || !is_redirect(status) || !transfer->head_ended || transfer->redirects >= transfer->task->redirects ||
        !is_same_host(transfer->task->url, to))
        return false;
    char *url = xstrdup(to); /* it is curl's, and gone with the next option */
    curl_easy_setopt(easy, CURLOPT_URL, url);
    free(url);
    if (status == 303) { /* the answer is there, and got */
        curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, NULL);
        curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
    }
    transfer->redirects++;
    transfer->body.len = 0;
    transfer->body_seen = transfer->headers_seen = 0;
    transfer->head_ended = false;
    return true;
}
