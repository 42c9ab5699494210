/* The loop: libmicrohttpd driven from our own thread.
 *
 * MHD_USE_EPOLL without a thread of its own: this loop polls the daemon's epoll
 * descriptor, an eventfd that other threads signal, and one more descriptor
 * (signals). A handler that waits for a commit returns without an answer and
 * is called again by the next MHD_run: two system calls a request instead of
 * the eight that suspending costs. That is how libmicrohttpd works, not how it
 * is documented; tests/e2e/test_stall.c pins it.
 *
 * Traps: after a wake-up MHD_run is called until no handler makes progress and
 * at least twice; MHD_get_timeout says 0 while such a handler waits, so it is
 * not asked then (it would spin). Clients that never pause would keep a pass
 * going for ever, and with it everybody's commits, deadlines and signals: a
 * pass ends after PASS_US, and the next follows without sleeping. */
#include "base/clock.h"
#include "base/log.h"
#include "server/http/freshness.h"
#include "server/http/internal.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>

enum {
    TICK_MS = 1000,
    DRAIN_MS = 5000,
    PASS_US = 2000,
    LEAVING_ROOM = 32,  /* connections: newcomers, and those whose places they take */
    HEADER_ROOM = 8192, /* for the answer's header, and a request's that is somewhat over the limit */
};

/* --- connections ---------------------------------------------------------------- */

static void hang_up(struct http *http, struct connection *c)
{
    if (c->leaving)
        return;
    shutdown(c->fd, SHUT_RDWR);
    c->leaving = true;
    http->connection_count--;
}

