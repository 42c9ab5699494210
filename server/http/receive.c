/* One request from its first line to its end: the gate, the body, the handler. */
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "server/http/answer.h"
#include "server/http/internal.h"
#include "server/http/parameters.h"
#include "server/http/query.h"
#include "server/http/routing.h"

#include <stdlib.h>
#include <strings.h>
#include <utlist.h>

enum {
    DROP_MAX_BYTES = 8 << 20,
    DROP_MAX_MS = 5000,
    SPARES_MAX = 256,
    BODY_BYTES_PER_MS = 50,
    RESULT_ROOM = 64 << 10
};

/* How long the client may take for what it has yet to send; 0: no limit, it is our turn. */
static void set_deadline(struct exchange *exchange, int64_t ms)
{
    if (exchange->peer)
        exchange->peer->deadline_us = ms ? clock_mono_us() + ms * 1000 : 0;
}

/* --- life ---------------------------------------------------------------------- */

static struct exchange *exchange_new(struct http *http)
{
    struct exchange *exchange = http->spare;
    if (exchange) {
        LL_DELETE(http->spare, exchange);
        http->spare_count--;
    } else {
        exchange = xmalloc(sizeof *exchange);
        exchange->arena = exchange->segment = exchange->pulled = (struct buf){0};
    }
    struct buf arena = exchange->arena, segment = exchange->segment, pulled = exchange->pulled;
    memset(exchange, 0, offsetof(struct exchange, rq) + offsetof(struct request, query));
    exchange->arena = arena;
    exchange->segment = segment;
    exchange->pulled = pulled;
    exchange->arena.len = exchange->segment.len = exchange->pulled.len = 0;
    return exchange;
}

void http_free_exchange(struct exchange *exchange)
{
    struct http *http = exchange->http;
    struct request *rq = &exchange->rq;
    if (rq->release)
        rq->release(rq->state);
    http_forget_wake(exchange); /* only now can nobody wake it any more */
    http->answer_bytes -= exchange->charged;
    http->bulk_bytes -= exchange->bulk_charged;
    http->parked_count -= exchange->follows;
    for (int i = 0; i < rq->answer.header_count; i++)
        free(rq->answer.headers[i].value);
    buf_release(&rq->answer.body);
    buf_release(&rq->body);
    config_unref(rq->config);
    free(exchange->uri);
    if (http->spare_count < SPARES_MAX && exchange->arena.cap < 65536 && exchange->pulled.cap < 65536) {
        LL_PREPEND(http->spare, exchange);
        http->spare_count++;
    } else {
        buf_release(&exchange->arena);
        buf_release(&exchange->segment);
        buf_release(&exchange->pulled);
        free(exchange);
    }
}

/* The request line was read: libmicrohttpd's first word of a request. */
void *http_begin(void *cls, const char *uri, struct MHD_Connection *connection)
{
    struct http *http = cls;
    struct exchange *exchange = exchange_new(http);
    exchange->http = http;
    exchange->connection = connection;
    exchange->uri = xstrdup(uri);
    exchange->uri_was = uri;
    exchange->began_us = clock_mono_us();
    exchange->rq.http = http;
    exchange->rq.context = http->context;
    exchange->rq.exchange = exchange;
    exchange->rq.config = config_ref(http->config);
    exchange->rq.generation = http->generation;
    exchange->rq.reader = http->reader;
    http->open_requests++;
    http->progress = true;
    return exchange;
}

/* The access log. What was asked for stands in the path, if that may be shown;
 * the query and the body are the client's. Status 0: it left before it was
 * answered. */
static void log_request(const struct exchange *exchange)
{
    const struct request *rq = &exchange->rq;
    bool answered = exchange->phase == PHASE_SENT || exchange->streaming;
    log_debug("request", LOG_STR("method", rq->head ? "HEAD" : routing_method_name(rq->method)),
              LOG_SPAN("path", routing_shown(exchange->http->routes, rq)),
              LOG_INT("status", answered ? rq->answer.status : 0),
              LOG_INT("us", clock_mono_us() - exchange->began_us),
              LOG_STR("token", rq->token ? rq->token->name : ""));
}

