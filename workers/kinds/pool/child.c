/* One child: its start, its end, and what room it has.
 *
 * A child is asked to end (`close`), then told (SIGTERM), then made to (SIGKILL), each
 * a grace after the last. It has ended when its process has; what its pipes and its socket
 * hold by then is read first, and what is left of its group is killed. */
#include "workers/kinds/pool/internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utlist.h>

enum { WELL_AFTER_MS = 10000, MEMORY_EVERY_MS = 500 };

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void child_set_state(struct child *child, enum child_state state)
{
    post_lock();
    child->state = state;
    post_unlock();
}

/* --- starting ----------------------------------------------------------------------------- */

static int free_number(const struct pool *pool)
{
    int number = 1;
    while (minder_has_child(pool->name, number))
        number++;
    return number;
}

/* The child's ends come back in `ends`: its socket, stdout, stderr. */
static bool open_ends(struct child *child, int ends[3])
{
    struct watch *watches = child->watches;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return false;
    watches[WATCH_SOCKET].fd = spawn_move_up(pair[0], 3);
    ends[0] = spawn_move_up(pair[1], SPAWN_DESCRIPTOR + 1);
    return watches[WATCH_SOCKET].fd >= 0 && ends[0] >= 0 && spawn_pipe(&watches[WATCH_OUT].fd, &ends[1]) &&
           spawn_pipe(&watches[WATCH_ERR].fd, &ends[2]) &&
           fcntl(watches[WATCH_OUT].fd, F_SETFL, O_NONBLOCK) == 0 &&
           fcntl(watches[WATCH_ERR].fd, F_SETFL, O_NONBLOCK) == 0;
}

/* 0 or an errno, with what failed. */
static int spawn_it(struct child *child, const int ends[3], const char **failed)
{
    const struct program *program = &child->pool->is->program;
    char fd[32], protocol[32], worker[CHILD_NAME_MAX + 16];
    snprintf(fd, sizeof fd, "ERRAND_FD=%d", SPAWN_DESCRIPTOR);
    snprintf(protocol, sizeof protocol, "ERRAND_PROTOCOL=%d", PROTOCOL_VERSION);
    snprintf(worker, sizeof worker, "ERRAND_WORKER=%s", child->name);
    char **vars = program_environment(program, (char *[]){fd, protocol, worker, NULL});
    struct buf path = {0};
    *failed = "start the program";
    int error = spawn_find(program->run[0], program_variable(vars, "PATH"), program->cwd, &path);
    if (!error) {
        struct spawn spawn = {
            .path = buf_cstr(&path),
            .argv = program->run,
            .envp = vars,
            .cwd = program->cwd,
            .stdio = {minder_null(), ends[1], ends[2]},
            .descriptor = ends[0],
        };
        error = spawn.stdio[0] < 0 ? errno : spawn_start(&spawn);
        *failed = spawn.failed;
        child->pid = spawn.pid;
        child->watches[WATCH_PROCESS].fd = error ? -1 : spawn.pidfd;
    }
    buf_release(&path);
    free(vars);
    return error;
}

static int start_process(struct child *child, const char **failed)
{
    int ends[3] = {-1, -1, -1};
    *failed = "make its socket and pipes";
    int error = open_ends(child, ends) ? spawn_it(child, ends, failed) : errno;
    for (int i = 0; i < 3; i++)
        close_fd(&ends[i]);
    return error;
}

static bool watch_all(struct child *child)
{
    for (int what = WATCH_SOCKET; what <= WATCH_PROCESS; what++)
        if (!minder_watch(&child->watches[what], EPOLLIN))
            return false;
    child->watched = EPOLLIN;
    return true;
}

static void say_hello(struct child *child)
{
    struct buf line = {0};
    buf_addf(&line,
             "{\"type\":\"hello\",\"protocol\":%d,\"worker\":\"%s\",\"capacity\":%d,\"limits\":{\"line\":%d}}",
             PROTOCOL_VERSION, child->name, child->pool->is->capacity, LINE_BYTES_MAX);
    child_say(child, &line);
}

bool child_start(struct pool *pool, int64_t now_us)
{
    struct child *child = xcalloc(1, sizeof *child);
    const char *failed;
    child->pool = pool;
    child->number = free_number(pool);
    snprintf(child->name, sizeof child->name, "%s-%d", pool->name, child->number);
    for (int what = 0; what < WATCHES; what++)
        child->watches[what] = (struct watch){(enum watched)what, child, -1};
    int64_t since_ms = clock_boot_ms();
    int error = start_process(child, &failed);
    if (error) {
        log_error("a worker cannot be started", LOG_STR("worker", child->name),
                  LOG_STR("program", pool->is->program.run[0]), LOG_STR("failed", failed),
                  LOG_STR("error", strerrordesc_np(error)));
        child_free(child);
        return false;
    }
    child->log = log_open_beside(child->name);
    child->started_at = clock_now_ms();
    child->since_ms = since_ms;
    child->due_us = now_us + pool->is->start_timeout_ms * 1000;
    child->reads = true;
    minder_look_at(child->due_us);
    post_lock();
    DL_APPEND(pool->children, child);
    post_unlock();
    int left_out;
    if (pool_may_log(pool, &left_out))
        log_info("a worker starts", LOG_STR("worker", child->name), LOG_INT("pid", child->pid),
                 LOG_INT("left_out", left_out));
    child_note(child, "started");
    if (!watch_all(child))
        child_break(child, "it cannot be watched: %s", strerrordesc_np(errno));
    say_hello(child);
    return true;
}

