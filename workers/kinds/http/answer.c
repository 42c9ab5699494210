/* What came back, as an outcome. */
#include "workers/kinds/http/http.h"

#include "base/clock.h"
#include "base/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <strings.h>

enum { RETRY_AFTER_MAX_S = 24 * 3600 };

static const struct span none = {NULL, 0};

__attribute__((format(printf, 4, 5))) static void fail(struct transfer *transfer, const char *type,
                                                       struct span detail, const char *format, ...)
{
    char message[512];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    outcome_fail(transfer->attempt->outcome, span_of(type), span_of(message), detail);
}

/* --- it succeeded ---------------------------------------------------------------------- */

static bool says_json(const struct transfer *transfer)
{
    char *type = NULL;
    curl_easy_getinfo(transfer->easy, CURLINFO_CONTENT_TYPE, &type);
    size_t n = type ? strcspn(type, "; \t") : 0;
    return (n == 16 && strncasecmp(type, "application/json", n) == 0) ||
           (n > 5 && strncasecmp(type + n - 5, "+json", 5) == 0);
}

static void fail_too_large(struct transfer *transfer)
{
    fail(transfer, "bad_result", none, "the answer is larger than the limit of a result, %" PRId64 " bytes",
         transfer->attempt->limits->result_bytes);
}

static void take_text(struct transfer *transfer)
{
    struct outcome *outcome = transfer->attempt->outcome;
    json_add_lossy(&outcome->result, buf_span(&transfer->body));
    if ((int64_t)outcome->result.len > transfer->attempt->limits->result_bytes)
        fail_too_large(transfer);
}

static void take_json(struct transfer *transfer)
{
    struct buf *body = &transfer->body;
    struct json_fault fault;
    if (json_check(body->data ? body->data : "", body->len, JSON_DEPTH_MAX, &fault) != OK)
        fail(transfer, "bad_result", none, "the answer is not valid JSON: %s, at byte %zu", fault.detail,
             fault.offset);
    else
        buf_add_span(&transfer->attempt->outcome->result, json_trim(buf_span(body)));
}

/* Nothing at all is null, unless it was to be JSON or a text. */
static void succeed(struct transfer *transfer, long status)
{
    enum http_result want = transfer->task->result;
    bool is_empty = transfer->body.len == 0 && (want == HTTP_BY_TYPE || (want == HTTP_JSON && status == 204));
    transfer->attempt->outcome->end = OUTCOME_SUCCEEDED;
    if (transfer->cut)
        fail_too_large(transfer);
    else if (want == HTTP_JSON ? !is_empty : want == HTTP_BY_TYPE && !is_empty && says_json(transfer))
        take_json(transfer);
    else if (!is_empty)
        take_text(transfer);
}

/* --- it did not ------------------------------------------------------------------------ */

static void obey_retry_after(struct transfer *transfer)
{
    curl_off_t seconds = 0;
    curl_easy_getinfo(transfer->easy, CURLINFO_RETRY_AFTER, &seconds);
    if (seconds > 0)
        transfer->attempt->outcome->retry_after_ms =
            1000 * (int64_t)(seconds < RETRY_AFTER_MAX_S ? seconds : RETRY_AFTER_MAX_S);
}

static void fail_status(struct transfer *transfer, long status)
{
    char type[24];
    struct buf detail = {0};
    snprintf(type, sizeof type, "http:%ld", status);
    if (transfer->body.len) {
        buf_addl(&detail, "\"body\":");
        json_add_lossy(&detail, utf8_cut(buf_span(&transfer->body), transfer->body.len));
    }
    if (status == 202)
        fail(transfer, type, buf_span(&detail),
             "the service answered 202, to finish it later, and there is no address at which it could");
    else
        fail(transfer, type, buf_span(&detail), "the service answered %ld%s", status,
             status / 100 == 3 ? ", which is not followed" : "");
    obey_retry_after(transfer);
    buf_release(&detail);
}

static void fail_timeout(struct transfer *transfer)
{
    struct buf limit = {0};
    duration_add(&limit, transfer->attempt->timeout_ms);
    fail(transfer, "timeout", none, "it took longer than %s", buf_cstr(&limit));
    buf_release(&limit);
}

/* What is short here now will be there later. */
static void fail_connection(struct transfer *transfer, CURLcode code)
{
    struct attempt *attempt = transfer->attempt;
    if (transfer->socket_error && error_is_shortage(transfer->socket_error)) {
        struct buf message = {0};
        buf_addf(&message, "cannot make a socket: %s", strerrordesc_np(transfer->socket_error));
        outcome_unstarted(attempt->outcome, buf_span(&message));
        buf_release(&message);
    } else if (transfer->cut) {
        fail(transfer, "connection", none, "the answer has too many headers");
    } else {
        fail(transfer, "connection", none, "%s", *transfer->why ? transfer->why : curl_easy_strerror(code));
    }
}

/* --- which ------------------------------------------------------------------------------- */

static void take_answer(struct transfer *transfer)
{
    struct outcome *outcome = transfer->attempt->outcome;
    long status = 0;
    curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
    if (status == 202 && transfer->offers_lease) {
        outcome->end = OUTCOME_HANDED_OVER;
        outcome->lease_ms = transfer->task->lease_ms;
    } else if (status / 100 == 2 && (status != 202 || !transfer->task->lease_ms)) {
        succeed(transfer, status);
    } else {
        fail_status(transfer, status);
    }
}

void answer_take(struct transfer *transfer, enum ending ending, CURLcode code)
{
    bool cut_body = transfer->cut && transfer->body_seen;
    if (ending == ENDING_STOPPED)
        fail(transfer, "stopped", none, "it was stopped");
    else if (ending == ENDING_TIMEOUT)
        fail_timeout(transfer);
    else if (code == CURLE_OK || cut_body)
        take_answer(transfer);
    else
        fail_connection(transfer, code);
}
