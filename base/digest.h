/* SHA-256, HMAC, random bytes, comparing secrets, bytes as text. The home of nettle. */
#pragma once

#include "base/buf.h"

enum { SHA256_BYTES = 32 };

void sha256(struct span data, uint8_t out[SHA256_BYTES]);

/* HMAC-SHA256 (RFC 2104) over the pieces, one after the other. */
void hmac_sha256(struct span key, const struct span *pieces, int count, uint8_t out[SHA256_BYTES]);

/* 64 lower-case hex digits. */
void hex_add(struct buf *out, const uint8_t *bytes, size_t n);

/* Reads exactly 2n hex digits in either case. */
bool hex_parse(struct span text, uint8_t *out, size_t n);

/* Base64 with `+`, `/` and padding (RFC 4648, 4); n is at least 1. */
void base64_add(struct buf *out, const uint8_t *bytes, size_t n);

/* Appends what such a text stands for; false (and nothing of it) if it is none. */
bool base64_decode(struct span text, struct buf *out);

/* Base64 with `-` and `_`, without padding (RFC 4648, 5); n is at least 1. */
void base64url_add(struct buf *out, const uint8_t *bytes, size_t n);

/* Reads exactly n bytes, from nothing but the text that base64url_add() writes. */
bool base64url_parse(struct span text, uint8_t *out, size_t n);

/* Random bytes from the kernel; never fails. */
void random_bytes(void *out, size_t n);

/* Takes the same time wherever the first difference is. */
bool equal_constant_time(const void *a, const void *b, size_t n);
