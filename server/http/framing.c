#include "server/http/framing.h"

#include <strings.h>

static void refuse(struct framing *framing, const char *fault)
{
    if (!framing->fault)
        framing->fault = fault;
}

/* A character of a token (RFC 9110, 5.6.2). */
static const bool is_token[256] = {
    ['!'] = true, ['#'] = true, ['$'] = true, ['%'] = true, ['&'] = true,         ['\''] = true,
    ['*'] = true, ['+'] = true, ['-'] = true, ['.'] = true, ['0' ... '9'] = true, ['A' ... 'Z'] = true,
    ['^'] = true, ['_'] = true, ['`'] = true, ['|'] = true, ['a' ... 'z'] = true, ['~'] = true,
};

static bool all_token(struct span name)
{
    bool all = name.len > 0;
    for (size_t i = 0; i < name.len; i++)
        all &= is_token[(unsigned char)name.p[i]];
    return all;
}

static bool has_control(struct span text, unsigned char first_fine, char but)
{
    bool any = false;
    for (size_t i = 0; i < text.len; i++)
        any |= ((unsigned char)text.p[i] < first_fine && text.p[i] != but) | (text.p[i] == 0x7F);
    return any;
}

void framing_begin(struct framing *framing, struct span address, const char *stood_at, const char *version)
{
    *framing = (struct framing){.expected = version + strlen(version) + 2};
    framing->old = strcmp(version, "HTTP/1.0") == 0;
    if (!framing->old && strcmp(version, "HTTP/1.1") != 0)
        refuse(framing, "the version is neither HTTP/1.1 nor HTTP/1.0");
    if (stood_at + address.len + 1 != version || has_control(address, '!', '!'))
        refuse(framing, "the address has a space, a control character or a NUL in it");
}

void framing_note(struct framing *framing, struct span name, struct span value)
{
    if (!all_token(name))
        refuse(framing, "a header's name has a character that no name has, such as a space before the colon");
    else if (has_control(value, ' ', '\t'))
        refuse(framing, "a header's value has a control character, such as a CR that ends no line");
    else if (name.p != framing->expected || value.p <= name.p + name.len)
        refuse(framing, "a header is folded onto a second line, has a NUL, or a line does not end with CR LF");
    framing->expected = value.p + value.len + 2;
}

/* The last line's end, and the empty line. */
static bool ends_twice(const char *after)
{
    return after[-2] == '\0' && after[-1] == '\0' && after[0] == '\0' && after[1] == '\0';
}

static bool all_digits(struct span text)
{
    bool all = text.len > 0;
    for (size_t i = 0; i < text.len; i++)
        all &= text.p[i] >= '0' && text.p[i] <= '9';
    return all;
}

static bool is_chunked(struct span coding)
{
    return coding.len == 7 && strncasecmp(coding.p, "chunked", 7) == 0;
}

void framing_end(struct framing *framing, const struct headers *h)
{
    if (!framing->fault && !ends_twice(framing->expected))
        refuse(framing, "the last header has a NUL in it, or a line does not end with CR LF");
    else if (h->content_lengths > 1 || h->transfer_encodings > 1 || h->hosts > 1)
        refuse(framing, "Content-Length, Transfer-Encoding or Host is given twice");
    else if (h->content_lengths && h->transfer_encodings)
        refuse(framing, "both Content-Length and Transfer-Encoding are given");
    else if (h->content_lengths && !all_digits(h->content_length))
        refuse(framing, "the Content-Length is not a number");
    else if (h->transfer_encodings && (framing->old || !is_chunked(h->transfer_encoding)))
        refuse(framing, "the Transfer-Encoding is not chunked, or not of HTTP/1.1");
}
