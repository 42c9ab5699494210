#include "server/http/answer.h"
#include "server/http/routing.h"
#include "server/server.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static struct buf segment;
static struct request asked; /* the last one */

static void forget(void)
{
    for (int i = 0; i < asked.answer.header_count; i++)
        free(asked.answer.headers[i].value);
    buf_release(&asked.answer.body);
    buf_release(&segment);
    asked = (struct request){0};
}

TestSuite(routing, .fini = forget);

static bool ask(enum method method, const char *path)
{
    forget();
    asked.method = method;
    asked.path = span_of(path);
    return routing_find(server_routes, &asked, &segment, false);
}

static const char *header(const char *name)
{
    for (int i = 0; i < asked.answer.header_count; i++)
        if (strcmp(asked.answer.headers[i].name, name) == 0)
            return asked.answer.headers[i].value;
    return "";
}

Test(routing, a_path_and_a_method_name_a_route)
{
    static const struct {
        enum method method;
        const char *path, *pattern, *segment, *second;
    } rows[] = {
        {METHOD_POST, "/tasks", "/tasks", NULL, NULL},
        {METHOD_GET, "/tasks", "/tasks", NULL, NULL},
        {METHOD_GET, "/tasks/a", "/tasks/{name}", "a", NULL},
        {METHOD_GET, "/tasks/pause", "/tasks/{name}", "pause", NULL},
        {METHOD_POST, "/tasks/pause/pause", "/tasks/{name}/pause", "pause", NULL},
        {METHOD_GET, "/tasks/a%20b", "/tasks/{name}", "a b", NULL},
        {METHOD_GET, "/tasks/a+b", "/tasks/{name}", "a+b", NULL},
        {METHOD_POST, "/invocations/cancel", "/invocations/cancel", NULL, NULL},
        {METHOD_POST, "/invocations/x/cancel", "/invocations/{id}/cancel", "x", NULL},
        {METHOD_GET, "/invocations/cancel", "/invocations/{id}", "cancel", NULL},
        {METHOD_PUT, "/leases/t/steps/n", "/leases/{token}/steps/{name}", "t", "n"},
        {METHOD_PUT, "/leases/%74/steps/a%2Fb%20%c3%a9", "/leases/{token}/steps/{name}", "t", "a/b \xc3\xa9"},
        {METHOD_GET, "/leases/t/steps", "/leases/{token}/steps", "t", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cr_assert(ask(rows[i].method, rows[i].path), "%s", rows[i].path);
        cr_expect_str_eq(asked.route->pattern, rows[i].pattern);
        cr_expect_eq(asked.segment.p != NULL, rows[i].segment != NULL, "%s", rows[i].path);
        cr_expect_eq(asked.second.p != NULL, rows[i].second != NULL, "%s", rows[i].path);
        if (rows[i].segment)
            cr_expect(span_is(asked.segment, rows[i].segment), "%s", rows[i].path);
        if (rows[i].second)
            cr_expect(span_is(asked.second, rows[i].second), "%s", rows[i].path);
    }
}

Test(routing, a_path_with_a_secret_in_it_is_shown_without)
{
    static const struct {
        enum method method;
        const char *path, *shown;
    } rows[] = {
        {METHOD_GET, "/leases/SECRET", "/leases/{token}"},
        {METHOD_POST, "/leases/SECRET/complete", "/leases/{token}/complete"},
        {METHOD_POST, "/leases/SECRET%zz/complete", "/leases/{token}/complete"},
        {METHOD_PUT, "/leases/SECRET/complete", "/leases/"},
        {METHOD_GET, "/leases/SECRET/nothing", "/leases/"},
        {METHOD_PUT, "/leases/SECRET/steps/a", "/leases/{token}/steps/{name}"},
        {METHOD_GET, "/leases/SECRET/steps/a", "/leases/"},
        {METHOD_GET, "/leases", "/leases"},
        {METHOD_GET, "/tasks/a", "/tasks/a"},
        {METHOD_GET, "/nosuch/a", "/nosuch/a"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ask(rows[i].method, rows[i].path);
        cr_expect(span_is(routing_shown(server_routes, &asked), rows[i].shown), "%s", rows[i].path);
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
        {METHOD_PUT, "/leases/t/steps/", 404, ""},
        {METHOD_PUT, "/leases//steps/a", 404, ""},
        {METHOD_PUT, "/leases/t/steps/a/b", 404, ""},
        {METHOD_PUT, "/leases/t%2Fu/steps/a", 404, ""},
        {METHOD_PUT, "/leases/t/steps/a%00", 404, ""},
        {METHOD_PUT, "/leases/t/steps/%zz", 404, ""},
        {METHOD_POST, "/leases/t/steps/a", 405, "PUT, OPTIONS"},
        {METHOD_DELETE, "/tasks", 405, "POST, GET, HEAD, OPTIONS"},
        {METHOD_OTHER, "/tasks", 405, "POST, GET, HEAD, OPTIONS"},
        {METHOD_GET, "/pause", 405, "POST, OPTIONS"},
        {METHOD_PUT, "/invocations/x", 405, "GET, HEAD, PATCH, DELETE, OPTIONS"},
        {METHOD_OPTIONS, "/pause", 204, "POST, OPTIONS"},
        {METHOD_OPTIONS, "/nosuch", 404, ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cr_expect_not(ask(rows[i].method, rows[i].path), "%s", rows[i].path);
        cr_expect_eq(asked.answer.status, rows[i].status, "%s: %d", rows[i].path, asked.answer.status);
        cr_expect_str_eq(header("Allow"), rows[i].allow, "%s", rows[i].path);
    }
}

Test(routing, a_preflight_is_told_what_is_allowed_if_its_origin_is)
{
    for (int allowed = 0; allowed < 2; allowed++) {
        forget();
        asked.method = METHOD_OPTIONS;
        asked.path = SPAN("/tasks");
        if (allowed)
            routing_cors(&asked, SPAN("https://page.example"));
        cr_expect_not(routing_find(server_routes, &asked, &segment, true));
        cr_expect_eq(asked.answer.status, 204);
        cr_expect_str_eq(header("Access-Control-Allow-Origin"), allowed ? "https://page.example" : "");
        cr_expect_eq(strstr(header("Access-Control-Allow-Methods"), "PATCH") != NULL, allowed);
    }
}
