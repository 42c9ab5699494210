/* Who may ask what: the checks that come before any handler. Pure.
 *
 * A web page elsewhere must not be able to drive the service through a
 * visitor's browser: the Host must be one of ours (against DNS rebinding), and
 * a changing request must not come from a foreign Origin. */
#pragma once

#include "server/config/config.h"

/* The request headers that the server itself looks at. */
struct headers {
    struct span host, origin, fetch_site, authorization, content_type, content_encoding, content_length;
    struct span transfer_encoding, expect;
    struct span key; /* Idempotency-Key */
    struct span prefer;
    struct span preflight_method;                   /* Access-Control-Request-Method */
    int content_lengths, transfer_encodings, hosts; /* how often they stood there */
    size_t bytes;                                   /* of all headers, these and others */
};

/* Notes a header if it is one of the above. */
void headers_note(struct headers *headers, const char *name, size_t name_len, const char *value, size_t value_len);

/* Is the Host (with or without port) loopback's, a literal address, or one of
 * the configuration's? An absent one (HTTP/1.0) passes. */
bool gate_host(const struct config *config, struct span host);

/* May a changing request come from there? True without Origin and
 * Sec-Fetch-Site, from the same host, or from a configured origin. */
bool gate_origin(const struct config *config, const struct headers *headers);

/* Is that origin among the configured ones (CORS)? */
bool gate_cors(const struct config *config, struct span origin);

/* The token that the Authorization header carries, compared in constant time;
 * NULL if it is none. */
const struct token *gate_token(const struct config *config, struct span authorization);

/* What the type of a body is. */
enum media { MEDIA_NONE, MEDIA_JSON, MEDIA_NDJSON, MEDIA_TEXT, MEDIA_OTHER };
enum media gate_media(struct span content_type);

/* Is a body of that Content-Encoding read as it is? */
bool gate_encoding(struct span encoding);

/* Seconds of `wait=` in a Prefer header (RFC 7240), as milliseconds; -1 if
 * there is none. */
int64_t gate_prefer_wait(struct span prefer);

/* Appends what an Idempotency-Key header says: k2, or "k2" as the draft writes it
 * (a string of RFC 8941). */
void gate_key(struct span header, struct buf *out);

/* Does an Accept header name the type, with its own name? */
bool gate_accepts(struct span accept, const char *type);

/* Does it say `return=minimal`? */
bool gate_prefer_minimal(struct span prefer);
