/* What the loop, the parsing and the sending of requests share. The home of
 * microhttpd.h; not for other rooms. */
#pragma once

#include "base/deadlines.h"
#include "server/http/framing.h"
#include "server/http/gate.h"
#include "server/http/http.h"
#include "server/http/listen.h"
#include "server/http/readers.h"
#include "server/http/shares.h"

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

/* A request and its answer on a connection. */
struct exchange {
    struct http *http;
    struct MHD_Connection *connection;
    struct connection *peer;
    char *uri;           /* path and query as sent, owned */
    const char *uri_was; /* where libmicrohttpd had it; looked at by nobody */
    enum phase phase;
    bool refused; /* rq.answer was filled before the body came */
    bool suspended;
    bool working;   /* a reader thread has it: no wake-up concerns it until that is back */
    bool streaming; /* answer.pull is being called */
    bool waked;     /* guarded by http->lock: someone has woken it */
    bool follows;   /* a stream: it counts among the parked from its beginning to its end */
    bool orphan;    /* the client left while it was parked */
    bool watched;   /* in http->leave_fd */
    int64_t began_us;
    int64_t body_left; /* announced and not yet received, for the limit; -1: chunked */
    int64_t body_max;
    int64_t dropped;
    struct buf arena;   /* the decoded query */
    struct buf segment; /* the decoded segments of the path */
    struct buf pulled;  /* bytes of answer.pull not yet sent */
    size_t pulled_at;
    size_t bulk_charged;          /* bytes of its large body that count in http->bulk_bytes */
    size_t charged;               /* bytes of its answer that count in http->answer_bytes */
    const struct body_sink *sink; /* takes the body as it arrives; NULL: it is gathered in rq.body */
    struct headers headers;
    struct framing framing;
    struct deadline deadline; /* while it is parked */
    struct http_job job;      /* its work */
    struct exchange *woken_next;
    struct exchange *next, *prev; /* of those that are parked, or to be used anew */
    struct request rq;            /* last: it ends with an array that is not cleared */
};

struct http {
    const struct route *routes;
    struct context *context;
    struct config *config; /* referenced */
    uint64_t generation;   /* how many configurations there were before it */
    struct store *store;
    struct reader *reader; /* the HTTP thread's own, a brief one */
    int64_t rows_seen;     /* of that reader */
    struct readers *readers;
    struct readers *background; /* a thread for what is nobody's request */
    struct pages *pages;
    struct known *known;
    struct listening listening;
    struct MHD_Daemon *daemon;
    int epoll_fd; /* the daemon's */
    int event_fd; /* the loop is wanted */
    int leave_fd; /* an epoll of the connections of those who wait: their clients' ends */
    struct {
        int fd;
        void (*ready)(void *context);
        void *context;
    } watched;
    bool progress;       /* something happened in this pass: run another */
    bool cut_short;      /* the last pass was: no sleep before the next */
    int awaiting;        /* requests in PHASE_COMMIT */
    int open_requests;   /* begun and not completed */
    size_t bulk_bytes;   /* of large bodies that are held whole, and what is made of them */
    size_t answer_bytes; /* of large answers that are being sent */
    struct exchange *parked;
    int parked_count;           /* those whose work is under way are not among them, streams always are */
    struct deadlines deadlines; /* of the parked ones */
    struct connection *connections;
    int connection_count; /* without those that were hung up on */
    int connections_max;
    struct shares shares;
    int64_t next_sweep_us;
    struct op *ops, **ops_tail; /* of this pass, for the committer */
    int op_count;
    struct exchange *spare; /* completed ones, to be used anew */
    int spare_count;

    pthread_mutex_t lock; /* guards what follows */
    struct exchange *woken;
    struct job *finished; /* run by a reader thread, to be finished here */
    bool signalled;       /* event_fd was written and not yet read */
    bool stop_asked;
};

/* loop.c: it sends nothing more. */
bool http_has_left(const struct connection *c);

/* receive.c */
void *http_begin(void *cls, const char *uri, struct MHD_Connection *connection);
enum MHD_Result http_handle(void *cls, struct MHD_Connection *connection, const char *url, const char *method,
                            const char *version, const char *data, size_t *size, void **context);
void http_complete(void *cls, struct MHD_Connection *connection, void **context,
                   enum MHD_RequestTerminationCode code);
void http_free_exchange(struct exchange *exchange);

/* park.c: after a handler's call, whether it read more than a short page on the HTTP thread. */
void http_check_rows(struct exchange *exchange);

/* charge.c: its body is so long by now. False: there is no room for it, and 503 is answered. */
bool http_charge_body(struct exchange *exchange, int64_t bytes);

/* send.c */
enum MHD_Result http_send(struct exchange *exchange);

/* own_pages.c: as MHD_queue_response, which is for libmicrohttpd itself. */
enum MHD_Result http_queue(struct MHD_Connection *connection, unsigned status, struct MHD_Response *response);

/* park.c */
enum MHD_Result http_next(struct exchange *exchange, enum next next);
void http_park(struct exchange *exchange, enum phase phase);
void http_park_for_work(struct exchange *exchange);
void http_unpark(struct exchange *exchange);
void http_resume_orphan(struct exchange *exchange);
void http_forget_wake(struct exchange *exchange);
bool http_resume_woken(struct http *http); /* were there any? */
void http_check_deadlines(struct http *http, int64_t now_us);
void http_wake_all(struct http *http);
void http_check_left(struct http *http); /* leave_fd can be read */
