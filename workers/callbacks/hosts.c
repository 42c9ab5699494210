#include "workers/callbacks/hosts.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* Where the host ends: at its port, or at the end. */
static size_t host_length(const char *pattern)
{
    const char *end = *pattern == '[' ? strchr(pattern, ']') : NULL;
    return end ? (size_t)(end + 1 - pattern) : strcspn(pattern, ":");
}

static bool is_port(const char *text)
{
    size_t n = strspn(text, "0123456789");
    return strcmp(text, "*") == 0 || (n > 0 && n <= 5 && !text[n] && atoi(text) >= 1 && atoi(text) <= 65535);
}

static bool is_host(const char *host, size_t n)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyz0123456789-_.", address[] = "0123456789abcdef:.";
    if (n > 2 && host[0] == '[')
        return strspn(host + 1, address) == n - 2;
    if (n > 2 && strncmp(host, "*.", 2) == 0) {
        host += 2;
        n -= 2;
    }
    return n > 0 && host[0] != '.' && host[n - 1] != '.' && strspn(host, plain) >= n;
}

bool hosts_check(char *pattern, struct reason *why)
{
    for (char *c = pattern; *c; c++)
        *c = (char)tolower((unsigned char)*c);
    size_t n = host_length(pattern);
    if (is_host(pattern, n) && (!pattern[n] || (pattern[n] == ':' && is_port(pattern + n + 1))))
        return true;
    reason_set(why,
               "`%s` is no host: write one such as example.org, *.example.org, example.org:8443, "
               "example.org:* or [::1]",
               pattern);
    return false;
}

static bool has_host(const char *pattern, size_t n, const char *host)
{
    size_t length = strlen(host);
    if (n < 2 || strncmp(pattern, "*.", 2) != 0)
        return length == n && memcmp(pattern, host, n) == 0;
    return length > n - 1 && memcmp(host + length - (n - 1), pattern + 1, n - 1) == 0;
}

static bool has_port(const char *pattern, const struct destination *destination)
{
    if (*pattern != ':')
        return destination->port == (destination->https ? 443 : 80);
    return pattern[1] == '*' || atoi(pattern + 1) == destination->port;
}

bool hosts_allow(char *const *patterns, const struct destination *destination)
{
    for (; *patterns; patterns++) {
        size_t n = host_length(*patterns);
        if (has_host(*patterns, n, destination->host) && has_port(*patterns + n, destination))
            return true;
    }
    return false;
}
