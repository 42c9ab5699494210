/* One request from its first line to its end: the gate, the body, the handler. */
#include "server/http/internal.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "server/http/query.h"
#include "server/resources/resource.h"
#include "server/http/routing.h"

#include <stdlib.h>
#include <strings.h>

enum { DROP_MAX_BYTES = 8 << 20, DROP_MAX_MS = 5000, SPARES_MAX = 256, BODY_BYTES_PER_MS = 50 };

/* How long the client may take for what it has yet to send; 0: no limit, it is our turn. */
static void set_deadline(struct http_request *glue, int64_t ms)
{
    if (glue->peer)
        glue->peer->deadline_us = ms ? clock_mono_us() + ms * 1000 : 0;
}

/* --- life ---------------------------------------------------------------------- */

static struct http_request *request_new(struct http *http)
{
    struct http_request *glue = http->spare;
    if (glue) {
        http->spare = glue->woken_next;
        http->spare_count--;
    } else {
        glue = xmalloc(sizeof *glue);
        glue->arena = glue->segment = glue->pulled = (struct buf){0};
    }
    struct buf arena = glue->arena, segment = glue->segment, pulled = glue->pulled;
    memset(glue, 0, offsetof(struct http_request, rq) + offsetof(struct request, query));
    glue->arena = arena;
    glue->segment = segment;
    glue->pulled = pulled;
    glue->arena.len = glue->segment.len = glue->pulled.len = 0;
    return glue;
}

void http_free_request(struct http_request *glue)
{
    struct http *http = glue->http;
    struct request *rq = &glue->rq;
    if (rq->release)
        rq->release(rq->state);
    http_forget_wake(glue); /* only now can nobody wake it any more */
    bulk_free(glue->bulk);
    for (int i = 0; i < rq->answer.header_count; i++)
        free(rq->answer.headers[i].value);
    buf_release(&rq->answer.body);
    buf_release(&rq->body);
    config_unref(rq->config);
    free(glue->uri);
    if (http->spare_count < SPARES_MAX && glue->arena.cap < 65536 && glue->pulled.cap < 65536) {
        glue->woken_next = http->spare;
        http->spare = glue;
        http->spare_count++;
    } else {
        buf_release(&glue->arena);
        buf_release(&glue->segment);
        buf_release(&glue->pulled);
        free(glue);
    }
}

/* The request line was read: libmicrohttpd's first word of a request. */
void *http_begin(void *cls, const char *uri, struct MHD_Connection *connection)
{
    struct http *http = cls;
    struct http_request *glue = request_new(http);
    glue->http = http;
    glue->connection = connection;
    glue->uri = xstrdup(uri);
    glue->rq.server = http->server;
    glue->rq.glue = glue;
    glue->rq.config = config_ref(http->server->config);
    http->open_requests++;
    http->progress = true;
    return glue;
}

void http_complete(void *cls, struct MHD_Connection *connection, void **context,
                   enum MHD_RequestTerminationCode code)
{
    (void)cls, (void)connection, (void)code;
    struct http_request *glue = *context;
    *context = NULL;
    if (!glue)
        return;
    struct http *http = glue->http;
    http->open_requests--;
    http->progress = true;
    set_deadline(glue, glue->rq.config->limits.idle_timeout_ms);
    if (glue->phase == PHASE_WOKEN)
        http_unpark(glue); /* the next batch that comes back must be able to wake it */
    if (glue->phase == PHASE_COMMIT || glue->phase == PHASE_PARKED || (glue->bulk && bulk_busy(glue->bulk))) {
        /* The client left. What it asked for goes on; the wake-up will free it. */
        glue->orphan = true;
        glue->rq.gone = true;
        glue->connection = NULL;
        return;
    }
    http_free_request(glue);
}

/* --- the gate -------------------------------------------------------------------- */

static enum MHD_Result note_header(void *cls, enum MHD_ValueKind kind, const char *name, size_t name_len,
                                   const char *value, size_t value_len)
{
    (void)kind;
    headers_note(cls, name, name_len, value, value_len);
    return MHD_YES;
}

