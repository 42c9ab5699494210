#include "base/digest.h"

#include <errno.h>
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

void hex_add(struct buf *out, const uint8_t *bytes, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    buf_reserve(out, 2 * n);
    for (size_t i = 0; i < n; i++) {
        out->data[out->len++] = digits[bytes[i] >> 4];
        out->data[out->len++] = digits[bytes[i] & 15];
    }
}

static int digit_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool hex_parse(struct span text, uint8_t *out, size_t n)
{
    if (text.len != 2 * n)
        return false;
    for (size_t i = 0; i < n; i++) {
        int high = digit_value(text.p[2 * i]);
        int low = digit_value(text.p[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
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
