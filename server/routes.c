/* Every route there is; openapi.yaml has the same, and a test compares them. */
#include "server/resources/alter.h"
#include "server/resources/alter_bulk.h"
#include "server/resources/bulk.h"
#include "server/resources/group_results.h"
#include "server/resources/groups.h"
#include "server/resources/groups_post.h"
#include "server/resources/callbacks.h"
#include "server/resources/history.h"
#include "server/resources/inbox.h"
#include "server/resources/invocation.h"
#include "server/resources/invocations.h"
#include "server/resources/leases.h"
#include "server/resources/logs.h"
#include "server/resources/loops.h"
#include "server/resources/messages.h"
#include "server/resources/release.h"
#include "server/resources/schedule_change.h"
#include "server/resources/schedule_run.h"
#include "server/resources/schedules.h"
#include "server/resources/service.h"
#include "server/resources/sets.h"
#include "server/resources/stats.h"
#include "server/resources/submit.h"
#include "server/resources/tasks.h"
#include "server/resources/turn.h"
#include "server/resources/turn_messages.h"
#include "server/resources/turn_steps.h"
#include "server/resources/turn_suspend.h"
#include "server/resources/turn_wait.h"
#include "server/resources/workers.h"
#include "server/server.h"

/* A turn's address: the token in it is a secret, and the permission. */
#define TURN(is_permitted) .secret = true, .permit = (is_permitted)

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
    {METHOD_GET, "/invocations/{id}/history", SCOPE_READ, BODY_NONE, .handler = history_get},
    {METHOD_GET, "/invocations/{id}/children", SCOPE_READ, BODY_NONE, .handler = invocations_children},
    {METHOD_GET, "/invocations/{id}/messages", SCOPE_READ, BODY_NONE, .handler = messages_of_invocation},
    {METHOD_GET, "/invocations/{id}/log", SCOPE_READ, BODY_NONE, .handler = logs_get},
    {METHOD_GET, "/invocations/{id}/steps", SCOPE_READ, BODY_NONE, .handler = turn_steps_of_invocation},
    {METHOD_GET, "/invocations/{id}/callbacks", SCOPE_READ, BODY_NONE, .handler = callbacks_list},
    {METHOD_POST, "/invocations/{id}/callbacks/{n}/repeat", SCOPE_SUBMIT, BODY_NONE, .handler = callbacks_repeat},
    {METHOD_POST, "/invocations/{id}/inbox", SCOPE_SUBMIT, BODY_JSON, .handler = inbox_post, .no_query = true},
    {METHOD_POST, "/invocations/{id}/cancel", SCOPE_SUBMIT, BODY_NONE, .handler = alter_cancel},
    {METHOD_POST, "/invocations/{id}/retry", SCOPE_SUBMIT, BODY_NONE, .handler = alter_retry},

    {METHOD_POST, "/invocations/{id}/release", SCOPE_SUBMIT, BODY_NONE, .handler = release_one},

    {METHOD_POST, "/groups", SCOPE_SUBMIT, BODY_JSON, .handler = groups_post, .no_query = true,
     .whole_bulk = true},
    {METHOD_GET, "/groups/{id}/callbacks", SCOPE_READ, BODY_NONE, .handler = callbacks_list},
    {METHOD_POST, "/groups/{id}/callbacks/{n}/repeat", SCOPE_SUBMIT, BODY_NONE, .handler = callbacks_repeat},
    {METHOD_GET, "/groups/{id}", SCOPE_READ, BODY_NONE, .handler = groups_get},
    {METHOD_GET, "/groups/{id}/results", SCOPE_READ, BODY_NONE, .handler = group_results_get},
    {METHOD_POST, "/groups/{id}/release", SCOPE_SUBMIT, BODY_NONE, .handler = groups_release},
    {METHOD_POST, "/groups/{id}/close", SCOPE_SUBMIT, BODY_NONE, .handler = groups_close},
    {METHOD_POST, "/groups/{id}/cancel", SCOPE_SUBMIT, BODY_NONE, .handler = groups_cancel},

    {METHOD_GET, "/messages", SCOPE_READ, BODY_NONE, .handler = messages_list},

    {METHOD_POST, "/leases", SCOPE_WORK, BODY_JSON, .handler = leases_post},
    {METHOD_GET, "/leases/{token}", 0, BODY_NONE, .handler = turn_get, TURN(turn_is_under_way)},
    {METHOD_POST, "/leases/{token}/heartbeat", 0, BODY_NONE, .handler = turn_heartbeat, TURN(turn_is_under_way)},
    {METHOD_POST, "/leases/{token}/complete", 0, BODY_NONE, .handler = turn_complete, TURN(turn_may_end),
     .holds_result = true},
    {METHOD_POST, "/leases/{token}/fail", 0, BODY_JSON, .handler = turn_fail, TURN(turn_may_end),
     .holds_result = true},
    {METHOD_POST, "/leases/{token}/suspend", 0, BODY_JSON, .handler = turn_suspend, TURN(turn_may_suspend),
     .holds_result = true},
    {METHOD_GET, "/leases/{token}/woken", 0, BODY_NONE, .handler = turn_woken, TURN(turn_is_under_way)},
    {METHOD_POST, "/leases/{token}/log", 0, BODY_TEXT, .handler = turn_log, TURN(turn_is_under_way)},
    {METHOD_POST, "/leases/{token}/children", 0, BODY_JSON, .handler = submit_child, TURN(turn_is_under_way),
     .lines = &bulk_children_sink, .no_query = true},
    {METHOD_POST, "/leases/{token}/groups", 0, BODY_JSON, .handler = groups_post_child, TURN(turn_is_under_way),
     .no_query = true, .whole_bulk = true},
    {METHOD_PUT, "/leases/{token}/steps/{name}", 0, BODY_JSON, .handler = turn_steps_put, TURN(turn_is_under_way),
     .no_query = true},
    {METHOD_GET, "/leases/{token}/steps", 0, BODY_NONE, .handler = turn_steps_list, TURN(turn_is_under_way)},
    {METHOD_POST, "/leases/{token}/messages", 0, BODY_JSON, .handler = turn_messages_post, TURN(turn_is_under_way),
     .no_query = true},
    {METHOD_GET, "/leases/{token}/inbox", 0, BODY_NONE, .handler = turn_messages_inbox, TURN(turn_is_under_way)},
    {METHOD_POST, "/leases/{token}/wait", 0, BODY_JSON, .handler = turn_wait, TURN(turn_may_wait)},
    {METHOD_POST, "/loops", SCOPE_SUBMIT, BODY_JSON, .handler = loops_post, .no_query = true},
    {METHOD_GET, "/loops", SCOPE_READ, BODY_NONE, .handler = loops_list},
    {METHOD_PUT, "/loops/{id}", SCOPE_SUBMIT, BODY_JSON, .handler = loops_put, .no_query = true},
    {METHOD_GET, "/loops/{id}", SCOPE_READ, BODY_NONE, .handler = loops_get},
    {METHOD_PATCH, "/loops/{id}", SCOPE_SUBMIT, BODY_JSON, .handler = loops_patch},
    {METHOD_DELETE, "/loops/{id}", SCOPE_ADMIN, BODY_NONE, .handler = loops_delete},
    {METHOD_POST, "/loops/{id}/pause", SCOPE_SUBMIT, BODY_NONE, .handler = loops_pause},
    {METHOD_POST, "/loops/{id}/resume", SCOPE_SUBMIT, BODY_NONE, .handler = loops_resume},
    {METHOD_POST, "/loops/{id}/stop", SCOPE_SUBMIT, BODY_NONE, .handler = loops_stop},
    {METHOD_POST, "/loops/{id}/cancel", SCOPE_SUBMIT, BODY_NONE, .handler = loops_cancel},
    {METHOD_POST, "/loops/{id}/inbox", SCOPE_SUBMIT, BODY_JSON, .handler = inbox_post_loop, .no_query = true},
    {METHOD_GET, "/sets", SCOPE_READ, BODY_NONE, .handler = sets_list},
    {METHOD_GET, "/sets/{name}", SCOPE_READ, BODY_NONE, .handler = sets_get},
    {METHOD_PATCH, "/sets/{name}", SCOPE_SUBMIT, BODY_JSON, .handler = sets_patch},
    {METHOD_POST, "/sets/{name}/pause", SCOPE_SUBMIT, BODY_NONE, .handler = sets_pause},
    {METHOD_POST, "/sets/{name}/resume", SCOPE_SUBMIT, BODY_NONE, .handler = sets_resume},
    {METHOD_POST, "/sets/{name}/stop", SCOPE_SUBMIT, BODY_NONE, .handler = sets_stop},
    {METHOD_POST, "/sets/{name}/cancel", SCOPE_SUBMIT, BODY_NONE, .handler = sets_cancel},
    {METHOD_GET, "/slots", SCOPE_READ, BODY_NONE, .handler = sets_slots},

    {METHOD_GET, "/workers", SCOPE_READ, BODY_NONE, .handler = workers_get},
    {METHOD_POST, "/workers/{name}/quiet", SCOPE_ADMIN, BODY_NONE, .handler = workers_quiet},
    {METHOD_POST, "/workers/{name}/stop", SCOPE_ADMIN, BODY_NONE, .handler = workers_stop},
    {METHOD_POST, "/workers/{name}/active", SCOPE_ADMIN, BODY_NONE, .handler = workers_activate},

    {METHOD_GET, "/schedules", SCOPE_READ, BODY_NONE, .handler = schedules_list},
    {METHOD_GET, "/schedules/preview", SCOPE_READ, BODY_NONE, .handler = schedules_preview},
    {METHOD_GET, "/schedules/{name}", SCOPE_READ, BODY_NONE, .handler = schedules_get},
    {METHOD_PUT, "/schedules/{name}", SCOPE_ADMIN, BODY_JSON, .handler = schedule_change_put, .no_query = true},
    {METHOD_DELETE, "/schedules/{name}", SCOPE_ADMIN, BODY_NONE, .handler = schedule_change_delete},
    {METHOD_POST, "/schedules/{name}/pause", SCOPE_ADMIN, BODY_NONE, .handler = schedule_change_pause},
    {METHOD_POST, "/schedules/{name}/resume", SCOPE_ADMIN, BODY_NONE, .handler = schedule_change_resume},
    {METHOD_POST, "/schedules/{name}/run", SCOPE_SUBMIT, BODY_NONE, .handler = schedule_run_now},
    {METHOD_POST, "/schedules/{name}/backfill", SCOPE_SUBMIT, BODY_JSON, .handler = schedule_run_backfill,
     .no_query = true},

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
