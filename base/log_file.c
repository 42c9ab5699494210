#include "base/log_file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct log_file {
    pthread_mutex_t lock; /* guards what follows */
    char *path;
    struct log_rotation rotation;
    int fd;
    int64_t bytes;
};

static int open_for_log(const char *path, int64_t *bytes)
{
    struct stat st;
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
    if (fd >= 0 && fd <= STDERR_FILENO) { /* a process without those would print into it */
        int above = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
        close(fd);
        fd = above;
    }
    *bytes = fd >= 0 && fstat(fd, &st) == 0 ? st.st_size : 0;
    return fd;
}

static void say_why(struct reason *why, const char *path)
{
    reason_set(why, "cannot open the log file %s: %s", path, strerrordesc_np(errno));
}

struct log_file *log_file_open(const char *path, const struct log_rotation *rotation, struct reason *why)
{
    int64_t bytes;
    int fd = open_for_log(path, &bytes);
    if (fd < 0) {
        say_why(why, path);
        return NULL;
    }
    struct log_file *file = xcalloc(1, sizeof *file);
    *file = (struct log_file){.path = xstrdup(path), .rotation = *rotation, .fd = fd, .bytes = bytes};
    pthread_mutex_init(&file->lock, NULL);
    return file;
}

void log_file_close(struct log_file *file)
{
    if (!file)
        return;
    close(file->fd);
    pthread_mutex_destroy(&file->lock);
    free(file->path);
    free(file);
}

static bool begin_anew_locked(struct log_file *file, const char *path)
{
    int64_t bytes;
    int fd = open_for_log(path, &bytes);
    if (fd < 0)
        return false;
    close(file->fd);
    file->fd = fd;
    file->bytes = bytes;
    return true;
}

enum err log_file_move(struct log_file *file, const char *path, const struct log_rotation *rotation,
                       struct reason *why)
{
    pthread_mutex_lock(&file->lock);
    bool begun = begin_anew_locked(file, path);
    if (begun) {
        free(file->path);
        file->path = xstrdup(path);
        file->rotation = *rotation;
    } else {
        say_why(why, path);
    }
    pthread_mutex_unlock(&file->lock);
    return begun ? OK : ERR_IO;
}

static void add_numbered(struct buf *path, const char *base, int number)
{
    path->len = 0;
    buf_adds(path, base);
    if (number)
        buf_addf(path, ".%d", number);
    buf_cstr(path);
}

/* NAME.4 to NAME.5, ... NAME to NAME.1. False: NAME is still there. */
static bool put_away(const char *path, int keep)
{
    struct buf from = {0}, to = {0};
    bool away = true;
    for (int i = keep - 1; i >= 0; i--) {
        add_numbered(&from, path, i);
        add_numbered(&to, path, i + 1);
        away = rename(from.data, to.data) == 0 || errno == ENOENT;
    }
    if (!keep)
        away = unlink(path) == 0 || errno == ENOENT;
    buf_release(&from);
    buf_release(&to);
    return away;
}

/* What cannot be put away grows on, and is tried again when it has grown as much. */
static void rotate_locked(struct log_file *file)
{
    if (!put_away(file->path, file->rotation.keep) || !begin_anew_locked(file, file->path))
        file->bytes = 0;
}

void log_file_write(struct log_file *file, struct span bytes)
{
    pthread_mutex_lock(&file->lock);
    int64_t max = file->rotation.max_bytes;
    if (max && file->bytes && file->bytes + (int64_t)bytes.len > max)
        rotate_locked(file);
    while (bytes.len) {
        ssize_t n = write(file->fd, bytes.p, bytes.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        file->bytes += n;
        bytes.p += n;
        bytes.len -= (size_t)n;
    }
    pthread_mutex_unlock(&file->lock);
}
