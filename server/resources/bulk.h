/* NDJSON submissions: one a line, read as they arrive, committed by the
 * thousand while the next are read, answered with a line each.
 *
 * Lines are independent: one that is refused spoils no other. At most two
 * batches of a request are on their way to the committer; then its body is
 * left in the socket until one has come back.
 *
 * Threads: the HTTP thread's, but for the committer's done(). */
#pragma once

#include "server/http/http.h"

extern const struct body_sink bulk_sink;

/* The same of a turn's children, which are taken also while the service closes. */
extern const struct body_sink bulk_children_sink;