static void connection_opened(struct http *http, struct MHD_Connection *handle, void **context)
{
    struct connection *c = xcalloc(1, sizeof *c);
    if (http->connection_count >= http->connections_max) {
        struct connection *victim = shares_victim(&http->shares);
        if (victim)
            hang_up(http, victim);
    }
    c->fd = MHD_get_connection_info(handle, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    c->deadline_us = clock_mono_us() + http->config->limits.request_timeout_ms * 1000;
    DL_PREPEND(http->connections, c);
    shares_add(&http->shares, c, MHD_get_connection_info(handle, MHD_CONNECTION_INFO_CLIENT_ADDRESS)->client_addr);
    http->connection_count++;
    *context = c;
    if (http->connection_count > http->connections_max)
        hang_up(http, c); /* all others are being served */
}

static void connection_closed(struct http *http, void **context)
{
    struct connection *c = *context;
    DL_DELETE(http->connections, c);
    shares_remove(&http->shares, c);
    http->connection_count -= !c->leaving;
    free(c);
    *context = NULL;
}

static void on_connection(void *cls, struct MHD_Connection *handle, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct http *http = cls;
    http->progress = true;
    if (code == MHD_CONNECTION_NOTIFY_STARTED)
        connection_opened(http, handle, context);
    else if (*context)
        connection_closed(http, context);
}

/* libmicrohttpd (0.9.75) does not see an end that came together with the bytes
 * before it: it stops at a short read, and epoll tells it once. */
bool http_has_left(const struct connection *c)
{
    char byte;
    return recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

/* Whoever takes too long to send a request is hung up on: libmicrohttpd's own
 * timeout starts anew with every byte. */
static void sweep_connections(struct http *http, int64_t now_us)
{
    if (now_us < http->next_sweep_us)
        return;
    http->next_sweep_us = now_us + TICK_MS * 1000;
    struct connection *c;
    DL_FOREACH (http->connections, c)
        if (c->deadline_us && !c->leaving && (c->deadline_us < now_us || http_has_left(c)))
            hang_up(http, c);
}

/* --- a pass ----------------------------------------------------------------------- */

static void run_daemon(struct http *http)
{
    int64_t until_us = clock_mono_us() + PASS_US;
    int quiet = 0;
    do {
        http->progress = false;
        MHD_run(http->daemon);
        quiet = http->progress ? 0 : quiet + 1;
    } while (quiet == 1 || (quiet == 0 && clock_mono_us() < until_us));
    http->cut_short = quiet == 0;
}

/* What the handlers of this pass have for the committer, in one go. */
static void hand_over(struct http *http)
{
    struct op *first = http->ops;
    struct op *last = (struct op *)((char *)http->ops_tail - offsetof(struct op, next));
    int count = http->op_count;
    http->ops = NULL;
    http->ops_tail = &http->ops;
    http->op_count = 0;
    if (count == 1)
        store_queue_alone(http->store, first);
    else if (count)
        store_queue_list(http->store, first, last, count);
}

static void work_through(struct http *http)
{
    int64_t until_us = clock_mono_us() + PASS_US;
    do {
        run_daemon(http);
        hand_over(http);
    } while (http_resume_woken(http) && clock_mono_us() < until_us);
    /* Those resumed last are taken up by the next pass. */
    http->cut_short |= http->progress;
}

static int timeout_ms(struct http *http, int64_t now_us)
{
    int64_t ms = http->connection_count ? TICK_MS : -1;
    MHD_UNSIGNED_LONG_LONG wanted;
    if (http->cut_short)
        return 0;
    if (http->awaiting == 0 && MHD_get_timeout(http->daemon, &wanted) == MHD_YES && wanted == 0)
        return 0; /* bytes are left in a buffer of libmicrohttpd's or of TLS */
    const struct deadline *first = deadlines_first(&http->deadlines);
    if (first) {
        int64_t left = first->at_us > now_us ? (first->at_us - now_us) / 1000 + 1 : 0;
        ms = ms < 0 || left < ms ? left : ms;
    }
    return (int)ms;
}

static void wait_for_events(struct http *http)
{
    struct pollfd fds[] = {
        {.fd = http->epoll_fd, .events = POLLIN},
        {.fd = http->event_fd, .events = POLLIN},
        {.fd = http->watched.fd, .events = POLLIN},
        {.fd = http->leave_fd, .events = POLLIN},
    };
    if (poll(fds, 4, timeout_ms(http, clock_mono_us())) < 0 && errno != EINTR)
        log_error("poll failed", LOG_STR("error", strerror(errno)));
    uint64_t count;
    if (fds[1].revents && read(http->event_fd, &count, sizeof count) < 0 && errno != EAGAIN)
        log_error("the eventfd could not be read", LOG_STR("error", strerror(errno)));
    if (fds[2].revents)
        http->watched.ready(http->watched.context);
    if (fds[3].revents)
        http_check_left(http);
}

static bool stop_was_asked(struct http *http)
{
    pthread_mutex_lock(&http->lock);
    bool asked = http->stop_asked;
    pthread_mutex_unlock(&http->lock);
    return asked;
}

/* Nobody new; those who are parked are answered; what is being sent is sent. */
static void drain(struct http *http)
{
    int64_t until_us = clock_mono_us() + DRAIN_MS * 1000;
    MHD_socket listener = MHD_quiesce_daemon(http->daemon);
    if (listener != MHD_INVALID_SOCKET)
        close(listener);
    while (http->open_requests > 0 && clock_mono_us() < until_us) {
        http_wake_all(http);
        http_resume_woken(http);
        work_through(http);
        struct pollfd fds[] = {{.fd = http->epoll_fd, .events = POLLIN}, {.fd = http->event_fd, .events = POLLIN}};
        uint64_t count;
        if (poll(fds, 2, http->cut_short ? 0 : 20) > 0 && fds[1].revents &&
            read(http->event_fd, &count, sizeof count) < 0)
            break;
    }
}

void http_run(struct http *http)
{
    while (!stop_was_asked(http)) {
        wait_for_events(http);
        http_resume_woken(http);
        work_through(http);
        int64_t now_us = clock_mono_us();
        http_check_deadlines(http, now_us);
        sweep_connections(http, now_us);
        if (http_resume_woken(http))
            work_through(http);
    }
    drain(http);
}

void http_stop(struct http *http)
{
    pthread_mutex_lock(&http->lock);
    http->stop_asked = true;
    pthread_mutex_unlock(&http->lock);
    uint64_t one = 1;
    if (write(http->event_fd, &one, sizeof one) < 0)
        log_error("the loop could not be stopped", LOG_STR("error", strerror(errno)));
}

/* --- life ---------------------------------------------------------------------------- */

/* Paths and parameters are decoded by query.c, where bad escapes are refused. */
static size_t leave_escaped(void *cls, struct MHD_Connection *connection, char *text)
{
    (void)cls, (void)connection;
    return strlen(text);
}

static void log_of_microhttpd(void *cls, const char *format, va_list args)
{
    char text[300];
    (void)cls;
    vsnprintf(text, sizeof text, format, args);
    text[strcspn(text, "\n")] = '\0';
    log_debug("libmicrohttpd", LOG_STR("text", text));
}

static char *read_file(const char *path, struct reason *why)
{
    struct buf text = {0};
    char block[4096];
    size_t n;
    FILE *file = fopen(path, "re");
    if (!file) {
        reason_set(why, "%s: %s", path, strerror(errno));
        return NULL;
    }
    while ((n = fread(block, 1, sizeof block, file)) > 0)
        buf_add(&text, block, n);
    fclose(file);
    return buf_take(&text);
}

static struct MHD_Daemon *start_daemon(struct http *http, int fd, struct reason *why)
{
    const struct config *config = http->config;
    unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
    char *certificate = NULL, *key = NULL;
    struct MHD_Daemon *daemon = NULL;
    struct MHD_OptionItem options[16];
    int n = 0;
#define OPTION(...) options[n++] = (struct MHD_OptionItem){__VA_ARGS__}
    OPTION(MHD_OPTION_LISTEN_SOCKET, fd, NULL);
    OPTION(MHD_OPTION_CONNECTION_LIMIT, http->connections_max + LEAVING_ROOM, NULL);
    OPTION(MHD_OPTION_CONNECTION_TIMEOUT, config->limits.idle_timeout_ms / 1000, NULL);
    OPTION(MHD_OPTION_CONNECTION_MEMORY_LIMIT, config->limits.header_bytes + HEADER_ROOM, NULL);
    /* At 1 it answers a missing Host itself, with the answer's head twice (0.9.75): receive.c does. */
    OPTION(MHD_OPTION_STRICT_FOR_CLIENT, 0, NULL);
    if (config->limits.connections_per_address)
        OPTION(MHD_OPTION_PER_IP_CONNECTION_LIMIT, config->limits.connections_per_address, NULL);
    if (config->tls_certificate) {
        flags |= MHD_USE_TLS;
        certificate = read_file(config->tls_certificate, why);
        key = certificate ? read_file(config->tls_key, why) : NULL;
        if (!key)
            goto out;
        OPTION(MHD_OPTION_HTTPS_MEM_CERT, 0, certificate);
        OPTION(MHD_OPTION_HTTPS_MEM_KEY, 0, key);
        OPTION(MHD_OPTION_HTTPS_PRIORITIES, 0, "SECURE128:-VERS-TLS1.0:-VERS-TLS1.1");
    }
    OPTION(MHD_OPTION_END, 0, NULL);
#undef OPTION
    daemon = MHD_start_daemon(flags, 0, NULL, NULL, http_handle, http, MHD_OPTION_EXTERNAL_LOGGER,
                              log_of_microhttpd, NULL, MHD_OPTION_NOTIFY_COMPLETED, http_complete, http,
                              MHD_OPTION_NOTIFY_CONNECTION, on_connection, http, MHD_OPTION_URI_LOG_CALLBACK,
                              http_begin, http, MHD_OPTION_UNESCAPE_CALLBACK, leave_escaped, NULL,
                              MHD_OPTION_ARRAY, options, MHD_OPTION_END);
    if (!daemon)
        reason_set(why, config->tls_certificate
                            ? "HTTPS could not be started: is the certificate right, and its key?"
                            : "HTTP could not be started");
out:
    free(certificate);
    free(key);
    return daemon;
}

static struct http *http_new(const struct http_options *options)
{
    struct http *http = xcalloc(1, sizeof *http);
    http->routes = options->routes;
    http->context = options->context;
    http->config = config_ref(options->config);
    http->store = options->store;
    http->connections_max = options->connections ? options->connections : options->config->limits.connections;
    http->pages = pages_new();
    http->known = known_new();
    http->watched.fd = -1;
    http->ops_tail = &http->ops;
    pthread_mutex_init(&http->lock, NULL);
    http->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    http->leave_fd = epoll_create1(EPOLL_CLOEXEC);
    return http;
}

static enum err listen_and_start(struct http *http, int *port, struct reason *why)
{
    enum err err = listen_open(http->config, &http->listening, why);
    if (err != OK)
        return err;
    *port = http->listening.port;
    http->daemon = start_daemon(http, http->listening.fd, why);
    if (!http->daemon) {
        close(http->listening.fd);
        return ERR_IO;
    }
    http->epoll_fd = MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    return OK;
}

enum err http_open(const struct http_options *options, struct http **out, int *port, struct reason *why)
{
    struct http *http = http_new(options);
    enum err err = reader_open(http->store, &http->reader, why);
    if (err == OK)
        reader_be_brief(http->reader);
    if (err == OK)
        err = listen_and_start(http, port, why);
    if (err == OK)
        err = readers_open(http->store, READERS_MAX, &http->readers, why);
    if (err == OK)
        err = readers_open(NULL, 1, &http->background, why);
    if (err == OK)
        *out = http;
    else
        http_close(http);
    return err;
}

void http_set_config(struct http *http, struct config *config)
{
    config_unref(http->config);
    http->config = config_ref(config);
    http->generation++;
}

void http_watch(struct http *http, int fd, void (*ready)(void *), void *context)
{
    http->watched.fd = fd;
    http->watched.ready = ready;
    http->watched.context = context;
}

static void free_spares(struct http *http)
{
    while (http->spare) {
        struct exchange *spare = http->spare;
        LL_DELETE(http->spare, spare);
        buf_release(&spare->arena);
        buf_release(&spare->segment);
        buf_release(&spare->pulled);
        free(spare);
    }
}

void http_close(struct http *http)
{
    if (!http)
        return;
    readers_close(http->readers);
    readers_close(http->background);
    if (http->daemon) {
        http_resume_woken(http);
        while (http->parked) { /* MHD_stop_daemon aborts while any is suspended */
            request_wake_later(&http->parked->rq);
            http_resume_woken(http);
        }
        MHD_stop_daemon(http->daemon);
    }
    http_resume_woken(http);
    listen_release(&http->listening);
    free_spares(http);
    reader_close(http->reader);
    pages_free(http->pages);
    known_free(http->known);
    deadlines_release(&http->deadlines);
    config_unref(http->config);
    close(http->event_fd);
    close(http->leave_fd);
    pthread_mutex_destroy(&http->lock);
    free(http);
}

const char *http_address(const struct http *http)
{
    return http->listening.address;
}

const char *http_library_version(void)
{
    return MHD_get_version();
}

/* --- a request's own words ----------------------------------------------------------------- */

struct span request_header(const struct request *rq, const char *name)
{
    const char *value = NULL;
    size_t len = 0;
    if (rq->exchange->connection)
        MHD_lookup_connection_value_n(rq->exchange->connection, MHD_HEADER_KIND, name, strlen(name), &value, &len);
    return (struct span){value, len};
}

struct span request_key(const struct request *rq)
{
    return rq->exchange->headers.key;
}

struct span request_prefer(const struct request *rq)
{
    return rq->exchange->headers.prefer;
}
