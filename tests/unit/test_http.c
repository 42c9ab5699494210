/* The loop with a table of its own: it knows no resource of ours. */
#include "base/clock.h"
#include "server/http/answer.h"
#include "server/http/http.h"
#include "server/http/topics.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PATIENCE_S = 30 };

/* Whoever makes the table says what this is. */
struct context {
    struct topics *topics;
    atomic_int listening;
};

/* --- what can be asked here ------------------------------------------------------ */

static enum next answer_text(struct request *rq, const char *text)
{
    struct buf body = {0};
    buf_adds(&body, text);
    return answer_body(rq, 200, "text/plain", &body);
}

static enum next say_segment(struct request *rq)
{
    struct buf body = {0};
    buf_add_span(&body, rq->segment);
    return answer_body(rq, 200, "text/plain", &body);
}

static void say_whose_reader(struct request *rq)
{
    answer_text(rq, rq->reader == rq->state ? "the loop's" : "its own");
}

static enum next work(struct request *rq)
{
    rq->state = rq->reader;
    rq->work = say_whose_reader;
    return NEXT_WORK;
}

/* Work that lasts until the test lets go of it. */
static atomic_int asked, begun;
static sem_t let_go;

static void hold(struct request *rq)
{
    atomic_fetch_add(&begun, 1);
    sem_wait(&let_go);
    answer_text(rq, "held");
}

static enum next work_long(struct request *rq)
{
    atomic_fetch_add(&asked, 1);
    rq->work = hold;
    return NEXT_WORK;
}

static void leave(void *state)
{
    topics_leave(state);
    free(state);
}

static enum next say_why(struct request *rq)
{
    return answer_text(rq, rq->timed_out ? "late" : topics_leave(rq->state) ? "closing" : "heard");
}

static enum next listen_for(struct request *rq, int64_t wait_ms)
{
    struct listener *listener = xcalloc(1, sizeof *listener);
    rq->state = listener;
    rq->release = leave;
    rq->resume = say_why;
    rq->deadline_us = clock_mono_us() + wait_ms * 1000;
    topics_listen(rq->context->topics, listener, rq, (struct topic){TOPIC_INVOCATION, 7});
    atomic_fetch_add(&rq->context->listening, 1);
    return NEXT_PARK;
}

static enum next wait_long(struct request *rq)
{
    return listen_for(rq, PATIENCE_S * 1000);
}

static enum next wait_briefly(struct request *rq)
{
    return listen_for(rq, 20);
}

static enum pull pull_twice(struct request *rq, struct buf *out)
{
    int *left = rq->state;
    if (!*left)
        return PULL_END;
    buf_addl(out, "piece ");
    --*left;
    return PULL_MORE;
}

static enum next stream(struct request *rq)
{
    int *left = xcalloc(1, sizeof *left);
    *left = 2;
    rq->state = left;
    rq->release = free;
    rq->answer.status = 200;
    rq->answer.content_type = "text/plain";
    rq->answer.pull = pull_twice;
    return NEXT_ANSWER;
}

static bool sink_open(struct request *rq)
{
    rq->state = xcalloc(1, sizeof(int));
    rq->release = free;
    return true;
}

static size_t sink_feed(struct request *rq, const char *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        *(int *)rq->state += data[i] == '\n';
    return size;
}

static enum next sink_end(struct request *rq)
{
    struct buf body = {0};
    buf_addf(&body, "%d lines", *(int *)rq->state);
    return answer_body(rq, 200, "text/plain", &body);
}

static bool sink_busy(const struct request *rq)
{
    (void)rq;
    return false;
}

static const struct body_sink lines = {sink_open, sink_feed, sink_end, sink_busy};

static const struct route table[] = {
    {METHOD_GET, "/say/{what}", 0, BODY_NONE, .handler = say_segment},
    {METHOD_GET, "/work", 0, BODY_NONE, .handler = work},
    {METHOD_GET, "/work/long", 0, BODY_NONE, .handler = work_long},
    {METHOD_GET, "/wait", 0, BODY_NONE, .handler = wait_long},
    {METHOD_GET, "/wait/briefly", 0, BODY_NONE, .handler = wait_briefly},
    {METHOD_GET, "/stream", 0, BODY_NONE, .handler = stream},
    {METHOD_POST, "/lines", 0, BODY_JSON, .handler = say_segment, .lines = &lines},
    {0},
};

/* --- around it ---------------------------------------------------------------------- */

static struct context context;
static struct config *config;
static struct store *store;
static struct http *http;
static int port;
static pthread_t loop;

static void *run(void *unused)
{
    http_run(http);
    return unused;
}

