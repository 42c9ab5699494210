/* Transfers: HTTP requests that go out. One thread drives all of them with a curl
 * multi handle, however many there are and whosever they are.
 *
 *     transfer.c   what all have in common: sockets, protocols, what came back
 *     driver.c     the thread: sockets, deadlines, stops
 *     lookup.c     one name is looked up by one transfer at a time
 *     post.c       a POST, for those who know nothing of curl
 *
 * Threads: a transfer is its maker's until driver_add(), then the driver's until end(). */
#pragma once

#include "base/deadlines.h"
#include "base/err.h"
#include "workers/transfers/lookup.h"

#include <curl/curl.h>

enum ending { ENDING_ANSWER, ENDING_STOPPED, ENDING_TIMEOUT };

/* What its maker says of it. On the driver's thread. */
struct transfer_class {
    bool (*is_stopped)(const struct transfer *transfer);     /* it is to end early */
    int64_t (*deadline_us)(const struct transfer *transfer); /* clock_mono_us; 0: none */

    /* Is the answer a redirect that is to be followed? Then it is ready to be driven again.
     * NULL: never. */
    bool (*follow)(struct transfer *transfer);

    /* It is over, and its maker's again. */
    void (*end)(struct transfer *transfer, enum ending ending, CURLcode code);
};

struct transfer {
    struct deadline deadline; /* first: found by it */
    const struct transfer_class *class;
    struct lookup *lookup; /* outlives it */
    CURL *easy;
    int socket_error; /* errno of a socket that could not be made; 0: none */
    char why[CURL_ERROR_SIZE];

    bool driven;                   /* curl has it */
    struct transfer *prev, *next;  /* of the driver's */
    struct transfer *next_arrived; /* on the way to it */
    struct transfer *next_held;    /* of a lookup */
};

/* --- transfer.c */

/* All zeros before. Options that all share are set; URL, body and headers are the maker's to
 * set. False: there is no memory for one. */
bool transfer_init(struct transfer *transfer, const struct transfer_class *class, struct lookup *lookup);
void transfer_release(struct transfer *transfer);

/* Whose certificates are trusted (NULL: those of the system), and the proxy (NULL: none). */
void transfer_set_route(struct transfer *transfer, const char *ca, const char *proxy);

/* What the answer was; 0: there was none. */
long transfer_status(const struct transfer *transfer);

/* Of the answer; NULL: it has none. Curl's. */
const char *transfer_header(const struct transfer *transfer, const char *name);

/* How long Retry-After asks to wait, a day at most; 0: it does not say. */
int64_t transfer_retry_after_ms(const struct transfer *transfer);

/* errno of what kept it from being sent, where that is known; 0: it is not. */
int transfer_errno(const struct transfer *transfer, CURLcode code);

/* --- driver.c */

/* It is driven to its end. False: there is no thread for it, with the reason, and it stays
 * the caller's. */
bool driver_add(struct transfer *transfer, struct reason *why);

/* Some transfer is to be looked at: is it stopped, has it another deadline?
 * Async-signal-safe. */
void driver_look(void);

/* Ends the thread, when nothing is driven any more. */
void driver_end(void);

/* --- lookup.c */

/* May it be driven now? Else it is held until lookup_next() gives it back. */
bool lookup_begin(struct transfer *transfer);

/* Its connection is on its way, in one of curl's callbacks. */
void lookup_done(struct transfer *transfer);

/* It has ended: those that waited for it go on. */
void lookup_leave(struct transfer *transfer);

/* One that waits for it, and does no longer; NULL: there is none. */
struct transfer *lookup_share(struct transfer *transfer);

/* One of those that may go on; NULL: there is none. */
struct transfer *lookup_next(void);
