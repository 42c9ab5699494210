/* URLs that clients give, taken apart by the same hand that sends to them (curl's): what is
 * checked is what is asked.
 *
 * Threads: no shared state. Pure. */
#pragma once

#include "base/buf.h"
#include "base/err.h"

enum { DESTINATION_MAX = 2000 /* bytes */ };

struct destination {
    bool https;
    int port;
    char *host; /* lower case; an IPv6 address in brackets */
};

/* Is it an absolute http or https URL, without a user, a password, a fragment, white space or what is no
 * ASCII? False with the reason. */
bool destination_parse(const char *url, struct destination *out, struct reason *why);
void destination_release(struct destination *destination);

/* Appends "HOST:PORT". */
void destination_add_place(struct buf *out, const struct destination *destination);
