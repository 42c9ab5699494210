#include "server/http/shares.h"

#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <uthash.h>
#include <utlist.h>

struct key {
    sa_family_t family;
    unsigned char bytes[8]; /* an IPv4 address, or the half of an IPv6 one that a customer has */
};

struct share {
    struct key key;
    int count;
    struct connection *connections; /* the oldest first */
    UT_hash_handle hh;
};

static struct key key_of(const struct sockaddr *address)
{
    struct key key;
    memset(&key, 0, sizeof key);
    key.family = address ? address->sa_family : AF_UNSPEC;
    if (key.family == AF_INET)
        memcpy(key.bytes, &((const struct sockaddr_in *)address)->sin_addr, 4);
    if (key.family == AF_INET6)
        memcpy(key.bytes, &((const struct sockaddr_in6 *)address)->sin6_addr, 8);
    return key;
}

void shares_add(struct shares *shares, struct connection *connection, const struct sockaddr *address)
{
    struct key key = key_of(address);
    struct share *share;
    HASH_FIND(hh, shares->by_address, &key, sizeof key, share);
    if (!share) {
        share = xcalloc(1, sizeof *share);
        share->key = key;
        HASH_ADD(hh, shares->by_address, key, sizeof key, share);
    }
    DL_APPEND2(share->connections, connection, share_prev, share_next);
    share->count++;
    connection->share = share;
}

void shares_remove(struct shares *shares, struct connection *connection)
{
    struct share *share = connection->share;
    DL_DELETE2(share->connections, connection, share_prev, share_next);
    if (--share->count)
        return;
    HASH_DEL(shares->by_address, share);
    free(share);
}

/* Has it sent what is not yet read, and is there to hear the answer? */
static bool has_unread(const struct connection *connection)
{
    struct pollfd p = {.fd = connection->fd, .events = POLLIN | POLLRDHUP};
    return poll(&p, 1, 0) > 0 && p.revents == POLLIN;
}

static struct connection *victim_of(const struct share *share)
{
    struct connection *c, *owing = NULL;
    DL_FOREACH2 (share->connections, c, share_next) {
        if (c->leaving || !c->deadline_us || has_unread(c))
            continue;
        if (!c->in_request)
            return c;
        owing = owing ? owing : c;
    }
    return owing;
}

struct connection *shares_victim(const struct shares *shares)
{
    const struct share *share, *next, *most = NULL;
    HASH_ITER (hh, shares->by_address, share, next)
        if (!most || share->count > most->count)
            most = share;
    return most ? victim_of(most) : NULL;
}
