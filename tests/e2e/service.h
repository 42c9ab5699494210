/* A service of the test's own, which answers as the query of its URL says (service.py).
 * $SERVICE in a configuration is where it listens. */
#pragma once

#include "tests/e2e/support.h"

struct service {
    char *folder, *url;
    struct server *server; /* whose folder has the service's */
    pid_t pid;
};

/* A server whose tasks may have $SERVICE in them; not started. */
struct service *prepare_with_service(void);
void start_service(struct service *service, const char *certificate, const char *key);
struct server *serve_tasks(struct service *service, const char *config);
struct service *service_for(const char *config); /* all three */

int count_lines(const char *text);
char *seen(const struct service *service); /* a request a line */
int seen_count(const struct service *service);
cJSON *request(const struct service *service, int n); /* the n-th, from 0 */
const char *header_of(const cJSON *parsed, const char *name);
double number_in(const cJSON *parsed, const char *name);
