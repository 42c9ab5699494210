/* The child shares the server's memory until it executes its program, on a
 * stack that is a local array of the thread that waits for it. So it calls
 * system calls only, and says what failed by writing to the parent's struct. */
#include "workers/kinds/program/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STACK_BYTES = 16 * 1024, LAST_CLASSIC_SIGNAL = 31, KERNEL_SIGSET_BYTES = 8 };

#define USUAL_PATH "/usr/local/bin:/usr/bin:/bin"
#define UNCHECKED __attribute__((no_sanitize("address", "undefined", "thread"), noinline))

struct start {
    struct spawn *spawn;
    pid_t parent;
    volatile int error;
};

/* A handler of the server must not run in the child, where it would write to
 * the server's memory; and an ignored SIGPIPE would pass on to the program.
 * What is ignored otherwise (SIGHUP under nohup) stays so. The kernel's own
 * struct begins with the handler, and all zeros is SIG_DFL. */
UNCHECKED static void reset_signals(void)
{
    for (int sig = 1; sig <= LAST_CLASSIC_SIGNAL; sig++) {
        unsigned long action[16] = {0};
        if (syscall(SYS_rt_sigaction, sig, NULL, action, KERNEL_SIGSET_BYTES) != 0)
            continue;
        if (action[0] == (unsigned long)SIG_DFL || (action[0] == (unsigned long)SIG_IGN && sig != SIGPIPE))
            continue;
        memset(action, 0, sizeof(action));
        syscall(SYS_rt_sigaction, sig, action, NULL, KERNEL_SIGSET_BYTES);
    }
}

/* Not through libc's functions: under a sanitizer those keep records, which are
 * the server's. */
UNCHECKED static const char *prepare(const struct start *start)
{
    const struct spawn *spawn = start->spawn;
    uint64_t no_signals = 0;

    if (syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
        return "tie the process to the server";
    if (syscall(SYS_getppid) != start->parent)
        syscall(SYS_exit_group, 127); /* the server died before it could be told */
    if (syscall(SYS_setpgid, 0, 0) != 0)
        return "make a process group";
    if (spawn->record)
        journal_child(spawn->record, (pid_t)syscall(SYS_getpid));
    reset_signals();
    if (spawn->cwd && syscall(SYS_chdir, spawn->cwd) != 0)
        return "enter the folder";
    for (int i = 0; i < 3; i++)
        if (syscall(SYS_dup3, spawn->stdio[i], i, 0) < 0)
            return "set up its pipes";
    unsigned first = 3;
    if (spawn->descriptor > 0 && syscall(SYS_dup3, spawn->descriptor, first, 0) < 0)
        return "set up its socket";
    if (spawn->descriptor > 0)
        first++;
    if (syscall(SYS_close_range, first, ~0U, 0U) != 0 && errno != ENOSYS)
        return "close the server's files";
    if (syscall(SYS_rt_sigprocmask, SIG_SETMASK, &no_signals, NULL, KERNEL_SIGSET_BYTES) != 0)
        return "set its signals";
    return NULL;
}

UNCHECKED static int child(void *argument)
{
    struct start *start = argument;
    const char *failed = prepare(start);
    if (!failed) {
        execve(start->spawn->path, start->spawn->argv, start->spawn->envp);
        failed = "start the program";
    }
    start->error = errno;
    start->spawn->failed = failed;
    syscall(SYS_exit_group, 127);
    return 127;
}

/* The C library's other name for clone(): ThreadSanitizer takes that one for a
 * fork, and its records are the server's, too. */
int __clone(int (*function)(void *), void *stack, int flags, void *argument, ...);

UNCHECKED static pid_t clone_child(struct start *start)
{
    char stack[STACK_BYTES] __attribute__((aligned(16)));
    return __clone(child, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, start,
                   &start->spawn->pidfd);
}

static void reap(pid_t pid)
{
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
    }
}

int spawn_start(struct spawn *spawn)
{
    struct start start = {.spawn = spawn, .parent = getpid()};
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    spawn->pidfd = -1;
    spawn->failed = NULL;
    spawn->pid = clone_child(&start);
    int error = spawn->pid < 0 ? errno : start.error;
    pthread_sigmask(SIG_SETMASK, &before, NULL);

    if (spawn->pid < 0) {
        spawn->failed = "make a process";
    } else if (error) {
        reap(spawn->pid);
        close(spawn->pidfd);
        if (spawn->record)
            journal_child(spawn->record, 0);
    }
    return error;
}

int spawn_move_up(int fd, int least)
{
    if (fd < 0 || fd >= least)
        return fd;
    int moved = fcntl(fd, F_DUPFD_CLOEXEC, least), error = errno;
    close(fd);
    errno = error;
    return moved;
}

bool spawn_pipe(int *reads, int *writes)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0)
        return false;
    *reads = spawn_move_up(fds[0], 3); /* a process that has closed its own 0, 1 or 2 would get them there */
    *writes = spawn_move_up(fds[1], 3);
    if (*reads >= 0 && *writes >= 0)
        return true;
    int error = errno;
    if (*reads >= 0)
        close(*reads);
    if (*writes >= 0)
        close(*writes);
    *reads = *writes = -1;
    errno = error;
    return false;
}

/* 0, ENOENT, EACCES or ENOMEM. */
static int can_run(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return errno == EACCES || errno == ENOMEM ? errno : ENOENT;
    return S_ISREG(st.st_mode) && faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) == 0 ? 0 : EACCES;
}

static int try_folder(struct span folder, const char *program, const char *cwd, struct buf *path)
{
    path->len = 0;
    if ((folder.len == 0 || folder.p[0] != '/') && program[0] != '/' && cwd) {
        buf_adds(path, cwd);
        buf_addc(path, '/');
    }
    if (folder.len) {
        buf_add_span(path, folder);
        buf_addc(path, '/');
    }
    buf_adds(path, program);
    return can_run(buf_cstr(path));
}

int spawn_find(const char *program, const char *search, const char *cwd, struct buf *path)
{
    if (strchr(program, '/'))
        return try_folder(SPAN(""), program, cwd, path);
    if (*program == '\0')
        return ENOENT;

    int error = ENOENT;
    for (const char *at = search && *search ? search : USUAL_PATH;; at++) {
        size_t n = strcspn(at, ":");
        int e = try_folder((struct span){at, n}, program, cwd, path);
        if (e == 0 || e == ENOMEM)
            return e;
        if (e == EACCES)
            error = EACCES;
        at += n;
        if (*at == '\0')
            return error;
    }
}
