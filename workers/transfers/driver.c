/* The thread that drives all transfers: it sleeps in epoll until a socket, curl's
 * timer, a deadline or somebody's word wakes it. It is made with the first.
 *
 * Threads: driver_add() and driver_end() by any; the rest is the thread's own,
 * as is what is below the line in the struct. */
#include "workers/transfers/transfer.h"

#include "base/clock.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <utlist.h>

enum { EVENTS_MAX = 256 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards these: */
static bool runs, is_to_end;
static struct transfer *arrived; /* the last first */

static atomic_int wake_fd = -1;
static atomic_bool look; /* some transfer is to be */
static pthread_t thread;

static struct {
    CURLM *multi;
    int epoll_fd;
    int64_t curl_us; /* when curl wants to be asked; 0: not */
    struct deadlines deadlines;
    struct transfer *all;
} driver;

static void wake(void)
{
    uint64_t one = 1;
    int fd = atomic_load(&wake_fd);
    if (fd >= 0 && write(fd, &one, sizeof one) < 0)
        return; /* it is readable already */
}

void driver_look(void)
{
    atomic_store(&look, true);
    wake();
}

/* --- the end of one --------------------------------------------------------------------- */

static void leave_curl(struct transfer *transfer)
{
    if (transfer->driven)
        curl_multi_remove_handle(driver.multi, transfer->easy);
}

static void end(struct transfer *transfer, enum ending ending, CURLcode code)
{
    leave_curl(transfer);
    lookup_leave(transfer);
    deadlines_remove(&driver.deadlines, &transfer->deadline);
    DL_DELETE(driver.all, transfer);
    transfer->class->end(transfer, ending, code);
}

/* What the name's host is was asked for all who wait for it; also if there was no answer in curl's time. */
static void share_failure(struct transfer *transfer, CURLcode code)
{
    struct transfer *other;
    if (code != CURLE_COULDNT_RESOLVE_HOST && code != CURLE_COULDNT_RESOLVE_PROXY &&
        code != CURLE_OPERATION_TIMEDOUT)
        return;
    while ((other = lookup_share(transfer))) {
        memcpy(other->why, transfer->why, sizeof other->why);
        end(other, ENDING_ANSWER, code);
    }
}

static void drive(struct transfer *transfer)
{
    CURLMcode code = curl_multi_add_handle(driver.multi, transfer->easy);
    transfer->driven = code == CURLM_OK;
    if (!transfer->driven)
        end(transfer, ENDING_ANSWER, CURLE_OUT_OF_MEMORY);
}

static void take_ended(void)
{
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(driver.multi, &left))) {
        struct transfer *transfer;
        CURLcode code = message->data.result;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&transfer);
        if (code == CURLE_OK && transfer->class->follow && transfer->class->follow(transfer)) {
            leave_curl(transfer);
            drive(transfer);
            continue;
        }
        share_failure(transfer, code);
        end(transfer, ENDING_ANSWER, code);
    }
}

/* --- deadlines and stops ------------------------------------------------------------------ */

/* As its maker has it now. */
static void watch(struct transfer *transfer)
{
    int64_t at_us = transfer->class->deadline_us(transfer);
    if (transfer->deadline.place && transfer->deadline.at_us == at_us)
        return;
    deadlines_remove(&driver.deadlines, &transfer->deadline);
    if (at_us)
        deadlines_add(&driver.deadlines, &transfer->deadline, at_us);
}

static void look_at_all(void)
{
    struct transfer *transfer, *next;
    if (!atomic_exchange(&look, false))
        return;
    DL_FOREACH_SAFE (driver.all, transfer, next) {
        if (transfer->class->is_stopped(transfer))
            end(transfer, ENDING_STOPPED, CURLE_OK);
        else
            watch(transfer);
    }
}

static void expire(void)
{
    struct deadline *first;
    int64_t now_us = clock_mono_us();
    while ((first = deadlines_first(&driver.deadlines)) && first->at_us <= now_us) {
        struct transfer *transfer = (struct transfer *)first;
        watch(transfer);
        if (first->place && first->at_us <= now_us)
            end(transfer, ENDING_TIMEOUT, CURLE_OK);
    }
}

/* --- new ones ------------------------------------------------------------------------------ */

static void begin(struct transfer *transfer)
{
    if (lookup_begin(transfer))
        drive(transfer);
}

/* True: it is to end. */
static bool take_arrived(void)
{
    struct transfer *transfer, *next, *list = NULL;
    pthread_mutex_lock(&lock);
    LL_FOREACH_SAFE2 (arrived, transfer, next, next_arrived)
        LL_PREPEND2(list, transfer, next_arrived);
    arrived = NULL;
    bool ends = is_to_end;
    pthread_mutex_unlock(&lock);
    LL_FOREACH_SAFE2 (list, transfer, next, next_arrived) {
        DL_APPEND(driver.all, transfer);
        watch(transfer);
        if (transfer->class->is_stopped(transfer))
            end(transfer, ENDING_STOPPED, CURLE_OK);
        else
            begin(transfer);
    }
    while ((transfer = lookup_next()))
        begin(transfer);
    return ends && !driver.all;
}

