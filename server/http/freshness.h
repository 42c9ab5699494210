/* Freshness: whether an answer is still what the client has, and pages that
 * were rendered since the last change, to be sent again without reading
 * anything.
 *
 * A tag is weak and made of the store's boot id, the configuration's
 * generation, the store's version, and a hash of what was asked by whom. It is
 * made before any row is read, so that what is read is at least as new.
 *
 * Threads: the HTTP thread's alone. */
#pragma once

#include "server/http/request.h"

/* --- of a request ------------------------------------------------------------- */

/* Call before any row is read. Adds the ETag to the answer, and if the client
 * has it answers 304 and returns true. The answer may depend on something that
 * no commit tells of: `salt`, else 0. */
bool freshness_unchanged(struct request *rq, uint64_t salt);

/* A page that was rendered since the last change: if there is one for this path,
 * query and scopes, fills the answer and returns true. freshness_offer() offers
 * the answer for that use. Call after freshness_unchanged(). */
bool freshness_page(struct request *rq);
void freshness_offer(struct request *rq);

/* --- tags: pure ------------------------------------------------------------------ */

struct etag_of {
    uint64_t boot, version;
    uint64_t salt;   /* whatever else the answer depends on */
    struct span key; /* path, query, and who asks */
};

/* Appends W/"…". */
void etag_add(struct buf *out, const struct etag_of *of);

/* Does an If-None-Match header name the tag? Compared weakly; `*` matches. */
bool etag_matches(struct span header, struct span tag);

/* --- rendered pages ---------------------------------------------------------------- */

/* The least recently used one goes first. */
enum { PAGES_MAX = 64, PAGE_BYTES_MAX = 256 << 10, PAGES_BYTES_MAX = 8 << 20 };

struct pages;

struct pages *pages_new(void);
void pages_free(struct pages *pages); /* takes NULL */

struct page {
    const char *content_type; /* static */
    struct span body;
    const char *link; /* the Link header; NULL: none */
};

/* The page of that key, if it was stored under the very same tag (what changed
 * since has another). It lives until the next call. */
bool pages_find(struct pages *pages, struct span key, struct span tag, struct page *out);

/* Copies the page, unless its body is over PAGE_BYTES_MAX. */
void pages_put(struct pages *pages, struct span key, struct span tag, const struct page *page);
