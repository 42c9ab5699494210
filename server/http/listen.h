/* The socket that is listened on: an address, a path (`unix:/path`), or the one
 * that whoever started the server has opened (LISTEN_FDS, as systemd does).
 *
 * Threads: the main thread, before any other. */
#pragma once

#include "server/config/config.h"

struct listening {
    int fd;
    int port;      /* 0: it is no address */
    char *address; /* "127.0.0.1:8080", "[::1]:8080", "unix:/run/errand.sock"; owned */
    char *unlink;  /* the path to be removed at the end; owned, NULL: none */
};

/* The socket belongs to the caller. */
MUST_USE enum err listen_open(const struct config *config, struct listening *out, struct reason *why);

/* Removes the path; the socket is closed by whoever has it. */
void listen_release(struct listening *listening);