static enum method method_of(const char *method, bool *head)
{
    static const struct {
        const char *name;
        enum method method;
    } known[] = {
        {"GET", METHOD_GET},       {"POST", METHOD_POST},   {"HEAD", METHOD_GET},        {"PUT", METHOD_PUT},
        {"DELETE", METHOD_DELETE}, {"PATCH", METHOD_PATCH}, {"OPTIONS", METHOD_OPTIONS},
    };
    *head = strcmp(method, "HEAD") == 0;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(method, known[i].name) == 0)
            return known[i].method;
    return METHOD_OTHER;
}

/* A length that two parsers could read differently is refused. */
static bool framing_is_clear(const struct headers *h)
{
    if (h->transfer_encoding.p)
        return !h->content_lengths && h->hosts <= 1 && h->transfer_encoding.len == 7 &&
               strncasecmp(h->transfer_encoding.p, "chunked", 7) == 0;
    return h->content_lengths <= 1 && h->hosts <= 1;
}

static int64_t announced_length(const struct headers *h)
{
    int64_t n = 0;
    if (h->transfer_encoding.p)
        return -1;
    for (size_t i = 0; h->content_length.p && i < h->content_length.len; i++) {
        char c = h->content_length.p[i];
        if (c < '0' || c > '9' || n > INT64_MAX / 16)
            return INT64_MAX; /* libmicrohttpd refuses it as well */
        n = n * 10 + (c - '0');
    }
    return n;
}

static bool admit_token(struct request *rq, const struct headers *h)
{
    const struct config *config = rq->config;
    rq->scopes = SCOPE_ALL;
    if (!config->token_count || !rq->route->scope)
        return true;
    rq->scopes = 0;
    rq->token = gate_token(config, h->authorization);
    if (!rq->token) {
        answer_header(rq, "WWW-Authenticate", "Bearer");
        answer_problem(rq, 401, "unauthorized", "%s",
                       h->authorization.p ? "the token is not known"
                                          : "a token is needed: Authorization: Bearer TOKEN");
        return false;
    }
    rq->scopes = rq->token->scopes & SCOPE_ADMIN ? SCOPE_ALL : rq->token->scopes;
    if (rq->scopes & rq->route->scope)
        return true;
    answer_problem(rq, 403, "forbidden", "the token \"%s\" lacks the scope \"%s\"", rq->token->name,
                   scope_name(rq->route->scope));
    return false;
}

static bool admit_body(struct http_request *glue)
{
    struct request *rq = &glue->rq;
    const struct headers *h = &glue->headers;
    enum media media = gate_media(h->content_type);
    enum body_rule rule = rq->route->body;
    int64_t length = announced_length(h);
    rq->has_body = length != 0;
    glue->body_max = rq->config->limits.body_bytes;
    if (rule == BODY_SUBMIT && !resource_query_is(rq, (const char *const[]){NULL}))
        return false; /* before a line of it is read */
    if (rule == BODY_NONE && media == MEDIA_OTHER && length == 0)
        media = MEDIA_NONE;
    if (rule == BODY_SUBMIT && media == MEDIA_NDJSON) {
        glue->body_max = rq->config->limits.bulk_body_bytes;
        if (h->key.p) {
            answer_problem(rq, 400, "invalid-header",
                           "Idempotency-Key does not fit many submissions; give each line its own \"key\"");
            return false;
        }
        if (atomic_load_explicit(&rq->server->closing, memory_order_relaxed)) {
            answer_header(rq, "Retry-After", "5");
            answer_problem(rq, 503, "closing", "the service is closing; try again soon");
            return false;
        }
        glue->bulk = bulk_new(rq);
    } else if (media == MEDIA_OTHER || media == MEDIA_NDJSON || (media == MEDIA_NONE && length != 0)) {
        answer_problem(rq, 415, "unsupported-media-type",
                       "the body must be application/json%s (with curl: curl --json)",
                       rule == BODY_SUBMIT ? " or application/x-ndjson" : "");
        return false;
    }
    if (length > glue->body_max) {
        answer_problem(rq, 413, "payload-too-large", "the body has %lld bytes, the limit is %lld",
                       (long long)length, (long long)glue->body_max);
        return false;
    }
    glue->body_left = length;
    if (length > 0 && !glue->bulk)
        buf_reserve(&rq->body, (size_t)length + 1);
    return true;
}

