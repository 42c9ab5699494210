/* Inside the HTTP glue (http*.c): what the loop, the parsing and the sending of
 * requests share. The home of microhttpd.h. */
#pragma once

#include "server/resources/bulk.h"
#include "server/http/gate.h"
#include "server/http/http.h"
#include "server/server.h"

#include <microhttpd.h>
#include <pthread.h>

enum phase {
    PHASE_NEW,    /* the request line was read */
    PHASE_BODY,   /* headers were read, a body may come */
    PHASE_DROP,   /* refused: the body is read and dropped, so that the answer is heard */
    PHASE_COMMIT, /* parked, not suspended: a commit is awaited */
    PHASE_PARKED, /* parked and suspended */
    PHASE_WOKEN,  /* to be resumed by the next pass */
    PHASE_SENT,   /* the answer is queued */
};

/* A client's connection, for the time limits on sending requests. */
struct connection {
    struct connection *previous, *next;
    int fd;
    int64_t deadline_us; /* the next request must have come by then; 0: none */
};

struct http_request {
    struct http *http;
    struct MHD_Connection *connection;
    struct connection *peer;
    char *uri; /* path and query as sent, owned */
    enum phase phase;
    bool refused; /* rq.answer was filled before the body came */
    bool suspended;
    bool streaming;    /* answer.pull is being called */
    bool waked;        /* guarded by http->lock: someone has woken it */
    bool orphan;       /* the client left while it was parked */
    int64_t body_left; /* announced and not yet received, for the limit; -1: chunked */
    int64_t body_max;
    int64_t dropped;
    struct buf arena;   /* the decoded query */
    struct buf segment; /* the decoded segment of the path */
    struct buf pulled;  /* bytes of answer.pull not yet sent */
    size_t pulled_at;
    struct bulk *bulk; /* NDJSON that is read as it arrives */
    struct headers headers;
    struct http_request *woken_next;
    struct http_request *parked_previous, *parked_next;
    struct request rq; /* last: it ends with an array that is not cleared */
};

struct worker {
    struct http *http;
    pthread_t thread;
    bool started;
    struct reader *reader;
};

enum { WORKERS = 2 };

struct http {
    struct server *server;
    struct MHD_Daemon *daemon;
    int epoll_fd; /* the daemon's */
    int event_fd; /* the loop is wanted */
    struct {
        int fd;
        void (*ready)(void *context);
        void *context;
    } watched;
    bool progress;     /* something happened in this pass: run another */
    bool restless;     /* the last pass was cut short: no sleep before the next */
    int awaiting;      /* requests in PHASE_COMMIT */
    int open_requests; /* begun and not completed */
    struct http_request *parked;
    int parked_count;
    int64_t next_deadline_us; /* of the parked ones; INT64_MAX: none */
    struct connection *connections;
    int connection_count;
    int64_t next_sweep_us;
    struct op *ops, **ops_tail; /* of this pass, for the committer */
    int op_count;
    struct http_request *spare; /* completed ones, to be used again */
    int spare_count;
    bool stopping;

    pthread_mutex_t lock; /* guards what follows */
    struct http_request *woken;
    bool signalled; /* event_fd was written and not yet read */
    bool stop_asked;

    pthread_mutex_t work_lock; /* guards the queue of work */
    pthread_cond_t work_wake;
    struct http_request *work, **work_tail; /* linked by woken_next */
    bool work_ended;
    struct worker workers[WORKERS];
};

/* http_request.c */
void *http_begin(void *cls, const char *uri, struct MHD_Connection *connection);
enum MHD_Result http_handle(void *cls, struct MHD_Connection *connection, const char *url, const char *method,
                            const char *version, const char *data, size_t *size, void **context);
void http_complete(void *cls, struct MHD_Connection *connection, void **context,
                   enum MHD_RequestTerminationCode code);
void http_free_request(struct http_request *glue);
void http_resume(struct http_request *glue); /* after a wake-up */

/* http_send.c */
enum MHD_Result http_send(struct http_request *glue);

/* http_park.c */
enum MHD_Result http_next(struct http_request *glue, enum next next);
void http_park(struct http_request *glue, enum phase phase);
void http_unpark(struct http_request *glue);
void http_forget_wake(struct http_request *glue);
struct http_request *http_take_woken(struct http *http);
void http_check_deadlines(struct http *http, int64_t now_us);
void http_wake_all(struct http *http);
enum err http_workers_start(struct http *http, struct reason *why);
void http_workers_stop(struct http *http);
