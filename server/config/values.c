#include "server/config/keys.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/un.h>

static bool is_address(const char *host)
{
    unsigned char address[16];
    return inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
}

static bool parse_port(struct span text, int *port)
{
    int value = 0;
    if (text.len < 1 || text.len > 5)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.p[i] < '0' || text.p[i] > '9')
            return false;
        value = value * 10 + (text.p[i] - '0');
    }
    *port = value;
    return value <= 65535;
}

static bool refuse_host(const char *host, bool bracketed, struct reason *why)
{
    if (*host == '\0')
        reason_set(why, "needs an address before the port: 127.0.0.1:8080 for this machine alone, 0.0.0.0:8080 "
                        "for every network");
    else if (strchr(host, ':') && !bracketed)
        reason_set(why, "an IPv6 address stands in brackets, [::1]:8080");
    else
        reason_set(why, "`%s` is not an address: write one such as 127.0.0.1, [::1] or localhost", host);
    return false;
}

static bool parse_socket(struct span path, const char *folder, struct config *config, struct reason *why)
{
    const struct key key = {.name = "listen", .type = KEY_PATH, .offset = offsetof(struct config, listen_path)};
    if (!keys_set_text(&key, path, folder, config, why))
        return false;
    if (strlen(config->listen_path) >= sizeof((struct sockaddr_un *)NULL)->sun_path) {
        reason_set(why, "the path of a socket has at most %zu bytes",
                   sizeof((struct sockaddr_un *)NULL)->sun_path - 1);
        return false;
    }
    free(config->listen_host);
    config->listen_host = xstrdup("localhost");
    config->listen_port = 0;
    return true;
}

/* unix:PATH, or HOST:PORT, the host an address in figures or localhost. */
bool config_parse_listen(struct span text, const char *folder, void *target, struct reason *why)
{
    struct config *config = target;
    if (text.len > 5 && strncmp(text.p, "unix:", 5) == 0)
        return parse_socket((struct span){text.p + 5, text.len - 5}, folder, config, why);
    size_t port_start = text.len; /* after the last colon; 0 if there is none */
    while (port_start > 0 && text.p[port_start - 1] != ':')
        port_start--;
    int port;

    if (!parse_port((struct span){text.p + port_start, text.len - port_start}, &port)) {
        reason_set(why, "`%.*s` does not end with a port, 0 to 65535: write such as 127.0.0.1:8080", (int)text.len,
                   text.p);
        return false;
    }
    size_t host_len = port_start > 0 ? port_start - 1 : 0;
    bool bracketed = host_len > 2 && text.p[0] == '[' && text.p[host_len - 1] == ']';
    char *host = span_dup(bracketed ? (struct span){text.p + 1, host_len - 2} : (struct span){text.p, host_len});
    if (strcmp(host, "localhost") == 0) {
        free(host);
        host = xstrdup("127.0.0.1");
    }
    if (!is_address(host) || (strchr(host, ':') != NULL) != bracketed) {
        refuse_host(host, bracketed, why);
        free(host);
        return false;
    }
    free(config->listen_host);
    config->listen_host = host;
    config->listen_port = port;
    free(config->listen_path);
    config->listen_path = NULL;
    return true;
}

bool config_parse_store(struct span text, const char *folder, void *target, struct reason *why)
{
    struct config *config = target;
    const struct key path = {.name = "store", .type = KEY_PATH, .offset = offsetof(struct config, store)};

    char *copy = span_dup(text);
    bool is_url = strstr(copy, "://") || strncmp(copy, "sqlite:", 7) == 0;
    free(copy);
    if (is_url) {
        reason_set(why, "`%.*s` is not supported: write the path of a file, or :memory:", (int)text.len, text.p);
        return false;
    }
    if (!span_is(text, ":memory:"))
        return keys_set_text(&path, text, folder, target, why);
    free(config->store);
    config->store = span_dup(text);
    return true;
}

