/* A command: one process an attempt, minded by the slot's own thread.
 *
 * The thread polls the pipes, the process itself (a pidfd) and the slot's
 * eventfd. Whatever asks for an early end, the group gets SIGTERM and after
 * the grace SIGKILL. When the process has ended, what is left of its group is
 * killed before it is reaped (until then its number cannot be anybody else's),
 * and what the pipes hold is read, without waiting for who else holds them. */
#include "workers/kinds/command/command.h"

#include "base/clock.h"
#include "base/json.h"
#include "workers/journal.h"
#include "workers/kinds/command/argv.h"
#include "workers/kinds/command/environment.h"
#include "workers/kinds/program/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    READ_BYTES = 16 * 1024,
    STDERR_TAIL_BYTES = 4 * 1024,
    ALWAYS_FITS_BYTES = 4096, /* a page: what an empty pipe takes whatever its size */
    DRAIN_READS_MAX = 4096,   /* 64 MiB, more than any pipe holds */
};

enum watched { WATCH_OUT, WATCH_ERR, WATCH_PROCESS, WATCH_WAKE, WATCH_IN, WATCH_COUNT };

enum ending { ENDING_NONE, ENDING_STOPPED, ENDING_TIMEOUT };

struct command {
    struct attempt *attempt;
    struct outcome *outcome;
    pid_t pid;
    struct pollfd watched[WATCH_COUNT]; /* fd -1: not watched (any more) */
    struct span input;                  /* of stdin, what is still to be written */
    struct environment_files files;

    enum ending ending; /* why SIGTERM was sent */
    bool killed;        /* SIGKILL was sent, too */
    int64_t kill_at_us;

    struct buf out;  /* all of stdout, up to the limit and a byte */
    struct buf tail; /* the end of stderr */
    bool tail_cut;
};

static const struct span none = {NULL, 0};

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* --- starting -------------------------------------------------------------- */

/* Writes without the SIGPIPE that comes when the process has closed its stdin. */
static ssize_t write_quietly(int fd, struct span bytes)
{
    sigset_t pipe_only, before, pending;
    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    sigpending(&pending);
    pthread_sigmask(SIG_BLOCK, &pipe_only, &before);
    ssize_t n = write(fd, bytes.p, bytes.len);
    int error = errno;
    if (n < 0 && error == EPIPE && !sigismember(&pending, SIGPIPE))
        while (sigtimedwait(&pipe_only, NULL, &(struct timespec){0}) < 0 && errno == EINTR) {
        }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = error;
    return n;
}

/* Writes what fits and closes stdin after the last byte, or when the process
 * does not want more. */
static void feed(struct command *command)
{
    int *fd = &command->watched[WATCH_IN].fd;
    while (command->input.len > 0) {
        ssize_t n = write_quietly(*fd, command->input);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0)
            break;
        command->input.p += n;
        command->input.len -= (size_t)n;
    }
    close_fd(fd);
}

/* Makes the three pipes and fills stdin as far as it goes. The child's ends
 * come back in `stdio`. */
static bool open_pipes(struct command *command, int stdio[3])
{
    struct pollfd *watched = command->watched;
    if (!spawn_pipe(&stdio[0], &watched[WATCH_IN].fd) || !spawn_pipe(&watched[WATCH_OUT].fd, &stdio[1]) ||
        !spawn_pipe(&watched[WATCH_ERR].fd, &stdio[2]))
        return false;
    if (command->input.len > ALWAYS_FITS_BYTES && fcntl(watched[WATCH_IN].fd, F_SETFL, O_NONBLOCK) != 0)
        return false;
    feed(command);
    return true;
}

/* As a shell says it: 127 is not there, 126 is there and does not start. What is
 * short will be there again. */
static void fail_start(struct command *command, const char *what, const char *object, int error)
{
    bool missing = error == ENOENT && object == command_task(command->attempt->task)->program.run[0];
    struct buf message = {0};
    buf_addf(&message, "cannot %s", what);
    if (object)
        buf_addf(&message, " `%s`", object);
    buf_addf(&message, ": %s", strerrordesc_np(error) ? strerrordesc_np(error) : "unknown error");
    if (error_is_shortage(error))
        outcome_unstarted(command->outcome, buf_span(&message));
    else
        outcome_fail(command->outcome, missing ? SPAN("exit:127") : SPAN("exit:126"), buf_span(&message),
                     missing ? SPAN("\"exit_code\":127") : SPAN("\"exit_code\":126"));
    buf_release(&message);
}

