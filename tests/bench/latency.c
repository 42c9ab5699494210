/* One client that asks now and then, as an idle service is asked.
 *
 *     latency PORT REQUEST COUNT GAP_US
 *
 * REQUEST is a file with a whole request. Prints, in microseconds: the p50 and
 * p99 of the round trip; and if the answers hold `"result":NANOSECONDS` (the
 * task `started` of bench_tasks.c), p50 and p99 of that minus the time of sending. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

enum { COUNT_MAX = 100000, WARM_UP = 20 };

static char answer[1 << 20];

static int64_t now_ns(clockid_t clock)
{
    struct timespec at;
    clock_gettime(clock, &at);
    return (int64_t)at.tv_sec * 1000000000 + at.tv_nsec;
}

static void fail(const char *why)
{
    fprintf(stderr, "latency: %s\n%s\n", why, answer);
    exit(1);
}

static int dial(int port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        fail("nobody listens");
    return fd;
}

/* A whole answer with a Content-Length into `answer`. */
static void receive(int fd)
{
    size_t have = 0, want = 0;
    while (!want || have < want) {
        ssize_t n = read(fd, answer + have, sizeof answer - 1 - have);
        if (n <= 0)
            fail("the answer broke off");
        have += (size_t)n;
        answer[have] = '\0';
        char *end = strstr(answer, "\r\n\r\n"), *length = strcasestr(answer, "\r\ncontent-length:");
        if (end && !length)
            fail("an answer without a length");
        if (end)
            want = (size_t)(end + 4 - answer) + strtoul(length + 17, NULL, 10);
    }
    if (strncmp(answer, "HTTP/1.1 2", 10) != 0)
        fail("not an answer of success");
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void print(int64_t *times, int count)
{
    qsort(times, (size_t)count, sizeof *times, compare);
    printf("%.1f %.1f\n", (double)times[count / 2] / 1e3, (double)times[count * 99 / 100] / 1e3);
}

int main(int argc, char **argv)
{
    static int64_t trips[COUNT_MAX], starts[COUNT_MAX];
    static char request[65536];
    FILE *file = argc == 5 ? fopen(argv[2], "r") : NULL;
    if (!file)
        return 2;
    size_t size = fread(request, 1, sizeof request, file);
    int count = atoi(argv[3]), gap_us = atoi(argv[4]), started = 0;
    int fd = dial(atoi(argv[1]));
    if (count < 1 || count > COUNT_MAX)
        return 2;
    for (int i = -WARM_UP; i < count; i++) {
        usleep((useconds_t)gap_us);
        int64_t sent_ns = now_ns(CLOCK_REALTIME), from_ns = now_ns(CLOCK_MONOTONIC);
        if (write(fd, request, size) != (ssize_t)size)
            fail("the request could not be sent");
        receive(fd);
        if (i < 0)
            continue;
        trips[i] = now_ns(CLOCK_MONOTONIC) - from_ns;
        char *result = strstr(answer, "\"result\":");
        int64_t started_ns = result ? strtoll(result + 9 + strspn(result + 9, " "), NULL, 10) : 0;
        if (started_ns > 0)
            starts[started++] = started_ns - sent_ns;
    }
    print(trips, count);
    if (started)
        print(starts, started);
    return 0;
}
