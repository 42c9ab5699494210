/* Query strings, cursors and filters, read. Pure. */
#pragma once

#include "base/faults.h"
#include "server/http/request.h"
#include "store/store.h"

/* Splits and decodes a raw query ("a=1&b=%20x+y") into at most
 * QUERY_PARAMS_MAX parameters whose spans point into `arena`. ERR_INVALID with
 * a reason for a bad escape, a NUL, invalid UTF-8 or too many. */
MUST_USE enum err query_parse(struct span raw, struct buf *arena, struct query_param *out, int *count,
                              struct reason *why);

/* Decodes one path segment into `out`. False if it is badly escaped, empty, or
 * holds a NUL, '/' or invalid UTF-8. */
bool segment_decode(struct span raw, struct buf *out);

/* The same, for a name that is the client's own: a '/' may stand in it, as %2F. */
bool segment_decode_name(struct span raw, struct buf *out);

/* A cursor is a position and nothing else: base64url of an id. */
void cursor_add(struct buf *out, int64_t id);
bool cursor_parse(struct span text, int64_t *id);

/* Seconds ("30", "0.5") or a duration ("30s", "1m"): what ?wait= takes. */
bool wait_parse(struct span text, int64_t *ms);
