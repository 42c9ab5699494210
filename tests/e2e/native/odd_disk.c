/* Preloaded into `errand backup`. With NO_LINKS the file system has no hard
 * links. What is synced is listed in the file that SYNCED names. While the file
 * that SYNC_HOLD names is there, a sync waits, and says so in SYNC_HOLD.reached. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int link(const char *from, const char *to)
{
    int (*real)(const char *, const char *) = (int (*)(const char *, const char *))dlsym(RTLD_NEXT, "link");
    if (!getenv("NO_LINKS"))
        return real(from, to);
    errno = EPERM;
    return -1;
}

static void note(int fd)
{
    char name[64], path[4096];
    const char *list = getenv("SYNCED");
    snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(name, path, sizeof(path) - 1);
    if (!list || n <= 0)
        return;
    path[n] = 0;
    FILE *file = fopen(list, "a");
    fprintf(file, "%s\n", path);
    fclose(file);
}

static void wait_for_leave(void)
{
    char path[4096];
    const char *hold = getenv("SYNC_HOLD");
    if (!hold || access(hold, F_OK) != 0)
        return;
    snprintf(path, sizeof(path), "%s.reached", hold);
    close(open(path, O_WRONLY | O_CREAT, 0600));
    while (access(hold, F_OK) == 0)
        usleep(1000);
}

int fsync(int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    note(fd);
    wait_for_leave();
    return real(fd);
}