/* --- curl's sockets and timer ----------------------------------------------------------------- */

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *context, void *unused)
{
    struct epoll_event event = {.data.fd = fd};
    (void)easy, (void)context, (void)unused;
    if (what == CURL_POLL_REMOVE) {
        epoll_ctl(driver.epoll_fd, EPOLL_CTL_DEL, fd, NULL);
        return 0;
    }
    event.events = (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);
    if (epoll_ctl(driver.epoll_fd, EPOLL_CTL_MOD, fd, &event) == 0)
        return 0;
    return epoll_ctl(driver.epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -1;
}

static int on_timer(CURLM *multi, long timeout_ms, void *context)
{
    (void)multi, (void)context;
    driver.curl_us = timeout_ms < 0 ? 0 : clock_mono_us() + timeout_ms * 1000;
    return 0;
}

static void ask_curl_in_time(void)
{
    int running;
    if (!driver.curl_us || driver.curl_us > clock_mono_us())
        return;
    driver.curl_us = 0;
    curl_multi_socket_action(driver.multi, CURL_SOCKET_TIMEOUT, 0, &running);
}

static int sleep_ms(void)
{
    const struct deadline *first = deadlines_first(&driver.deadlines);
    int64_t next_us = driver.curl_us ? driver.curl_us : INT64_MAX;
    if (first && first->at_us < next_us)
        next_us = first->at_us;
    if (next_us == INT64_MAX)
        return -1;
    int64_t ms = (next_us - clock_mono_us() + 999) / 1000;
    return ms < 0 ? 0 : ms > INT_MAX ? INT_MAX : (int)ms;
}

static void act(const struct epoll_event *event)
{
    uint64_t count;
    int running, fd = event->data.fd;
    int bits = (event->events & EPOLLIN ? CURL_CSELECT_IN : 0) |
               (event->events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
               (event->events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);
    if (fd != atomic_load(&wake_fd))
        curl_multi_socket_action(driver.multi, fd, bits, &running);
    else if (read(fd, &count, sizeof count) < 0)
        return;
}

static void *driver_main(void *unused)
{
    struct epoll_event events[EVENTS_MAX];
    sigset_t pipe_only;
    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_only, NULL); /* curl's libraries write to what is closed */
    while (!take_arrived()) {
        int n = epoll_wait(driver.epoll_fd, events, EVENTS_MAX, sleep_ms());
        for (int i = 0; i < n; i++)
            act(&events[i]);
        ask_curl_in_time();
        take_ended();
        look_at_all();
        expire();
    }
    return unused;
}

/* --- life ----------------------------------------------------------------------------------------- */

static void close_all(void)
{
    int fd = atomic_exchange(&wake_fd, -1);
    curl_multi_cleanup(driver.multi);
    if (driver.epoll_fd >= 0)
        close(driver.epoll_fd);
    if (fd >= 0)
        close(fd);
    deadlines_release(&driver.deadlines);
    memset(&driver, 0, sizeof driver);
}

static bool open_all(void)
{
    static bool initialized;
    if (!initialized && curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return false;
    initialized = true;
    driver.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    driver.multi = driver.epoll_fd < 0 ? NULL : curl_multi_init();
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    atomic_store(&wake_fd, fd);
    if (!driver.multi || fd < 0 || epoll_ctl(driver.epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
        return false;
    curl_multi_setopt(driver.multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(driver.multi, CURLMOPT_TIMERFUNCTION, on_timer);
    return true;
}

static bool start_locked(struct reason *why)
{
    int code = open_all() ? pthread_create(&thread, NULL, driver_main, NULL) : errno;
    runs = code == 0;
    if (runs) {
        pthread_setname_np(thread, "http");
        return true;
    }
    close_all();
    reason_set(why, "no thread for transfers: %s", strerrordesc_np(code));
    return false;
}

bool driver_add(struct transfer *transfer, struct reason *why)
{
    pthread_mutex_lock(&lock);
    bool added = runs || start_locked(why);
    bool first = !arrived; /* else it is on its way already */
    if (added)
        LL_PREPEND2(arrived, transfer, next_arrived);
    pthread_mutex_unlock(&lock);
    if (added && first)
        wake();
    return added;
}

void driver_end(void)
{
    pthread_mutex_lock(&lock);
    bool ran = runs;
    is_to_end = true;
    pthread_mutex_unlock(&lock);
    wake();
    if (ran)
        pthread_join(thread, NULL);
    if (ran)
        close_all();
    runs = is_to_end = false;
}