static bool start_program(struct command *command, char **argv, const struct environment *environment,
                          int stdio[3])
{
    const struct attempt *attempt = command->attempt;
    const struct program *task = &command_task(attempt->task)->program;
    const char *program = task->run[0];
    struct buf path = {0};
    int error = spawn_find(argv[0], environment_get(environment, "PATH"), task->cwd, &path);
    if (error) {
        fail_start(command, "start the program", program, error);
        buf_release(&path);
        return false;
    }
    struct spawn spawn = {
        .path = buf_cstr(&path),
        .argv = argv,
        .envp = environment->vars,
        .cwd = task->cwd,
        .stdio = {stdio[0], stdio[1], stdio[2]},
        .record = attempt->record,
    };
    error = spawn_start(&spawn);
    if (error) {
        const char *object = strcmp(spawn.failed, "enter the folder") == 0    ? task->cwd
                             : strcmp(spawn.failed, "start the program") == 0 ? program
                                                                              : NULL;
        fail_start(command, spawn.failed, object, error);
    }
    buf_release(&path);
    command->pid = spawn.pid;
    atomic_store(&command->attempt->child, error ? 0 : spawn.pid);
    command->watched[WATCH_PROCESS].fd = error ? -1 : spawn.pidfd;
    return !error;
}

static void fail_args(struct outcome *outcome, const struct faults *faults)
{
    struct buf message = {0};
    for (int i = 0; i < faults->count; i++)
        buf_addf(&message, "%s%s %s", i ? "; " : "", faults->items[i].pointer, faults->items[i].detail);
    outcome_fail(outcome, SPAN("invalid_args"), buf_span(&message), none);
    outcome->retry = false;
    buf_release(&message);
}

static bool start(struct command *command)
{
    struct argv argv;
    struct faults faults = {0};
    bool started = false;

    if (argv_expand(command->attempt->task, command->attempt->args, &argv, &faults) == OK) {
        struct environment environment;
        int stdio[3] = {-1, -1, -1};
        int error = environment_init(&environment, command->attempt, &command->files);
        if (error)
            fail_start(command, "say what it resumes with", NULL, error);
        else if (open_pipes(command, stdio))
            started = start_program(command, argv.words, &environment, stdio);
        else
            fail_start(command, "make its pipes", NULL, errno);
        for (int i = 0; i < 3; i++)
            close_fd(&stdio[i]);
        environment_release(&environment);
    } else {
        fail_args(command->outcome, &faults);
    }
    faults_release(&faults);
    argv_release(&argv);
    return started;
}

/* --- what it prints --------------------------------------------------------- */

static void take_stdout(struct command *command, struct span bytes)
{
    size_t limit = (size_t)command->attempt->limits->result_bytes + 1;
    if (command->out.len < limit) {
        size_t room = limit - command->out.len;
        buf_add(&command->out, bytes.p, bytes.len < room ? bytes.len : room);
    }
    attempt_log(command->attempt, STREAM_STDOUT, bytes);
}

static void take_stderr(struct command *command, struct span bytes)
{
    struct buf *tail = &command->tail;
    attempt_log(command->attempt, STREAM_STDERR, bytes);
    buf_add_span(tail, bytes);
    if (tail->len > STDERR_TAIL_BYTES) {
        size_t extra = tail->len - STDERR_TAIL_BYTES;
        memmove(tail->data, tail->data + extra, STDERR_TAIL_BYTES);
        tail->len = STDERR_TAIL_BYTES;
        command->tail_cut = true;
    }
}

/* One read of a pipe that poll() found readable or hung up. */
static void read_pipe(struct command *command, enum watched which)
{
    char bytes[READ_BYTES];
    int *fd = &command->watched[which].fd;
    ssize_t n = read(*fd, bytes, sizeof(bytes));
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n <= 0)
        close_fd(fd);
    else if (which == WATCH_OUT)
        take_stdout(command, (struct span){bytes, (size_t)n});
    else
        take_stderr(command, (struct span){bytes, (size_t)n});
}

