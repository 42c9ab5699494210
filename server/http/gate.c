#include "server/http/gate.h"

#include "base/clock.h"
#include "base/digest.h"
#include "server/http/query.h"

#include <arpa/inet.h>
#include <strings.h>

static bool same(struct span a, const char *b)
{
    return a.p && strlen(b) == a.len && strncasecmp(a.p, b, a.len) == 0;
}

void headers_note(struct headers *h, const char *name, size_t name_len, const char *value, size_t value_len)
{
    static const struct {
        const char *name;
        size_t len, offset;
    } known[] = {
#define HEADER(text, member) {text, sizeof(text) - 1, offsetof(struct headers, member)}
        HEADER("Host", host),
        HEADER("Content-Type", content_type),
        HEADER("Content-Encoding", content_encoding),
        HEADER("Content-Length", content_length),
        HEADER("Transfer-Encoding", transfer_encoding),
        HEADER("Authorization", authorization),
        HEADER("Origin", origin),
        HEADER("Sec-Fetch-Site", fetch_site),
        HEADER("Expect", expect),
        HEADER("Idempotency-Key", key),
        HEADER("Prefer", prefer),
        HEADER("Access-Control-Request-Method", preflight_method),
#undef HEADER
    };
    h->bytes += name_len + value_len + 4; /* ": " and the line's end */
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (known[i].len != name_len || strncasecmp(known[i].name, name, name_len) != 0)
            continue;
        struct span *at = (struct span *)((char *)h + known[i].offset);
        *at = (struct span){value ? value : "", value_len};
        h->content_lengths += at == &h->content_length;
        h->transfer_encodings += at == &h->transfer_encoding;
        h->hosts += at == &h->host;
        return;
    }
}

/* Nothing, or a colon and digits. */
static bool is_port(const char *p, const char *end)
{
    if (p == end)
        return true;
    if (*p++ != ':')
        return false;
    while (p < end && *p >= '0' && *p <= '9')
        p++;
    return p == end;
}

/* The name without its port, and without the brackets of an IPv6 literal. */
static struct span host_name(struct span host)
{
    const char *end = host.p + host.len;
    if (host.len && host.p[0] == '[') {
        const char *bracket = memchr(host.p, ']', host.len);
        return bracket && is_port(bracket + 1, end) ? (struct span){host.p + 1, (size_t)(bracket - host.p - 1)}
                                                    : host;
    }
    const char *colon = memrchr(host.p, ':', host.len);
    return colon && is_port(colon, end) ? (struct span){host.p, (size_t)(colon - host.p)} : host;
}

/* A literal cannot be rebound: there is no name in it that could be resolved anew. */
static bool is_literal(struct span name)
{
    char text[INET6_ADDRSTRLEN];
    unsigned char address[sizeof(struct in6_addr)];
    if (name.len >= sizeof text)
        return false;
    memcpy(text, name.p, name.len);
    text[name.len] = '\0';
    return inet_pton(AF_INET, text, address) == 1 || inet_pton(AF_INET6, text, address) == 1;
}

bool gate_host(const struct config *config, struct span host)
{
    if (!host.p)
        return true;
    struct span name = host_name(host);
    if (same(name, "localhost") || same(name, config->listen_host) || is_literal(name))
        return true;
    for (char **allowed = config->hosts; *allowed; allowed++)
        if (same(name, *allowed) || same(host, *allowed))
            return true;
    return false;
}

bool gate_cors(const struct config *config, struct span origin)
{
    if (!origin.p)
        return false;
    for (char **allowed = config->cors_origins; *allowed; allowed++)
        if (same(origin, *allowed) || strcmp(*allowed, "*") == 0)
            return true;
    return false;
}

static bool is_same_origin(const struct headers *h)
{
    static const char *const schemes[] = {"http://", "https://"};
    for (int i = 0; i < 2; i++) {
        size_t n = strlen(schemes[i]);
        if (h->origin.len > n && strncasecmp(h->origin.p, schemes[i], n) == 0) {
            struct span rest = {h->origin.p + n, h->origin.len - n};
            return h->host.p && rest.len == h->host.len && strncasecmp(rest.p, h->host.p, rest.len) == 0;
        }
    }
    return false;
}

