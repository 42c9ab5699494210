/* Preloaded into the server: names that end in .slow are looked up until the file
 * that SLOW_NAMES names is there, and are this machine then. Each look-up is a line
 * of the file beside it, .asked. CONNECT_MS is how long curl waits for a connection. */
#include <dlfcn.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int look_up(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **out)
{
    look_up *real = (look_up *)dlsym(RTLD_NEXT, "getaddrinfo");
    const char *path = getenv("SLOW_NAMES"), *end = name ? strrchr(name, '.') : NULL;
    char asked[4096];
    if (!path || !end || strcmp(end, ".slow") != 0)
        return real(name, service, hints, out);
    snprintf(asked, sizeof asked, "%s.asked", path);
    FILE *file = fopen(asked, "ae");
    if (file) {
        fprintf(file, "%s\n", name);
        fclose(file);
    }
    while (access(path, F_OK) != 0)
        usleep(5000);
    return real("127.0.0.1", service, hints, out);
}

enum { CURLOPT_CONNECTTIMEOUT_MS = 156 };

int curl_easy_setopt(void *easy, int option, ...);

int curl_easy_setopt(void *easy, int option, ...)
{
    int (*real)(void *, int, ...) = (int (*)(void *, int, ...))dlsym(RTLD_NEXT, "curl_easy_setopt");
    const char *ms = getenv("CONNECT_MS");
    va_list args;
    va_start(args, option);
    void *value = va_arg(args, void *); /* a long, a pointer or a curl_off_t: a word each */
    va_end(args);
    if (ms && option == CURLOPT_CONNECTTIMEOUT_MS)
        return real(easy, option, atol(ms));
    return real(easy, option, value);
}
