/* GET /groups/{id}, POST /groups/{id}/release, /close, /cancel. */
#pragma once

#include "server/http/request.h"
#include "server/http/topics.h"

handler_fn groups_get;
handler_fn groups_release;
handler_fn groups_close;
handler_fn groups_cancel;

/* What the files of groups share. */

/* {id} of the path as an id; answers 404 and returns false if it is none. */
bool groups_id(struct request *rq, int64_t *id);

/* 404, 500 or 503: it could not be read. */
enum next groups_unread(struct request *rq, enum err err);

/* That status and the group as it is now, or groups_unread(). With its members on a reader thread alone. */
enum next groups_show(struct request *rq, int status, int64_t id, bool members);

/* As await_over(), of a group: is it final? After await_begin(). */
bool groups_await_over(struct listener *listener, struct request *rq, int64_t id);
