#include "workers/transfers/transfer.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    CONNECT_MS = 30 * 1000, /* a host that is silent is none for longer than that */
    RETRY_AFTER_MAX_S = 24 * 3600,
};

/* --- sockets ------------------------------------------------------------------------- */

/* Curl's own would be inherited by every program that is started. */
static curl_socket_t open_socket(void *context, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct transfer *transfer = context;
    (void)purpose;
    lookup_done(transfer);
    int fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
    transfer->socket_error = fd < 0 ? errno : 0;
    return fd < 0 ? CURL_SOCKET_BAD : fd;
}

/* A connection that was there already needs no socket. */
static int before_request(void *context, char *ip, char *local_ip, int port, int local_port)
{
    (void)ip, (void)local_ip, (void)port, (void)local_port;
    lookup_done(context);
    return CURL_PREREQFUNC_OK;
}

/* --- one ------------------------------------------------------------------------------- */

bool transfer_init(struct transfer *transfer, const struct transfer_class *class, struct lookup *lookup)
{
    CURL *easy = transfer->easy = curl_easy_init();
    transfer->class = class;
    transfer->lookup = lookup;
    if (!easy)
        return false;
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L); /* who is given up does not wait for its look-up */
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1); /* what breaks, breaks for one */
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "");
    curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, before_request);
    curl_easy_setopt(easy, CURLOPT_PREREQDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->why);
    return true;
}

void transfer_set_route(struct transfer *transfer, const char *ca, const char *proxy)
{
    curl_easy_setopt(transfer->easy, CURLOPT_PROXY, proxy ? proxy : "");
    if (!ca)
        return;
    curl_easy_setopt(transfer->easy, CURLOPT_CAINFO, ca);
    curl_easy_setopt(transfer->easy, CURLOPT_CAPATH, NULL);
}

void transfer_release(struct transfer *transfer)
{
    curl_easy_cleanup(transfer->easy);
}

/* --- what came back ---------------------------------------------------------------------- */

long transfer_status(const struct transfer *transfer)
{
    long status = 0;
    curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
    return status;
}

const char *transfer_header(const struct transfer *transfer, const char *name)
{
    struct curl_header *header;
    return curl_easy_header(transfer->easy, name, 0, CURLH_HEADER, -1, &header) == CURLHE_OK ? header->value
                                                                                             : NULL;
}

/* Curl takes a number that it cannot hold for none. */
int64_t transfer_retry_after_ms(const struct transfer *transfer)
{
    curl_off_t seconds = 0;
    const char *text = transfer_header(transfer, "Retry-After");
    curl_easy_getinfo(transfer->easy, CURLINFO_RETRY_AFTER, &seconds);
    if (seconds == 0 && text && isdigit((unsigned char)*text))
        seconds = strtoll(text, NULL, 10);
    return seconds > 0 ? 1000 * (int64_t)(seconds < RETRY_AFTER_MAX_S ? seconds : RETRY_AFTER_MAX_S) : 0;
}

/* Looking up a name and reading certificates need a descriptor as well, and curl does not say
 * that there is none. */
int transfer_errno(const struct transfer *transfer, CURLcode code)
{
    static const CURLcode before_it_is_sent[] = {CURLE_COULDNT_RESOLVE_HOST, CURLE_COULDNT_RESOLVE_PROXY,
                                                 CURLE_SSL_CACERT_BADFILE, CURLE_COULDNT_CONNECT};
    if (transfer->socket_error)
        return transfer->socket_error;
    for (size_t i = 0; i < sizeof before_it_is_sent / sizeof *before_it_is_sent; i++) {
        int fd = code == before_it_is_sent[i] ? open("/dev/null", O_RDONLY | O_CLOEXEC) : -2;
        if (fd >= 0)
            close(fd);
        if (fd == -1)
            return errno;
    }
    return 0;
}
