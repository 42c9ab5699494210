/* Pages that were rendered since the last change, to be sent again without
 * reading anything. The least recently used one goes first.
 *
 * Threads: the HTTP thread's alone. */
#pragma once

#include "server/config/config.h"

enum { CACHE_ENTRIES = 64, CACHE_BODY_MAX = 256 << 10, CACHE_TOTAL_MAX = 8 << 20 };

struct http_cache;

struct http_cache *cache_new(void);
void cache_free(struct http_cache *cache); /* takes NULL */

/* A number that changes when the configuration does: with the store's version
 * it says whether an answer is still the same. */
uint64_t cache_generation(struct http_cache *cache, struct config *config);

struct cache_page {
    const char *content_type; /* static */
    struct span body;
    const char *link; /* the Link header; NULL: none */
};

/* The page of that key, if it was kept under the very same tag (what changed
 * since has another). It lives until the next call. */
bool cache_find(struct http_cache *cache, struct span key, struct span tag, struct cache_page *out);

/* Copies the page, unless its body is over CACHE_BODY_MAX. */
void cache_put(struct http_cache *cache, struct span key, struct span tag, const struct cache_page *page);
