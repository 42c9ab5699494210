/* What is short for a while: it costs no work. */
#include "tests/e2e/support.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

SUITE(shortage);

#define JSON "Content-Type: application/json\r\n"
#define NDJSON "Content-Type: application/x-ndjson\r\n"

static struct reply *on(struct client *client, const char *method, const char *path, const char *headers,
                        const char *body)
{
    client_ask(client, method, path, headers, body, body ? strlen(body) : 0);
    struct reply *r = client_receive(client, false);
    REQUIRE(r, "%s %s: the server hung up", method, path);
    return r;
}

static int descriptors_of(struct server *s)
{
    int highest = 0;
    DIR *folder = opendir(format("/proc/%d/fd", (int)s->pid));
    for (struct dirent *entry; (entry = readdir(folder));)
        if (atoi(entry->d_name) > highest)
            highest = atoi(entry->d_name);
    closedir(folder);
    return highest + 1;
}

static int times(const char *text, const char *part)
{
    int n = 0;
    for (; (text = strstr(text, part)); text += strlen(part))
        n++;
    return n;
}

Test(shortage, what_cannot_start_for_want_of_descriptors_waits_and_pays_nothing)
{
    struct server *s = serve("slots: 2\ntasks: {say: {kind: command, run: [echo, hello]}}\n");
    struct client *c = client_open(s);
    struct rlimit before, short_of;
    char *first = strdup(text_of(on(c, "POST", "/tasks", JSON, "{\"task\": \"say\"}"), "id"));
    EXPECT_TEXT(on(c, "GET", format("/invocations/%s?wait=30", first), NULL, NULL), "status", "succeeded");

    REQUIRE(prlimit(s->pid, RLIMIT_NOFILE, NULL, &before) == 0);
    short_of = (struct rlimit){(rlim_t)descriptors_of(s), before.rlim_max};
    REQUIRE(prlimit(s->pid, RLIMIT_NOFILE, &short_of, NULL) == 0);
    char *id = strdup(text_of(on(c, "POST", "/tasks", JSON, "{\"task\": \"say\"}"), "id"));
    WAIT_UNTIL(on(c, "GET", "/readyz", NULL, NULL)->status == 503);
    struct reply *r = EXPECT_PROBLEM(on(c, "GET", "/readyz", NULL, NULL), 503, "unavailable");
    EXPECT_HAS(r, "descriptors");
    WAIT_UNTIL(times(server_log(s), "starts are held back") == 1);

    REQUIRE(prlimit(s->pid, RLIMIT_NOFILE, &before, NULL) == 0);
    r = on(c, "GET", format("/invocations/%s?wait=30", id), NULL, NULL);
    EXPECT_TEXT(r, "status", "succeeded");
    EXPECT_NUMBER(r, "attempt", 1);
    EXPECT_NUMBER(on(c, "GET", "/stats", NULL, NULL), "invocations.failed", 0);
    WAIT_UNTIL(on(c, "GET", "/readyz", NULL, NULL)->status == 200);
    WAIT_UNTIL(times(server_log(s), "starts go on") == 1); /* said after it is so */
    cr_assert_eq(times(server_log(s), "starts are held back"), 1, "%s", server_log(s));
}

Test(shortage, idle_connections_do_not_take_what_starts_need)
{
    enum { IDLE = 150, COMMANDS = 40 };
    struct rlimit own, small = {200, 200};
    struct client *idle[IDLE];
    struct server *s = prepare("slots: 4\ntasks: {say: {kind: command, run: [echo, hello]}}\n");
    REQUIRE(getrlimit(RLIMIT_NOFILE, &own) == 0 && setrlimit(RLIMIT_NOFILE, &small) == 0);
    start(s);
    WAIT_UNTIL(strstr(server_log(s), "for want of descriptors"));
    for (int i = 0; i < IDLE; i++)
        idle[i] = client_open(s);
    char *lines = strdup("");
    for (int i = 0; i < COMMANDS; i++)
        lines = format("%s{\"task\": \"say\"}\n", lines);
    struct client *newest = idle[IDLE - 1]; /* the oldest have lost their places to newcomers */
    EXPECT(on(newest, "POST", "/tasks", NDJSON, lines), 200);
    struct reply *r;
    WAIT_UNTIL((r = on(newest, "GET", "/stats", NULL, NULL),
                number_of(r, "invocations.queued") == 0 && number_of(r, "invocations.running") == 0));
    EXPECT_NUMBER(r, "invocations.succeeded", COMMANDS);
    cr_assert(!strstr(server_log(s), "starts are held back"), "%s", server_log(s));
}

