/* The storm: mutated HTTP requests at a live server. storm_requests.c makes
 * them, storm.c sends them and checks what comes back.
 *
 * Threads: one. */
#pragma once

#include "base/buf.h"

/* --- chance ---------------------------------------------------------------------- */

struct chance {
    uint64_t state;
};

uint64_t chance_next(struct chance *chance);
size_t chance_below(struct chance *chance, size_t n); /* 0..n-1; n > 0 */
bool chance_one_in(struct chance *chance, size_t n);

/* --- what is known of the server -------------------------------------------------- */

enum { KNOWN_IDS = 256, KNOWN_TEXTS = 16, KNOWN_BYTES = 64 };

/* What answers said, to be sent back: ids, cursors, tags, tokens of leases. */
struct known {
    char ids[KNOWN_IDS][14];
    char cursors[KNOWN_TEXTS][KNOWN_BYTES];
    char tags[KNOWN_TEXTS][KNOWN_BYTES];
    char leases[KNOWN_TEXTS][KNOWN_BYTES];
    size_t id_count, cursor_count, tag_count, lease_count; /* ever learnt; the rings keep the last ones */
};

void known_add_id(struct known *known, struct span id);
void known_add_cursor(struct known *known, struct span cursor);
void known_add_tag(struct known *known, struct span tag);
void known_add_lease(struct known *known, struct span token);

/* --- requests ------------------------------------------------------------------------ */

/* One request, appended to a connection's bytes. */
struct made {
    bool head;      /* the answer has no body */
    bool tame;      /* its framing is right: exactly one answer is due */
    bool may_close; /* the server may close the connection after it */
    bool waits;     /* its answer may be long in coming */
};

struct maker {
    struct chance chance;
    struct known known;
    const char *token, *admin_token; /* NULL: the server has none */
    struct buf body;                 /* scratch */
};

/* A request whose framing is right, whatever else is wrong with it. */
struct made make_tame(struct maker *maker, struct buf *out);

/* One with anything wrong, to be the last on its connection. */
struct made make_wild(struct maker *maker, struct buf *out);

void maker_release(struct maker *maker);
