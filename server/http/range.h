/* The Range header of RFC 9110, for one range of bytes. Pure. */
#pragma once

#include "base/buf.h"

enum range {
    RANGE_ALL,           /* none, not one that is understood, or several: the whole is sent */
    RANGE_PART,          /* bytes from..to, both included */
    RANGE_UNSATISFIABLE, /* it starts behind the end */
};

/* Reads "bytes=a-b", "bytes=a-" and "bytes=-n" of what has `total` bytes. An
 * absent header is RANGE_ALL. */
enum range range_parse(struct span header, int64_t total, int64_t *from, int64_t *to);
