#include "workers/transfers/destination.h"

#include <ctype.h>
#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

static char *part_of(CURLU *url, CURLUPart part, unsigned flags)
{
    char *text = NULL;
    return curl_url_get(url, part, &text, flags) == CURLUE_OK ? text : NULL;
}

static bool has_part(CURLU *url, CURLUPart part)
{
    char *text = part_of(url, part, 0);
    curl_free(text);
    return text;
}

static bool is_plain(const char *text)
{
    for (const unsigned char *c = (const unsigned char *)text; *c; c++)
        if (*c <= ' ' || *c >= 127 || *c == '\\')
            return false;
    return true;
}

/* Curl takes one slash or three for two. */
static bool has_scheme(const char *text)
{
    size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
    return n > 0 && strncmp(text + n, "://", 3) == 0 && text[n + 3] != '/';
}

static const char *fault_of(CURLU *url)
{
    if (has_part(url, CURLUPART_USER) || has_part(url, CURLUPART_PASSWORD))
        return "must not have a user or a password in it";
    return has_part(url, CURLUPART_FRAGMENT) ? "must not have a fragment (#...)" : NULL;
}

static const char *read_parts(CURLU *url, const char *text, struct destination *out)
{
    if (strlen(text) > DESTINATION_MAX)
        return "is too long: a URL has at most 2000 bytes";
    if (!is_plain(text) || !has_scheme(text) ||
        curl_url_set(url, CURLUPART_URL, text, CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK)
        return "is no URL like https://example.org/hook";
    char *scheme = part_of(url, CURLUPART_SCHEME, 0), *host = part_of(url, CURLUPART_HOST, 0);
    char *port = part_of(url, CURLUPART_PORT, CURLU_DEFAULT_PORT);
    bool https = scheme && strcmp(scheme, "https") == 0, http = scheme && strcmp(scheme, "http") == 0;
    const char *fault = !https && !http   ? "must begin with https:// or http://"
                        : !host || !*host ? "names no host"
                        : !port           ? "names no port"
                                          : fault_of(url);
    if (!fault)
        *out = (struct destination){.https = https, .port = atoi(port), .host = xstrdup(host)};
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    return fault;
}

bool destination_parse(const char *url, struct destination *out, struct reason *why)
{
    CURLU *parsed = curl_url();
    *out = (struct destination){0};
    const char *fault = parsed ? read_parts(parsed, url, out) : "cannot be read: there is no memory";
    curl_url_cleanup(parsed);
    if (fault)
        reason_set(why, "%s", fault);
    for (char *c = out->host; c && *c; c++)
        *c = (char)tolower((unsigned char)*c);
    return !fault;
}

void destination_release(struct destination *destination)
{
    free(destination->host);
    destination->host = NULL;
}

void destination_add_place(struct buf *out, const struct destination *destination)
{
    buf_addf(out, "%s:%d", destination->host, destination->port);
}
