/* Loops: made by POST /loops and PUT /loops/{name}, listed by GET /loops, and one:
 * GET, PATCH and DELETE /loops/{id}, and what is asked of it. An id or a name is meant
 * by {id}. */
#pragma once

#include "server/http/request.h"

handler_fn loops_post;
handler_fn loops_put;
handler_fn loops_list;

handler_fn loops_get;
handler_fn loops_patch;
handler_fn loops_delete;
handler_fn loops_pause;
handler_fn loops_resume;
handler_fn loops_stop;
handler_fn loops_cancel;

/* The loop that the path names. */
struct loop_ref loops_ref(const struct request *rq);

/* "running" for an active one. */
const char *loops_status_name(enum loop_status status);

/* 404, 500 or 503: there is no such loop, or it could not be read. */
enum next loops_unread(struct request *rq, enum err err);

/* What surrounds what a loop is to be. */
struct submission_context;
struct buf;
void loops_context(const struct request *rq, struct buf *scratch, struct submission_context *out);
