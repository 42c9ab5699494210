#include "server/http/freshness.h"

#include "base/digest.h"
#include "server/http/answer.h"
#include "server/http/internal.h"

#include <stdlib.h>

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

/* --- rendered pages ------------------------------------------------------------------ */

struct entry {
    uint64_t used; /* 0: the entry is free */
    struct buf key, tag, body;
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
    buf_release(&entry->tag);
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

bool pages_find(struct pages *pages, struct span key, struct span tag, struct page *out)
{
    struct entry *entry = find(pages, key);
    if (!entry || !same(&entry->tag, tag))
        return false;
    entry->used = ++pages->clock;
    *out = (struct page){entry->content_type, buf_span(&entry->body), entry->link};
    return true;
}

void pages_put(struct pages *pages, struct span key, struct span tag, const struct page *page)
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
    buf_add_span(&entry->tag, tag);
    buf_add_span(&entry->body, page->body);
    pages->total += page->body.len;
}

/* --- of a request ------------------------------------------------------------------- */

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

bool freshness_unchanged(struct request *rq, uint64_t salt)
{
    const struct store *store = rq->http->store;
    struct buf key = {0}, tag = {0};
    uint64_t version = store_version(store);
    rq->unsettled = version & 1;
    add_key(&key, rq);
    etag_add(&tag, &(struct etag_of){
                       .boot = store_boot_id(store) + rq->generation,
                       .version = version,
                       .salt = salt,
                       .key = buf_span(&key),
                   });
    answer_header(rq, "ETag", buf_cstr(&tag));
    answer_header(rq, "Cache-Control", "private, no-cache");
    bool unchanged = !rq->unsettled && etag_matches(request_header(rq, "If-None-Match"), buf_span(&tag));
    if (unchanged)
        answer_empty(rq, 304);
    buf_release(&key);
    buf_release(&tag);
    return unchanged;
}

bool freshness_page(struct request *rq)
{
    struct buf key = {0};
    struct page page;
    const char *tag = answer_find_header(rq, "ETag");
    add_key(&key, rq);
    bool found = tag && !rq->unsettled && pages_find(rq->http->pages, buf_span(&key), span_of(tag), &page);
    if (found) {
        struct buf body = {0};
        buf_add_span(&body, page.body);
        if (page.link)
            answer_header(rq, "Link", page.link);
        answer_body(rq, 200, page.content_type, &body);
    }
    buf_release(&key);
    return found;
}

void freshness_offer(struct request *rq)
{
    struct buf key = {0};
    const struct answer *answer = &rq->answer;
    const char *tag = answer_find_header(rq, "ETag");
    if (!tag || rq->unsettled || answer->status != 200 || answer->pull)
        return;
    add_key(&key, rq);
    pages_put(rq->http->pages, buf_span(&key), span_of(tag),
              &(struct page){answer->content_type, buf_span(&answer->body), answer_find_header(rq, "Link")});
    buf_release(&key);
}
