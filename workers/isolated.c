#include "workers/isolated.h"

#include "base/json.h"
#include "base/lines.h"
#include "workers/isolated_internal.h"
#include "workers/kinds/kinds.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>

enum { PROTOCOL = 1, READ_BYTES = 64 << 10, FAILED = 1, NOT_A_CHILD = 2 };

struct isolated {
    struct task task;
    struct wire wire;
    struct isolated_crew crew;
    struct isolated_run *runs;
    struct lines in;
    int wake_fd; /* rung by a run that holds progress back */
    bool is_greeted, is_closed;
};

/* --- the task ------------------------------------------------------------------------- */

static const struct kind *find_kind(const char *name)
{
    int i = 0;
    while (strcmp(kinds[i]->name, name) != 0)
        i++;
    return kinds[i];
}

static bool set(struct task *task, const char *key, const char *text, struct reason *why)
{
    char folder[PATH_MAX];
    struct reason wrong = {"the working folder is not to be had"};
    bool good = getcwd(folder, sizeof folder) &&
                keys_set_text(keys_find(task->kind->keys, key), span_of(text), folder, task->definition, &wrong);
    if (!good)
        reason_set(why, "%s: %s", key, wrong.text);
    return good;
}

static bool load(struct task *task, const char *module, const char *function, struct reason *why)
{
    struct faults faults = {0};
    task->kind = find_kind("native");
    task->name = xstrdup(function);
    task->definition = xcalloc(1, task->kind->definition_bytes);
    if (!set(task, "module", module, why) || !set(task, "function", function, why))
        return false;
    task->kind->load(task, &faults);
    bool loaded = !faults.total;
    if (!loaded)
        reason_set(why, "%s: %s", module, faults.items[0].detail);
    faults_release(&faults);
    return loaded;
}

static void release(struct task *task)
{
    keys_release(task->kind->keys, task->definition);
    free(task->definition);
    task_release(task);
}

/* --- the socket ------------------------------------------------------------------------ */

/* -1: there is none. What bodies start does not get it. */
static int take_socket(void)
{
    const char *text = getenv("ERRAND_FD");
    int type = 0;
    socklen_t size = sizeof type;
    int fd = text ? atoi(text) : -1;
    unsetenv("ERRAND_FD");
    if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_STREAM)
        return -1;
    return fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 ? fd : -1;
}

__attribute__((noreturn)) static void give_up(const char *why)
{
    fprintf(stderr, "errand isolated: %s\n", why);
    _exit(FAILED);
}

/* --- what the server says ------------------------------------------------------------- */

/* The one line that is checked. Who says it is the server, whose lines are sound, and
 * nested more deeply than json_check() lets through: arguments, say, stand in them whole. */
static void take_hello(struct isolated *is, struct span line)
{
    struct buf ready = {0};
    int64_t bytes;
    bool is_object = json_check(line.p, line.len, JSON_DEPTH_MAX, NULL) == OK && json_type(line) == JSON_OBJECT;
    struct span type = is_object ? json_get(line, "type") : (struct span){NULL, 0};
    if (!span_equal(type, SPAN("\"hello\"")))
        give_up("the first line is no `hello`");
    struct span limits = json_get(line, "limits"), most = {NULL, 0};
    if (limits.p && json_type(limits) == JSON_OBJECT)
        most = json_get(limits, "line");
    if (most.p && json_type(most) == JSON_NUMBER && json_int64(most, &bytes) && bytes > 0)
        is->wire.line_bytes = (size_t)bytes;
    is->is_greeted = true;
    buf_addf(&ready, "{\"type\":\"ready\",\"protocol\":%d,\"client\":\"errand isolated\"}", PROTOCOL);
    wire_say(&is->wire, &ready);
}

static void take_run(struct isolated *is, struct span line)
{
    struct isolated_run *run = isolated_run_new(&is->wire, &is->task, line, is->wake_fd);
    if (!run)
        give_up("a run has no number or no id");
    DL_APPEND(is->runs, run);
    if (!isolated_crew_take(&is->crew, run))
        give_up("no thread can be started");
}

