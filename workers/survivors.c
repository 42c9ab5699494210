#include "workers/survivors.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "workers/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE_US = 2000 * 1000, ENVIRON_BYTES_MAX = 4 * 1024 * 1024, ROUNDING_MS = 1000 };

struct search {
    const struct survivor *wanted;
    int count;
    const char *cgroup; /* NULL: none is known */
};

bool survivors_boot_id(char boot_id[BOOT_ID_BYTES])
{
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, boot_id, BOOT_ID_BYTES);
    close(fd);
    return n == BOOT_ID_BYTES;
}

/* A child that shares the server's memory calls it. */
__attribute__((no_sanitize("address", "undefined", "thread"))) int64_t survivors_clock_ms(void)
{
    struct timespec now;
    syscall(SYS_clock_gettime, CLOCK_BOOTTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static bool read_file(pid_t pid, const char *name, size_t max, struct buf *out)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    out->len = 0;
    ssize_t n;
    do {
        buf_reserve(out, 4096);
        n = read(fd, out->data + out->len, 4096);
        if (n > 0)
            out->len += (size_t)n;
    } while ((n > 0 && out->len < max) || (n < 0 && errno == EINTR));
    close(fd);
    return n >= 0;
}

/* /proc/PID/stat: the name in the second field may contain anything, so the
 * rest is counted from the last parenthesis. */
static bool read_stat(pid_t pid, struct buf *scratch, pid_t *group, int64_t *since_ms)
{
    if (!read_file(pid, "stat", 4096, scratch))
        return false;
    const char *rest = strrchr(buf_cstr(scratch), ')');
    int pgrp;
    char state;
    unsigned long long ticks;
    if (!rest ||
        sscanf(rest + 1, " %c %*d %d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu", &state,
               &pgrp, &ticks) != 3)
        return false;
    *group = pgrp;
    *since_ms = (int64_t)(ticks * 1000 / (unsigned long long)sysconf(_SC_CLK_TCK));
    return state != 'Z' && state != 'X';
}

/* A variable that begins so, with the NUL if that is to be its end. */
static bool carries(const struct buf *environ, const char *start, size_t n)
{
    const char *at = environ->data;
    const char *end = at + environ->len;
    for (; at < end; at += strlen(at) + 1)
        if (strncmp(at, start, n) == 0)
            return true;
    return false;
}

static bool carries_id(const struct buf *environ, int64_t id)
{
    char var[10 + ID_TEXT_LEN + 1] = "ERRAND_ID=";
    id_format(id, var + 10);
    var[10 + ID_TEXT_LEN] = '\0';
    return carries(environ, var, sizeof var);
}

static bool carries_any_id(const struct buf *environ)
{
    return carries(environ, "ERRAND_ID=", 10);
}

/* The number of a group is anybody's once all of it are gone, and whoever takes
 * it leads the new one. */
static bool leads_itself(pid_t group, struct buf *scratch)
{
    pid_t same;
    int64_t since_ms;
    return read_stat(group, scratch, &same, &since_ms);
}

/* It carries the id, in whatever group or session it is by now; or it has emptied
 * its environment and is in the group still, whose leader died with the server; or
 * it has no id and is in the server's cgroup. There whoever has the id of another
 * is spared: what an invocation left on purpose and has ended. */
static bool is_wanted(pid_t pid, const struct search *search, struct buf *scratch)
{
    pid_t group;
    int64_t since_ms;
    if (!read_stat(pid, scratch, &group, &since_ms) || !read_file(pid, "environ", ENVIRON_BYTES_MAX, scratch))
        return false;
    bool emptied = scratch->len == 0, young = false;
    buf_cstr(scratch);
    bool nameless = emptied || !carries_any_id(scratch);
    for (int i = 0; i < search->count; i++) {
        const struct survivor *wanted = &search->wanted[i];
        if (since_ms < wanted->since_ms - ROUNDING_MS)
            continue;
        young = true;
        if (emptied ? wanted->group == group && !leads_itself(group, scratch) : carries_id(scratch, wanted->id))
            return true;
    }
    return young && nameless && search->cgroup && cgroup_has(search->cgroup, pid);
}

/* Kills it if it is wanted. The descriptor is taken before the questions are
 * asked, so that the answer is about the process that is killed. Returns the
 * descriptor of a process that is dying, or -1. */
static int kill_if_wanted(pid_t pid, const struct search *search, struct buf *scratch)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0)
        return -1;
    if (is_wanted(pid, search, scratch) && syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0) == 0)
        return fd;
    close(fd);
    return -1;
}

/* Waits until it is gone, or until the time is over. */
static bool wait_gone(int fd, int64_t until_us)
{
    struct pollfd gone = {fd, POLLIN, 0};
    int n;
    do {
        int64_t left_us = until_us - clock_mono_us();
        n = poll(&gone, 1, left_us > 0 ? (int)(left_us / 1000) + 1 : 0);
    } while (n < 0 && errno == EINTR);
    return n > 0;
}

/* One walk through /proc. Returns how many it killed; `gone` is false if one of
 * them is still there. */
static int sweep(const struct search *search, int64_t until_us, bool *gone)
{
    DIR *proc = opendir("/proc");
    if (!proc) {
        log_warn("survivors cannot be looked for: there is no /proc");
        return 0;
    }
    struct buf scratch = {0};
    int killed = 0;
    for (struct dirent *entry; (entry = readdir(proc));) {
        char *end;
        long pid = strtol(entry->d_name, &end, 10);
        if (*end || pid <= 1 || pid == getpid())
            continue;
        int fd = kill_if_wanted((pid_t)pid, search, &scratch);
        if (fd < 0)
            continue;
        killed++;
        if (!wait_gone(fd, until_us))
            *gone = false;
        close(fd);
    }
    buf_release(&scratch);
    closedir(proc);
    return killed;
}

void survivors_kill(const struct survivor *wanted, int count, const char *cgroup)
{
    bool inside = cgroup && cgroup_has(cgroup, getpid());
    struct search search = {wanted, count, inside ? NULL : cgroup};
    int64_t until_us = clock_mono_us() + PATIENCE_US;
    int total = 0, killed;
    bool gone;
    /* Again until none is found: one may have started another meanwhile. */
    do {
        gone = true;
        killed = sweep(&search, until_us, &gone);
        total += killed;
    } while (killed > 0 && clock_mono_us() < until_us);

    if (total > 0)
        log_info("killed what the last process left running", LOG_INT("processes", total));
    if (!gone)
        log_warn("some of what the last process left running does not end");
}
