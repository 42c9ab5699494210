#include "workers/transfers/signature.h"

#include "base/digest.h"

void signature_add(struct buf *out, struct span secret, struct span id, int64_t at_s, struct span body)
{
    uint8_t digest[SHA256_BYTES];
    char time[24] = "";
    struct buf at = {time, 0, sizeof time};
    buf_add_int(&at, at_s);
    struct span pieces[] = {id, SPAN("."), buf_span(&at), SPAN("."), body};
    hmac_sha256(secret, pieces, 5, digest);
    buf_addl(out, "v1,");
    base64_add(out, digest, sizeof digest);
}
