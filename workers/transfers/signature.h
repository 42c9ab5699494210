/* Signatures by the Standard Webhooks rules, version 1 (HMAC-SHA256).
 *
 * Threads: no shared state. Pure. */
#pragma once

#include "base/buf.h"

/* Appends "v1,BASE64" of a message: its id (the same for each try of it, without a dot), when it
 * is sent (in seconds) and its body. */
void signature_add(struct buf *out, struct span secret, struct span id, int64_t at_s, struct span body);