/* One that it does not hold has crossed with its end. */
static void take_cancel(struct isolated *is, struct span line)
{
    struct span number = json_get(line, "run"), reason = json_get(line, "reason");
    struct isolated_run *run = NULL;
    int64_t wanted;
    if (number.p && json_int64(number, &wanted))
        DL_SEARCH_SCALAR(is->runs, run, number, wanted);
    if (run)
        attempt_stop(&run->attempt, reason.p && span_equal(reason, SPAN("\"closing\"")) ? STOP_KILL : STOP_CANCEL);
}

static void take_line(struct isolated *is, struct span line)
{
    line = line.len ? json_trim(line) : line;
    if (!line.len)
        return;
    if (!is->is_greeted) {
        take_hello(is, line);
        return;
    }
    struct span type = json_get(line, "type");
    if (span_equal(type, SPAN("\"run\"")))
        take_run(is, line);
    else if (span_equal(type, SPAN("\"answer\"")))
        wire_answered(&is->wire, line);
    else if (span_equal(type, SPAN("\"cancel\"")))
        take_cancel(is, line);
    else if (span_equal(type, SPAN("\"close\"")))
        is->is_closed = true;
}

/* Its end is the end of this process, whatever runs: nobody waits for that any more. */
static void read_socket(struct isolated *is)
{
    static char bytes[READ_BYTES];
    struct span line;
    ssize_t n = recv(is->wire.fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n <= 0)
        _exit(0);
    lines_add(&is->in, (struct span){bytes, (size_t)n});
    while (!is->is_closed && lines_next(&is->in, &line))
        take_line(is, line);
    if (lines_are_too_long(&is->in))
        give_up("a line of the server's is too long");
}

/* --- the loop ---------------------------------------------------------------------------- */

/* Frees what is over. In how many milliseconds one of the others wants to be looked at, or -1. */
static int look_at_runs(struct isolated *is)
{
    struct isolated_run *run, *next;
    int due_ms = -1;
    DL_FOREACH_SAFE (is->runs, run, next) {
        if (atomic_load(&run->is_over)) {
            DL_DELETE(is->runs, run);
            isolated_run_free(run);
            continue;
        }
        int this_ms = isolated_run_tick(run);
        if (this_ms >= 0 && (due_ms < 0 || this_ms < due_ms))
            due_ms = this_ms;
    }
    return due_ms;
}

static void serve(struct isolated *is)
{
    int due_ms = -1;
    while (!is->is_closed) {
        struct pollfd fds[] = {{is->wire.fd, POLLIN, 0}, {is->wake_fd, POLLIN, 0}};
        uint64_t count;
        int n = poll(fds, 2, due_ms);
        if (n < 0 && errno != EINTR)
            give_up("it cannot wait for the server");
        if (n > 0 && fds[0].revents)
            read_socket(is);
        if (n > 0 && fds[1].revents && read(is->wake_fd, &count, sizeof count) < 0 && errno != EAGAIN)
            give_up("it cannot be woken");
        due_ms = look_at_runs(is);
    }
    isolated_crew_end(&is->crew);
    look_at_runs(is);
}

int isolated_serve(const char *module, const char *function)
{
    struct isolated is = {0};
    struct reason why;
    int fd = take_socket();
    signal(SIGPIPE, SIG_IGN); /* as in the server: both are errors of a write */
    signal(SIGXFSZ, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0); /* what a body printed before it crashed is not lost */
    is.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    bool loaded = is.wake_fd >= 0 && load(&is.task, module, function, &why);
    if (loaded && fd < 0) {
        fprintf(stderr, "errand isolated: a server starts this, as a child of a pool\n");
    } else if (loaded) {
        wire_init(&is.wire, fd);
        isolated_crew_init(&is.crew);
        serve(&is);
        wire_release(&is.wire);
        lines_release(&is.in);
    } else {
        fprintf(stderr, "errand isolated: %s\n", is.wake_fd < 0 ? strerrordesc_np(errno) : why.text);
    }
    if (is.task.kind)
        release(&is.task);
    if (is.wake_fd >= 0)
        close(is.wake_fd);
    return !loaded ? FAILED : fd < 0 ? NOT_A_CHILD : 0;
}