static bool read_target(struct http_request *glue)
{
    struct request *rq = &glue->rq;
    struct reason why;
    const char *question = strchr(glue->uri, '?');
    size_t path_len = question ? (size_t)(question - glue->uri) : strlen(glue->uri);
    rq->path = (struct span){glue->uri, path_len};
    rq->raw_query = question ? span_of(question + 1) : SPAN("");
    if (rq->raw_query.len && query_parse(rq->raw_query, &glue->arena, rq->query, &rq->query_count, &why) != OK) {
        answer_problem(rq, 400, "invalid-query", "%s", why.text);
        return false;
    }
    return true;
}

static bool is_changing(enum method method)
{
    return method != METHOD_GET && method != METHOD_OPTIONS;
}

/* libmicrohttpd has room for a little more than the limit, so that what is
 * over it gets a clear answer; what is far over it gets libmicrohttpd's. */
static bool sizes_are_fair(struct http_request *glue)
{
    struct request *rq = &glue->rq;
    size_t limit = (size_t)rq->config->limits.header_bytes, address = strlen(glue->uri);
    if (address > limit)
        answer_problem(rq, 414, "uri-too-long", "the address has %zu bytes, the limit is %zu", address, limit);
    else if (address + glue->headers.bytes > limit)
        answer_problem(rq, 431, "header-too-large", "the header has %zu bytes, the limit is %zu",
                       address + glue->headers.bytes, limit);
    return address + glue->headers.bytes <= limit;
}

/* All checks before the body; false with the answer filled. */
static bool admit(struct http_request *glue, const char *method, bool needs_host)
{
    struct request *rq = &glue->rq;
    const struct headers *h = &glue->headers;
    rq->method = method_of(method, &rq->head);
    if (!sizes_are_fair(glue) || !read_target(glue))
        return false;
    if (!framing_is_clear(h)) {
        answer_header(rq, "Connection", "close"); /* where the next request would begin is as unclear */
        answer_problem(
            rq, 400, "invalid-request",
            "Content-Length, Transfer-Encoding or Host is given twice, or the Transfer-Encoding is not chunked");
        return false;
    }
    if (needs_host && !h->hosts) {
        answer_problem(rq, 400, "invalid-request", "HTTP/1.1 needs a Host header");
        return false;
    }
    if (!gate_host(rq->config, h->host)) {
        answer_problem(rq, 403, "forbidden-host",
                       "the Host \"%.*s\" is not one of this server's; see `hosts` in the configuration",
                       (int)(h->host.len < 200 ? h->host.len : 200), h->host.p);
        return false;
    }
    if (gate_cors(rq->config, h->origin))
        routing_cors(rq, h->origin);
    if (is_changing(rq->method) && !gate_origin(rq->config, h)) {
        answer_problem(rq, 403, "forbidden-origin", "a changing request from another site is refused");
        return false;
    }
    if (!routing_find(rq, &glue->segment, h->preflight_method.p != NULL && h->origin.p != NULL))
        return false;
    return admit_token(rq, h) && admit_body(glue);
}

/* --- the body -------------------------------------------------------------------------- */

static void refuse_body(struct http_request *glue)
{
    struct request *rq = &glue->rq;
    answer_problem(rq, 413, "payload-too-large", "the body is larger than the limit of %lld bytes",
                   (long long)glue->body_max);
    glue->refused = true;
    glue->phase = PHASE_DROP;
    set_deadline(glue, DROP_MAX_MS);
    buf_release(&rq->body);
}

static enum MHD_Result take_body(struct http_request *glue, const char *data, size_t *size)
{
    struct request *rq = &glue->rq;
    if (glue->phase == PHASE_DROP) {
        glue->dropped += (int64_t)*size;
        *size = 0;
        return glue->dropped > DROP_MAX_BYTES ? MHD_NO : MHD_YES;
    }
    if (glue->bulk) {
        size_t taken = bulk_feed(glue->bulk, data, *size);
        *size -= taken;
        glue->dropped += (int64_t)taken; /* only a body in chunks can be over the limit */
        if (glue->dropped > glue->body_max + DROP_MAX_BYTES)
            return MHD_NO;
        if (*size) /* enough is on its way: the rest waits in the socket */
            http_park(glue, PHASE_PARKED);
        else if (rq->answer.status)
            glue->phase = PHASE_DROP, glue->refused = true;
        return MHD_YES;
    }
    if ((int64_t)(rq->body.len + *size) > glue->body_max) {
        refuse_body(glue);
    } else {
        buf_add(&rq->body, data, *size);
        rq->has_body = true;
    }
    *size = 0;
    return MHD_YES;
}

