/* ETags: whether an answer is still what the client has.
 *
 * A tag is weak and made of the store's boot id, its version, and a hash of
 * what was asked by whom. It is made before any row is read, so that what is
 * read is at least as new. Pure, but for etag_unchanged(). */
#pragma once

#include "server/http/http.h"

struct etag_of {
    uint64_t boot, version;
    uint64_t salt;   /* whatever else the answer depends on */
    struct span key; /* path, query, and who asks */
};

/* Appends W/"…". */
void etag_add(struct buf *out, const struct etag_of *of);

/* Does an If-None-Match header name the tag? Compared weakly; `*` matches. */
bool etag_matches(struct span header, struct span tag);

/* Appends what tells one answer from another: path, query, scopes, token. */
void etag_key(struct buf *out, const struct request *rq);

/* As answer_if_unchanged(), for an answer that also depends on `salt`. */
bool etag_unchanged(struct request *rq, uint64_t salt);
