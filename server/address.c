#include "server/address.h"

#include <string.h>

static const struct {
    const char *all, *loopback;
} wildcards[] = {{"0.0.0.0:", "127.0.0.1:"}, {"[::]:", "[::1]:"}};

void address_add(struct buf *out, const struct config *config, const char *listening)
{
    if (config->url) {
        buf_adds(out, config->url);
        return;
    }
    if (strncmp(listening, "unix:", 5) == 0)
        return;
    buf_adds(out, config->tls_certificate ? "https://" : "http://");
    for (size_t i = 0; i < sizeof wildcards / sizeof *wildcards; i++) {
        size_t n = strlen(wildcards[i].all);
        if (strncmp(listening, wildcards[i].all, n) != 0)
            continue;
        buf_adds(out, wildcards[i].loopback);
        buf_adds(out, listening + n);
        return;
    }
    buf_adds(out, listening);
}
