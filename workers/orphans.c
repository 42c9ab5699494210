#include "workers/orphans.h"

#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAUSE_MS = 1000, SEEN_MAX = 4096 };

struct orphans {
    bool (*is_minded)(void *context, pid_t pid);
    void *context;
    int signal_fd, end_fd;
    pthread_t thread;
    bool started;
    pid_t *seen; /* by the last sweep, and left alone */
    int seen_count;
};

static bool any_zombie(void)
{
    siginfo_t info = {0};
    return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0;
}

/* A zombie that is ours and in another group? The name in the second field may
 * contain anything, so the rest is counted from the last parenthesis. */
static bool is_left_to_us(pid_t pid)
{
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    const char *rest = strrchr(text, ')');
    int parent, group;
    char state;
    return rest && sscanf(rest + 1, " %c %d %d", &state, &parent, &group) == 3 && state == 'Z' &&
           parent == getpid() && group != getpgrp();
}

static bool was_seen(const struct orphans *orphans, pid_t pid)
{
    for (int i = 0; i < orphans->seen_count; i++)
        if (orphans->seen[i] == pid)
            return true;
    return false;
}

/* Reaps those that were there the last time; true: look again. */
static bool sweep(struct orphans *orphans)
{
    DIR *proc = any_zombie() ? opendir("/proc") : NULL;
    pid_t *seen = xcalloc(SEEN_MAX, sizeof *seen);
    int count = 0;
    for (struct dirent *entry; proc && (entry = readdir(proc));) {
        pid_t pid = (pid_t)atoi(entry->d_name);
        if (pid <= 1 || !is_left_to_us(pid) || orphans->is_minded(orphans->context, pid))
            continue;
        if (was_seen(orphans, pid))
            waitpid(pid, NULL, WNOHANG);
        else if (count < SEEN_MAX)
            seen[count++] = pid;
    }
    if (proc)
        closedir(proc);
    free(orphans->seen);
    orphans->seen = seen;
    orphans->seen_count = count;
    return count > 0;
}

/* True: it is time to end. */
static bool pause_between_sweeps(struct orphans *orphans)
{
    struct pollfd end = {orphans->end_fd, POLLIN, 0};
    return poll(&end, 1, PAUSE_MS) > 0;
}

static void *orphans_main(void *arg)
{
    struct orphans *orphans = arg;
    struct signalfd_siginfo info;
    for (;;) {
        struct pollfd fds[] = {{orphans->signal_fd, POLLIN, 0}, {orphans->end_fd, POLLIN, 0}};
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            log_error("poll", LOG_STR("error", strerror(errno)));
        while (read(orphans->signal_fd, &info, sizeof info) > 0) {
        }
        do
            if (pause_between_sweeps(orphans))
                return NULL;
        while (sweep(orphans));
    }
}

enum err orphans_open(bool (*is_minded)(void *context, pid_t pid), void *context, struct orphans **out,
                      struct reason *why)
{
    struct orphans *orphans = xcalloc(1, sizeof *orphans);
    sigset_t ended;
    sigemptyset(&ended);
    sigaddset(&ended, SIGCHLD);
    orphans->is_minded = is_minded;
    orphans->context = context;
    orphans->signal_fd = signalfd(-1, &ended, SFD_CLOEXEC | SFD_NONBLOCK);
    orphans->end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int code = orphans->signal_fd < 0 || orphans->end_fd < 0
                   ? errno
                   : pthread_create(&orphans->thread, NULL, orphans_main, orphans);
    orphans->started = code == 0;
    if (code != 0) {
        reason_set(why, "no thread for what others leave: %s", strerror(code));
        orphans_close(orphans);
        return ERR_IO;
    }
    pthread_setname_np(orphans->thread, "orphans");
    *out = orphans;
    return OK;
}

void orphans_close(struct orphans *orphans)
{
    if (!orphans)
        return;
    uint64_t one = 1;
    if (orphans->started && write(orphans->end_fd, &one, sizeof one) == sizeof one)
        pthread_join(orphans->thread, NULL);
    if (orphans->signal_fd >= 0)
        close(orphans->signal_fd);
    if (orphans->end_fd >= 0)
        close(orphans->end_fd);
    free(orphans->seen);
    free(orphans);
}
