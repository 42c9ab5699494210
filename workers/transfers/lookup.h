/* The name of a host, on its way to an address: one for all transfers that go there.
 *
 * Threads: the driver's alone (transfer.h), from the first of them to the last. All
 * zeros at first. */
#pragma once

#include <stdint.h>

struct transfer;

struct lookup {
    struct transfer *by;   /* who is at it; NULL: nobody */
    struct transfer *held; /* who waits for that */
    int64_t known_us;      /* when it was last known */
};
