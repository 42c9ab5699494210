#include "server/http/freshness.h"

#include "base/digest.h"
#include "server/http/answer.h"
#include "server/http/internal.h"

#include <stdio.h>
#include <stdlib.h>

enum { KNOWN_MAX = 4096, DIGEST_BYTES = 15 };

/* --- tags ------------------------------------------------------------------------ */

void etag_of(struct span body, char out[ETAG_BYTES])
{
    uint8_t digest[SHA256_BYTES];
    struct buf text = {out, 0, ETAG_BYTES}; /* it never grows */
    sha256(body, digest);
    buf_addc(&text, '"');
    base64url_add(&text, digest, DIGEST_BYTES);
    buf_addl(&text, "\"");
    out[text.len] = '\0';
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
    while (next_tag(&p, end, &found))
        if (found.len == wanted.len && memcmp(found.p, wanted.p, wanted.len) == 0)
            return true;
    return false;
}

bool etag_is_any(struct span header)
{
    while (header.len && is_space_or_comma(header.p[0]))
        header = (struct span){header.p + 1, header.len - 1};
    while (header.len && is_space_or_comma(header.p[header.len - 1]))
        header.len--;
    return header.p && span_is(header, "*");
}

/* --- what was answered last ---------------------------------------------------------- */

/* By what was asked: the tag of the answer, and of what time. One place for each
 * hash; whoever comes later takes it. */
struct known {
    struct {
        uint64_t asked, as_of;
        char tag[ETAG_BYTES];
    } places[KNOWN_MAX];
};

struct known *known_new(void)
{
    return xcalloc(1, sizeof(struct known));
}

void known_free(struct known *known)
{
    free(known);
}

/* --- rendered pages ------------------------------------------------------------------ */

struct entry {
    uint64_t used; /* 0: the entry is free */
    uint64_t as_of;
    struct buf key, body;
    char tag[ETAG_BYTES];
    const char *content_type;
    char *link;
};

struct pages {
    struct entry entries[PAGES_MAX];
    uint64_t clock;
    size_t total; /* bytes of all bodies */
};

struct pages *pages_new(void)
{
    return xcalloc(1, sizeof(struct pages));
}

static void drop(struct pages *pages, struct entry *entry)
{
    pages->total -= entry->body.len;
    buf_release(&entry->key);
    buf_release(&entry->body);
    free(entry->link);
    *entry = (struct entry){0};
}

void pages_free(struct pages *pages)
{
    if (!pages)
        return;
    for (int i = 0; i < PAGES_MAX; i++)
        drop(pages, &pages->entries[i]);
    free(pages);
}

static bool same(const struct buf *text, struct span wanted)
{
    return text->len == wanted.len && (wanted.len == 0 || memcmp(text->data, wanted.p, wanted.len) == 0);
}

static struct entry *find(struct pages *pages, struct span key)
{
    for (int i = 0; i < PAGES_MAX; i++)
        if (pages->entries[i].used && same(&pages->entries[i].key, key))
            return &pages->entries[i];
    return NULL;
}

static struct entry *oldest(struct pages *pages)
{
    struct entry *best = NULL;
    for (int i = 0; i < PAGES_MAX; i++) {
        struct entry *entry = &pages->entries[i];
        if (entry->used && (!best || entry->used < best->used))
            best = entry;
    }
    return best;
}

static struct entry *room(struct pages *pages, size_t bytes)
{
    while (pages->total + bytes > PAGES_BYTES_MAX)
        drop(pages, oldest(pages));
    for (int i = 0; i < PAGES_MAX; i++)
        if (!pages->entries[i].used)
            return &pages->entries[i];
    struct entry *entry = oldest(pages);
    drop(pages, entry);
    return entry;
}

bool pages_find(struct pages *pages, struct span key, uint64_t as_of, struct page *out)
{
    struct entry *entry = find(pages, key);
    if (!entry || entry->as_of != as_of)
        return false;
    entry->used = ++pages->clock;
    *out = (struct page){entry->content_type, buf_span(&entry->body), entry->tag, entry->link};
    return true;
}

void pages_put(struct pages *pages, struct span key, uint64_t as_of, const struct page *page)
{
    struct entry *entry = find(pages, key);
    if (entry)
        drop(pages, entry);
    if (page->body.len > PAGE_BYTES_MAX)
        return;
    entry = room(pages, page->body.len);
    entry->used = ++pages->clock;
    entry->content_type = page->content_type;
    entry->link = page->link ? xstrdup(page->link) : NULL;
    buf_add_span(&entry->key, key);
    entry->as_of = as_of;
    snprintf(entry->tag, sizeof entry->tag, "%s", page->tag);
    buf_add_span(&entry->body, page->body);
    pages->total += page->body.len;
}