static struct server *prepare_for_few_threads(const char *config)
{
    if (!is_plain())
        cr_skip_test("a sanitizer wants to be loaded first");
    struct server *s = prepare(config);
    const char **variables = calloc(3, sizeof *variables);
    variables[0] = format("LD_PRELOAD=%s", native("few_threads"));
    variables[1] = format("FEW_THREADS=%s", file_in(s, "few"));
    s->variables = variables;
    return s;
}

/* The closer's thread was made when it was needed: without it the server waited
 * for its bodies for ever. */
Test(shortage, a_server_that_gets_no_more_threads_stops_as_any_other)
{
    struct server *s = prepare_for_few_threads("slots: 2\nshutdown_timeout: 200ms\nkill_grace: 100ms\n" TASKS);
    start(s);
    char *id = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
    AWAIT_STATUS(s, id, "running");
    touch(file_in(s, "few"));
    cr_assert_eq(terminate(s), 0, "%s", server_log(s));
    unlink(file_in(s, "few"));
    start(s);
    touch(file_in(s, "go"));
    EXPECT_TEXT(final(s, id), "status", "succeeded");
}

/* A thread that was made after the bodies' and failed left a server that waited
 * for a body it had begun. */
Test(shortage, a_server_that_gets_too_few_threads_to_start_says_so_and_ends)
{
    enum { MORE_THAN_ITS_OWN = 16 };
    struct server *s = prepare_for_few_threads("slots: 2\n" TASKS);
    start(s);
    char *id = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
    AWAIT_STATUS(s, id, "running");
    kill_hard(s);
    int threads = 0;
    for (write_whole(file_in(s, "few"), "0"); !try_start(s); threads++) {
        REQUIRE(threads < MORE_THAN_ITS_OWN);
        cr_assert_eq(await_exit(s), 1, "with %d threads: %s", threads, server_log(s));
        write_whole(file_in(s, "few"), format("%d", threads + 1));
    }
    cr_assert_gt(threads, 3);
    cr_assert_eq(times(server_log(s), "no thread"), threads, "%s", server_log(s));
    touch(file_in(s, "go"));
    EXPECT_TEXT(final(s, id), "status", "succeeded");
}

/* Parents wait on all the threads there are, and none is left for their children:
 * nothing ended. */
Test(shortage, parents_that_wait_on_all_threads_make_room_for_their_children)
{
    enum { PARENTS = 60 };
    struct server *s = prepare_for_few_threads("slots: 2\ntasks:\n"
                                               "  echo: {kind: native, module: $NATIVE}\n"
                                               "  hold: {kind: native, module: $NATIVE}\n"
                                               "  waits: {kind: native, module: $NATIVE}\n");
    start(s);
    char *held[2], *ids[PARENTS];
    for (int i = 0; i < 2; i++) {
        held[i] = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
        AWAIT_STATUS(s, held[i], "running");
    }
    touch(file_in(s, "few"));
    for (int i = 0; i < PARENTS; i++)
        ids[i] = submit(s, "{'task': 'waits', 'args': {'child': {'task': 'echo', 'args': %d, 'step': 'c'}}}", i);
    touch(file_in(s, "go"));
    for (int i = 0; i < PARENTS; i++) {
        struct reply *ended = final(s, ids[i]);
        EXPECT_NUMBER(ended, "result.value", i);
        EXPECT_NUMBER(ended, "max_retries", 0);
    }
    EXPECT_NUMBER(get(s, "/stats"), "invocations.succeeded", 2 * PARENTS + 2);
}