/* What the pipes hold, once nobody of the group writes any more. */
static void drain(struct command *command)
{
    for (int i = 0; i < DRAIN_READS_MAX; i++) {
        struct pollfd *pipes = &command->watched[WATCH_OUT];
        if ((pipes[0].fd < 0 && pipes[1].fd < 0) || poll(pipes, 2, 0) <= 0)
            return;
        for (int which = WATCH_OUT; which <= WATCH_ERR; which++)
            if (pipes[which].fd >= 0 && pipes[which].revents)
                read_pipe(command, (enum watched)which);
    }
}

/* --- minding ------------------------------------------------------------------ */

static void begin_ending(struct command *command, enum ending why, int64_t now_us)
{
    command->ending = why;
    command->kill_at_us = now_us + command->attempt->limits->kill_grace_ms * 1000;
    command->watched[WATCH_WAKE].fd = -1; /* it can say nothing new */
    kill(-command->pid, SIGTERM);
}

/* Does what the time and the flags ask for; returns how long poll() may wait. */
static int mind_time(struct command *command)
{
    struct attempt *attempt = command->attempt;
    int64_t next_us = command->ending ? command->kill_at_us : attempt->deadline_us;
    bool stop = atomic_load(&attempt->stop) != STOP_NONE;
    int timeout_ms = attempt_log_tick(attempt);

    if ((next_us || stop) && !command->killed) {
        int64_t now_us = clock_mono_us();
        if (!command->ending && stop) {
            begin_ending(command, ENDING_STOPPED, now_us);
        } else if (!command->ending && now_us >= next_us) {
            begin_ending(command, ENDING_TIMEOUT, now_us);
        } else if (command->ending && now_us >= next_us) {
            kill(-command->pid, SIGKILL);
            command->killed = true;
        }
        if (command->ending)
            next_us = command->kill_at_us;
        int64_t left_ms = (next_us - now_us + 999) / 1000;
        if (left_ms < 0)
            left_ms = 0;
        if (!command->killed && (timeout_ms < 0 || left_ms < timeout_ms))
            timeout_ms = left_ms > INT32_MAX ? INT32_MAX : (int)left_ms;
    }
    return timeout_ms;
}

/* Returns when the process has ended; it is not reaped yet. */
static void mind(struct command *command)
{
    struct pollfd *watched = command->watched;
    while (!(watched[WATCH_PROCESS].revents & POLLIN)) {
        int timeout_ms = mind_time(command);
        if (poll(watched, WATCH_COUNT, timeout_ms) <= 0) {
            watched[WATCH_PROCESS].revents = 0;
            continue;
        }
        for (int which = WATCH_OUT; which <= WATCH_ERR; which++)
            if (watched[which].fd >= 0 && watched[which].revents)
                read_pipe(command, (enum watched)which);
        if (watched[WATCH_IN].fd >= 0 && watched[WATCH_IN].revents)
            feed(command);
        uint64_t count;
        if (watched[WATCH_WAKE].fd >= 0 && (watched[WATCH_WAKE].revents & POLLIN) &&
            read(watched[WATCH_WAKE].fd, &count, sizeof(count)) < 0)
            continue; /* somebody else read it */
    }
}

/* Its wait status; -1 if somebody else took that (a native task that waits for
 * any child). */
static int finish(struct command *command)
{
    int status;
    pid_t got;
    kill(-command->pid, SIGKILL);
    if (command->attempt->record)
        journal_child(command->attempt->record, 0);
    drain(command);
    do
        got = waitpid(command->pid, &status, 0);
    while (got < 0 && errno == EINTR);
    atomic_store(&command->attempt->child, 0);
    return got == command->pid ? status : -1;
}

/* --- how it came out ---------------------------------------------------------- */

static void add_stderr(struct buf *detail, const struct command *command)
{
    struct span tail = buf_span(&command->tail);
    if (!tail.len)
        return;
    if (command->tail_cut) /* not in the middle of a character */
        for (int i = 0; i < 3 && tail.len && ((unsigned char)*tail.p & 0xC0) == 0x80; i++)
            tail = (struct span){tail.p + 1, tail.len - 1};
    if (detail->len)
        buf_addc(detail, ',');
    buf_addl(detail, "\"stderr\":");
    json_add_lossy(detail, tail);
}

