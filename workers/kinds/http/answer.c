/* What came back, as an outcome. */
#include "workers/kinds/http/http.h"

#include "base/clock.h"
#include "base/json.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

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

/* NULL: it has none. Curl's. */
static const char *header_of(const struct transfer *transfer, const char *name)
{
    struct curl_header *header;
    return curl_easy_header(transfer->easy, name, 0, CURLH_HEADER, -1, &header) == CURLHE_OK ? header->value
                                                                                             : NULL;
}

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

/* None was asked for. */
static const char *encoding_of(const struct transfer *transfer)
{
    const char *encoding = header_of(transfer, "Content-Encoding");
    return encoding && *encoding && strcasecmp(encoding, "identity") != 0 ? encoding : NULL;
}

/* Nothing at all is null, unless it was to be JSON or a text. */
static void succeed(struct transfer *transfer, long status)
{
    const char *encoding = transfer->body.len ? encoding_of(transfer) : NULL;
    enum http_result want = transfer->task->result;
    bool is_empty = transfer->body.len == 0 && (want == HTTP_BY_TYPE || (want == HTTP_JSON && status == 204));
    transfer->attempt->outcome->end = OUTCOME_SUCCEEDED;
    if (transfer->cut)
        fail_too_large(transfer);
    else if (encoding)
        fail(transfer, "bad_result", none, "the answer is encoded (%.40s), which was not asked for", encoding);
    else if (want == HTTP_JSON ? !is_empty : want == HTTP_BY_TYPE && !is_empty && says_json(transfer))
        take_json(transfer);
    else if (!is_empty)
        take_text(transfer);
}

/* --- it did not ------------------------------------------------------------------------ */

/* Curl takes a number that it cannot hold for none. */
static void obey_retry_after(struct transfer *transfer)
{
    curl_off_t seconds = 0;
    const char *text = header_of(transfer, "Retry-After");
    curl_easy_getinfo(transfer->easy, CURLINFO_RETRY_AFTER, &seconds);
    if (seconds == 0 && text && isdigit((unsigned char)*text))
        seconds = strtoll(text, NULL, 10);
    if (seconds > 0)
        transfer->attempt->outcome->retry_after_ms =
            1000 * (int64_t)(seconds < RETRY_AFTER_MAX_S ? seconds : RETRY_AFTER_MAX_S);
}

static void fail_status(struct transfer *transfer, long status)
{
    char type[24];
    struct buf detail = {0};
    snprintf(type, sizeof type, "http:%ld", status);
    if (transfer->body.len && !encoding_of(transfer)) {
        buf_addl(&detail, "\"body\":");
        json_add_lossy(&detail, utf8_cut(buf_span(&transfer->body), transfer->body.len));
    }
    if (status == 202)
        fail(transfer, type, buf_span(&detail),
             "the service answered 202, to finish it later, and there is no address at which it could");
    else
        fail(transfer, type, buf_span(&detail), "the service answered %ld%s", status,
             header_of(transfer, "Location") && status / 100 == 3 ? ", which is not followed" : "");
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

/* Looking up a name and reading certificates need a descriptor as well, and curl does not say that there is none.
 * 0: nothing is short. */
static int shortage_of(const struct transfer *transfer, CURLcode code)
{
    static const CURLcode before_it_is_sent[] = {CURLE_COULDNT_RESOLVE_HOST, CURLE_COULDNT_RESOLVE_PROXY,
                                                 CURLE_SSL_CACERT_BADFILE, CURLE_COULDNT_CONNECT};
    if (transfer->socket_error)
        return error_is_shortage(transfer->socket_error) ? transfer->socket_error : 0;
    for (size_t i = 0; i < sizeof before_it_is_sent / sizeof *before_it_is_sent; i++) {
        int fd = code == before_it_is_sent[i] ? open("/dev/null", O_RDONLY | O_CLOEXEC) : -2;
        if (fd >= 0)
            close(fd);
        if (fd == -1 && error_is_shortage(errno))
            return errno;
    }
    return 0;
}

static const char *words_of(const struct transfer *transfer, CURLcode code)
{
    if (code == CURLE_OK)
        return "the service hung up in the middle of the answer's headers";
    if (transfer->cut == CUT_HEADERS)
        return "the answer has too many headers";
    if (code == CURLE_OUT_OF_MEMORY && transfer->socket_error == 0 && transfer->driven)
        return "the answer has a header that is too long"; /* above 100 kB curl says that there is no memory */
    if (code == CURLE_BAD_FUNCTION_ARGUMENT)
        return "the answer has a header that is none";
    return *transfer->why ? transfer->why : curl_easy_strerror(code);
}

/* What is short here now will be there later. */
static void fail_connection(struct transfer *transfer, CURLcode code)
{
    int error = shortage_of(transfer, code);
    if (error) {
        struct buf message = {0};
        buf_addf(&message, "cannot make a socket: %s", strerrordesc_np(error));
        outcome_unstarted(transfer->attempt->outcome, buf_span(&message));
        buf_release(&message);
    } else {
        fail(transfer, "connection", none, "%s", words_of(transfer, code));
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

/* What a 202 says besides is of no interest, so it may break off. */
static bool is_answer(const struct transfer *transfer, CURLcode code)
{
    long status = 0;
    curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
    bool whole = code == CURLE_OK || transfer->cut == CUT_BODY || (status == 202 && transfer->offers_lease);
    return transfer->head_ended && whole;
}

void answer_take(struct transfer *transfer, enum ending ending, CURLcode code)
{
    if (ending == ENDING_STOPPED)
        fail(transfer, "stopped", none, "it was stopped");
    else if (ending == ENDING_TIMEOUT)
        fail_timeout(transfer);
    else if (is_answer(transfer, code))
        take_answer(transfer);
    else
        fail_connection(transfer, code);
}
