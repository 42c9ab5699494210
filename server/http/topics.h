/* Who waits for which invocation: long polls (until it is final) and followers
 * of logs (at every change).
 *
 * Threads: any. The store's listener reports changes from the committing
 * thread; a request that is found there is taken off and woken under no lock
 * but the table's own. */
#pragma once

#include "store/store.h"

struct request;
struct waits;

struct waits *waits_new(void);
void waits_free(struct waits *waits); /* takes NULL; nobody may be waiting */

/* Puts the request on the list. To miss nothing: add first, then read the row,
 * and take it off again (waits_remove) if it is already as wished. */
void waits_add(struct waits *waits, struct request *rq, int64_t id, bool any_change);

/* Takes it off; true if it was still there (then nobody will wake it). */
bool waits_remove(struct waits *waits, struct request *rq, int64_t id);

/* The listener's: wakes (request_wake_later) those who wait for what changed. */
void waits_changed(struct waits *waits, const struct change *changes, int count);