void http_complete(void *cls, struct MHD_Connection *connection, void **context,
                   enum MHD_RequestTerminationCode code)
{
    (void)cls, (void)connection;
    struct exchange *exchange = *context;
    *context = NULL;
    if (!exchange)
        return;
    struct http *http = exchange->http;
    http->open_requests--;
    http->progress = true;
    log_request(exchange);
    set_deadline(exchange, exchange->rq.config->limits.idle_timeout_ms);
    if (exchange->peer)
        exchange->peer->in_request = false;
    if (exchange->phase == PHASE_WOKEN)
        http_unpark(exchange); /* the next batch that comes back must be able to wake it */
    if (exchange->phase == PHASE_COMMIT || exchange->phase == PHASE_PARKED ||
        (exchange->sink && exchange->sink->busy(&exchange->rq))) {
        /* The client left. What it asked for goes on; the wake-up will free it. */
        exchange->orphan = true;
        exchange->rq.gone = true;
        exchange->connection = NULL;
        return;
    }
    if (exchange->phase == PHASE_WOKEN && exchange->rq.goes_on) {
        exchange->orphan = exchange->rq.gone = true;
        exchange->connection = NULL;
        http_resume_orphan(exchange);
        return;
    }
    exchange->rq.gone = code != MHD_REQUEST_TERMINATED_COMPLETED_OK;
    http_free_exchange(exchange);
}

/* --- the gate -------------------------------------------------------------------- */

