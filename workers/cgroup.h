/* A cgroup (version 2) of the server's own. What the server starts is born in it
 * and stays in it, whatever becomes of its environment and its session: by that
 * the next server knows what this one left (workers/survivors.h). It limits
 * nothing.
 *
 *     cgroup = cgroup_enter()       before anything is run
 *     cgroup_path(cgroup)           what the turn journal keeps
 *     cgroup_leave(cgroup)          at a clean stop
 *
 * A path here is a cgroup's, as /proc/PID/cgroup has it: ".../errand-PID-RANDOM".
 *
 * Threads: any; all of the process move, whenever they started. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

enum { CGROUP_PATH_BYTES = 1024 }; /* with the NUL */

struct cgroup;

/* Makes a cgroup below the one that the process is in, and moves it there. NULL
 * where none is to be had, or systemd started this process, which ends all of a
 * service by itself: the log says why, at debug. What servers that are gone have
 * left beside it goes, if it is empty. */
struct cgroup *cgroup_enter(void);
const char *cgroup_path(const struct cgroup *cgroup); /* as long as it is not left */

/* Moves the process back and removes the cgroup, unless something is in it
 * still. Frees; takes NULL. */
void cgroup_leave(struct cgroup *cgroup);

/* --- of an earlier process ----------------------------------------------------------- */

/* Is it a path that cgroup_path() may have said, NUL within CGROUP_PATH_BYTES? */
bool cgroup_is_path(const char *bytes);

/* Is the process in that cgroup, or in one below it? */
bool cgroup_has(const char *path, pid_t pid);

/* Removes it, unless something is in it still. */
void cgroup_remove(const char *path);