static void lower(char *text)
{
    for (; *text; text++)
        if (*text >= 'A' && *text <= 'Z')
            *text = (char)(*text + 32);
}

/* A name or an address, without port. */
bool config_check_host(char *text, struct reason *why)
{
    size_t n = strlen(text);
    lower(text);
    if (n > 2 && text[0] == '[' && text[n - 1] == ']') {
        memmove(text, text + 1, n - 2);
        text[n - 2] = '\0';
    }
    if (is_address(text))
        return true;
    n = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-._");
    if (n > 0 && n <= 253 && text[n] == '\0')
        return true;
    reason_set(why, "`%s` is not the name or the address of a host, without scheme and port", text);
    return false;
}

/* "*", or what a browser sends: scheme://host[:port]. */
bool config_check_origin(char *text, struct reason *why)
{
    lower(text);
    size_t scheme = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789+-.");
    const char *host = text + scheme + 3;
    if (strcmp(text, "*") == 0)
        return true;
    if (scheme > 0 && strncmp(text + scheme, "://", 3) == 0 && *host && strlen(text) <= 300 &&
        strspn(host, "abcdefghijklmnopqrstuvwxyz0123456789-._:[]") == strlen(host))
        return true;
    reason_set(why, "`%s` is not an origin, such as https://example.org (no path, no / at the end), or *", text);
    return false;
}

/* What a path is added to: http(s)://host[:port][/path]. */
bool config_check_url(char *text, struct reason *why)
{
    static const char *const schemes[] = {"http://", "https://"};
    size_t len = strlen(text);
    while (len && text[len - 1] == '/')
        text[--len] = '\0';
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        const char *host = text + strlen(schemes[i]);
        if (strncmp(text, schemes[i], strlen(schemes[i])) == 0 && *host && *host != '/' && *host != ':' &&
            strcspn(host, "?#@ \"<>\\^`{|}") == strlen(host))
            return true;
    }
    reason_set(why, "`%s` is not an address such as https://errand.example.org (http or https, no ? and no #)",
               text);
    return false;
}

bool config_is_loopback(const struct config *config)
{
    unsigned char ip[16];
    static const unsigned char mapped[12] = {[10] = 0xFF, [11] = 0xFF};
    static const unsigned char one[16] = {[15] = 1};

    if (strcmp(config->listen_host, "localhost") == 0)
        return true;
    if (inet_pton(AF_INET, config->listen_host, ip) == 1)
        return ip[0] == 127;
    if (inet_pton(AF_INET6, config->listen_host, ip) == 1)
        return memcmp(ip, one, 16) == 0 || (memcmp(ip, mapped, 12) == 0 && ip[12] == 127);
    return false;
}

static void check_listen(const struct config *config, struct config_origin listen, struct faults *faults)
{
    if (!config_is_loopback(config) && config->token_count == 0 && !config->insecure)
        faults_add(faults, listen.line, listen.pointer,
                   "%s is not loopback: it needs `tokens`, so that not everyone may call (or --insecure)",
                   config->listen_host);
}

static void check_store(const struct config *config, struct config_origin store, struct faults *faults)
{
    struct stat st;
    const char *slash = strrchr(config->store, '/');
    if (!slash)
        return; /* :memory: */
    size_t n = slash == config->store ? 1 : (size_t)(slash - config->store);
    char *folder = span_dup((struct span){config->store, n});
    if (stat(folder, &st) != 0 || !S_ISDIR(st.st_mode))
        faults_add(faults, store.line, store.pointer, "there is no folder %s", folder);
    else if (stat(config->store, &st) == 0 && S_ISDIR(st.st_mode))
        faults_add(faults, store.line, store.pointer, "%s is a folder, not a file", config->store);
    free(folder);
}

void config_check(const struct config *config, struct config_origin listen, struct config_origin store,
                  struct faults *faults)
{
    check_listen(config, listen, faults);
    check_store(config, store, faults);
}
