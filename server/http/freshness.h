/* Freshness: whether an answer is what the client has, and pages that were
 * rendered since the last change, to be sent again without reading anything.
 *
 * A tag is a digest of what is shown, so that it changes with that and with
 * nothing else, and two answers with one tag are the same byte for byte. It is
 * made where the answer was: what a reader thread has read, that digests. The
 * store's version is the short cut: while nothing at all has changed, a client
 * that has the last answer hears so before any row is read.
 *
 * Threads: the HTTP thread's alone; freshness_seal() belongs to the thread that
 * has the request. */
#pragma once

#include "server/http/request.h"

/* --- of a request ------------------------------------------------------------- */

/* Call before any row is read. The answer, if it is a 200 or 206, will have an
 * ETag, and be 304 if the client has it. If that is known already, answers 304
 * and returns true. The answer may depend on something that no commit tells of:
 * `salt`, else 0. */
bool freshness_unchanged(struct request *rq, uint64_t salt);

/* The same of what changes with the program alone. */
bool freshness_unchanged_ever(struct request *rq);

/* Digests the answer, if it is to have a tag and is whole. */
void freshness_seal(struct request *rq);

/* The tag of an answer that is not whole (a part, or made while it is sent),
 * without its quotes; a weak one. */
void freshness_tag(struct request *rq, const char *tag);

/* On the way out: adds the tag, and makes it 304 if the client has it. */
void freshness_settle(struct request *rq);

/* A page that was rendered since the last change: if there is one for this path,
 * query and scopes, fills the answer and returns true. freshness_offer() offers
 * the answer for that use. Call after freshness_unchanged(). */
bool freshness_page(struct request *rq);
void freshness_offer(struct request *rq);

/* --- tags: pure ------------------------------------------------------------------ */

/* Writes the strong tag of a body, quotes included. */
void etag_of(struct span body, char out[ETAG_BYTES]);

/* Does an If-None-Match or If-Match header name the tag? `W/` is no difference:
 * a proxy that compresses puts it before a tag. `*` does not name any. */
bool etag_matches(struct span header, struct span tag);

/* Is the header `*`, which any tag fits? */
bool etag_is_any(struct span header);

/* --- what was answered last ---------------------------------------------------------- */

struct known;

struct known *known_new(void);
void known_free(struct known *known); /* takes NULL */

/* --- rendered pages ---------------------------------------------------------------- */

/* The least recently used one goes first. */
enum { PAGES_MAX = 64, PAGE_BYTES_MAX = 256 << 10, PAGES_BYTES_MAX = 8 << 20 };

struct pages;

struct pages *pages_new(void);
void pages_free(struct pages *pages); /* takes NULL */

struct page {
    const char *content_type; /* static */
    struct span body;
    const char *tag;
    const char *link; /* the Link header; NULL: none */
};

/* The page of that key, if nothing has changed since `as_of`, with which it was
 * stored. It lives until the next call. */
bool pages_find(struct pages *pages, struct span key, uint64_t as_of, struct page *out);

/* Copies the page, unless its body is over PAGE_BYTES_MAX. */
void pages_put(struct pages *pages, struct span key, uint64_t as_of, const struct page *page);
