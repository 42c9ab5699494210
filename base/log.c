#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* dup3 */
#endif
#include "base/log.h"

#include "base/clock.h"
#include "base/json.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

static _Atomic int current_level = LOG_LEVEL_INFO;
static _Atomic int current_format = LOG_FORMAT_TEXT;
static _Atomic int current_fd = STDERR_FILENO;

/* Guards file_fd. The descriptor, once there, is never closed: another file is
 * put in its place, so that a thread in the middle of a line writes to the old
 * file or to the new one and never to somebody else's. */
static pthread_mutex_t open_lock = PTHREAD_MUTEX_INITIALIZER;
static int file_fd = -1;

static const char *const level_names[] = {"debug", "info", "warn", "error"};

/* Takes `fd`. */
static void point_file_at_locked(int fd)
{
    if (file_fd < 0) {
        file_fd = fd;
        return;
    }
    dup3(fd, file_fd, O_CLOEXEC);
    close(fd);
}

static enum err open_file(const char *directory, int *fd, struct reason *why)
{
    if (mkdir(directory, 0755) != 0 && errno != EEXIST) {
        reason_set(why, "cannot make the log directory %s: %s", directory, strerror(errno));
        return ERR_IO;
    }
    struct buf path = {0};
    buf_addf(&path, "%s/errand.log", directory);
    *fd = open(buf_cstr(&path), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
    enum err err = OK;
    if (*fd < 0) {
        reason_set(why, "cannot open the log file %s: %s", path.data, strerror(errno));
        err = ERR_IO;
    }
    buf_release(&path);
    return err;
}

enum err log_open(enum log_level level, enum log_format format, const char *directory, struct reason *why)
{
    int fd = STDERR_FILENO;
    if (directory) {
        enum err err = open_file(directory, &fd, why);
        if (err)
            return err;
        pthread_mutex_lock(&open_lock);
        point_file_at_locked(fd);
        fd = file_fd;
        pthread_mutex_unlock(&open_lock);
    }
    current_level = level;
    current_format = format;
    current_fd = fd;
    return OK;
}

void log_close(void)
{
    current_fd = STDERR_FILENO;
    current_format = LOG_FORMAT_TEXT;
    current_level = LOG_LEVEL_INFO;
    pthread_mutex_lock(&open_lock);
    if (file_fd >= 0)
        dup3(STDERR_FILENO, file_fd, O_CLOEXEC);
    pthread_mutex_unlock(&open_lock);
}

bool log_enabled(enum log_level level)
{
    return (int)level >= atomic_load_explicit(&current_level, memory_order_relaxed);
}

static bool is_bare_word(struct span text)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.p[i];
        if (c <= ' ' || c == '"' || c == '=' || c == '\\' || c == 0x7F)
            return false;
    }
    return text.len > 0 && utf8_valid(text);
}

static void add_text_value(struct buf *line, struct span text)
{
    if (is_bare_word(text))
        buf_add_span(line, text);
    else
        json_add_lossy(line, text);
}

static void add_text_line(struct buf *line, const char *level, const char *message, const struct log_field *fields)
{
    buf_addl(line, "time=");
    time_add(line, clock_now_ms());
    buf_addl(line, " level=");
    buf_adds(line, level);
    buf_addl(line, " msg=");
    add_text_value(line, span_of(message));
    for (const struct log_field *field = fields; field && field->name; field++) {
        buf_addc(line, ' ');
        buf_adds(line, field->name);
        buf_addc(line, '=');
        if (field->text)
            add_text_value(line, (struct span){field->text, field->text_len});
        else
            buf_add_int(line, field->number);
    }
    buf_addc(line, '\n');
}

static void add_json_line(struct buf *line, const char *level, const char *message, const struct log_field *fields)
{
    buf_addl(line, "{\"time\":\"");
    time_add(line, clock_now_ms());
    buf_addl(line, "\",\"level\":\"");
    buf_adds(line, level);
    buf_addl(line, "\",\"msg\":");
    json_add_lossy(line, span_of(message));
    for (const struct log_field *field = fields; field && field->name; field++) {
        buf_addc(line, ',');
        json_add_lossy(line, span_of(field->name));
        buf_addc(line, ':');
        if (field->text)
            json_add_lossy(line, (struct span){field->text, field->text_len});
        else
            buf_add_int(line, field->number);
    }
    buf_addl(line, "}\n");
}

/* There is nowhere to report a log that cannot be written. */
static void write_all(int fd, struct span line)
{
    while (line.len > 0) {
        ssize_t n = write(fd, line.p, line.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return;
        line.p += n;
        line.len -= (size_t)n;
    }
}

void log_write(enum log_level level, const char *message, const struct log_field *fields)
{
    int saved_errno = errno;
    struct buf line = {0};
    if (current_format == LOG_FORMAT_JSON)
        add_json_line(&line, level_names[level], message, fields);
    else
        add_text_line(&line, level_names[level], message, fields);
    write_all(current_fd, buf_span(&line));
    buf_release(&line);
    errno = saved_errno;
}
