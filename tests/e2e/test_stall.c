/* Many connections at once: none stalls, none holds up another.
 *
 * libmicrohttpd's own epoll thread stalls when the ready events are an exact
 * multiple of 128 (MAX_EVENTS), which group commits make likely. */
#include "tests/e2e/support.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

SUITE(stall);

#define JSON "Content-Type: application/json\r\n"

static void lockstep(int count, int rounds)
{
    struct server *s = serve("slots: 2\n" TASKS);
    struct client *clients[512];
    char *body = "{\"task\": \"echo\"}";
    EXPECT(post(s, "/pause", NULL), 200);
    for (int i = 0; i < count; i++)
        clients[i] = client_open(s);
    int64_t slowest = 0;
    for (int round = 0; round < rounds; round++) {
        int64_t began = now_ms();
        for (int i = 0; i < count; i++)
            client_ask(clients[i], "POST", "/tasks", JSON, body, strlen(body));
        for (int i = 0; i < count; i++) {
            struct reply *r = client_receive(clients[i], false);
            REQUIRE(r && r->status == 201, "connection %d in round %d: %s", i, round, r ? r->body : "closed");
        }
        if (now_ms() - began > slowest)
            slowest = now_ms() - began;
    }
    EXPECT_NUMBER(get(s, "/stats"), "invocations.queued", (double)count * rounds);
    REQUIRE(slowest < 5000, "a round of %d took %lld ms", count, (long long)slowest);
}

Test(stall, connections_127_in_lockstep)
{
    lockstep(127, 20);
}
Test(stall, connections_128_in_lockstep)
{
    lockstep(128, 20);
}
Test(stall, connections_256_in_lockstep)
{
    lockstep(256, 20);
}
Test(stall, connections_512_in_lockstep)
{
    lockstep(512, 10);
}

Test(stall, waits_that_end_together_are_all_answered)
{
    struct server *s = serve("limits: {streams: 600}\n" TASKS);
    struct client *clients[512];
    for (int count = 128; count <= 512; count *= 2) {
        char *go = file_in(s, format("go-%d", count));
        char *id = submit(s, "{'task': 'hold', 'args': '%s'}", go);
        for (int i = 0; i < count; i++) {
            clients[i] = client_open(s);
            client_ask(clients[i], "GET", format("/invocations/%s?wait=60", id), NULL, NULL, 0);
        }
        EXPECT(get(s, "/healthz"), 200);
        touch(go);
        for (int i = 0; i < count; i++) {
            EXPECT_TEXT(client_receive(clients[i], false), "status", "succeeded");
            client_close(clients[i]);
        }
    }
}

Test(stall, a_thousand_slow_clients_do_not_hold_up_a_fast_one)
{
    struct server *s = serve("limits: {connections: 1200}\n" TASKS);
    static struct client *slow[1000];
    for (int i = 0; i < 1000; i++) {
        slow[i] = client_open(s);
        if (i % 3 == 0) { /* a head that does not end */
            client_send(slow[i], "GET /tasks HTTP/1.1\r\nHost: local", 33);
        } else if (i % 3 == 1) { /* a body that does not end */
            client_ask(slow[i], "POST", "/tasks", JSON "Content-Length: 1000\r\n", NULL, 0);
            client_send(slow[i], "{\"task\":", 8);
        } else { /* an answer that is not read */
            client_ask(slow[i], "GET", "/openapi.yaml", NULL, NULL, 0);
        }
    }
    int64_t began = now_ms();
    struct client *fast = client_open(s);
    char *body = "{\"task\": \"echo\"}";
    for (int i = 0; i < 200; i++) {
        client_ask(fast, "POST", "/tasks", JSON, body, strlen(body));
        struct reply *r = client_receive(fast, false);
        REQUIRE(r && r->status == 201, "%s", r ? r->body : "closed");
    }
    REQUIRE(now_ms() - began < 5000, "200 requests took %lld ms", (long long)(now_ms() - began));
    int64_t before = processor_ms(s);
    final(s, submit(s, "{'task': 'echo', 'delay': '1s'}"));
    REQUIRE(processor_ms(s) - before < 400, "it spins: %lld ms of 1 s", (long long)(processor_ms(s) - before));
}

/* A process that sends requests without waiting for the answers, until it is killed. */
static pid_t never_pausing_client(struct server *s)
{
    static const char request[] = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    enum { LENGTH = sizeof(request) - 1, BLOCK = LENGTH * 1000 };
    static char block[BLOCK], answers[1 << 20];
    struct client *client = client_open(s);
    pid_t pid = fork();
    if (pid != 0) {
        client_close(client);
        return pid;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (int i = 0; i < BLOCK; i++)
        block[i] = request[i % LENGTH];
    for (size_t at = 0;;) {
        struct pollfd p = {client->fd, POLLIN | POLLOUT, 0};
        if (poll(&p, 1, -1) < 0 || ((p.revents & POLLIN) && recv(client->fd, answers, sizeof(answers), 0) <= 0))
            _exit(0);
        ssize_t sent =
            p.revents & POLLOUT ? send(client->fd, block + at, BLOCK - at, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;
        at = sent > 0 ? (at + (size_t)sent) % BLOCK : at;
    }
}

/* A pass of the loop went on as long as any handler made progress: nobody else's
 * submission was committed, no deadline looked at, no signal heard. */
Test(stall, a_client_that_never_pauses_holds_up_nobody)
{
    struct server *s = serve(TASKS);
    pid_t busy[2] = {never_pausing_client(s), never_pausing_client(s)};
    char *id = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
    EXPECT_TEXT(get(s, "/invocations/%s?wait=0.1", id), "status", "running");
    touch(file_in(s, "go"));
    EXPECT_TEXT(final(s, id), "status", "succeeded");
    cr_assert_eq(terminate(s), 0);
    for (int i = 0; i < 2; i++) {
        kill(busy[i], SIGKILL);
        waitpid(busy[i], NULL, 0);
    }
}