void child_free(struct child *child)
{
    for (int what = 0; what < WATCHES; what++)
        close_fd(&child->watches[what].fd);
    log_file_close(child->log);
    lines_release(&child->in);
    buf_release(&child->out);
    buf_release(&child->printed);
    free(child);
}

/* --- ending --------------------------------------------------------------------------------- */

void child_kill(struct child *child, int signal)
{
    if (child->pid <= 0)
        return;
    kill(-child->pid, signal);
    kill(child->pid, signal); /* which may be in another group by now */
}

static void make_it_end(struct child *child)
{
    child->stage = 2;
    child->due_us = 0;
    child_set_state(child, CHILD_DYING);
    child_kill(child, SIGKILL);
}

void child_break(struct child *child, const char *format, ...)
{
    va_list args;
    if (child->why.text[0])
        return;
    va_start(args, format);
    vsnprintf(child->why.text, sizeof child->why.text, format, args);
    va_end(args);
    child->reads = false;
    int left_out;
    if (pool_may_log(child->pool, &left_out))
        log_error("a worker is killed", LOG_STR("worker", child->name), LOG_STR("reason", child->why.text),
                  LOG_INT("left_out", left_out));
    child_note(child, child->why.text);
    make_it_end(child);
}

static void close_if_empty(struct child *child)
{
    struct buf line = {0};
    if (child->state != CHILD_RETIRING || child->body_count)
        return;
    child_set_state(child, CHILD_CLOSING);
    child->stage = 0;
    child->due_us = clock_mono_us() + child->pool->grace_ms * 1000;
    minder_look_at(child->due_us);
    buf_addl(&line, "{\"type\":\"close\"}");
    child_say(child, &line);
}

/* One that has not said that it is ready knows of no `close`. */
void child_retire(struct child *child)
{
    if (child->state == CHILD_STARTING) {
        child_set_state(child, CHILD_CLOSING);
        child->stage = 1;
        child->due_us = clock_mono_us() + child->pool->grace_ms * 1000;
        minder_look_at(child->due_us);
        child_kill(child, SIGTERM);
    } else if (child->state == CHILD_READY) {
        child_set_state(child, CHILD_RETIRING);
        close_if_empty(child);
    }
}

static void say_how(struct child *child, int status, struct buf *message, struct buf *detail)
{
    buf_addf(message, "its worker %s", child->name);
    if (child->why.text[0])
        buf_addf(message, " was killed: %s", child->why.text);
    else if (status == -1)
        buf_addl(message, " has ended, nobody knows how");
    else if (WIFSIGNALED(status))
        buf_addf(message, " was ended by signal %d (%s)", WTERMSIG(status),
                 sigdescr_np(WTERMSIG(status)) ? sigdescr_np(WTERMSIG(status)) : "unknown");
    else
        buf_addf(message, " exited with code %d", WEXITSTATUS(status));
    if (status != -1 && WIFSIGNALED(status))
        buf_addf(detail, "\"signal\":%d", WTERMSIG(status));
    else if (status != -1)
        buf_addf(detail, "\"exit_code\":%d", WEXITSTATUS(status));
}

/* Who dies alone pays. Who waits is no suspect, nor is anybody if it is known who was. Where
 * all of them wait nobody is known to have done it: each runs alone next, and pays then. */
static void lose_bodies(struct child *child, struct span message, struct span detail)
{
    struct body *body, *next;
    int running = child_running(child);
    bool is_known = child->is_blamed_on_one && !child->why.text[0];
    DL_FOREACH_SAFE (child->bodies, body, next) {
        bool runs = !body->over && atomic_load(&body->attempt->waits) == WAITS_NOT;
        bool pays = !is_known && (running ? runs && running == 1 : body->alone);
        bool is_suspect = !is_known && !pays && (runs || !running);
        if (is_suspect)
            suspects_add(body->id);
        body_lost(body, pays, message, detail);
    }
}

static void log_end(const struct child *child, int status, struct span how, bool of_use)
{
    bool expected = child->state == CHILD_CLOSING || (of_use && status == 0 && !child->body_count);
    int left_out;
    if (!pool_may_log(child->pool, &left_out))
        return;
    if (expected)
        log_info("a worker has ended", LOG_STR("worker", child->name), LOG_INT("pid", child->pid),
                 LOG_SPAN("how", how), LOG_INT("left_out", left_out));
    else
        log_warn("a worker has ended", LOG_STR("worker", child->name), LOG_INT("pid", child->pid),
                 LOG_SPAN("how", how), LOG_INT("runs", child->body_count), LOG_INT("left_out", left_out));
}

