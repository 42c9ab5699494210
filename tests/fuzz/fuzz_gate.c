/* Headers as they come, a line each: whatever stands in them, the gate decides,
 * and nobody passes who is not named in the configuration. */
#include "server/http/gate.h"

#include <assert.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char text[] = "listen: 127.0.0.1:8080\n"
                           "hosts: [errand.example, other.example]\n"
                           "cors: {origins: [\"https://app.example\"]}\n"
                           "tokens:\n"
                           "  - {name: storm, sha256: "
                           "5678e1d8a3f6d9ab6a2f5cc1a7b5b4c5a3f0c5c1b1d0a9e8f7c6b5a493827160, scopes: [read]}\n";

static struct config *config(void)
{
    static struct config *made;
    struct faults faults = {0};
    if (!made)
        made = config_parse(SPAN(text), "/", &faults);
    if (!made)
        abort();
    return made;
}

static void note_line(struct headers *headers, struct span line)
{
    const char *colon = memchr(line.p, ':', line.len);
    if (!colon)
        return;
    const char *value = colon + 1, *end = line.p + line.len;
    while (value < end && *value == ' ')
        value++;
    headers_note(headers, line.p, (size_t)(colon - line.p), value, (size_t)(end - value));
}

static bool has_text(struct span where, const char *what)
{
    return where.p && memmem(where.p, where.len, what, strlen(what));
}

static void expect_decisions(const struct headers *headers)
{
    enum media media = gate_media(headers->content_type);
    assert((media == MEDIA_NONE) == !headers->content_type.p);
    int64_t wait_ms = gate_prefer_wait(headers->prefer);
    assert(wait_ms >= -1 && (wait_ms < 0 || headers->prefer.p));
    assert(gate_token(config(), headers->authorization) == NULL); /* nobody knows its preimage */
    if (has_text(headers->host, "evil"))
        assert(!gate_host(config(), headers->host));
    if (gate_cors(config(), headers->origin))
        assert(headers->origin.len == strlen("https://app.example"));
    if (headers->origin.p && gate_origin(config(), headers) && !gate_cors(config(), headers->origin))
        assert(headers->host.p && headers->origin.len > headers->host.len);
    assert(headers->hosts >= (headers->host.p != NULL));
    assert((headers->content_lengths > 0) == (headers->content_length.p != NULL));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct headers headers = {0};
    const char *p = size ? (const char *)data : "", *end = p + size;
    while (p < end) {
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        note_line(&headers, (struct span){p, (size_t)((newline ? newline : end) - p)});
        p = newline ? newline + 1 : end;
    }
    expect_decisions(&headers);
    gate_host(config(), (struct span){size ? (const char *)data : "", size});
    return 0;
}
