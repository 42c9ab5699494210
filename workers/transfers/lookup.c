/* Names on their way to addresses. Curl makes a thread for each transfer that
 * looks up a name, unless it knows it from the last minute; so while one of
 * those that go to a host is at it, the others wait for what it finds. */
#include "workers/transfers/transfer.h"

#include "base/clock.h"

#include <utlist.h>

enum { KNOWN_US = 50 * 1000000 }; /* curl forgets it after 60 s */

/* Held no longer. */
static struct transfer *ready;

static void take_off(struct transfer **list, const struct transfer *transfer)
{
    while (*list && *list != transfer)
        list = &(*list)->next_held;
    if (*list)
        *list = transfer->next_held;
}

static void let_go(struct lookup *lookup)
{
    struct transfer *transfer, *next;
    lookup->by = NULL;
    LL_FOREACH_SAFE2 (lookup->held, transfer, next, next_held)
        LL_PREPEND2(ready, transfer, next_held);
    lookup->held = NULL;
}

bool lookup_begin(struct transfer *transfer)
{
    struct lookup *lookup = transfer->lookup;
    if (lookup->by) {
        LL_PREPEND2(lookup->held, transfer, next_held);
        return false;
    }
    if (!lookup->known_us || clock_mono_us() - lookup->known_us > KNOWN_US)
        lookup->by = transfer;
    return true;
}

void lookup_done(struct transfer *transfer)
{
    struct lookup *lookup = transfer->lookup;
    if (lookup->by != transfer)
        return;
    lookup->known_us = clock_mono_us();
    let_go(lookup);
}

void lookup_leave(struct transfer *transfer)
{
    struct lookup *lookup = transfer->lookup;
    if (lookup->by == transfer)
        let_go(lookup);
    if (transfer->driven)
        return;
    take_off(&lookup->held, transfer);
    take_off(&ready, transfer);
}

struct transfer *lookup_share(struct transfer *transfer)
{
    struct lookup *lookup = transfer->lookup;
    struct transfer *held = lookup->by == transfer ? lookup->held : NULL;
    if (held)
        lookup->held = held->next_held;
    return held;
}

struct transfer *lookup_next(void)
{
    struct transfer *next = ready;
    if (next)
        ready = next->next_held;
    return next;
}
