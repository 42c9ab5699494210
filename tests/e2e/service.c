#include "tests/e2e/service.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

void start_service(struct service *service, const char *certificate, const char *key)
{
    char *port = format("%s/port", service->folder);
    unlink(port);
    service->pid = fork();
    if (service->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execlp("python3", "python3", "tests/e2e/service.py", service->folder, certificate, key, NULL);
        _exit(127);
    }
    WAIT_UNTIL(exists(port));
    service->url = format("http%s://127.0.0.1:%s", certificate ? "s" : "", read_whole(port));
}

/* A server whose tasks may have $SERVICE in them; not started. */
struct service *prepare_with_service(void)
{
    struct service *service = calloc(1, sizeof *service);
    service->server = prepare("{}");
    service->folder = service->server->folder;
    return service;
}

struct server *serve_tasks(struct service *service, const char *config)
{
    configure(service->server, replaced(config, "$SERVICE", service->url));
    start(service->server);
    return service->server;
}

struct service *service_for(const char *config)
{
    struct service *service = prepare_with_service();
    start_service(service, NULL, NULL);
    serve_tasks(service, config);
    return service;
}

int count_lines(const char *text)
{
    int count = 0;
    for (; *text; text++)
        count += *text == '\n';
    return count;
}

char *seen(const struct service *service)
{
    return read_whole(format("%s/requests", service->folder));
}

int seen_count(const struct service *service)
{
    return count_lines(seen(service));
}

/* The n-th request. */
cJSON *request(const struct service *service, int n)
{
    char *line = seen(service);
    for (; n > 0 && line; n--)
        line = strchr(line, '\n') + 1;
    cJSON *parsed = cJSON_Parse(line);
    REQUIRE(parsed, "%s", seen(service));
    return parsed;
}

const char *header_of(const cJSON *parsed, const char *name)
{
    const cJSON *pair;
    cJSON_ArrayForEach(
        pair, cJSON_GetObjectItem(parsed, "headers")) if (strcasecmp(cJSON_GetArrayItem(pair, 0)->valuestring,
                                                                     name) == 0) return cJSON_GetArrayItem(pair, 1)
        ->valuestring;
    return NULL;
}

double number_in(const cJSON *parsed, const char *name)
{
    return cJSON_GetObjectItem(parsed, name)->valuedouble;
}
