/* The turn journal: a small memory-mapped file beside the database that names
 * the turns that run, so that after a crash it is known who did it.
 *
 * A fatal signal (SEGV, BUS, FPE, ILL, ABRT) or an exit() in a task's body
 * marks the turn of the thread it struck, and says which it was. A death
 * without a mark (SIGKILL, a power cut) leaves all turns unmarked. The file
 * also carries the boot id, the cgroup that the server may have had to itself
 * and, for each child process, its group and start time, so that survivors of the
 * same boot can be killed before anything is queued again.
 *
 *     journal_open()                what the last process left; a file anew
 *     journal_set_cgroup()          where what is started from here on is born
 *     record = journal_enter()      a turn starts, on the thread that is blamed
 *     journal_child(record, group)  its process is there, and is gone: 0
 *     journal_log(), _log_sent()    what it says, until that is on its way
 *     journal_leave(record)         the turn has ended
 *
 * It follows turns and knows no slots: whoever starts a turn takes a free
 * record, the file grows by a page when none is free, and a record never moves,
 * because signal handlers and vforked children write to it as well. (The file
 * is called FILE-slots all the same: under another name, what a server of
 * before left there would not be found after an upgrade.)
 *
 * Threads: any. A mutex guards the free records, another the growth of the
 * file, under which a page is added. A record's turn is written by who
 * has the record. Writes are plain stores to shared memory: they survive the
 * process, not the machine, and need not (after a power cut nobody is to
 * blame). */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "store/turn.h"

#include <sys/types.h>

struct journal;
struct journal_record;

/* A turn that ran when the last process died. */
struct journal_entry {
    int64_t id;
    int64_t lease;
    int64_t started_at; /* 0: not known */
    int attempt;
    int signal;     /* of a mark: the signal; 0: exit(); -1: not known */
    bool marked;    /* the death was this one's doing */
    bool refused;   /* it was told that it has no turn, and went on */
    struct buf log; /* the end of what it had logged and journal_log_sent() was not told of */
};

struct journal_left {
    struct journal_entry *entries;
    int count;
};
void journal_left_release(struct journal_left *left);

/* Opens (and makes) the journal at `path`; NULL: in memory, nothing is left.
 * What the last process left is read first: survivors of its children are
 * killed (workers/survivors.h) and its cgroup is removed if it is empty, then the
 * turns come back in `*left` (the caller releases it), and the file starts
 * anew with room for `turns`. A damaged or foreign file is logged and counts as
 * empty. ERR_BUSY: another server has it; ERR_IO: with what is left still there. */
MUST_USE enum err journal_open(const char *path, int turns, struct journal **out, struct journal_left *left,
                               struct reason *why);

/* A path of workers/cgroup.h, which is copied. Before the first turn. */
void journal_set_cgroup(struct journal *journal, const char *path);

/* Unmaps; after a clean stop (no turn runs) the file is removed. No thread that
 * entered a turn may run after it, but the calling one. Takes NULL. */
void journal_close(struct journal *journal);

/* For a process that exits past bodies that still run: takes all turns out and
 * removes the file. The records stay mapped, as those threads may write to them. */
void journal_abandon(struct journal *journal);

/* The turn starts, and is the one to blame for what the calling thread does
 * until it ends or the thread enters another. Never fails: with the disk full,
 * or the file (at 64 MiB: a million turns), the record is in plain memory, which
 * is logged once, and only the turn's name is not known after a crash. */
struct journal_record *journal_enter(struct journal *journal, const struct turn *turn);

/* What the calling thread does from now on is nobody's doing: the body of the turn that
 * it entered is in a process of its own. */
void journal_thread_is_free(void);

/* Its claim was refused: what becomes of it is not its invocation's doing. The
 * record is still the turn's. */
void journal_refused(struct journal_record *record);

/* Its process group; 0: it has ended. Async-signal-safe. */
void journal_child(struct journal_record *record, pid_t group);

/* The same of one that was there before the turn: since when, on survivors_clock_ms(). */
void journal_child_since(struct journal_record *record, pid_t group, int64_t since_ms);

/* What a body that runs in the process has logged dies with it, until it is sent
 * to the store: the last bytes of it (a page less a few) are left in the journal.
 * The record has a page for that from its first log on; where there is no room
 * for one, nothing of the log is left. One thread at a time. */
void journal_log(struct journal_record *record, struct span bytes);
void journal_log_sent(struct journal_record *record); /* all of it */

/* The turn has ended: nothing of it is logged or sent after this, and the record
 * is another's. On any thread: the one that entered it is not blamed for it any
 * more, nor for who has the record next. */
void journal_leave(struct journal_record *record);

/* Installs the handlers that mark (alternate stack per thread: each thread that
 * runs bodies calls journal_thread_init once). What was installed before is
 * called after, so that core dumps and sanitizers go on working. A process that
 * a body has forked marks nothing. */
void journal_install_handlers(void);
void journal_thread_init(void);
