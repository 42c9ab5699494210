/* What a callback says: one table of whom it may be about.
 *
 * Threads: no shared state. */
#pragma once

#include "base/buf.h"
#include "store/store.h"

struct context;

/* Appends {type, timestamp, data} of a delivery; a result is in it if it has at most so many bytes.
 * ERR_NOT_FOUND: its owner is gone. */
MUST_USE enum err callback_body_add(void *context, struct reader *reader, const struct delivery *delivery,
                                    int64_t result_bytes, struct buf *out);
