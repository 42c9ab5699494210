/* PUT and DELETE /schedules/{name}, POST …/pause and /resume. */
#pragma once

#include "server/http/request.h"

handler_fn schedule_change_put;
handler_fn schedule_change_delete;
handler_fn schedule_change_pause;
handler_fn schedule_change_resume;
