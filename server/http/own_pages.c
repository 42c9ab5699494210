/* libmicrohttpd's own answers, as problems.
 *
 * What it refuses before anyone is asked (an address or a header that its
 * buffer cannot hold, a line that is none, another version) it answers with a
 * page in HTML, and has no way to be given another. But it queues that page as
 * anybody would: this function stands before its own, and whoever calls it from
 * outside this room gets a problem with the same status. */
#include "server/http/internal.h"
#include "server/http/problem.h"

#include <dlfcn.h>

typedef enum MHD_Result queue_fn(struct MHD_Connection *connection, unsigned status,
                                 struct MHD_Response *response);

static const struct {
    unsigned status;
    const char *type, *detail;
} refusals[] = {
    {400, "invalid-request", "a line of the header is none"},
    {408, "request-timeout", "the request did not arrive in time"},
    {414, "uri-too-long", "the address is longer than the limit, see `limits.header`"},
    {431, "header-too-large", "the header is larger than the limit, see `limits.header`"},
    {500, "internal", "the server failed; its log has more"},
    {505, "invalid-request", "the version is neither HTTP/1.1 nor HTTP/1.0"},
};

static queue_fn *library(void)
{
    static queue_fn *found;
    if (!found)
        found = (queue_fn *)dlsym(RTLD_NEXT, "MHD_queue_response");
    return found;
}

enum MHD_Result http_queue(struct MHD_Connection *connection, unsigned status, struct MHD_Response *response)
{
    return library()(connection, status, response);
}

static struct MHD_Response *problem_of(unsigned status)
{
    struct buf body = {0};
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++)
        if (refusals[i].status == status)
            problem_add(&body, (int)status, refusals[i].type, refusals[i].detail, NULL, (struct span){NULL, 0});
    if (!body.len)
        return NULL;
    size_t len = body.len;
    struct MHD_Response *problem = MHD_create_response_from_buffer(len, buf_take(&body), MHD_RESPMEM_MUST_FREE);
    if (problem)
        MHD_add_response_header(problem, MHD_HTTP_HEADER_CONTENT_TYPE, "application/problem+json");
    return problem;
}

/* After such a fault, and after a number that is none of 64 bits (413),
 * libmicrohttpd (0.9.75) sends the head of its answer twice. */
static bool length_is_no_number(struct MHD_Connection *connection)
{
    const char *length = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
    return length && (!*length || length[strspn(length, "0123456789")]);
}

enum MHD_Result MHD_queue_response(struct MHD_Connection *connection, unsigned status, struct MHD_Response *page)
{
    if (status == MHD_HTTP_CONTENT_TOO_LARGE ||
        (status == MHD_HTTP_BAD_REQUEST && length_is_no_number(connection)))
        return MHD_NO; /* the connection is closed without a word */
    struct MHD_Response *problem = problem_of(status);
    if (!problem)
        return http_queue(connection, status, page);
    enum MHD_Result queued = http_queue(connection, status, problem);
    MHD_destroy_response(problem);
    return queued;
}
