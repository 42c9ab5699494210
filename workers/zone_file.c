#include "workers/zone_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const char folder[] = "/usr/share/zoneinfo";

/* A pipe or a device would not end. */
static int open_regular(const char *path)
{
    struct stat is;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || (fstat(fd, &is) == 0 && S_ISREG(is.st_mode)))
        return fd;
    close(fd);
    errno = ENOENT;
    return -1;
}

/* The whole file, or one byte more than a zone may have; false with errno set. */
static bool read_file(const char *path, struct buf *out)
{
    ssize_t n = 1;
    int fd = open_regular(path);
    if (fd < 0)
        return false;
    buf_reserve(out, ZONE_FILE_MAX + 1);
    while (n > 0 && out->len <= ZONE_FILE_MAX) {
        n = read(fd, out->data + out->len, ZONE_FILE_MAX + 1 - out->len);
        if (n < 0 && errno == EINTR)
            n = 1;
        else if (n > 0)
            out->len += (size_t)n;
    }
    int error = errno;
    close(fd);
    errno = error;
    return n >= 0;
}

static enum err open_file(struct span name, struct zone **out, struct reason *why)
{
    struct buf path = {0}, file = {0};
    const char *other = getenv("TZDIR");
    buf_addf(&path, "%s/%.*s", other && *other ? other : folder, (int)name.len, name.p);
    enum err err = ERR_INVALID;
    struct reason fault;
    if (!read_file(buf_cstr(&path), &file))
        reason_set(why,
                   errno == ENOENT || errno == ENOTDIR ? "there is no time zone `%.*s`: %s: %s"
                                                       : "the time zone `%.*s` cannot be read: %s: %s",
                   (int)name.len, name.p, path.data, strerror(errno));
    else if ((err = zone_read(buf_span(&file), out, &fault)) != OK)
        reason_set(why, "%s is not a time zone's file: %s", path.data, fault.text);
    buf_release(&path);
    buf_release(&file);
    return err;
}

enum err zone_open(struct span name, struct zone **out, struct reason *why)
{
    *out = NULL;
    if (span_is(name, "UTC")) {
        *out = zone_utc();
        return OK;
    }
    if (zone_name_is_good(name))
        return open_file(name, out, why);
    reason_set(why, "must be the name of a time zone, such as Europe/Berlin");
    return ERR_INVALID;
}
