/* GET /tasks, GET /tasks/{name}, POST /tasks/{name}/pause and /resume. */
#pragma once

#include "server/http/request.h"

handler_fn tasks_list;
handler_fn tasks_get;
handler_fn tasks_pause;
handler_fn tasks_resume;
