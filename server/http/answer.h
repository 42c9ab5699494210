/* Answering: each function fills rq->answer and returns NEXT_ANSWER.
 *
 * Threads: the one that has the request. */
#pragma once

#include "base/faults.h"
#include "server/http/request.h"

enum next answer_json(struct request *rq, int status, struct buf *body); /* takes the body's bytes */
enum next answer_body(struct request *rq, int status, const char *content_type, struct buf *body);
enum next answer_empty(struct request *rq, int status);

/* RFC 9457. `type` is the stable last part of the problem's URI ("not-found");
 * the title follows from it. `detail` is a format. */
enum next answer_problem(struct request *rq, int status, const char *type, const char *detail, ...)
    __attribute__((format(printf, 4, 5)));

/* Adds a member to the problem that was answered; `json` is its value. */
void answer_extend(struct request *rq, const char *name, struct span json);

/* A problem with `errors[]`, whose detail is the first of them; releases the faults. */
enum next answer_faults(struct request *rq, int status, const char *type, struct faults *faults);

/* The usual ones. */
enum next answer_bad_query(struct request *rq, struct faults *faults); /* 400; releases the faults */
enum next answer_bad_body(struct request *rq, struct faults *faults);  /* 422; releases the faults */
enum next answer_not_found(struct request *rq, const char *what);      /* 404 */
enum next answer_unavailable(struct request *rq);                      /* 503: not known to be on disk */
enum next answer_fault(struct request *rq, enum err err);              /* 500, or 503 for ERR_UNAVAILABLE */

/* Adds a header; the value is copied. */
void answer_header(struct request *rq, const char *name, const char *value);

/* One that was added, NULL if it was not. */
const char *answer_find_header(const struct request *rq, const char *name);
