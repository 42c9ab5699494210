/* GET /schedules, /schedules/preview and /schedules/{name}. */
#pragma once

#include "server/http/request.h"

handler_fn schedules_list;
handler_fn schedules_preview;
handler_fn schedules_get;

/* 404: there is no such schedule; 500 or 503: it could not be read. */
enum next schedules_unread(struct request *rq, enum err err);

/* That status and the schedule of the path, read on a reader thread. */
enum next schedules_show(struct request *rq, int status);
