#include "workers/lease_token.h"

#include "base/id.h"

_Static_assert((int)LEASE_TOKEN_LEN == (int)ID_TEXT_LEN + 17, "an id, a dash, 16 digits");

static const char digits[] = "0123456789abcdef";

void lease_token_add(struct buf *out, const struct turn *turn)
{
    id_add(out, turn->id);
    buf_addc(out, '-');
    for (int shift = 60; shift >= 0; shift -= 4)
        buf_addc(out, digits[(uint64_t)turn->lease >> shift & 15]);
}

/* An id may be written in several ways, a token in one alone. */
bool lease_token_parse(struct span text, int64_t *id, int64_t *lease)
{
    char again[ID_TEXT_LEN];
    uint64_t number = 0;
    if (!text.p || text.len != LEASE_TOKEN_LEN || text.p[ID_TEXT_LEN] != '-')
        return false;
    if (!id_parse((struct span){text.p, ID_TEXT_LEN}, id))
        return false;
    id_format(*id, again);
    for (size_t i = ID_TEXT_LEN + 1; i < LEASE_TOKEN_LEN; i++) {
        const char *digit = memchr(digits, text.p[i], 16);
        if (!digit)
            return false;
        number = number << 4 | (uint64_t)(digit - digits);
    }
    *lease = (int64_t)number;
    return number && memcmp(again, text.p, ID_TEXT_LEN) == 0;
}
