#include "base/log.h"

#include "base/clock.h"
#include "base/json.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static _Atomic int current_level = LOG_LEVEL_INFO;
static _Atomic int current_format = LOG_FORMAT_TEXT;
static _Atomic(struct log_file *) current_file; /* NULL: stderr_fd it is */

/* Guards the file and the folder. The file, once there, is never closed, because another thread
 * may be in the middle of a line. */
static pthread_mutex_t open_lock = PTHREAD_MUTEX_INITIALIZER;
static struct log_file *file;
static struct log_rotation rotation;
static char *folder; /* NULL: there is none */

/* Before log_open() a line to stderr is waited for. */
static atomic_bool patient = true;
static atomic_bool torn; /* the last line that was written was not written whole */
static _Atomic int64_t lost;
static _Atomic int stderr_fd = STDERR_FILENO; /* or ours, that does not wait; opened once, never closed */

static const char *const level_names[] = {"debug", "info", "warn", "error"};

static void set_folder_locked(const struct log_settings *settings)
{
    free(folder);
    folder = settings->directory ? xstrdup(settings->directory) : NULL;
    rotation = settings->rotation;
}

static enum err open_file_locked(const struct log_settings *settings, struct reason *why)
{
    if (mkdir(settings->directory, 0755) != 0 && errno != EEXIST) {
        reason_set(why, "cannot make the log directory %s: %s", settings->directory, strerror(errno));
        return ERR_IO;
    }
    struct buf path = {0};
    buf_addf(&path, "%s/errand.log", settings->directory);
    enum err err = OK;
    if (file)
        err = log_file_move(file, buf_cstr(&path), &settings->rotation, why);
    else if (!(file = log_file_open(buf_cstr(&path), &settings->rotation, why)))
        err = ERR_IO;
    buf_release(&path);
    return err;
}

/* Is what follows a file, which takes what it is given, or somebody who may not
 * read? Then a line that would have to wait for him is lost, and counted. */
static bool may_block(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && !S_ISREG(st.st_mode);
}

/* The same pipe or terminal, for us alone: whoever shares ours must not find it
 * without waiting. Not possible for a socket, nor for what is another user's. */
static int open_own_stderr(void)
{
    struct stat st;
    if (fstat(STDERR_FILENO, &st) != 0 || (!S_ISFIFO(st.st_mode) && !S_ISCHR(st.st_mode)))
        return STDERR_FILENO;
    int fd = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    return fd >= 0 ? fd : STDERR_FILENO;
}

static void open_stderr_locked(void)
{
    static bool opened;
    if (!opened)
        stderr_fd = open_own_stderr();
    opened = true;
    patient = !may_block(stderr_fd);
}

enum err log_open(const struct log_settings *settings, struct reason *why)
{
    enum err err = OK;
    pthread_mutex_lock(&open_lock);
    if (settings->directory)
        err = open_file_locked(settings, why);
    else
        open_stderr_locked();
    if (err == OK) {
        set_folder_locked(settings);
        current_level = settings->level;
        current_format = settings->format;
        current_file = settings->directory ? file : NULL;
    }
    pthread_mutex_unlock(&open_lock);
    return err;
}

void log_close(void)
{
    pthread_mutex_lock(&open_lock);
    patient = true;
    current_file = NULL;
    current_format = LOG_FORMAT_TEXT;
    current_level = LOG_LEVEL_INFO;
    set_folder_locked(&(struct log_settings){0});
    pthread_mutex_unlock(&open_lock);
}

struct log_file *log_open_beside(const char *name)
{
    struct reason why;
    struct log_file *beside = NULL;
    struct buf path = {0};
    pthread_mutex_lock(&open_lock);
    struct log_rotation as_now = rotation;
    if (folder)
        buf_addf(&path, "%s/%s.log", folder, name);
    pthread_mutex_unlock(&open_lock);
    if (path.len) {
        beside = log_file_open(buf_cstr(&path), &as_now, &why);
        if (!beside)
            log_error("a worker's log cannot be written", LOG_STR("reason", why.text));
    }
    buf_release(&path);
    return beside;
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

/* --- writing ---------------------------------------------------------------------- */

/* What cannot be opened anew is asked whether it takes bytes, which it does for
 * so many as a pipe takes whole. */
static ssize_t write_without_waiting(int fd, struct span bytes)
{
    ssize_t n = send(fd, bytes.p, bytes.len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n >= 0 || errno != ENOTSOCK)
        return n;
    struct pollfd room = {fd, POLLOUT, 0};
    if (poll(&room, 1, 0) <= 0 || !(room.revents & POLLOUT)) {
        errno = EAGAIN;
        return -1;
    }
    return write(fd, bytes.p, bytes.len < PIPE_BUF ? bytes.len : PIPE_BUF);
}

/* How much of it was written. */
static size_t write_all(int fd, struct span line, bool wait)
{
    size_t done = 0;
    while (done < line.len) {
        struct span rest = {line.p + done, line.len - done};
        ssize_t n = wait ? write(fd, rest.p, rest.len) : write_without_waiting(fd, rest);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    return done;
}

static void add_line(struct buf *out, enum log_level level, const char *message, const struct log_field *fields)
{
    if (current_format == LOG_FORMAT_JSON)
        add_json_line(out, level_names[level], message, fields);
    else
        add_text_line(out, level_names[level], message, fields);
}

/* After lines that were lost the next one that is written says so. */
static void write_or_lose(int fd, struct span line)
{
    struct buf notice = {0};
    int64_t missing = atomic_exchange(&lost, 0);
    bool was_torn = atomic_exchange(&torn, false);
    if (was_torn)
        buf_addc(&notice, '\n');
    if (missing)
        add_line(&notice, LOG_LEVEL_WARN, "lines of the log were lost: nobody reads it",
                 (struct log_field[]){LOG_INT("lines", missing), LOG_END_});
    size_t told = write_all(fd, buf_span(&notice), false);
    size_t done = told == notice.len ? write_all(fd, line, false) : 0;
    if (told < notice.len)
        atomic_fetch_add(&lost, missing);
    if (done < line.len)
        atomic_fetch_add(&lost, 1);
    if (told < notice.len ? told || was_torn : done && done < line.len)
        atomic_store(&torn, true);
    buf_release(&notice);
}

/* There is nowhere to report a log that cannot be written. */
void log_write(enum log_level level, const char *message, const struct log_field *fields)
{
    int saved_errno = errno;
    struct buf line = {0};
    add_line(&line, level, message, fields);
    struct log_file *to = current_file;
    int fd = stderr_fd;
    if (to)
        log_file_write(to, buf_span(&line));
    else if (atomic_load(&patient))
        write_all(fd, buf_span(&line), true);
    else
        write_or_lose(fd, buf_span(&line));
    buf_release(&line);
    errno = saved_errno;
}