/* --- of a request ------------------------------------------------------------------- */

/* FNV-1a: it need not withstand anybody, who asks gets only his own answers. */
static uint64_t hash(uint64_t sum, const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    for (size_t i = 0; i < n; i++)
        sum = (sum ^ p[i]) * UINT64_C(1099511628211);
    return sum;
}

static const uint64_t hash_start = UINT64_C(14695981039346656037);

/* Appends what tells one answer from another: path, query, scopes, token. */
static void add_key(struct buf *out, const struct request *rq)
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

/* The tag must be made anew: what is read from here on may be another answer. */
static void begin(struct request *rq, uint64_t version, uint64_t salt)
{
    const uint64_t parts[] = {rq->generation, version, salt};
    struct buf key = {0};
    add_key(&key, rq);
    rq->fresh = (struct freshness){
        .wanted = true,
        .unsettled = version & 1,
        .asked = hash(hash_start, key.data, key.len),
        .as_of = hash(hash_start, parts, sizeof parts),
    };
    buf_release(&key);
}

static void add_headers(struct request *rq)
{
    answer_header(rq, "ETag", rq->fresh.tag);
    answer_header(rq, "Cache-Control", "private, no-cache");
}

/* Is it known, without a look at anything, that the client has it? */
static bool is_known(struct request *rq)
{
    const struct known *known = rq->http->known;
    size_t place = rq->fresh.asked % KNOWN_MAX;
    if (rq->fresh.unsettled || known->places[place].asked != rq->fresh.asked ||
        known->places[place].as_of != rq->fresh.as_of ||
        !etag_matches(request_header(rq, "If-None-Match"), span_of(known->places[place].tag)))
        return false;
    memcpy(rq->fresh.tag, known->places[place].tag, ETAG_BYTES);
    rq->fresh.wanted = false; /* all is said */
    add_headers(rq);
    answer_empty(rq, 304);
    return true;
}

bool freshness_unchanged(struct request *rq, uint64_t salt)
{
    begin(rq, store_version(rq->http->store), salt);
    return is_known(rq);
}

bool freshness_unchanged_ever(struct request *rq)
{
    begin(rq, 0, 0);
    return is_known(rq);
}

void freshness_seal(struct request *rq)
{
    struct freshness *fresh = &rq->fresh;
    if (fresh->wanted && !fresh->tag[0] && rq->answer.status == 200 && !rq->answer.pull)
        etag_of(buf_span(&rq->answer.body), fresh->tag);
}

void freshness_tag(struct request *rq, const char *tag)
{
    snprintf(rq->fresh.tag, sizeof rq->fresh.tag, "W/\"%s\"", tag);
}

static void remember(const struct request *rq)
{
    struct known *known = rq->http->known;
    size_t place = rq->fresh.asked % KNOWN_MAX;
    known->places[place].asked = rq->fresh.asked;
    known->places[place].as_of = rq->fresh.as_of;
    memcpy(known->places[place].tag, rq->fresh.tag, ETAG_BYTES);
}

void freshness_settle(struct request *rq)
{
    int status = rq->answer.status;
    freshness_seal(rq);
    if (!rq->fresh.wanted || !rq->fresh.tag[0] || (status != 200 && status != 206))
        return;
    add_headers(rq);
    if (rq->method != METHOD_GET)
        return;
    if (!rq->fresh.unsettled)
        remember(rq);
    struct span header = request_header(rq, "If-None-Match");
    if (etag_is_any(header) || etag_matches(header, span_of(rq->fresh.tag)))
        answer_empty(rq, 304);
}

bool freshness_page(struct request *rq)
{
    struct buf key = {0};
    struct page page;
    add_key(&key, rq);
    bool found = !rq->fresh.unsettled && pages_find(rq->http->pages, buf_span(&key), rq->fresh.as_of, &page);
    if (found) {
        struct buf body = {0};
        buf_add_span(&body, page.body);
        if (page.link)
            answer_header(rq, "Link", page.link);
        memcpy(rq->fresh.tag, page.tag, ETAG_BYTES);
        answer_body(rq, 200, page.content_type, &body);
    }
    buf_release(&key);
    return found;
}

void freshness_offer(struct request *rq)
{
    struct buf key = {0};
    const struct answer *answer = &rq->answer;
    freshness_seal(rq);
    if (!rq->fresh.tag[0] || rq->fresh.unsettled || answer->status != 200)
        return;
    add_key(&key, rq);
    pages_put(rq->http->pages, buf_span(&key), rq->fresh.as_of,
              &(struct page){answer->content_type, buf_span(&answer->body), rq->fresh.tag,
                             answer_find_header(rq, "Link")});
    buf_release(&key);
}
