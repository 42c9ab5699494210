/* Every route there is; openapi.yaml has the same, and a test compares them. */
#include "server/resources/alter.h"
#include "server/resources/alter_bulk.h"
#include "server/resources/bulk.h"
#include "server/resources/invocation.h"
#include "server/resources/invocations.h"
#include "server/resources/logs.h"
#include "server/resources/service.h"
#include "server/resources/stats.h"
#include "server/resources/submit.h"
#include "server/resources/tasks.h"
#include "server/server.h"

const struct route server_routes[] = {
    {METHOD_POST, "/tasks", SCOPE_SUBMIT, BODY_JSON, .handler = submit_one, .lines = &bulk_sink, .no_query = true},
    {METHOD_GET, "/tasks", SCOPE_READ, BODY_NONE, .handler = tasks_list},
    {METHOD_GET, "/tasks/{name}", SCOPE_READ, BODY_NONE, .handler = tasks_get},
    {METHOD_POST, "/tasks/{name}/pause", SCOPE_ADMIN, BODY_NONE, .handler = tasks_pause},
    {METHOD_POST, "/tasks/{name}/resume", SCOPE_ADMIN, BODY_NONE, .handler = tasks_resume},

    {METHOD_GET, "/invocations", SCOPE_READ, BODY_NONE, .handler = invocations_list},
    {METHOD_POST, "/invocations", SCOPE_SUBMIT, BODY_LINES, .lines = &bulk_sink, .no_query = true},
    {METHOD_POST, "/invocations/cancel", SCOPE_SUBMIT, BODY_JSON, .handler = alter_bulk_cancel},
    {METHOD_POST, "/invocations/retry", SCOPE_SUBMIT, BODY_JSON, .handler = alter_bulk_retry},
    {METHOD_GET, "/invocations/{id}", SCOPE_READ, BODY_NONE, .handler = invocation_get},
    {METHOD_PATCH, "/invocations/{id}", SCOPE_SUBMIT, BODY_JSON, .handler = alter_patch},
    {METHOD_DELETE, "/invocations/{id}", SCOPE_ADMIN, BODY_NONE, .handler = alter_delete},
    {METHOD_GET, "/invocations/{id}/result", SCOPE_READ, BODY_NONE, .handler = invocation_result},
    {METHOD_GET, "/invocations/{id}/attempts", SCOPE_READ, BODY_NONE, .handler = invocation_attempts},
    {METHOD_GET, "/invocations/{id}/log", SCOPE_READ, BODY_NONE, .handler = logs_get},
    {METHOD_POST, "/invocations/{id}/cancel", SCOPE_SUBMIT, BODY_NONE, .handler = alter_cancel},
    {METHOD_POST, "/invocations/{id}/retry", SCOPE_SUBMIT, BODY_NONE, .handler = alter_retry},

    {METHOD_GET, "/stats", SCOPE_READ, BODY_NONE, .handler = stats_get},
    {METHOD_GET, "/healthz", 0, BODY_NONE, .handler = service_health},
    {METHOD_GET, "/readyz", SCOPE_READ, BODY_NONE, .handler = service_ready},
    {METHOD_GET, "/version", SCOPE_READ, BODY_NONE, .handler = service_version},
    {METHOD_GET, "/openapi.yaml", SCOPE_READ, BODY_NONE, .handler = service_openapi},
    {METHOD_POST, "/pause", SCOPE_ADMIN, BODY_NONE, .handler = service_pause},
    {METHOD_POST, "/resume", SCOPE_ADMIN, BODY_NONE, .handler = service_resume},
    {METHOD_POST, "/shutdown", SCOPE_ADMIN, BODY_NONE, .handler = service_shutdown},
    {0},
};
