/* Processes that outlived the server that started them. A command itself dies
 * with the thread that minds it; what it started does not.
 *
 * Threads: any; survivors_kill() blocks, two seconds at most. */
#pragma once

#include "base/buf.h"

#include <sys/types.h>

enum { BOOT_ID_BYTES = 36 };

/* Of one command. */
struct survivor {
    pid_t group;
    int64_t id;       /* they carry ERRAND_ID with this one */
    int64_t since_ms; /* of survivors_clock_ms(): when the group was made */
};

/* Names this start of the machine; false if the kernel does not say. */
bool survivors_boot_id(char boot_id[BOOT_ID_BYTES]);

/* Milliseconds since the machine was started, sleep included: the clock of
 * processes' start times. */
int64_t survivors_clock_ms(void);

/* Kills every process that is not older than one of the groups and carries its
 * ERRAND_ID, or has emptied its environment and is in the group, or carries no
 * ERRAND_ID at all and is in `cgroup` or below it; and waits until they are gone.
 * What is still there after two seconds is logged.
 *
 * `cgroup` is a path of workers/cgroup.h; NULL: what has neither the id nor the
 * group bears no mark and is not found. So it is, too, where the caller itself is
 * in it: who started this server is in it as well. */
void survivors_kill(const struct survivor *wanted, int count, const char *cgroup);
