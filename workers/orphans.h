/* Processes that others left to this one: what a command started in a session of
 * its own is reparented to the init of its container, or to a subreaper, and if
 * that is us nobody else waits for it.
 *
 * A child of a native body is not told from them by the kernel. So a zombie is
 * reaped only if it is in another process group than ours, has been one for a
 * second, and nobody minds it.
 *
 * Threads: one inside, which sleeps until a child ends. SIGCHLD is blocked in all. */
#pragma once

#include "base/buf.h"
#include "base/err.h"

#include <sys/types.h>

struct orphans;

/* `is_minded` says whether somebody waits for that process; called on the
 * thread inside. */
MUST_USE enum err orphans_open(bool (*is_minded)(void *context, pid_t pid), void *context, struct orphans **out,
                               struct reason *why);
void orphans_close(struct orphans *orphans); /* takes NULL */
