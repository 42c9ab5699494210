#include "server/routing.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static struct buf segment;

static struct request *asked(enum method method, const char *path, bool preflight, bool *found)
{
    struct request *rq = calloc(1, sizeof *rq);
    rq->method = method;
    rq->path = span_of(path);
    segment.len = 0;
    *found = routing_find(rq, &segment, preflight);
    return rq;
}

static const char *header(const struct request *rq, const char *name)
{
    for (int i = 0; i < rq->answer.header_count; i++)
        if (strcmp(rq->answer.headers[i].name, name) == 0)
            return rq->answer.headers[i].value;
    return "";
}

Test(routing, a_path_and_a_method_name_a_route)
{
    static const struct {
        enum method method;
        const char *path, *pattern, *segment;
    } rows[] = {
        {METHOD_POST, "/tasks", "/tasks", NULL},
        {METHOD_GET, "/tasks", "/tasks", NULL},
        {METHOD_GET, "/tasks/a", "/tasks/{name}", "a"},
        {METHOD_GET, "/tasks/pause", "/tasks/{name}", "pause"},
        {METHOD_POST, "/tasks/pause/pause", "/tasks/{name}/pause", "pause"},
        {METHOD_GET, "/tasks/a%20b", "/tasks/{name}", "a b"},
        {METHOD_GET, "/tasks/a+b", "/tasks/{name}", "a+b"},
        {METHOD_POST, "/invocations/cancel", "/invocations/cancel", NULL},
        {METHOD_POST, "/invocations/x/cancel", "/invocations/{id}/cancel", "x"},
        {METHOD_GET, "/invocations/cancel", "/invocations/{id}", "cancel"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bool found;
        struct request *rq = asked(rows[i].method, rows[i].path, false, &found);
        cr_assert(found, "%s", rows[i].path);
        cr_expect_str_eq(rq->route->pattern, rows[i].pattern);
        cr_expect_eq(rq->segment.p != NULL, rows[i].segment != NULL, "%s", rows[i].path);
        if (rows[i].segment)
            cr_expect(span_is(rq->segment, rows[i].segment), "%s", rows[i].path);
    }
}

Test(routing, what_is_none_is_404_and_a_wrong_method_405_with_those_allowed)
{
    static const struct {
        enum method method;
        const char *path;
        int status;
        const char *allow;
    } rows[] = {
        {METHOD_GET, "/nosuch", 404, ""},
        {METHOD_GET, "", 404, ""},
        {METHOD_GET, "/tasks/", 404, ""},
        {METHOD_GET, "/tasks//", 404, ""},
        {METHOD_GET, "//tasks", 404, ""},
        {METHOD_GET, "/tasksx", 404, ""},
        {METHOD_POST, "/tasks/a/pause/", 404, ""},
        {METHOD_GET, "/tasks/%zz", 404, ""},
        {METHOD_GET, "/tasks/a%2Fb", 404, ""},
        {METHOD_GET, "/tasks/a%00", 404, ""},
        {METHOD_DELETE, "/tasks", 405, "POST, GET, HEAD, OPTIONS"},
        {METHOD_OTHER, "/tasks", 405, "POST, GET, HEAD, OPTIONS"},
        {METHOD_GET, "/pause", 405, "POST, OPTIONS"},
        {METHOD_PUT, "/invocations/x", 405, "GET, HEAD, PATCH, DELETE, OPTIONS"},
        {METHOD_OPTIONS, "/pause", 204, "POST, OPTIONS"},
        {METHOD_OPTIONS, "/nosuch", 404, ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bool found;
        struct request *rq = asked(rows[i].method, rows[i].path, false, &found);
        cr_expect_not(found, "%s", rows[i].path);
        cr_expect_eq(rq->answer.status, rows[i].status, "%s: %d", rows[i].path, rq->answer.status);
        cr_expect_str_eq(header(rq, "Allow"), rows[i].allow, "%s", rows[i].path);
    }
}

Test(routing, a_preflight_is_told_what_is_allowed_if_its_origin_is)
{
    for (int allowed = 0; allowed < 2; allowed++) {
        struct request *rq = calloc(1, sizeof *rq);
        rq->method = METHOD_OPTIONS;
        rq->path = SPAN("/tasks");
        if (allowed)
            routing_cors(rq, SPAN("https://page.example"));
        cr_expect_not(routing_find(rq, &segment, true));
        cr_expect_eq(rq->answer.status, 204);
        cr_expect_str_eq(header(rq, "Access-Control-Allow-Origin"), allowed ? "https://page.example" : "");
        cr_expect_eq(strstr(header(rq, "Access-Control-Allow-Methods"), "PATCH") != NULL, allowed);
    }
}