bool gate_origin(const struct config *config, const struct headers *h)
{
    if (h->origin.p)
        return is_same_origin(h) || gate_cors(config, h->origin);
    return !same(h->fetch_site, "cross-site");
}

const struct token *gate_token(const struct config *config, struct span authorization)
{
    static const char scheme[] = "Bearer ";
    size_t n = sizeof scheme - 1;
    if (!authorization.p || authorization.len <= n || strncasecmp(authorization.p, scheme, n) != 0)
        return NULL;
    struct span secret = {authorization.p + n, authorization.len - n};
    while (secret.len && secret.p[0] == ' ')
        secret = (struct span){secret.p + 1, secret.len - 1};
    uint8_t digest[SHA256_BYTES];
    sha256(secret, digest);
    const struct token *found = NULL;
    for (int i = 0; i < config->token_count; i++) /* all of them: the time must not tell which */
        if (equal_constant_time(digest, config->tokens[i].sha256, sizeof digest))
            found = &config->tokens[i];
    return found;
}

bool gate_encoding(struct span encoding)
{
    return !encoding.p || !encoding.len || same(encoding, "identity");
}

enum media gate_media(struct span type)
{
    if (!type.p)
        return MEDIA_NONE;
    const char *semicolon = memchr(type.p, ';', type.len);
    size_t n = semicolon ? (size_t)(semicolon - type.p) : type.len;
    while (n && (type.p[n - 1] == ' ' || type.p[n - 1] == '\t'))
        n--;
    struct span media = {type.p, n};
    if (same(media, "application/json"))
        return MEDIA_JSON;
    if (same(media, "application/x-ndjson"))
        return MEDIA_NDJSON;
    if (same(media, "text/plain"))
        return MEDIA_TEXT;
    return MEDIA_OTHER;
}

/* The value of the first preference of that name; absent if there is none. */
static struct span preference(struct span prefer, const char *name)
{
    static const char ends[] = ", ;\t";
    size_t n = strlen(name);
    for (size_t i = 0; prefer.p && i + n < prefer.len; i++) {
        bool start = i == 0 || strchr(ends, prefer.p[i - 1]);
        if (!start || prefer.p[i + n] != '=' || strncasecmp(prefer.p + i, name, n) != 0)
            continue;
        size_t from = i + n + 1, to = from;
        while (to < prefer.len && !strchr(ends, prefer.p[to]))
            to++;
        return (struct span){prefer.p + from, to - from};
    }
    return (struct span){NULL, 0};
}

int64_t gate_prefer_wait(struct span prefer)
{
    int64_t ms;
    struct span value = preference(prefer, "wait");
    return value.p && wait_parse(value, &ms) ? ms : -1;
}

bool gate_prefer_minimal(struct span prefer)
{
    struct span value = preference(prefer, "return");
    return same(value, "minimal") || same(value, "\"minimal\"");
}

bool gate_accepts(struct span accept, const char *type)
{
    const char *p = accept.p, *end = p ? p + accept.len : p;
    while (p < end) {
        const char *comma = memchr(p, ',', (size_t)(end - p));
        struct span item = {p, (size_t)((comma ? comma : end) - p)};
        p = comma ? comma + 1 : end;
        while (item.len && (item.p[0] == ' ' || item.p[0] == '\t'))
            item = (struct span){item.p + 1, item.len - 1};
        const char *semicolon = memchr(item.p, ';', item.len);
        if (semicolon)
            item.len = (size_t)(semicolon - item.p);
        while (item.len && (item.p[item.len - 1] == ' ' || item.p[item.len - 1] == '\t'))
            item.len--;
        if (same(item, type))
            return true;
    }
    return false;
}

void gate_key(struct span header, struct buf *out)
{
    bool quoted = header.len >= 2 && header.p[0] == '"' && header.p[header.len - 1] == '"';
    if (!quoted) {
        buf_add_span(out, header);
        return;
    }
    for (const char *p = header.p + 1, *end = header.p + header.len - 1; p < end; p++) {
        if (*p == '\\' && p + 1 < end)
            p++;
        buf_addc(out, *p);
    }
}
