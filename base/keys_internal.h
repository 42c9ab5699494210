/* What the files of keys share. Not for others.
 *
 * Threads: no shared state. */
#pragma once

#include "base/keys.h"

static inline void *keys_field(void *target, const struct key *key)
{
    return (char *)target + key->offset;
}

/* Frees what was there. */
void keys_replace(char **place, char *text);

/* A number in the key's own form: digits, a size, a duration. */
void keys_add_limit(struct buf *out, const struct key *key, int64_t value);
