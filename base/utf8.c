#include "base/utf8.h"

static bool is_tail(unsigned char byte)
{
    return (byte & 0xC0) == 0x80;
}

/* The length that a lead byte promises, 0 if it is none. */
static size_t promised(unsigned char lead)
{
    if (lead < 0x80)
        return 1;
    if (lead < 0xC2)
        return 0;
    if (lead < 0xE0)
        return 2;
    if (lead < 0xF0)
        return 3;
    return lead < 0xF5 ? 4 : 0;
}

/* Refuses overlong forms, surrogates and what is above U+10FFFF. */
static bool second_fits(unsigned char lead, unsigned char second)
{
    switch (lead) {
    case 0xE0: return second >= 0xA0;
    case 0xED: return second < 0xA0;
    case 0xF0: return second >= 0x90;
    case 0xF4: return second < 0x90;
    default: return true;
    }
}

/* The bytes from p on that belong to one sequence, complete or broken off. */
static size_t sequence_bytes(const unsigned char *p, size_t available, bool *complete)
{
    size_t wanted = promised(p[0]);
    size_t n = 1;
    while (n < wanted && n < available && is_tail(p[n]) && (n > 1 || second_fits(p[0], p[1])))
        n++;
    *complete = n == wanted;
    return n;
}

size_t utf8_sequence(const char *p, const char *end)
{
    bool complete;
    size_t n = sequence_bytes((const unsigned char *)p, (size_t)(end - p), &complete);
    return complete ? n : 0;
}

static const char *skip_ascii(const char *p, const char *end)
{
    for (uint64_t word; end - p >= 8; p += 8) {
        memcpy(&word, p, 8);
        if (word & UINT64_C(0x8080808080808080))
            break;
    }
    while (p < end && (unsigned char)*p < 0x80)
        p++;
    return p;
}

/* The first byte that is not part of a valid sequence, or the end. */
static const char *skip_valid(const char *p, const char *end)
{
    while ((p = skip_ascii(p, end)) < end) {
        size_t n = utf8_sequence(p, end);
        if (!n)
            break;
        p += n;
    }
    return p;
}

bool utf8_valid(struct span bytes)
{
    return bytes.len == 0 || skip_valid(bytes.p, bytes.p + bytes.len) == bytes.p + bytes.len;
}

size_t utf8_length(struct span text)
{
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++)
        n += ((unsigned char)text.p[i] & 0xC0) != 0x80;
    return n;
}

void utf8_add_lossy(struct buf *out, struct span bytes)
{
    if (bytes.len == 0)
        return;
    const char *end = bytes.p + bytes.len;
    for (const char *p = bytes.p;;) {
        const char *broken = skip_valid(p, end);
        buf_add(out, p, (size_t)(broken - p));
        if (broken == end)
            return;
        bool complete;
        p = broken + sequence_bytes((const unsigned char *)broken, (size_t)(end - broken), &complete);
        buf_addl(out, UTF8_REPLACEMENT);
    }
}

void utf8_add_code(struct buf *out, uint32_t code)
{
    if (code < 0x80) {
        buf_addc(out, (char)code);
    } else if (code < 0x800) {
        buf_addc(out, (char)(0xC0 | code >> 6));
        buf_addc(out, (char)(0x80 | (code & 0x3F)));
    } else if (code < 0x10000) {
        buf_addc(out, (char)(0xE0 | code >> 12));
        buf_addc(out, (char)(0x80 | (code >> 6 & 0x3F)));
        buf_addc(out, (char)(0x80 | (code & 0x3F)));
    } else {
        buf_addc(out, (char)(0xF0 | code >> 18));
        buf_addc(out, (char)(0x80 | (code >> 12 & 0x3F)));
        buf_addc(out, (char)(0x80 | (code >> 6 & 0x3F)));
        buf_addc(out, (char)(0x80 | (code & 0x3F)));
    }
}

struct span utf8_cut(struct span text, size_t max)
{
    size_t len = text.len < max ? text.len : max;
    size_t lead = len;
    while (lead > 0 && len - lead < 3 && is_tail((unsigned char)text.p[lead - 1]))
        lead--;
    if (lead > 0 && promised((unsigned char)text.p[lead - 1]) > len - lead + 1)
        len = lead - 1;
    return (struct span){text.p, len};
}