static void begin(void)
{
    struct faults faults = {0};
    struct reason why = {""};
    static const struct store_listener deaf = {0};
    struct store_options options = {.url = ":memory:", .node = 1};
    config = config_parse(SPAN("listen: 127.0.0.1:0\n"), "/", &faults);
    cr_assert(config);
    cr_assert_eq(store_open(&options, &store, &why), OK, "%s", why.text);
    store_listen(store, &deaf);
    cr_assert_eq(store_start(store, &why), OK, "%s", why.text);
    context.topics = topics_new();
    struct http_options with = {
        .routes = table, .context = &context, .config = config, .store = store, .connections = 100};
    cr_assert_eq(http_open(&with, &http, &port, &why), OK, "%s", why.text);
    cr_assert_eq(pthread_create(&loop, NULL, run, NULL), 0);
}

static void finish(void)
{
    http_stop(http);
    pthread_join(loop, NULL);
    store_stop(store);
    http_close(http);
    topics_free(context.topics);
    store_close(store);
    config_free(config);
}

TestSuite(http, .init = begin, .fini = finish, .timeout = 2 * PATIENCE_S);

/* A connection on which it was asked. */
static int ask(const char *request)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert_eq(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){PATIENCE_S, 0}, sizeof(struct timeval));
    cr_assert_eq(write(fd, request, strlen(request)), (ssize_t)strlen(request));
    return fd;
}

/* All that is answered until the server closes. */
static void expect(int fd, const char *status, const char *part)
{
    struct buf answer = {0};
    char block[1000];
    for (ssize_t n; (n = read(fd, block, sizeof block)) > 0;)
        buf_add(&answer, block, (size_t)n);
    close(fd);
    cr_expect(strstr(buf_cstr(&answer), status), "not %s: %s", status, buf_cstr(&answer));
    cr_expect(strstr(buf_cstr(&answer), part), "not %s: %s", part, buf_cstr(&answer));
    buf_release(&answer);
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

Test(http, serves_whatever_table_it_is_given)
{
    expect(ask(GET("/say/a%20b")), " 200 ", "\r\n\r\na b");
    expect(ask(GET("/tasks")), " 404 ", "not-found");
    expect(ask(GET("/lines")), " 405 ", "Allow: POST");
    expect(ask(GET("/stream")), " 200 ", "6\r\npiece \r\n6\r\npiece \r\n0\r\n");
    expect(ask("POST /lines HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
               "Content-Type: application/x-ndjson\r\nContent-Length: 6\r\n\r\n1\n2\n3\n"),
           " 200 ", "3 lines");
}

Test(http, work_is_done_with_another_reader)
{
    expect(ask(GET("/work")), " 200 ", "its own");
}

static atomic_int finished;

static void do_nothing(struct http_job *job, struct reader *reader)
{
    (void)job;
    (void)reader;
}

static void note_finished(struct http_job *job)
{
    (void)job;
    atomic_store(&finished, 1);
}

static void wait_for(const atomic_int *what, int at_least)
{
    int64_t until_us = clock_mono_us() + PATIENCE_S * 1000000;
    while (atomic_load(what) < at_least && clock_mono_us() < until_us)
        usleep(1000);
    cr_expect_geq(atomic_load(what), at_least);
}

/* A reload waited behind all that guests had asked for. */
Test(http, what_is_nobodys_request_waits_for_no_reader)
{
    enum { READERS = 2, ASKED = 5 };
    struct http_job job = {.run = do_nothing, .finish = note_finished};
    int fds[ASKED];
    sem_init(&let_go, 0, 0);
    for (int i = 0; i < ASKED; i++)
        fds[i] = ask(GET("/work/long"));
    wait_for(&begun, READERS);
    wait_for(&asked, ASKED);
    http_do(http, &job);
    wait_for(&finished, 1);
    cr_expect_eq(begun, READERS);
    for (int i = 0; i < ASKED; i++)
        sem_post(&let_go);
    for (int i = 0; i < ASKED; i++)
        expect(fds[i], " 200 ", "held");
    sem_destroy(&let_go);
}

Test(http, a_request_is_woken_by_its_topic_and_by_no_other)
{
    const struct topic others[] = {{TOPIC_INVOCATION, 8}, {TOPIC_INVOCATION_FINAL, 7}};
    const struct topic its_own = {TOPIC_INVOCATION, 7};
    int fds[] = {ask(GET("/wait")), ask(GET("/wait"))};
    wait_for(&context.listening, 2);
    topics_announce(context.topics, others, 2);
    http_flush(http);
    expect(ask(GET("/say/hello")), " 200 ", "hello");
    cr_expect(topics_awaited(context.topics));
    topics_announce(context.topics, &its_own, 1);
    http_flush(http);
    cr_expect_not(topics_awaited(context.topics));
    expect(fds[0], " 200 ", "heard");
    expect(fds[1], " 200 ", "heard");
}

Test(http, a_request_is_woken_by_its_deadline)
{
    int longer = ask(GET("/wait"));
    expect(ask(GET("/wait/briefly")), " 200 ", "late");
    http_stop(http); /* who waits is answered with what is known */
    expect(longer, " 200 ", "closing");
}
