#include "server/http/problem.h"

#include "base/json.h"

static const struct {
    const char *type, *title;
} problems[] = {
    {"busy", "Busy"},
    {"cancelled", "Cancelled"},
    {"closing", "Closing"},
    {"conflict", "Conflict"},
    {"failed", "Failed"},
    {"forbidden", "Forbidden"},
    {"forbidden-host", "Forbidden host"},
    {"forbidden-origin", "Forbidden origin"},
    {"header-too-large", "Header too large"},
    {"inbox-full", "Inbox full"},
    {"internal", "Internal error"},
    {"invalid-header", "Invalid header"},
    {"invalid-json", "Invalid JSON"},
    {"invalid-query", "Invalid query"},
    {"invalid-request", "Invalid request"},
    {"key-reused", "Key reused"},
    {"method-not-allowed", "Method not allowed"},
    {"not-found", "Not found"},
    {"outbox-full", "Outbox full"},
    {"payload-too-large", "Payload too large"},
    {"precondition-failed", "Precondition failed"},
    {"queue-full", "Queue full"},
    {"range-not-satisfiable", "Range not satisfiable"},
    {"request-timeout", "Request timeout"},
    {"stale-lease", "Stale lease"},
    {"steps-full", "Steps full"},
    {"too-many-streams", "Too many streams"},
    {"unauthorized", "Unauthorized"},
    {"unavailable", "Unavailable"},
    {"unfinished", "Unfinished"},
    {"unserved", "Unserved"},
    {"unsupported-media-type", "Unsupported media type"},
    {"uri-too-long", "URI too long"},
};

const char *problem_title(const char *type)
{
    for (size_t i = 0; i < sizeof problems / sizeof *problems; i++)
        if (strcmp(problems[i].type, type) == 0)
            return problems[i].title;
    return "Problem";
}

static void add_faults(struct buf *out, const struct faults *faults)
{
    buf_addl(out, ",\"errors\":[");
    for (int i = 0; i < faults->count; i++) {
        buf_adds(out, i ? ",{\"pointer\":" : "{\"pointer\":");
        json_add_lossy(out, span_of(faults->items[i].pointer));
        buf_addl(out, ",\"detail\":");
        json_add_lossy(out, span_of(faults->items[i].detail));
        buf_addc(out, '}');
    }
    buf_addc(out, ']');
}

void problem_add_detail(struct buf *out, const struct faults *faults)
{
    const struct fault *first = &faults->items[0];
    if (first->pointer[0])
        buf_addf(out, "%s: ", first->pointer);
    buf_adds(out, first->detail);
    if (faults->total > 1)
        buf_addf(out, " (and %d more)", faults->total - 1);
}

void problem_add(struct buf *out, int status, const char *type, const char *detail, const struct faults *faults,
                 struct span instance)
{
    buf_addl(out, "{\"type\":\"urn:errand:problem:");
    buf_adds(out, type);
    buf_addl(out, "\",\"title\":");
    json_add_string(out, span_of(problem_title(type)));
    buf_addl(out, ",\"status\":");
    buf_add_int(out, status);
    buf_addl(out, ",\"detail\":");
    json_add_lossy(out, span_of(detail));
    if (instance.p) {
        buf_addl(out, ",\"instance\":");
        json_add_lossy(out, instance);
    }
    if (faults && faults->count)
        add_faults(out, faults);
    buf_addc(out, '}');
}
