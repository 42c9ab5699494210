/* Connections by the addresses they come from. When there are as many as may
 * be, a newcomer takes the place of one that nobody uses, of the address that
 * holds most: whoever opens thousands shuts nobody out but himself.
 *
 * Threads: the HTTP thread's alone. */
#pragma once

#include "base/buf.h"

#include <sys/socket.h>

struct share;

/* A client's connection. */
struct connection {
    struct connection *prev, *next;             /* of all */
    struct connection *share_prev, *share_next; /* of its address */
    struct share *share;
    int fd;
    int64_t deadline_us; /* the next request must have come by then; 0: it is not the client's turn */
    bool in_request;     /* the head of one has come, and its answer is not yet sent */
    bool leaving;        /* was hung up on */
};

struct shares {
    struct share *by_address;
};

void shares_add(struct shares *shares, struct connection *connection, const struct sockaddr *address);
void shares_remove(struct shares *shares, struct connection *connection);

/* Whose place a newcomer takes: of the address that holds most, one without a
 * request, else one whose client has yet to send the rest of it; the oldest.
 * NULL: all are being served. */
struct connection *shares_victim(const struct shares *shares);
