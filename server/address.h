/* The address by which others reach this server: `url` of the configuration, or
 * where it listens.
 *
 * Threads: no shared state. */
#pragma once

#include "base/buf.h"
#include "server/config/config.h"

/* Appends it, without a slash at its end. `listening` is what http_address()
 * says: an address that stands for all of a machine's is replaced by loopback's;
 * a Unix socket has no URL, and nothing is appended. */
void address_add(struct buf *out, const struct config *config, const char *listening);
