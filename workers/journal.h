/* The slot journal: a small memory-mapped file beside the database that names
 * what each slot is running, so that after a crash it is known who did it.
 *
 * A fatal signal (SEGV, BUS, FPE, ILL, ABRT) or an exit() in a task's body
 * marks the slot of the thread it struck. A death without a mark (SIGKILL, a
 * power cut) leaves all slots unmarked. The file also carries the boot id and,
 * for each child process, its group and start time, so that survivors of the
 * same boot can be killed before anything is queued again.
 *
 * Threads: each slot's record is written by its own thread only. Writes are
 * plain stores to shared memory: they survive the process, not the machine,
 * and need not (after a power cut nobody is to blame). */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "store/turn.h"

#include <sys/types.h>

struct journal;

/* What a slot was running when the last process died. */
struct journal_entry {
    int64_t id;
    int64_t lease; /* of its turn */
    int attempt;
    bool marked; /* the death was this one's doing */
    bool alone;  /* it ran with nothing beside it */
};

/* Opens (and makes) the journal at `path`; NULL: in memory, nothing is left.
 * What the last process left is read first: survivors of its children are
 * killed (the group, and only processes that still carry that ERRAND_ID), then
 * the entries come back in `*left` (the caller frees, may be NULL with count 0)
 * and the file starts anew with `slots` records. A damaged or foreign file is
 * logged and counts as empty. */
MUST_USE enum err journal_open(const char *path, int slots, struct journal **out, struct journal_entry **left,
                               int *left_count, struct reason *why);

/* Unmaps; after a clean stop (no slot taken) the file is removed. Takes NULL. */
void journal_close(struct journal *journal);

/* For a process that exits past bodies that still run: takes all slots out and
 * removes the file. The records stay mapped, as those threads may write to them. */
void journal_abandon(struct journal *journal);

/* The calling thread starts and ends running an invocation in the slot. */
void journal_enter(struct journal *journal, int slot, const struct turn *turn, bool alone);
void journal_child(struct journal *journal, int slot, pid_t group); /* 0: it has ended */
void journal_leave(struct journal *journal, int slot);

/* Installs the handlers that mark (alternate stack per thread: each slot's
 * thread calls journal_thread_init once). What was installed before is called
 * after, so that core dumps and sanitizers go on working. */
void journal_install_handlers(void);
void journal_thread_init(void);
