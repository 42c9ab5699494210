/* Preloaded into the server, it makes the disk slow: fdatasync and fsync of a
 * database or its WAL (*.db, *-wal) first sleep for SLOW_MIN_MS to SLOW_MAX_MS,
 * drawn from SLOW_SEED, then wait until the file that SLOW_HOLD names is gone;
 * a sync that waits for it makes the file SLOW_HOLD.reached. Other files, the
 * marks of tests among them, are as fast as ever, and so are the server's
 * children: they are not preloaded. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int64_t min_ms, max_ms;
static uint64_t seed;
static const char *hold;
static atomic_ullong draws;

static int64_t number_of(const char *name)
{
    const char *text = getenv(name);
    return text ? atoll(text) : 0;
}

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("SLOW_HOLD");
    min_ms = number_of("SLOW_MIN_MS");
    max_ms = number_of("SLOW_MAX_MS");
    seed = (uint64_t)number_of("SLOW_SEED");
    hold = path ? strdup(path) : NULL;
    unsetenv("LD_PRELOAD");
}

/* splitmix64 (Steele, Lea, Flood 2014) */
static uint64_t draw(void)
{
    uint64_t z = seed + (atomic_fetch_add(&draws, 1) + 1) * UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static void sleep_ms(int64_t ms)
{
    struct timespec left = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
}

static int ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static int is_database(int fd)
{
    char link[64], path[4096];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof(path) - 1);
    path[n > 0 ? n : 0] = 0;
    return ends_with(path, "-wal") || ends_with(path, ".db");
}

static void say_that_it_is_held(void)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s.reached", hold);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0)
        close(fd);
}

static void be_slow(int fd)
{
    if (!is_database(fd))
        return;
    if (max_ms > 0)
        sleep_ms(min_ms + (int64_t)(draw() % (uint64_t)(max_ms - min_ms + 1)));
    if (!hold || access(hold, F_OK) != 0)
        return;
    say_that_it_is_held();
    while (access(hold, F_OK) == 0)
        sleep_ms(1);
}

#define SYNC(name)                                                \
    int name(int fd)                                              \
    {                                                             \
        int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, #name); \
        be_slow(fd);                                              \
        return real(fd);                                          \
    }

SYNC(fsync)
SYNC(fdatasync)
