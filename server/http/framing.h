/* Whether a request's head can be read in one way only. What two parsers could
 * read differently lets a request through that a proxy in front did not see.
 *
 * libmicrohttpd (0.9.75) hides what it forgave: a NUL in the address, a line
 * that was folded or ended without CR. But it parses in place and writes NULs
 * where it cut: the pieces of a clear head follow one another with nothing
 * between them, and those of any other do not.
 *
 * Threads: no shared state. */
#pragma once

#include "server/http/gate.h"

struct framing {
    const char *expected; /* where the next header must begin */
    const char *fault;    /* the first one, for a person; static. NULL: the head is clear so far */
    bool old;             /* HTTP/1.0, which knows no chunks */
};

/* The request line: the address as it was first seen, where it stood, and the
 * version that followed it. */
void framing_begin(struct framing *framing, struct span address, const char *stood_at, const char *version);

/* The headers, in the order in which they came, where they stand. */
void framing_note(struct framing *framing, struct span name, struct span value);

/* All headers were noted: what they say of the body's length. */
void framing_end(struct framing *framing, const struct headers *headers);
