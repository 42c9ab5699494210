#include "server/http/routing.h"

#include "server/http/answer.h"
#include "server/http/query.h"

#include <stdlib.h>

static const char *const method_names[] = {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"};

const char *routing_method_name(enum method method)
{
    return method < METHOD_OTHER ? method_names[method] : "?";
}

enum { VARIABLES_MAX = 2 };

/* Does the path fit the pattern? Its variable segments come back raw, absent
 * those that it does not have. */
static bool fits(const char *pattern, struct span path, struct span segments[VARIABLES_MAX])
{
    const char *p = path.p, *end = path.p + path.len;
    struct span *segment = segments;
    segments[0] = segments[1] = (struct span){NULL, 0};
    while (*pattern) {
        if (*pattern == '{') {
            segment->p = p;
            while (p < end && *p != '/')
                p++;
            segment->len = (size_t)(p - segment->p);
            if (!segment->len)
                return false;
            segment++;
            pattern = strchr(pattern, '}') + 1;
        } else if (p < end && *p == *pattern) {
            p++;
            pattern++;
        } else {
            return false;
        }
    }
    return p == end;
}

/* Adds the header, and the methods to `allowed`. */
static void add_allow(const struct route *routes, struct request *rq, struct buf *allowed)
{
    struct span segments[VARIABLES_MAX];
    for (const struct route *route = routes; route->pattern; route++) {
        if (!fits(route->pattern, rq->path, segments))
            continue;
        buf_addf(allowed, "%s, ", method_names[route->method]);
        if (route->method == METHOD_GET)
            buf_addl(allowed, "HEAD, ");
    }
    buf_addl(allowed, "OPTIONS");
    answer_header(rq, "Allow", buf_cstr(allowed));
}

static void answer_options(const struct route *routes, struct request *rq, bool preflight)
{
    struct buf allowed = {0};
    bool cors = false;
    for (int i = 0; i < rq->answer.header_count; i++)
        cors |= strcmp(rq->answer.headers[i].name, "Access-Control-Allow-Origin") == 0;
    add_allow(routes, rq, &allowed);
    buf_release(&allowed);
    if (preflight && cors) {
        answer_header(rq, "Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE");
        answer_header(rq, "Access-Control-Allow-Headers",
                      "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Prefer, Range");
        answer_header(rq, "Access-Control-Max-Age", "600");
    }
    answer_empty(rq, 204);
}

/* Both stand in `decoded`, which moves while it grows. */
static bool decode_segments(struct request *rq, const struct span raw[VARIABLES_MAX], struct buf *decoded)
{
    if (raw[0].p && !segment_decode(raw[0], decoded))
        return false;
    size_t first = decoded->len;
    if (raw[1].p && !segment_decode_name(raw[1], decoded))
        return false;
    if (raw[0].p)
        rq->segment = (struct span){decoded->data, first};
    if (raw[1].p)
        rq->second = (struct span){decoded->data + first, decoded->len - first};
    return true;
}

bool routing_find(const struct route *routes, struct request *rq, struct buf *decoded, bool preflight)
{
    bool known = false;
    struct span raw[VARIABLES_MAX];
    for (const struct route *route = routes; route->pattern; route++) {
        if (!fits(route->pattern, rq->path, raw))
            continue;
        known = true;
        if (route->method != rq->method)
            continue;
        rq->route = route;
        if (decode_segments(rq, raw, decoded))
            return true;
        answer_problem(rq, 404, "not-found", "the path is badly escaped");
        return false;
    }
    if (!known)
        answer_problem(rq, 404, "not-found", "there is no such route; GET /openapi.yaml names them all");
    else if (rq->method == METHOD_OPTIONS)
        answer_options(routes, rq, preflight);
    else {
        struct buf allowed = {0};
        add_allow(routes, rq, &allowed);
        answer_problem(rq, 405, "method-not-allowed", "this path takes %s", buf_cstr(&allowed));
        buf_release(&allowed);
    }
    return false;
}

struct span routing_shown(const struct route *routes, const struct request *rq)
{
    if (rq->route)
        return rq->route->secret ? span_of(rq->route->pattern) : rq->path;
    for (const struct route *route = routes; route->pattern; route++) {
        size_t before = strcspn(route->pattern, "{");
        if (route->secret && rq->path.len >= before && memcmp(rq->path.p, route->pattern, before) == 0)
            return (struct span){route->pattern, before};
    }
    return rq->path;
}

void routing_cors(struct request *rq, struct span origin)
{
    char *text = span_dup(origin);
    answer_header(rq, "Access-Control-Allow-Origin", text);
    answer_header(rq, "Access-Control-Expose-Headers", "ETag, Link, Location, Preference-Applied, Retry-After");
    answer_header(rq, "Vary", "Origin");
    free(text);
}
