#include "server/http/freshness.h"

#include "base/digest.h"
#include "server/http/cache.h"
#include "server/server.h"

/* --- tags ------------------------------------------------------------------------ */

/* FNV-1a: it need not withstand anybody, who asks gets only his own answers. */
static uint64_t hash(uint64_t sum, const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    for (size_t i = 0; i < n; i++)
        sum = (sum ^ p[i]) * UINT64_C(1099511628211);
    return sum;
}

static void add_hex(struct buf *out, uint64_t number)
{
    uint64_t big = __builtin_bswap64(number);
    hex_add(out, (const uint8_t *)&big, sizeof big);
}

void etag_add(struct buf *out, const struct etag_of *of)
{
    uint64_t sum = hash(UINT64_C(14695981039346656037), of->key.p, of->key.len);
    sum = hash(sum, &of->salt, sizeof of->salt);
    buf_addl(out, "W/\"");
    add_hex(out, of->boot);
    buf_addc(out, '-');
    buf_add_int(out, (int64_t)of->version);
    buf_addc(out, '-');
    add_hex(out, sum);
    buf_addc(out, '"');
}

static bool is_space_or_comma(char c)
{
    return c == ' ' || c == '\t' || c == ',';
}

/* The tag's quotes and what is between them. */
static struct span without_weak(struct span tag)
{
    if (tag.len > 2 && tag.p[0] == 'W' && tag.p[1] == '/')
        return (struct span){tag.p + 2, tag.len - 2};
    return tag;
}

/* The next tag of the list, quotes included; false at the end or at nonsense. */
static bool next_tag(const char **at, const char *end, struct span *tag)
{
    const char *p = *at;
    while (p < end && is_space_or_comma(*p))
        p++;
    if (end - p > 2 && p[0] == 'W' && p[1] == '/')
        p += 2;
    if (p == end || *p != '"')
        return false;
    const char *close = memchr(p + 1, '"', (size_t)(end - p - 1));
    if (!close)
        return false;
    *tag = (struct span){p, (size_t)(close + 1 - p)};
    *at = close + 1;
    return true;
}

bool etag_matches(struct span header, struct span tag)
{
    struct span wanted = without_weak(tag), found;
    if (!header.p)
        return false;
    const char *p = header.p, *end = header.p + header.len;
    while (p < end && is_space_or_comma(*p))
        p++;
    if (p < end && *p == '*') {
        for (p++; p < end && is_space_or_comma(*p);)
            p++;
        return p == end;
    }
    while (next_tag(&p, end, &found))
        if (found.len == wanted.len && memcmp(found.p, wanted.p, wanted.len) == 0)
            return true;
    return false;
}

/* --- of a request ------------------------------------------------------------------- */

void etag_key(struct buf *out, const struct request *rq)
{
    buf_add_span(out, rq->path);
    buf_addc(out, '?');
    buf_add_span(out, rq->raw_query);
    buf_addc(out, ' ');
    buf_add_int(out, rq->scopes);
    if (rq->token) {
        buf_addc(out, ' ');
        buf_adds(out, rq->token->name);
    }
}

bool etag_unchanged(struct request *rq, uint64_t salt)
{
    const struct server *server = rq->server;
    struct buf key = {0}, tag = {0};
    uint64_t version = store_version(server->store);
    rq->between = version & 1;
    etag_key(&key, rq);
    etag_add(&tag, &(struct etag_of){
                       .boot = store_boot_id(server->store) + cache_generation(server->cache, rq->config),
                       .version = version,
                       .salt = salt,
                       .key = buf_span(&key),
                   });
    answer_header(rq, "ETag", buf_cstr(&tag));
    answer_header(rq, "Cache-Control", "private, no-cache");
    bool unchanged = !rq->between && etag_matches(request_header(rq, "If-None-Match"), buf_span(&tag));
    if (unchanged)
        answer_empty(rq, 304);
    buf_release(&key);
    buf_release(&tag);
    return unchanged;
}