static enum MHD_Result note_header(void *cls, enum MHD_ValueKind kind, const char *name, size_t name_len,
                                   const char *value, size_t value_len)
{
    struct exchange *exchange = cls;
    (void)kind;
    headers_note(&exchange->headers, name, name_len, value, value_len);
    framing_note(&exchange->framing, (struct span){name, name_len}, (struct span){value, value_len});
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

static int64_t announced_length(const struct headers *h)
{
    int64_t n = 0;
    if (h->transfer_encoding.p)
        return -1;
    for (size_t i = 0; h->content_length.p && i < h->content_length.len; i++) {
        char c = h->content_length.p[i];
        if (c < '0' || c > '9' || n > INT64_MAX / 16)
            return INT64_MAX;
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

/* What the headers say of the body; false with the refusal answered. */
static bool admit_media(struct exchange *exchange, int64_t length)
{
    struct request *rq = &exchange->rq;
    const struct route *route = rq->route;
    enum media media = gate_media(exchange->headers.content_type);
    if (route->body == BODY_NONE && length == 0 && (media == MEDIA_OTHER || media == MEDIA_TEXT))
        media = MEDIA_NONE;
    if (!gate_encoding(exchange->headers.content_encoding)) {
        answer_header(rq, "Accept-Encoding", "identity");
        answer_problem(
            rq, 415, "unsupported-media-type", "the body is compressed (Content-Encoding: %.*s): send it plain",
            (int)(exchange->headers.content_encoding.len < 100 ? exchange->headers.content_encoding.len : 100),
            exchange->headers.content_encoding.p);
        return false;
    }
    rq->lines = route->whole_bulk && media == MEDIA_NDJSON;
    if (rq->lines)
        return true;
    if (route->lines && media == MEDIA_NDJSON) {
        exchange->body_max = rq->config->limits.bulk_body_bytes;
        exchange->sink = route->lines->open(rq) ? route->lines : NULL;
        return exchange->sink != NULL;
    }
    if (route->body == BODY_LINES) {
        answer_problem(rq, 415, "unsupported-media-type",
                       "the body must be application/x-ndjson, one JSON object a line (with curl: "
                       "--data-binary @FILE, as -d would take the line breaks out)");
        return false;
    }
    if (media == (route->body == BODY_TEXT ? MEDIA_TEXT : MEDIA_JSON) || (media == MEDIA_NONE && length == 0))
        return true;
    if (route->body == BODY_TEXT) {
        answer_problem(
            rq, 415, "unsupported-media-type",
            "the body must be text/plain (with curl: -H 'Content-Type: text/plain' --data-binary @FILE)");
        return false;
    }
    answer_problem(rq, 415, "unsupported-media-type",
                   "the body must be application/json%s (with curl: curl --json)",
                   route->lines || route->whole_bulk ? " or application/x-ndjson" : "");
    return false;
}

static bool admit_body(struct exchange *exchange)
{
    struct request *rq = &exchange->rq;
    int64_t length = announced_length(&exchange->headers);
    exchange->body_max = rq->config->limits.body_bytes;
    if (rq->route->holds_result && exchange->body_max < rq->config->limits.result_bytes + RESULT_ROOM)
        exchange->body_max = rq->config->limits.result_bytes + RESULT_ROOM;
    if (rq->route->whole_bulk)
        exchange->body_max = rq->config->limits.bulk_body_bytes;
    if ((rq->route->no_query && !parameters_are_none(rq)) || !admit_media(exchange, length))
        return false;
    if (length > exchange->body_max) {
        answer_problem(rq, 413, "payload-too-large", "the body has %lld bytes, the limit is %lld",
                       (long long)length, (long long)exchange->body_max);
        return false;
    }
    if (rq->route->whole_bulk && !http_charge_body(exchange, length))
        return false;
    exchange->body_left = length;
    if (length > 0 && !exchange->sink)
        buf_reserve(&rq->body, (size_t)length + 1);
    return true;
}

static bool read_target(struct exchange *exchange)
{
    struct request *rq = &exchange->rq;
    struct reason why;
    const char *question = strchr(exchange->uri, '?');
    size_t path_len = question ? (size_t)(question - exchange->uri) : strlen(exchange->uri);
    rq->path = (struct span){exchange->uri, path_len};
    rq->raw_query = question ? span_of(question + 1) : SPAN("");
    if (rq->raw_query.len &&
        query_parse(rq->raw_query, &exchange->arena, rq->query, &rq->query_count, &why) != OK) {
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
 * over it is counted; what is far over it is answered by own_pages.c. */
static bool sizes_are_fair(struct exchange *exchange)
{
    struct request *rq = &exchange->rq;
    size_t limit = (size_t)rq->config->limits.header_bytes, address = strlen(exchange->uri);
    if (address > limit)
        answer_problem(rq, 414, "uri-too-long", "the address has %zu bytes, the limit is %zu", address, limit);
    else if (address + exchange->headers.bytes > limit)
        answer_problem(rq, 431, "header-too-large", "the header has %zu bytes, the limit is %zu",
                       address + exchange->headers.bytes, limit);
    return address + exchange->headers.bytes <= limit;
}

/* All checks before the body; false with the answer filled. */
static bool admit(struct exchange *exchange, const char *method, bool needs_host)
{
    struct request *rq = &exchange->rq;
    const struct headers *h = &exchange->headers;
    rq->method = method_of(method, &rq->head);
    if (!sizes_are_fair(exchange))
        return false;
    if (exchange->framing.fault) {
        answer_header(rq, "Connection", "close"); /* where the next request would begin is as unclear */
        answer_problem(rq, 400, "invalid-request", "%s", exchange->framing.fault);
        return false;
    }
    if (!read_target(exchange))
        return false;
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
    if (!routing_find(exchange->http->routes, rq, &exchange->segment,
                      h->preflight_method.p != NULL && h->origin.p != NULL))
        return false;
    return admit_token(rq, h) && (!rq->route->permit || rq->route->permit(rq)) && admit_body(exchange);
}

/* --- the body -------------------------------------------------------------------------- */

static void drop_body(struct exchange *exchange)
{
    exchange->refused = true;
    exchange->phase = PHASE_DROP;
    set_deadline(exchange, DROP_MAX_MS);
    buf_release(&exchange->rq.body);
}

static void refuse_body(struct exchange *exchange)
{
    answer_problem(&exchange->rq, 413, "payload-too-large", "the body is larger than the limit of %lld bytes",
                   (long long)exchange->body_max);
    drop_body(exchange);
}

static enum MHD_Result take_body(struct exchange *exchange, const char *data, size_t *size)
{
    struct request *rq = &exchange->rq;
    if (exchange->phase == PHASE_DROP) {
        exchange->dropped += (int64_t)*size;
        *size = 0;
        return exchange->dropped > DROP_MAX_BYTES ? MHD_NO : MHD_YES;
    }
    if (exchange->sink) {
        size_t taken = exchange->sink->feed(rq, data, *size);
        *size -= taken;
        exchange->dropped += (int64_t)taken; /* only a body in chunks can be over the limit */
        if (exchange->dropped > exchange->body_max + DROP_MAX_BYTES)
            return MHD_NO;
        if (*size) /* enough is on its way: the rest waits in the socket */
            http_park(exchange, PHASE_PARKED);
        else if (rq->answer.status)
            exchange->phase = PHASE_DROP, exchange->refused = true;
        return MHD_YES;
    }
    if ((int64_t)(rq->body.len + *size) > exchange->body_max) {
        refuse_body(exchange);
    } else if (rq->route->whole_bulk && !http_charge_body(exchange, (int64_t)(rq->body.len + *size))) {
        drop_body(exchange);
    } else {
        buf_add(&rq->body, data, *size);
    }
    *size = 0;
    return MHD_YES;
}

static bool check_json(struct request *rq)
{
    struct json_fault fault;
    if (!rq->body.len) {
        if (rq->route->body == BODY_NONE)
            return true;
        answer_problem(rq, 400, "invalid-json", "a JSON body is needed");
        return false;
    }
    if (json_check(rq->body.data, rq->body.len, JSON_DEPTH_MAX, &fault) == OK)
        return true;
    if (fault.pointer[0]) {
        struct faults faults = {0};
        faults_add(&faults, 0, fault.pointer, "%s", fault.detail);
        answer_faults(rq, 400, "invalid-json", &faults);
    } else {
        struct json_place place = json_place(buf_span(&rq->body), fault.offset);
        answer_problem(rq, 400, "invalid-json", "line %d, column %d: %s", place.line, place.column, fault.detail);
    }
    return false;
}

static enum next handle(struct exchange *exchange)
{
    struct request *rq = &exchange->rq;
    if (exchange->sink)
        return exchange->sink->end(rq);
    if (rq->route->body != BODY_TEXT && !rq->route->whole_bulk && !check_json(rq))
        return NEXT_ANSWER;
    enum next next = rq->before ? rq->before(rq) : rq->route->handler(rq);
    http_check_rows(exchange);
    return next;
}

static enum next go_on(struct exchange *exchange)
{
    if (!exchange->rq.resume)
        return NEXT_ANSWER;
    enum next next = exchange->rq.resume(&exchange->rq);
    http_check_rows(exchange);
    return next;
}

/* --- libmicrohttpd's calls ----------------------------------------------------------------- */

static enum MHD_Result first_call(struct exchange *exchange, const char *method, const char *version)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(exchange->connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    exchange->peer = info ? info->socket_context : NULL;
    if (exchange->peer)
        exchange->peer->in_request = true;
    framing_begin(&exchange->framing, span_of(exchange->uri), exchange->uri_was, version);
    MHD_get_connection_values_n(exchange->connection, MHD_HEADER_KIND, note_header, exchange);
    framing_end(&exchange->framing, &exchange->headers);
    if (admit(exchange, method, strcmp(version, MHD_HTTP_VERSION_1_1) == 0)) {
        exchange->phase = PHASE_BODY;
        const struct config *config = exchange->rq.config;
        int64_t bytes = exchange->body_left > 0   ? exchange->body_left
                        : exchange->body_left < 0 ? exchange->body_max
                                                  : 0;
        set_deadline(exchange, bytes ? config->limits.request_timeout_ms + bytes / BODY_BYTES_PER_MS : 0);
        return MHD_YES;
    }
    exchange->refused = true;
    exchange->phase = PHASE_DROP;
    int64_t length = announced_length(&exchange->headers);
    set_deadline(exchange, DROP_MAX_MS);
    if (length > DROP_MAX_BYTES || exchange->headers.expect.p || exchange->framing.fault) {
        exchange->phase = PHASE_SENT;
        return http_send(exchange); /* too much to read, without an end, or not sent yet: the connection closes */
    }
    return MHD_YES;
}

enum MHD_Result http_handle(void *cls, struct MHD_Connection *connection, const char *url, const char *method,
                            const char *version, const char *data, size_t *size, void **context)
{
    (void)connection, (void)url;
    struct http *http = cls;
    struct exchange *exchange = *context;
    switch (exchange->phase) {
    case PHASE_NEW: http->progress = true; return first_call(exchange, method, version);
    case PHASE_COMMIT:
    case PHASE_PARKED: return MHD_YES; /* not yet */
    case PHASE_SENT: return MHD_NO;
    case PHASE_WOKEN:
        http->progress = true;
        http_unpark(exchange);
        if (exchange->sink && exchange->rq.resume == NULL) {
            exchange->phase = PHASE_BODY; /* it was suspended in the middle of its body */
            break;
        }
        return http_next(exchange, go_on(exchange));
    case PHASE_BODY:
    case PHASE_DROP: break;
    }
    http->progress = true;
    if (*size)
        return take_body(exchange, data, size);
    set_deadline(exchange, 0);
    if (exchange->refused || exchange->rq.answer.status)
        return http_next(exchange, NEXT_ANSWER);
    return http_next(exchange, handle(exchange));
}
