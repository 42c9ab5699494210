/* What a configuration says of a service: read, checked, freed. */
#include "workers/kinds/http/http.h"

#include "workers/transfers/settings.h"

#include <stdlib.h>
#include <string.h>

enum { HEADERS_MAX = 50 };

/* --- the address --------------------------------------------------------------------- */

static bool has_part(CURLU *url, CURLUPart part)
{
    char *text = NULL;
    bool has = curl_url_get(url, part, &text, 0) == CURLUE_OK;
    curl_free(text);
    return has;
}

static const char *fault_of(const char *text, CURLU *url)
{
    char *scheme = NULL;
    if (strpbrk(text, "{}"))
        return "is fixed: no argument goes into it";
    if (curl_url_set(url, CURLUPART_URL, text, 0) != CURLUE_OK ||
        curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK)
        return "is no URL like https://example.org/hook";
    bool is_http = strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0;
    curl_free(scheme);
    if (!is_http)
        return "must begin with https:// or http://";
    if (has_part(url, CURLUPART_USER) || has_part(url, CURLUPART_PASSWORD))
        return "must not have a user and a password in it: put them into `headers`, as Authorization";
    return has_part(url, CURLUPART_FRAGMENT) ? "must not have a fragment (#...)" : NULL;
}

static bool check_url(char *text, struct reason *why)
{
    CURLU *url = curl_url();
    const char *fault = fault_of(text, url);
    curl_url_cleanup(url);
    if (fault)
        reason_set(why, "%s", fault);
    return !fault;
}

/* --- headers -------------------------------------------------------------------------- */

static bool is_token(const char *name)
{
    size_t n = strspn(name, "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
    return n > 0 && name[n] == '\0';
}

static bool is_reserved(const char *name)
{
    static const char *const reserved[] = {
        "Connection", "Content-Length",    "Expect", "Host",   "Idempotency-Key",
        "Keep-Alive", "Transfer-Encoding", "TE",     "Upgrade"};
    if (strncasecmp(name, "Errand-", 7) == 0 || strncasecmp(name, "webhook-", 8) == 0)
        return true;
    for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++)
        if (strcasecmp(name, reserved[i]) == 0)
            return true;
    return false;
}

static bool is_value(const char *value)
{
    for (const char *c = value; *c; c++)
        if (((unsigned char)*c < ' ' && *c != '\t') || *c == 127)
            return false;
    return strlen(value) <= SETTINGS_TEXT_BYTES;
}

/* "Name: value" as curl wants it; NULL with the fault. */
static char *read_header(const struct keys_input *in, const cJSON *member, const char *pointer)
{
    const char *fault = !is_token(member->string)     ? "is no name of a header"
                        : is_reserved(member->string) ? "is set by Errand itself"
                                                      : NULL;
    char *value = fault ? NULL : settings_text(in, member, pointer);
    if (value && !is_value(value))
        fault = "has a value with control characters, or of more than 8 KiB";
    if (fault)
        faults_add(in->faults, yaml_line(in->doc, member), pointer, "`%s` %s", member->string, fault);
    struct buf line = {0};
    if (value && !fault)
        buf_addf(&line, *value ? "%s: %s" : "%s;", member->string, value);
    free(value);
    return line.len ? buf_take(&line) : NULL;
}

static void read_headers(const struct keys_input *in, const cJSON *item, const char *pointer, void *target)
{
    struct http_task *http = target;
    if (!cJSON_IsObject(item) || cJSON_GetArraySize(item) > HEADERS_MAX) {
        faults_add(in->faults, yaml_line(in->doc, item), pointer,
                   "must be a mapping, {Name: value}, of at most %d", HEADERS_MAX);
        return;
    }
    http->headers = xcalloc((size_t)cJSON_GetArraySize(item) + 1, sizeof *http->headers);
    int count = 0;
    for (const cJSON *member = item->child; member; member = member->next) {
        char *place = keys_pointer(pointer, member->string);
        char *line = read_header(in, member, place);
        if (line)
            http->headers[count++] = line;
        free(place);
    }
}

static void read_secret(const struct keys_input *in, const cJSON *item, const char *pointer, void *target)
{
    struct http_task *http = target;
    settings_secret(in, item, pointer, &http->secret);
}

/* --- the keys -------------------------------------------------------------------------- */

