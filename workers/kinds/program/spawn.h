/* Starting a child process: a vfork-like clone, so that the cost does not grow
 * with the server's memory.
 *
 * posix_spawn() cannot do it: the child is to die with the thread that started
 * it (PR_SET_PDEATHSIG; the thread minds the child until it has ended), and to be
 * written into the turn journal before it can have children of its own.
 *
 * Threads: any that outlives the child, as the child dies with it: threads that
 * bodies run on end when they are idle. Blocks until the child runs its program. */
#pragma once

#include "base/buf.h"
#include "workers/journal.h"

#include <sys/types.h>

enum { SPAWN_DESCRIPTOR = 3 };

struct spawn {
    const char *path; /* of the program; relative ones start at cwd */
    char **argv;
    char **envp;
    const char *cwd;               /* NULL: where the server is */
    int stdio[3];                  /* become the child's 0, 1 and 2; each above 2 */
    int descriptor;                /* becomes its SPAWN_DESCRIPTOR, if it is not 0; above that number */
    struct journal_record *record; /* of its turn; NULL: none */

    /* out */
    pid_t pid;          /* leader of a process group of its own */
    int pidfd;          /* close-on-exec, the caller's */
    const char *failed; /* what failed: "start the program", ... */
};

/* Starts it: a new process group, default signals, nothing blocked, no
 * other descriptors, dead when the calling thread is. Returns 0, or the errno
 * of what failed, with `failed` set and no child left. */
int spawn_start(struct spawn *spawn);

/* A pipe, closed on exec, each end above 2. False with errno and what was made closed. */
bool spawn_pipe(int *reads, int *writes);

/* The same descriptor with another number, at least that one; -1 with errno. */
int spawn_move_up(int fd, int least);

/* Finds the program as execvp() does, along `search` (a PATH, NULL: the usual
 * one) from the folder `cwd`, and appends its path. Returns 0, ENOENT, EACCES or
 * ENOMEM. */
int spawn_find(const char *program, const char *search, const char *cwd, struct buf *path);
