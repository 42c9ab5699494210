/* The ceiling of a pool's round trips: as many lines to children on sockets, and back, with
 * nothing kept of them.
 *
 *     ceiling_pool CHILD CHILDREN IN_FLIGHT SECONDS ARGS     prints how many a second */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CHILDREN_MAX = 64, BYTES = 1 << 16 };

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec * 1e-9;
}

static int start(const char *program, pid_t *pid)
{
    int pair[2];
    char number[16];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        exit(1);
    *pid = fork();
    if (*pid == 0) {
        snprintf(number, sizeof number, "%d", dup(pair[1]));
        setenv("ERRAND_FD", number, 1);
        execl(program, program, (char *)NULL);
        _exit(127);
    }
    close(pair[1]);
    return pair[0];
}

static void send_run(int fd, long run, const char *args)
{
    char line[4096];
    int n = snprintf(line, sizeof line,
                     "{\"type\":\"run\",\"run\":%ld,\"id\":\"0BYZ2H9QW4G00\",\"task\":\"pool\",\"attempt\":1,"
                     "\"args\":%s,\"steps\":{},\"timeout_ms\":600000,\"result_bytes\":8388608}\n",
                     run, args);
    if (write(fd, line, (size_t)n) != n)
        exit(1);
}

/* How many lines have come. */
static int receive(int fd)
{
    static char bytes[BYTES];
    ssize_t n = read(fd, bytes, sizeof bytes);
    int lines = 0;
    if (n <= 0)
        exit(1);
    for (ssize_t i = 0; i < n; i++)
        lines += bytes[i] == '\n';
    return lines;
}

int main(int argc, char **argv)
{
    struct pollfd fds[CHILDREN_MAX];
    pid_t pids[CHILDREN_MAX];
    int children = argc == 6 ? atoi(argv[2]) : 0;
    if (children < 1 || children > CHILDREN_MAX)
        return 2;
    int each = atoi(argv[3]) / children;
    double seconds = atof(argv[4]), passed;
    long run = 0, count = 0;
    for (int i = 0; i < children; i++)
        fds[i] = (struct pollfd){start(argv[1], &pids[i]), POLLIN, 0};
    for (int i = 0; i < children; i++)
        receive(fds[i].fd); /* ready */
    double began = now();
    for (int i = 0; i < children * each; i++)
        send_run(fds[i % children].fd, ++run, argv[5]);
    do {
        poll(fds, (nfds_t)children, -1);
        for (int i = 0; i < children; i++) {
            int lines = fds[i].revents ? receive(fds[i].fd) : 0;
            for (count += lines; lines; lines--)
                send_run(fds[i].fd, ++run, argv[5]);
        }
        passed = now() - began;
    } while (passed < seconds);
    for (int i = 0; i < children; i++) {
        close(fds[i].fd);
        waitpid(pids[i], NULL, 0);
    }
    printf("%.1f\n", (double)count / passed);
    return 0;
}
