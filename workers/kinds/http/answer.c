/* What came back, as an outcome. */
#include "workers/kinds/http/http.h"

#include "base/clock.h"
#include "base/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <strings.h>

static const struct span none = {NULL, 0};

__attribute__((format(printf, 4, 5))) static void fail(struct request *request, const char *type,
                                                       struct span detail, const char *format, ...)
{
    char message[512];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    outcome_fail(request->attempt->outcome, span_of(type), span_of(message), detail);
}

/* --- it succeeded ---------------------------------------------------------------------- */

static bool says_json(const struct request *request)
{
    char *type = NULL;
    curl_easy_getinfo(request->transfer.easy, CURLINFO_CONTENT_TYPE, &type);
    size_t n = type ? strcspn(type, "; \t") : 0;
    return (n == 16 && strncasecmp(type, "application/json", n) == 0) ||
           (n > 5 && strncasecmp(type + n - 5, "+json", 5) == 0);
}

static void fail_too_large(struct request *request)
{
    fail(request, "bad_result", none, "the answer is larger than the limit of a result, %" PRId64 " bytes",
         request->attempt->limits->result_bytes);
}

static void take_text(struct request *request)
{
    struct outcome *outcome = request->attempt->outcome;
    json_add_lossy(&outcome->result, buf_span(&request->body));
    if ((int64_t)outcome->result.len > request->attempt->limits->result_bytes)
        fail_too_large(request);
}

static void take_json(struct request *request)
{
    struct buf *body = &request->body;
    struct json_fault fault;
    if (json_check(body->data ? body->data : "", body->len, JSON_DEPTH_MAX, &fault) != OK)
        fail(request, "bad_result", none, "the answer is not valid JSON: %s, at byte %zu", fault.detail,
             fault.offset);
    else
        buf_add_span(&request->attempt->outcome->result, json_trim(buf_span(body)));
}

/* None was asked for. */
static const char *encoding_of(const struct request *request)
{
    const char *encoding = transfer_header(&request->transfer, "Content-Encoding");
    return encoding && *encoding && strcasecmp(encoding, "identity") != 0 ? encoding : NULL;
}

/* Nothing at all is null, unless it was to be JSON or a text. */
static void succeed(struct request *request, long status)
{
    const char *encoding = request->body.len ? encoding_of(request) : NULL;
    enum http_result want = request->task->result;
    bool is_empty = request->body.len == 0 && (want == HTTP_BY_TYPE || (want == HTTP_JSON && status == 204));
    request->attempt->outcome->end = OUTCOME_SUCCEEDED;
    if (request->cut)
        fail_too_large(request);
    else if (encoding)
        fail(request, "bad_result", none, "the answer is encoded (%.40s), which was not asked for", encoding);
    else if (want == HTTP_JSON ? !is_empty : want == HTTP_BY_TYPE && !is_empty && says_json(request))
        take_json(request);
    else if (!is_empty)
        take_text(request);
}

/* --- it did not ------------------------------------------------------------------------ */

static void fail_status(struct request *request, long status)
{
    char type[24];
    struct buf detail = {0};
    snprintf(type, sizeof type, "http:%ld", status);
    if (request->body.len && !encoding_of(request)) {
        buf_addl(&detail, "\"body\":");
        json_add_lossy(&detail, utf8_cut(buf_span(&request->body), request->body.len));
    }
    if (status == 202)
        fail(request, type, buf_span(&detail),
             "the service answered 202, to finish it later, and there is no address at which it could");
    else
        fail(request, type, buf_span(&detail), "the service answered %ld%s", status,
             transfer_header(&request->transfer, "Location") && status / 100 == 3 ? ", which is not followed"
                                                                                  : "");
    request->attempt->outcome->retry_after_ms = transfer_retry_after_ms(&request->transfer);
    buf_release(&detail);
}

static void fail_timeout(struct request *request)
{
    struct buf limit = {0};
    duration_add(&limit, request->attempt->timeout_ms);
    fail(request, "timeout", none, "it took longer than %s", buf_cstr(&limit));
    buf_release(&limit);
}

static const char *words_of(const struct request *request, CURLcode code)
{
    if (code == CURLE_OK)
        return "the service hung up in the middle of the answer's headers";
    if (request->cut == CUT_HEADERS)
        return "the answer has too many headers";
    if (code == CURLE_OUT_OF_MEMORY && request->transfer.socket_error == 0 && request->transfer.driven)
        return "the answer has a header that is too long"; /* above 100 kB curl says that there is no memory */
    if (code == CURLE_BAD_FUNCTION_ARGUMENT)
        return "the answer has a header that is none";
    return *request->transfer.why ? request->transfer.why : curl_easy_strerror(code);
}

/* What is short here now will be there later. */
static void fail_connection(struct request *request, CURLcode code)
{
    int error = transfer_errno(&request->transfer, code);
    if (error_is_shortage(error)) {
        struct buf message = {0};
        buf_addf(&message, "cannot make a socket: %s", strerrordesc_np(error));
        outcome_unstarted(request->attempt->outcome, buf_span(&message));
        buf_release(&message);
    } else {
        fail(request, "connection", none, "%s", words_of(request, code));
    }
}

/* --- which ------------------------------------------------------------------------------- */

static void take_answer(struct request *request)
{
    struct outcome *outcome = request->attempt->outcome;
    long status = transfer_status(&request->transfer);
    if (status == 202 && request->offers_lease) {
        outcome->end = OUTCOME_HANDED_OVER;
        outcome->lease_ms = request->task->lease_ms;
    } else if (status / 100 == 2 && (status != 202 || !request->task->lease_ms)) {
        succeed(request, status);
    } else {
        fail_status(request, status);
    }
}

/* What a 202 says besides is of no interest, so it may break off. */
static bool is_answer(const struct request *request, CURLcode code)
{
    long status = transfer_status(&request->transfer);
    bool whole = code == CURLE_OK || request->cut == CUT_BODY || (status == 202 && request->offers_lease);
    return request->head_ended && whole;
}

void answer_take(struct request *request, enum ending ending, CURLcode code)
{
    if (ending == ENDING_STOPPED)
        fail(request, "stopped", none, "it was stopped");
    else if (ending == ENDING_TIMEOUT)
        fail_timeout(request);
    else if (is_answer(request, code))
        take_answer(request);
    else
        fail_connection(request, code);
}
