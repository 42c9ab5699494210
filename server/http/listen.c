#include "server/http/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 1024, INHERITED_FD = 3 };

/* --- a path ------------------------------------------------------------------------- */

/* One that nobody listens on any more is in the way. */
static bool remove_stale(const struct sockaddr_un *address, struct reason *why)
{
    struct stat st;
    if (lstat(address->sun_path, &st) != 0 || !S_ISSOCK(st.st_mode))
        return true; /* bind() says what is wrong */
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool used = fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof *address) == 0;
    if (fd >= 0)
        close(fd);
    if (used)
        reason_set(why, "listen: another server listens on %s", address->sun_path);
    else
        unlink(address->sun_path);
    return !used;
}

/* Its mode is set before anybody can connect: the owner and the group may. */
static int listen_on_path(const char *path, struct reason *why)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    if (!remove_stale(&address, why))
        return -1;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && chmod(path, 0660) == 0 &&
        listen(fd, BACKLOG) == 0)
        return fd;
    reason_set(why, "listen: %s: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}

/* --- an address --------------------------------------------------------------------- */

static struct addrinfo *resolve(const struct config *config, struct reason *why)
{
    char port[16];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    snprintf(port, sizeof port, "%d", config->listen_port);
    int code = getaddrinfo(config->listen_host, port, &hints, &found);
    if (code != 0)
        reason_set(why, "listen: %s: %s", config->listen_host, gai_strerror(code));
    return code == 0 ? found : NULL;
}

static int listen_on_address(const struct config *config, struct reason *why)
{
    int one = 1;
    struct addrinfo *address = resolve(config, why);
    if (!address)
        return -1;
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    bool listens = fd >= 0 && bind(fd, address->ai_addr, address->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0;
    if (!listens)
        reason_set(why, "listen on %s:%d: %s", config->listen_host, config->listen_port, strerror(errno));
    freeaddrinfo(address);
    if (listens)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

/* --- one that was given --------------------------------------------------------------- */

static bool is_given(void)
{
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
    return count && *count && strcmp(count, "0") != 0 && (!pid || atol(pid) == (long)getpid());
}

/* What the children of commands must not take for theirs is unset. */
static int take_given(struct reason *why)
{
    bool one = strcmp(getenv("LISTEN_FDS"), "1") == 0;
    int listens = 0;
    socklen_t size = sizeof listens;
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    if (!one || getsockopt(INHERITED_FD, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0 || !listens) {
        reason_set(why, "LISTEN_FDS: one socket that is listened on is needed, as descriptor %d", INHERITED_FD);
        return -1;
    }
    fcntl(INHERITED_FD, F_SETFD, FD_CLOEXEC);
    fcntl(INHERITED_FD, F_SETFL, fcntl(INHERITED_FD, F_GETFL) | O_NONBLOCK);
    return INHERITED_FD;
}

/* --- what it is ------------------------------------------------------------------------- */

static bool is_local(const struct sockaddr_storage *bound)
{
    const struct sockaddr_in *four = (const struct sockaddr_in *)bound;
    const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)bound;
    switch (bound->ss_family) {
    case AF_INET: return ntohl(four->sin_addr.s_addr) >> 24 == 127;
    case AF_INET6: return IN6_IS_ADDR_LOOPBACK(&six->sin6_addr);
    default: return bound->ss_family == AF_UNIX;
    }
}

static void describe(struct listening *out, const struct sockaddr_storage *bound)
{
    struct buf text = {0};
    char host[INET6_ADDRSTRLEN] = "";
    if (bound->ss_family == AF_UNIX) {
        buf_addf(&text, "unix:%s", ((const struct sockaddr_un *)bound)->sun_path);
    } else if (bound->ss_family == AF_INET6) {
        const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)bound;
        out->port = ntohs(six->sin6_port);
        buf_addf(&text, "[%s]:%d", inet_ntop(AF_INET6, &six->sin6_addr, host, sizeof host), out->port);
    } else {
        const struct sockaddr_in *four = (const struct sockaddr_in *)bound;
        out->port = ntohs(four->sin_port);
        buf_addf(&text, "%s:%d", inet_ntop(AF_INET, &four->sin_addr, host, sizeof host), out->port);
    }
    out->address = buf_take(&text);
}

enum err listen_open(const struct config *config, struct listening *out, struct reason *why)
{
    struct sockaddr_storage bound = {0};
    socklen_t size = sizeof bound - 1; /* a path ends with a NUL then */
    bool given = is_given();
    *out = (struct listening){0};
    if (given)
        out->fd = take_given(why);
    else
        out->fd = config->listen_path ? listen_on_path(config->listen_path, why) : listen_on_address(config, why);
    if (out->fd < 0)
        return ERR_IO;
    if (getsockname(out->fd, (struct sockaddr *)&bound, &size) != 0) {
        reason_set(why, "listen: %s", strerror(errno));
        close(out->fd);
        return ERR_IO;
    }
    if (given && !is_local(&bound) && !config->token_count && !config->insecure) {
        reason_set(why, "LISTEN_FDS: its address is not loopback: it needs `tokens` (or --insecure)");
        close(out->fd);
        return ERR_INVALID;
    }
    describe(out, &bound);
    out->unlink = !given && config->listen_path ? xstrdup(config->listen_path) : NULL;
    return OK;
}

void listen_release(struct listening *listening)
{
    if (listening->unlink)
        unlink(listening->unlink);
    free(listening->unlink);
    free(listening->address);
    *listening = (struct listening){0};
}
