/* What a configuration says of callbacks: to whom, how, how often. The list of hosts is the
 * policy: what is not on it is never asked for anything, and a name on it may resolve to whatever
 * its owner likes.
 *
 * Threads: immutable once read. */
#pragma once

#include "base/keys.h"

struct policy {
    char **hosts;         /* NULL-terminated, never NULL (hosts.h); empty: no callbacks */
    struct buf secret;    /* bytes; empty only if there are no hosts */
    int64_t timeout_ms;   /* of a try */
    int in_flight;        /* tries at once, */
    int per_host;         /* and of them, to one host and port */
    int64_t rest_ms;      /* at most, of a host that does not answer */
    char **delay_texts;   /* between tries; */
    int64_t *delays_ms;   /* as many as those: */
    int delay_count;      /* one try more than that is made */
    int64_t result_bytes; /* a longer result is left out */
    char *ca;             /* NULL: the system's */
    char *proxy;          /* NULL: none */
};

extern const struct key policy_keys[];

/* Reads what stands under `callbacks` (NULL: nothing does), with every fault. */
void policy_read(const struct keys_input *in, const cJSON *item, struct policy *out);
void policy_release(struct policy *policy);

/* May this URL be called back? Appends its place, "HOST:PORT", which may be NULL. False with the
 * reason. */
bool policy_allows(const struct policy *policy, const char *url, struct buf *place, struct reason *why);