static const char *const methods[] = {"POST", "PUT", "PATCH", NULL};
static const char *const results[] = {"auto", "json", "text", NULL};

const struct key http_keys[] = {
    {.name = "url",
     .type = KEY_TEXT,
     .min = 1,
     .max = 2000,
     .check = check_url,
     .required = true,
     .example = "https://example.org/hook",
     .offset = offsetof(struct http_task, url),
     .help = "http: where the arguments are sent"},
    {.name = "method",
     .type = KEY_WORD,
     .words = methods,
     .default_text = "POST",
     .offset = offsetof(struct http_task, method),
     .help = "http: POST, PUT or PATCH"},
    {.name = "headers",
     .type = KEY_OTHER,
     .read = read_headers,
     .example = "{Authorization: {file: hook.auth}}",
     .help = "http: further headers; a value is a text, {file: PATH} or {env: NAME}"},
    {.name = "secret",
     .type = KEY_OTHER,
     .read = read_secret,
     .example = "{file: hook.secret}",
     .help = "http: signs each request by the Standard Webhooks rules; whsec_..., {file: PATH} or {env: NAME}"},
    {.name = "in_flight",
     .type = KEY_INT,
     .default_text = "64",
     .min = 1,
     .max = 100000,
     .offset = offsetof(struct http_task, in_flight),
     .help = "http: how many requests at once; they take no slot"},
    {.name = "redirects",
     .type = KEY_INT,
     .default_text = "0",
     .max = 20,
     .offset = offsetof(struct http_task, redirects),
     .help = "http: how many are followed, to the same host alone"},
    {.name = "result",
     .type = KEY_WORD,
     .words = results,
     .default_text = "auto",
     .offset = offsetof(struct http_task, result),
     .help = "http: what a good answer's body is: json, text, or auto, as its Content-Type says"},
    {.name = "lease",
     .type = KEY_DURATION,
     .default_text = "1h",
     .min = 1000,
     .max = 3600 * 1000,
     .none = true,
     .offset = offsetof(struct http_task, lease_ms),
     .help = "http: of a turn that a service takes over by 202; none: it gets no address, and 202 is a success"},
    {.name = "ca",
     .type = KEY_PATH,
     .path = PATH_FILE,
     .example = "ca.pem",
     .offset = offsetof(struct http_task, ca),
     .help = "http: whose certificates are trusted, as PEM; default: the system's"},
    {.name = "proxy",
     .type = KEY_TEXT,
     .min = 1,
     .max = 2000,
     .check = settings_check_proxy,
     .example = "http://proxy.example.org:3128",
     .offset = offsetof(struct http_task, proxy),
     .help = "http: the proxy; default: none, whatever the environment says"},
    {0},
};

void http_check(const struct keys_input *in, const cJSON *item, const char *pointer, struct task *task)
{
    struct http_task *http = task->definition;
    bool plain = http->url && strncasecmp(http->url, "https:", 6) != 0;
    if (http->ca && plain) {
        char *place = keys_pointer(pointer, "ca");
        faults_add(in->faults, yaml_line(in->doc, item), place, "is of no use: the URL is not https");
        free(place);
    }
}

void http_release(void *definition)
{
    struct http_task *http = definition;
    for (char **line = http->headers; line && *line; line++)
        free(*line);
    free(http->headers);
    settings_secret_release(&http->secret);
}

/* --- advice ---------------------------------------------------------------------------- */

static bool is_loopback(const char *url)
{
    CURLU *parsed = curl_url();
    char *host = NULL;
    bool is = curl_url_set(parsed, CURLUPART_URL, url, 0) == CURLUE_OK &&
              curl_url_get(parsed, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
              (strncmp(host, "127.", 4) == 0 || strcmp(host, "[::1]") == 0 || strcasecmp(host, "localhost") == 0);
    curl_free(host);
    curl_url_cleanup(parsed);
    return is;
}

void http_advise(const struct task *task, struct faults *advice)
{
    const struct http_task *http = http_task(task);
    if (strncasecmp(http->url, "http:", 5) == 0 && !is_loopback(http->url))
        faults_add(advice, 0, "/url", "arguments and headers%s travel in the clear to another machine: use https",
                   http->lease_ms ? " (the address of the turn among them)" : "");
    if (!task->options.timeout_ms)
        faults_add(advice, 0, "/timeout", "there is none: a service that says nothing is waited for without end");
}
