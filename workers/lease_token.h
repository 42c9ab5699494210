/* A lease's token as text: the invocation's id, a dash, and the lease as 16
 * hexadecimal digits. Whoever has it has the turn: no log shows one. Pure. */
#pragma once

#include "store/turn.h"

enum { LEASE_TOKEN_LEN = 13 + 1 + 16 };

void lease_token_add(struct buf *out, const struct turn *turn);

/* False if it is not one that lease_token_add() could have written. */
bool lease_token_parse(struct span text, int64_t *id, int64_t *lease);
