/* The ceiling of HTTP tasks: libcurl alone, driven as Errand drives it (a multi
 * handle on epoll), sends one body again and again and drops the answers.
 *
 *     ceiling_curl URL BODY COUNT IN_FLIGHT     prints requests a second */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

enum { EVENTS_MAX = 256 };

static CURLM *multi;
static int epoll_fd, left, done;
static double due; /* when curl wants to be asked; 0: not */
static const char *url, *body;
static struct curl_slist *headers;

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *context, void *unused)
{
    struct epoll_event event = {.data.fd = fd};
    (void)easy, (void)context, (void)unused;
    event.events = (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);
    if (what == CURL_POLL_REMOVE)
        epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    else if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, fd, &event) != 0)
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
    return 0;
}

static int on_timer(CURLM *unused, long ms, void *context)
{
    (void)unused, (void)context;
    due = ms < 0 ? 0 : now() + (double)ms / 1000;
    return 0;
}

static size_t drop(char *bytes, size_t one, size_t n, void *context)
{
    (void)bytes, (void)one, (void)context;
    return n;
}

static void begin(void)
{
    CURL *easy = curl_easy_init();
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, drop);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_multi_add_handle(multi, easy);
    left--;
}

static void take_ended(void)
{
    CURLMsg *message;
    int more;
    while ((message = curl_multi_info_read(multi, &more))) {
        CURL *easy = message->easy_handle;
        if (message->data.result != CURLE_OK) {
            fprintf(stderr, "%s\n", curl_easy_strerror(message->data.result));
            exit(1);
        }
        curl_multi_remove_handle(multi, easy);
        curl_easy_cleanup(easy);
        done++;
        if (left > 0)
            begin();
    }
}

int main(int argc, char **argv)
{
    if (argc != 5)
        return 2;
    int count = atoi(argv[3]), in_flight = atoi(argv[4]), running;
    url = argv[1];
    body = argv[2];
    left = count;
    headers = curl_slist_append(NULL, "Content-Type: application/json");
    curl_global_init(CURL_GLOBAL_DEFAULT);
    multi = curl_multi_init();
    epoll_fd = epoll_create1(0);
    curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer);
    double began = now();
    for (int i = 0; i < in_flight && left > 0; i++)
        begin();
    while (done < count) {
        struct epoll_event events[EVENTS_MAX];
        double wait_ms = due ? (due - now()) * 1000 + 1 : -1;
        int n = epoll_wait(epoll_fd, events, EVENTS_MAX, due && wait_ms < 1 ? 0 : (int)wait_ms);
        for (int i = 0; i < n; i++)
            curl_multi_socket_action(multi, events[i].data.fd,
                                     (events[i].events & EPOLLIN ? CURL_CSELECT_IN : 0) |
                                         (events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0),
                                     &running);
        if (due && due <= now()) {
            due = 0;
            curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
        }
        take_ended();
    }
    printf("%.0f\n", count / (now() - began));
    return 0;
}
