#include "base/digest.h"

#include <errno.h>
#include <nettle/base16.h>
#include <nettle/base64.h>
#include <nettle/hmac.h>
#include <nettle/memops.h>
#include <nettle/sha2.h>
#include <stdlib.h>
#include <sys/random.h>

void sha256(struct span data, uint8_t out[SHA256_BYTES])
{
    struct sha256_ctx ctx;
    sha256_init(&ctx);
    sha256_update(&ctx, data.len, (const uint8_t *)data.p);
    sha256_digest(&ctx, SHA256_BYTES, out);
}

void hmac_sha256(struct span key, const struct span *pieces, int count, uint8_t out[SHA256_BYTES])
{
    struct hmac_sha256_ctx ctx;
    hmac_sha256_set_key(&ctx, key.len, (const uint8_t *)key.p);
    for (int i = 0; i < count; i++)
        hmac_sha256_update(&ctx, pieces[i].len, (const uint8_t *)pieces[i].p);
    hmac_sha256_digest(&ctx, SHA256_BYTES, out);
}

void hex_add(struct buf *out, const uint8_t *bytes, size_t n)
{
    buf_reserve(out, BASE16_ENCODE_LENGTH(n));
    base16_encode_update(out->data + out->len, n, bytes);
    out->len += BASE16_ENCODE_LENGTH(n);
}

bool hex_parse(struct span text, uint8_t *out, size_t n)
{
    struct base16_decode_ctx ctx;
    size_t done = n;
    if (text.len != BASE16_ENCODE_LENGTH(n))
        return false;
    base16_decode_init(&ctx);
    return base16_decode_update(&ctx, &done, out, text.len, text.p) && done == n && base16_decode_final(&ctx);
}

void base64_add(struct buf *out, const uint8_t *bytes, size_t n)
{
    struct base64_encode_ctx ctx;
    buf_reserve(out, BASE64_ENCODE_LENGTH(n) + BASE64_ENCODE_FINAL_LENGTH);
    base64_encode_init(&ctx);
    out->len += base64_encode_update(&ctx, out->data + out->len, n, bytes);
    out->len += base64_encode_final(&ctx, out->data + out->len);
}

bool base64_decode(struct span text, struct buf *out)
{
    struct base64_decode_ctx ctx;
    size_t n = BASE64_DECODE_LENGTH(text.len);
    buf_reserve(out, n);
    base64_decode_init(&ctx);
    if (!base64_decode_update(&ctx, &n, (uint8_t *)out->data + out->len, text.len, text.p) ||
        !base64_decode_final(&ctx))
        return false;
    out->len += n;
    return true;
}

void base64url_add(struct buf *out, const uint8_t *bytes, size_t n)
{
    struct base64_encode_ctx ctx;
    buf_reserve(out, BASE64_ENCODE_LENGTH(n) + BASE64_ENCODE_FINAL_LENGTH);
    base64url_encode_init(&ctx);
    out->len += base64_encode_update(&ctx, out->data + out->len, n, bytes);
    out->len += base64_encode_final(&ctx, out->data + out->len);
    while (out->data[out->len - 1] == '=')
        out->len--;
}

bool base64url_parse(struct span text, uint8_t *out, size_t n)
{
    struct base64_decode_ctx ctx;
    uint8_t block[3]; /* of four characters */
    size_t done = 0, got;
    if (text.len != (n * 8 + 5) / 6)
        return false;
    base64url_decode_init(&ctx);
    for (size_t i = 0; i < text.len || i % 4; i++) {
        const char *c = i < text.len ? text.p + i : "=";
        got = sizeof block;
        if (!base64_decode_update(&ctx, &got, block, 1, c) || done + got > n)
            return false;
        memcpy(out + done, block, got);
        done += got;
    }
    return done == n && base64_decode_final(&ctx);
}

void random_bytes(void *out, size_t n)
{
    for (uint8_t *p = out; n > 0;) {
        ssize_t got = getrandom(p, n, 0);
        if (got < 0) {
            if (errno != EINTR)
                abort();
            continue;
        }
        p += got;
        n -= (size_t)got;
    }
}

bool equal_constant_time(const void *a, const void *b, size_t n)
{
    return memeql_sec(a, b, n);
}
