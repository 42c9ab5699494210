/* The ceiling of every HTTP line: a bare libmicrohttpd server in the loop that
 * Errand uses (MHD_USE_EPOLL without a thread, MHD_run from our own poll), that
 * reads each request's body and answers what a file holds.
 *
 *     ceiling_http ANSWER     prints its port, serves until SIGTERM
 *
 * ANSWER is an answer as it came from Errand, head and body. Status, headers
 * and body are repeated; those that libmicrohttpd writes itself are left out. */
#include <microhttpd.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { HEADERS_MAX = 32, ANSWER_MAX = 16 << 20 };

static struct {
    int status;
    char *names[HEADERS_MAX], *values[HEADERS_MAX];
    int header_count;
    char *body;
    size_t length;
} answer;

static bool progress;
static volatile sig_atomic_t stop;

static void on_signal(int number)
{
    (void)number;
    stop = 1;
}

static bool is_microhttpds_own(const char *name)
{
    static const char *const own[] = {"Date", "Content-Length", "Connection", "Transfer-Encoding"};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (strcasecmp(name, own[i]) == 0)
            return true;
    return false;
}

static bool read_answer(const char *path)
{
    static char text[ANSWER_MAX + 1];
    FILE *file = fopen(path, "r");
    if (!file)
        return false;
    size_t size = fread(text, 1, ANSWER_MAX, file);
    fclose(file);
    char *end = strstr(text, "\r\n\r\n"), *line = strstr(text, "\r\n");
    if (!end || sscanf(text, "HTTP/1.1 %d", &answer.status) != 1)
        return false;
    answer.body = end + 4;
    answer.length = size - (size_t)(answer.body - text);
    end[2] = '\0';
    for (line += 2; *line && answer.header_count < HEADERS_MAX;) {
        char *next = strstr(line, "\r\n"), *colon = strchr(line, ':');
        if (!next || !colon)
            return false;
        *next = *colon = '\0';
        if (!is_microhttpds_own(line)) {
            answer.names[answer.header_count] = line;
            answer.values[answer.header_count++] = colon + 1 + strspn(colon + 1, " ");
        }
        line = next + 2;
    }
    return true;
}

static enum MHD_Result handle(void *cls, struct MHD_Connection *connection, const char *url, const char *method,
                              const char *version, const char *upload, size_t *upload_size, void **context)
{
    static char seen;
    (void)cls, (void)url, (void)method, (void)version, (void)upload;
    progress = true;
    if (!*context) {
        *context = &seen;
        return MHD_YES;
    }
    if (*upload_size) {
        *upload_size = 0;
        return MHD_YES;
    }
    struct MHD_Response *response =
        MHD_create_response_from_buffer(answer.length, answer.body, MHD_RESPMEM_PERSISTENT);
    for (int i = 0; i < answer.header_count; i++)
        MHD_add_response_header(response, answer.names[i], answer.values[i]);
    enum MHD_Result result = MHD_queue_response(connection, (unsigned)answer.status, response);
    MHD_destroy_response(response);
    return result;
}

static void loop(struct MHD_Daemon *daemon)
{
    int epoll_fd = MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    while (!stop) {
        MHD_UNSIGNED_LONG_LONG wanted;
        struct pollfd fd = {.fd = epoll_fd, .events = POLLIN};
        if (MHD_get_timeout(daemon, &wanted) != MHD_YES || wanted > 500)
            wanted = 500;
        poll(&fd, 1, (int)wanted);
        do {
            progress = false;
            MHD_run(daemon);
        } while (progress);
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (argc != 2 || !read_answer(argv[1])) {
        fprintf(stderr, "usage: ceiling_http FILE, which holds an answer\n");
        return 2;
    }
    signal(SIGTERM, on_signal);
    struct MHD_Daemon *daemon =
        MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_ERROR_LOG, 0, NULL, NULL, handle, NULL, MHD_OPTION_SOCK_ADDR,
                         &address, MHD_OPTION_CONNECTION_LIMIT, 2000u, MHD_OPTION_CONNECTION_TIMEOUT, 60u,
                         MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)32768, MHD_OPTION_END);
    if (!daemon)
        return 1;
    printf("%d\n", MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT)->port);
    fflush(stdout);
    loop(daemon);
    MHD_stop_daemon(daemon);
    return 0;
}
