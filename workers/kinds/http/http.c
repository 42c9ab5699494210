/* HTTP: the arguments are sent to a service, and what it answers is the result. */
#include "workers/kinds/http/http.h"

static int in_flight(const struct task *task)
{
    return http_task(task)->in_flight;
}

static void start(struct attempt *attempt)
{
    struct reason why = {"no memory for a transfer"};
    struct request *request = request_new(attempt);
    if (request && driver_add(&request->transfer, &why))
        return;
    request_free(request);
    outcome_unstarted(attempt->outcome, span_of(why.text));
    attempt_end(attempt);
}

static void look(struct attempt *attempt)
{
    (void)attempt;
    driver_look();
}

const struct kind http_kind = {
    .name = "http",
    .in_flight = in_flight,
    .served = true,
    .keys = http_keys,
    .definition_bytes = sizeof(struct http_task),
    .check = http_check,
    .advise = http_advise,
    .start = start,
    .stop = look,
    .end = driver_end,
    .release = http_release,
};
