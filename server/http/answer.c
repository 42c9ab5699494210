#include "server/http/answer.h"

#include "base/utf8.h"
#include "server/http/problem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { DETAIL_BYTES = 1000, INSTANCE_BYTES = 200 };

/* --- headers ---------------------------------------------------------------------- */

void answer_header(struct request *rq, const char *name, const char *value)
{
    struct answer *answer = &rq->answer;
    if (answer->header_count == ANSWER_HEADERS_MAX)
        return;
    answer->headers[answer->header_count].name = name;
    answer->headers[answer->header_count++].value = xstrdup(value);
}

const char *answer_find_header(const struct request *rq, const char *name)
{
    for (int i = 0; i < rq->answer.header_count; i++)
        if (strcmp(rq->answer.headers[i].name, name) == 0)
            return rq->answer.headers[i].value;
    return NULL;
}

/* --- bodies ------------------------------------------------------------------------ */

enum next answer_body(struct request *rq, int status, const char *content_type, struct buf *body)
{
    struct answer *answer = &rq->answer;
    buf_release(&answer->body);
    answer->status = status;
    answer->content_type = content_type;
    answer->body = *body;
    answer->pull = NULL;
    *body = (struct buf){0};
    return NEXT_ANSWER;
}

enum next answer_json(struct request *rq, int status, struct buf *body)
{
    return answer_body(rq, status, "application/json", body);
}

enum next answer_empty(struct request *rq, int status)
{
    struct buf none = {0};
    return answer_body(rq, status, NULL, &none);
}

/* --- problems ------------------------------------------------------------------------ */

static enum next answer_problem_body(struct request *rq, int status, const char *type, const char *detail,
                                     const struct faults *faults)
{
    struct buf body = {0};
    /* A long path is left out: cut, it would be another one. */
    struct span instance = rq->path.len <= INSTANCE_BYTES ? rq->path : (struct span){NULL, 0};
    problem_add(&body, status, type, detail, faults, instance);
    return answer_body(rq, status, "application/problem+json", &body);
}

enum next answer_problem(struct request *rq, int status, const char *type, const char *detail, ...)
{
    char text[DETAIL_BYTES];
    va_list args;
    va_start(args, detail);
    int length = vsnprintf(text, sizeof text, detail, args);
    va_end(args);
    if (length < 0)
        text[0] = '\0';
    else if ((size_t)length >= sizeof text)
        text[utf8_cut(span_of(text), sizeof text - 1).len] = '\0';
    return answer_problem_body(rq, status, type, text, NULL);
}

void answer_extend(struct request *rq, const char *name, struct span json)
{
    struct buf *body = &rq->answer.body;
    body->len--; /* the closing brace */
    buf_addf(body, ",\"%s\":", name);
    buf_add_span(body, json);
    buf_addc(body, '}');
}

enum next answer_faults(struct request *rq, int status, const char *type, struct faults *faults)
{
    struct buf detail = {0};
    problem_add_detail(&detail, faults);
    answer_problem_body(rq, status, type, buf_cstr(&detail), faults);
    buf_release(&detail);
    faults_release(faults);
    return NEXT_ANSWER;
}

enum next answer_bad_query(struct request *rq, struct faults *faults)
{
    return answer_faults(rq, 400, "invalid-query", faults);
}

enum next answer_bad_body(struct request *rq, struct faults *faults)
{
    return answer_faults(rq, 422, "invalid-request", faults);
}

enum next answer_not_found(struct request *rq, const char *what)
{
    return answer_problem(rq, 404, "not-found", "%s", what);
}

enum next answer_unavailable(struct request *rq)
{
    answer_header(rq, "Retry-After", "1");
    return answer_problem(rq, 503, "unavailable",
                          "the disk did not take it, or it is not known whether it did; try again");
}

enum next answer_fault(struct request *rq, enum err err)
{
    if (err == ERR_UNAVAILABLE)
        return answer_unavailable(rq);
    return answer_problem(rq, 500, "internal", "the server failed; its log has more");
}