static bool check_json(struct request *rq)
{
    struct json_fault fault;
    if (!rq->body.len) {
        rq->has_body = false;
        if (rq->route->body != BODY_JSON && rq->route->body != BODY_SUBMIT)
            return true;
        answer_problem(rq, 400, "invalid-json", "a JSON body is needed");
        return false;
    }
    if (json_check(rq->body.data, rq->body.len, JSON_DEPTH_MAX, &fault) == OK)
        return true;
    if (fault.pointer[0]) {
        struct faults faults = {0};
        faults_add(&faults, 0, fault.pointer, "%s", fault.detail);
        answer_faults(rq, 400, "invalid-json", "the body is not valid JSON", &faults);
    } else {
        answer_problem(rq, 400, "invalid-json", "at byte %zu: %s", fault.offset, fault.detail);
    }
    return false;
}

static enum next handle(struct http_request *glue)
{
    struct request *rq = &glue->rq;
    if (glue->bulk)
        return bulk_end(glue->bulk);
    if (!check_json(rq))
        return NEXT_ANSWER;
    return rq->route->handler(rq);
}

/* --- libmicrohttpd's calls ----------------------------------------------------------------- */

static enum MHD_Result first_call(struct http_request *glue, const char *method, const char *version)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(glue->connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    glue->peer = info ? info->socket_context : NULL;
    MHD_get_connection_values_n(glue->connection, MHD_HEADER_KIND, note_header, &glue->headers);
    if (admit(glue, method, strcmp(version, MHD_HTTP_VERSION_1_1) == 0)) {
        glue->phase = PHASE_BODY;
        const struct config *config = glue->rq.config;
        int64_t bytes = glue->body_left > 0 ? glue->body_left : glue->body_left < 0 ? glue->body_max : 0;
        set_deadline(glue, bytes ? config->limits.request_timeout_ms + bytes / BODY_BYTES_PER_MS : 0);
        return MHD_YES;
    }
    glue->refused = true;
    glue->phase = PHASE_DROP;
    int64_t length = announced_length(&glue->headers);
    set_deadline(glue, DROP_MAX_MS);
    if (length > DROP_MAX_BYTES || glue->headers.expect.p || !framing_is_clear(&glue->headers)) {
        glue->phase = PHASE_SENT;
        return http_send(glue); /* too much to read, without an end, or not sent yet: the connection closes */
    }
    return MHD_YES;
}

enum MHD_Result http_handle(void *cls, struct MHD_Connection *connection, const char *url, const char *method,
                            const char *version, const char *data, size_t *size, void **context)
{
    (void)connection, (void)url;
    struct http *http = cls;
    struct http_request *glue = *context;
    switch (glue->phase) {
    case PHASE_NEW: http->progress = true; return first_call(glue, method, version);
    case PHASE_COMMIT:
    case PHASE_PARKED: return MHD_YES; /* not yet */
    case PHASE_SENT: return MHD_NO;
    case PHASE_WOKEN:
        http->progress = true;
        http_unpark(glue);
        if (glue->bulk && glue->rq.resume == NULL) {
            glue->phase = PHASE_BODY; /* it was suspended in the middle of its body */
            break;
        }
        return http_next(glue, glue->rq.resume ? glue->rq.resume(&glue->rq) : NEXT_ANSWER);
    case PHASE_BODY:
    case PHASE_DROP: break;
    }
    http->progress = true;
    if (*size)
        return take_body(glue, data, size);
    set_deadline(glue, 0);
    if (glue->refused || glue->rq.answer.status)
        return http_next(glue, NEXT_ANSWER);
    return http_next(glue, handle(glue));
}