static void ended(struct child *child)
{
    struct pool *pool = child->pool;
    struct buf message = {0}, detail = {0};
    int status;
    pid_t got;
    kill(-child->pid, SIGKILL); /* what is left of its group, while its number is nobody else's */
    child_read_rest(child);
    do
        got = waitpid(child->pid, &status, 0);
    while (got < 0 && errno == EINTR);
    status = got == child->pid ? status : -1;
    bool of_use = child->given || (child->ready_us && clock_mono_us() - child->ready_us >= WELL_AFTER_MS * 1000) ||
                  child->state == CHILD_CLOSING;
    say_how(child, status, &message, &detail);
    if (!of_use && status == 0 && !child->ready_us)
        buf_addl(&message,
                 " before it was ready: its program ended, and nothing in it had served, as serve() does");
    log_end(child, status, buf_span(&message), of_use);
    child_note(child, buf_cstr(&message));
    post_lock(); /* it is shown until it is taken out of the list */
    child->pid = 0;
    post_unlock();
    for (int what = WATCH_SOCKET; what < WATCHES; what++)
        minder_unwatch(&child->watches[what]);
    lose_bodies(child, buf_span(&message), buf_span(&detail));
    post_lock();
    DL_DELETE(pool->children, child);
    post_unlock();
    if (of_use)
        pool_lost_child(pool);
    else
        pool_lost_useless(pool, buf_cstr(&message), child_last_line(child));
    minder_bury(child);
    buf_release(&message);
    buf_release(&detail);
}

/* --- its memory ------------------------------------------------------------------------------ */

static int64_t resident_bytes(pid_t pid)
{
    char path[40], text[200];
    long long pages = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    close_fd(&fd);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    return sscanf(text, "%*s %lld", &pages) == 1 ? pages * sysconf(_SC_PAGESIZE) : 0;
}

static void weigh(struct child *child)
{
    int64_t limit = child->pool->is->max_memory, now_us = clock_mono_us();
    if (!limit || child->state != CHILD_READY)
        return;
    bool is_due = child->weigh_us <= now_us;
    if (is_due)
        child->weigh_us = now_us + MEMORY_EVERY_MS * 1000;
    minder_look_at(child->weigh_us);
    if (!is_due)
        return;
    int64_t bytes = resident_bytes(child->pid);
    if (bytes <= limit)
        return;
    log_info("a worker has more than max_memory, and is replaced", LOG_STR("worker", child->name),
             LOG_INT("bytes", bytes));
    child_retire(child);
}

/* --- time --------------------------------------------------------------------------------------- */

/* The next stage of its end. */
static void press(struct child *child, int64_t now_us)
{
    if (child->state == CHILD_STARTING) {
        child_break(child, "it was not ready within start_timeout");
        return;
    }
    if (child->stage == 0 && child->state == CHILD_CLOSING) {
        child->stage = 1;
        child->due_us = now_us + child->pool->grace_ms * 1000;
        child_kill(child, SIGTERM);
    } else {
        child->stage = 2;
        child->due_us = 0;
        child_kill(child, SIGKILL);
    }
}

void child_look(struct child *child, int64_t now_us)
{
    if (child->due_us && child->due_us <= now_us)
        press(child, now_us);
    if (child->due_us)
        minder_look_at(child->due_us);
    if (child->state == CHILD_READY && child->pool->in_a_row) {
        int64_t well_us = child->ready_us + (int64_t)WELL_AFTER_MS * 1000;
        if (well_us <= now_us)
            pool_is_well(child->pool, child);
        else
            minder_look_at(well_us);
    }
    child_read_on(child);
    weigh(child);
    close_if_empty(child);
}

/* --- room ------------------------------------------------------------------------------------------ */

int child_running(const struct child *child)
{
    const struct body *body;
    int count = 0;
    DL_FOREACH (child->bodies, body)
        count += !body->over && atomic_load(&body->attempt->waits) == WAITS_NOT;
    return count;
}

bool child_is_taken(const struct child *child)
{
    const struct body *alone = child->alone;
    return alone && (!alone->child || atomic_load(&alone->attempt->waits) != WAITS);
}

int child_room(const struct child *child)
{
    if (child->state != CHILD_READY || child_is_taken(child))
        return 0;
    return child->pool->is->capacity - child_running(child);
}

void child_body_ended(struct child *child)
{
    int64_t limit = child->pool->is->max_invocations;
    if (!child->body_count)
        child->idle_us = clock_mono_us();
    if (limit && child->given >= limit)
        child_retire(child);
    weigh(child);
    close_if_empty(child);
    minder_look_at(0);
}

/* --- events ------------------------------------------------------------------------- */

void child_event(struct child *child, enum watched what, uint32_t events)
{
    if (what == WATCH_PROCESS)
        ended(child);
    else
        child_read(child, what, events);
}
