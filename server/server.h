/* The server: what its parts share. One struct, made by serve.c, known to every
 * handler as rq->server. */
#pragma once

#include "server/config/config.h"
#include "server/http/http.h"
#include "server/http/topics.h"
#include "store/store.h"
#include "workers/runner.h"

#include <stdatomic.h>

struct server {
    struct config *config; /* the HTTP thread's; SIGHUP replaces it */
    struct store *store;
    struct runner *runner;
    struct http *http;
    struct reader *reader; /* the HTTP thread's own connection */
    struct waits *waits;
    struct statistics *statistics;
    struct http_cache *cache;
    int64_t started_at;
    atomic_bool closing; /* submissions get 503 */
};

/* Stops it as POST /shutdown and signals do: any thread, but the first time the
 * HTTP thread; a stronger policy replaces a weaker one. */
void server_shutdown(struct server *server, enum close_policy policy);
