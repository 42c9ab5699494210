/* Preloaded into the server: fdatasync and fsync fail with EIO while the file
 * that BAD_DISK names is there. */
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static int is_bad(void)
{
    const char *path = getenv("BAD_DISK");
    return path && access(path, F_OK) == 0;
}

#define SYNC(name)                                                \
    int name(int fd)                                              \
    {                                                             \
        int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, #name); \
        if (is_bad()) {                                           \
            errno = EIO;                                          \
            return -1;                                            \
        }                                                         \
        return real(fd);                                          \
    }

SYNC(fsync)
SYNC(fdatasync)
