/* The arguments that a turn starts with, where they do not simply stand in its row: outside of it, or
 * made of what its group shares and of the results of those it comes after (compose.h). */
#pragma once

#include "base/buf.h"
#include "base/err.h"

struct params;
struct reader;

/* Appends arguments as the body gets them: bound if there are params; null if they are absent.
 * ERR_INVALID with a sentence that says where: they do not fit. */
MUST_USE enum err composed_bind(const struct params *params, struct span args, struct buf *out,
                                struct reason *why);

/* The same of those of an invocation. Blocks as long as reading takes: up to a thousand results.
 * ERR_INVALID as above; ERR_LIMIT if the
 * reader is a brief one and they are not in the row alone; ERR_NOT_FOUND: there is no such invocation;
 * faults. Then nothing was appended. */
MUST_USE enum err composed_read(struct reader *reader, int64_t id, const struct params *params, struct buf *out,
                                struct reason *why);