__attribute__((format(printf, 4, 5))) static void fail(struct command *command, const char *type, int exit_code,
                                                       const char *format, ...)
{
    char message[512];
    struct buf detail = {0};
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    if (exit_code >= 0)
        buf_addf(&detail, "\"exit_code\":%d", exit_code);
    add_stderr(&detail, command);
    outcome_fail(command->outcome, span_of(type), span_of(message), buf_span(&detail));
    buf_release(&detail);
}

static bool take_json(struct command *command)
{
    struct json_fault fault;
    struct buf *out = &command->out;
    if (json_check(out->data ? out->data : "", out->len, JSON_DEPTH_MAX, &fault)) {
        fail(command, "bad_result", 0, "stdout is not valid JSON: %s, at byte %zu", fault.detail, fault.offset);
        return false;
    }
    buf_add_span(&command->outcome->result, json_trim(buf_span(out)));
    return true;
}

static void succeed(struct command *command)
{
    struct outcome *outcome = command->outcome;
    int64_t limit = command->attempt->limits->result_bytes;

    if ((int64_t)command->out.len > limit) {
        fail(command, "bad_result", 0, "stdout is larger than the limit of a result, %" PRId64 " bytes", limit);
        return;
    }
    if (!command_task(command->attempt->task)->result_json) {
        json_add_lossy(&outcome->result, buf_span(&command->out));
        if ((int64_t)outcome->result.len > limit) {
            fail(command, "bad_result", 0,
                 "stdout as a JSON string has %zu bytes, more than the limit of a result, %" PRId64 " bytes",
                 outcome->result.len, limit);
            return;
        }
    } else if (!take_json(command)) {
        return;
    }
    outcome->end = OUTCOME_SUCCEEDED;
    if (!atomic_load(&command->attempt->suspended)) /* what it prints is log */
        attempt_drop_stdout(command->attempt);
}

static void fail_timeout(struct command *command)
{
    struct buf limit = {0};
    duration_add(&limit, command->attempt->timeout_ms);
    fail(command, "timeout", -1, "it took longer than %s", buf_cstr(&limit));
    buf_release(&limit);
}

static void fail_status(struct command *command, int status)
{
    char type[32];
    if (WIFSIGNALED(status)) {
        int sig = WTERMSIG(status);
        const char *name = sigdescr_np(sig);
        snprintf(type, sizeof(type), "signal:%d", sig);
        fail(command, type, -1, "the command was ended by signal %d (%s)", sig, name ? name : "unknown");
    } else {
        int code = WEXITSTATUS(status);
        snprintf(type, sizeof(type), "exit:%d", code);
        fail(command, type, code, "the command exited with code %d", code);
    }
}

static void conclude(struct command *command, int status)
{
    if (command->ending == ENDING_TIMEOUT)
        fail_timeout(command);
    else if (status == -1)
        fail(command, "exit:unknown", -1,
             "how the command ended is unknown: its status was taken by somebody else");
    else if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        succeed(command);
    else
        fail_status(command, status);
}

static void run(struct attempt *attempt)
{
    struct command command = {.attempt = attempt,
                              .outcome = attempt->outcome,
                              .input = attempt->args,
                              .files = {.state = -1, .woken = -1}};
    for (int i = 0; i < WATCH_COUNT; i++)
        command.watched[i] = (struct pollfd){-1, i == WATCH_IN ? POLLOUT : POLLIN, 0};
    command.watched[WATCH_WAKE].fd = attempt->wake_fd;

    if (start(&command)) {
        mind(&command);
        conclude(&command, finish(&command));
    }
    close_fd(&command.watched[WATCH_OUT].fd);
    close_fd(&command.watched[WATCH_ERR].fd);
    close_fd(&command.watched[WATCH_IN].fd);
    close_fd(&command.watched[WATCH_PROCESS].fd);
    close_fd(&command.files.state);
    close_fd(&command.files.woken);
    buf_release(&command.out);
    buf_release(&command.tail);
    attempt_end(attempt);
}

const struct kind command_kind = {
    .name = "command",
    .prints_result = true,
    .keys = command_keys,
    .definition_bytes = sizeof(struct command_task),
    .check = command_check,
    .advise = command_advise,
    .check_args = argv_check,
    .start = run,
    .stop = attempt_wake,
    .release = command_release,
};
