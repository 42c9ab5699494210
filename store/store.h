/* What is on disk. All writes are operations that pass through the committer;
 * reads go through readers, one a thread.
 *
 * Calling sequence: store_open, store_recover, store_start; then operations
 * and readers from any thread; store_stop (commits what is queued), readers
 * closed, store_close.
 *
 * The contract is in parts, each to be read alone:
 *
 *     store.h     life: opening, starting, closing
 *     change.h    what a commit did, and who is told
 *     op.h        an operation on its way to disk
 *     submit.h    making invocations
 *     turn.h      running them: claim, finish, log, progress
 *     lease.h     running them elsewhere: renewing, and losing a lease
 *     wait.h      a turn that waits for others' ends
 *     step.h      values that a body has recorded
 *     message.h   what a body sends, and what it is sent
 *     group.h     invocations that were submitted together
 *     hold.h      what is held: promises, and what comes after others
 *     deliveries.h  requests that tell of an end: due, tried, repeated
 *     alter.h     what a client asks of them: cancel, retry, patch, delete
 *     upkeep.h    what time asks: promote, expire, prune, follow up, refill
 *     schedule.h  schedules: when each is due, and what it made
 *     tasks.h     tasks by number, their counts and pauses
 *     recover.h   what was running when the last process died
 *     read.h      reading one invocation
 *     list.h      reading many
 *     loop.h      loops: a task renewed each time it completes
 *     set.h       slots that loops share
 *     kin.h       who descends from whom */
#pragma once

#include "store/alter.h"
#include "store/change.h"
#include "store/group.h"
#include "store/hold.h"
#include "store/deliveries.h"
#include "store/history.h"
#include "store/kin.h"
#include "store/lease.h"
#include "store/list.h"
#include "store/loop.h"
#include "store/message.h"
#include "store/op.h"
#include "store/read.h"
#include "store/recover.h"
#include "store/schedule.h"
#include "store/step.h"
#include "store/submit.h"
#include "store/tasks.h"
#include "store/turn.h"
#include "store/upkeep.h"
#include "store/wait.h"

struct store_options {
    const char *url;    /* a path, or ":memory:" */
    int node;           /* of the ids; 0..1023 */
    int64_t retain_max; /* final invocations kept at most; 0: no limit */
};

/* Opens, takes ownership, migrates. ERR_BUSY: another server has it;
 * ERR_CONFLICT: the database is newer than the program. */
MUST_USE enum err store_open(const struct store_options *options, struct store **out, struct reason *why);

/* Starts the committer's thread. The listener must outlive store_stop. At most
 * two listeners; called in the order in which they were added. */
void store_listen(struct store *store, const struct store_listener *listener);
MUST_USE enum err store_start(struct store *store, struct reason *why);

/* Commits what is queued and ends the thread; later ops are answered with
 * ERR_UNAVAILABLE. */
void store_stop(struct store *store);
void store_close(struct store *store); /* takes NULL */

/* Grows with every commit that changed something a client can see. Read it
 * before the rows: what is read then is at least as new. Odd while a commit is
 * under way: what is read then may be of either side of it, so nothing that was
 * read or compared under an odd version may be shown again. */
uint64_t store_version(const struct store *store);

/* The random id of this run of the store (ETags). */
uint64_t store_boot_id(const struct store *store);

/* Do commits work? False after a failed one, until one succeeds. */
bool store_healthy(const struct store *store);

void store_set_retain_max(struct store *store, int64_t retain_max);
