/* A disk that is full, and one that fails. */
#include "tests/e2e/support.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

SUITE(disk);

#define JSON "Content-Type: application/json\r\n"

/* 503 means unknown: the same key settles it. */
Test(disk, a_failed_fsync_is_503_and_the_key_settles_it)
{
    if (!is_plain())
        cr_skip_test("a sanitizer wants to be loaded first");
    struct server *s = prepare(TASKS);
    char *bad = file_in(s, "bad");
    s->variables = (const char *[]){format("LD_PRELOAD=%s", native("bad_disk")), format("BAD_DISK=%s", bad), NULL};
    start(s);
    char *before = submit(s, "{'task': 'count'}");
    final(s, before);
    char *held = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
    AWAIT_STATUS(s, held, "running");

    touch(bad);
    char *body = "{\"task\": \"count\", \"key\": \"settled\"}";
    struct reply *r = EXPECT_PROBLEM(ask(s, "POST", "/tasks", JSON, body), 503, "unavailable");
    REQUIRE(header(r, "Retry-After"), "no Retry-After");
    EXPECT_PROBLEM(post(s, "/tasks", "{'task': 'count'}"), 503, "unavailable");
    EXPECT_PROBLEM(post(s, format("/invocations/%s/cancel", held), NULL), 503, "unavailable");
    r = ask(s, "POST", "/tasks", "Content-Type: application/x-ndjson\r\n", "{\"task\": \"count\"}\n");
    REQUIRE(r->status == 503 || (r->status == 200 && strstr(r->body, "503")), "%d %s", r->status, r->body);
    EXPECT_TEXT(EXPECT(get(s, "/invocations/%s", before), 200), "status", "succeeded");
    EXPECT(get(s, "/readyz"), 503);
    EXPECT(get(s, "/healthz"), 200);
    touch(file_in(s, "go")); /* a finish meanwhile is kept and tried again */

    unlink(bad);
    WAIT_UNTIL((r = ask(s, "POST", "/tasks", JSON, body))->status != 503);
    REQUIRE(r->status == 200 || r->status == 201, "%d %s", r->status, r->body);
    char *id = strdup(text_of(r, "id"));
    EXPECT_TEXT(final(s, id), "status", "succeeded");
    EXPECT_TEXT(EXPECT(ask(s, "POST", "/tasks", JSON, body), 200), "id", id);
    r = final(s, held);
    REQUIRE(strcmp(text_of(r, "status"), "succeeded") == 0 || strcmp(text_of(r, "status"), "cancelled") == 0, "%s",
            r->body);
    WAIT_UNTIL(get(s, "/readyz")->status == 200);
    /* nothing that was refused was made twice */
    restart(s);
    EXPECT_TEXT(EXPECT(get(s, "/invocations?key=settled"), 200), "items.0.id", id);
    EXPECT_NULL(get(s, "/invocations?key=settled"), "next");
}

/* What was running cannot be queued again yet; it could not start at all. The
 * limit leaves room for what is there, and none behind it. */
Test(disk, a_server_that_finds_the_disk_full_serves_readers_until_there_is_room)
{
    enum { ARGS = 60000 };
    struct rlimit before, small;
    char *large = calloc(1, ARGS + 1);
    memset(large, 'x', ARGS);
    struct server *s = serve(TASKS);
    char *first = submit(s, "{'task': 'echo', 'args': '%s'}", large);
    final(s, first);
    char *held = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
    AWAIT_STATUS(s, held, "running");
    WAIT_UNTIL(strstr(get(s, "/invocations/%s/log", held)->body, "holding"));
    kill_hard(s);

    REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
    small = (struct rlimit){40000, before.rlim_max};
    REQUIRE(setrlimit(RLIMIT_FSIZE, &small) == 0);
    start(s);
    REQUIRE(setrlimit(RLIMIT_FSIZE, &before) == 0);
    EXPECT_TEXT(EXPECT(get(s, "/invocations/%s", first), 200), "status", "succeeded");
    EXPECT_TEXT(EXPECT(get(s, "/invocations?status=running"), 200), "items.0.id", held);
    EXPECT_PROBLEM(post(s, "/tasks", "{'task': 'count'}"), 503, "unavailable");
    EXPECT_PROBLEM(get(s, "/readyz"), 503, "unavailable");

    REQUIRE(prlimit(s->pid, RLIMIT_FSIZE, &before, NULL) == 0);
    WAIT_UNTIL(get(s, "/readyz")->status == 200);
    touch(file_in(s, "go"));
    EXPECT_NUMBER(EXPECT_TEXT(final(s, held), "status", "succeeded"), "attempt", 2);
    EXPECT_TEXT(final(s, submit(s, "{'task': 'count'}")), "status", "succeeded");
    restart(s);
    EXPECT_NUMBER(get(s, "/stats"), "invocations.succeeded", 3);
}

/* `added` is new, and stands first. */
#define WITH_ADDED "tasks:\n  added: {kind: native, module: $NATIVE, function: echo}\n"
#define NDJSON "Content-Type: application/x-ndjson\r\n"

static const char *tasks_without_head(void)
{
    return strchr(TASKS, '\n') + 1;
}

/* Started where the new task's row cannot be written; `first` is of a task that the database knows. */
static void expect_readers_alone(struct server *s, const char *first)
{
    EXPECT_TEXT(EXPECT(get(s, "/invocations/%s", first), 200), "status", "succeeded");
    EXPECT_TEXT(EXPECT(get(s, "/invocations?task=echo"), 200), "items.0.id", first);
    REQUIRE(!field(EXPECT(get(s, "/invocations?task=added"), 200), "items.0"));
    EXPECT_NUMBER(EXPECT(get(s, "/tasks/added"), 200), "counts.queued", 0);
    EXPECT_TEXT(EXPECT(get(s, "/tasks"), 200), "items.0.name", "added");
    EXPECT_PROBLEM(get(s, "/readyz"), 503, "unavailable");
    REQUIRE(header(EXPECT_PROBLEM(post(s, "/tasks", "{'task': 'added'}"), 503, "unavailable"), "Retry-After"));
    EXPECT_PROBLEM(post(s, "/tasks", "{'task': 'echo'}"), 503, "unavailable");
    EXPECT_PROBLEM(post(s, "/tasks/added/pause", NULL), 503, "unavailable");
    struct reply *r = ask(s, "POST", "/invocations", NDJSON, "{\"task\": \"added\"}\n{\"task\": \"echo\"}\n");
    REQUIRE(r->status == 503 || (r->status == 200 && !strstr(r->body, "201")), "%d %s", r->status, r->body);
    EXPECT_PROBLEM(get(s, "/readyz"), 503, "unavailable");
}

static void expect_all_goes_on(struct server *s)
{
    WAIT_UNTIL(get(s, "/readyz")->status == 200);
    EXPECT_TEXT(final(s, submit(s, "{'task': 'added', 'args': 'new'}")), "result", "new");
    EXPECT_TEXT(final(s, submit(s, "{'task': 'echo', 'args': 'old'}")), "result", "old");
    EXPECT_NUMBER(get(s, "/invocations?task=added"), "items.0.attempt", 1);
    EXPECT(post(s, "/tasks/added/pause", NULL), 200);
    REQUIRE(cJSON_IsFalse(field(get(s, "/tasks/echo"), "paused")));
    restart(s);
    EXPECT_NUMBER(get(s, "/tasks/added"), "counts.succeeded", 1);
    EXPECT_NUMBER(get(s, "/tasks/echo"), "counts.succeeded", 2);
    cr_assert_eq(terminate(s), 0);
}

/* It did not start: the task's row could not be written. */
Test(disk, a_task_that_is_new_when_the_disk_is_full_waits_for_room)
{
    enum { ARGS = 60000 };
    struct rlimit before, small;
    char *large = calloc(1, ARGS + 1);
    memset(large, 'x', ARGS);
    struct server *s = serve(TASKS);
    char *first = submit(s, "{'task': 'echo', 'args': '%s'}", large);
    final(s, first);
    kill_hard(s);
    configure(s, format(WITH_ADDED "%s", tasks_without_head()));

    REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
    small = (struct rlimit){40000, before.rlim_max};
    REQUIRE(setrlimit(RLIMIT_FSIZE, &small) == 0);
    start(s);
    REQUIRE(setrlimit(RLIMIT_FSIZE, &before) == 0);
    expect_readers_alone(s, first);
    REQUIRE(prlimit(s->pid, RLIMIT_FSIZE, &before, NULL) == 0);
    expect_all_goes_on(s);
}

static char *mounted;

/* Before the folder goes: also after a failure. */
static void end_with_mount(void)
{
    if (mounted)
        umount2(mounted, MNT_DETACH);
    support_end();
}

TestSuite(full_disk, .init = support_begin, .fini = end_with_mount, .timeout = 120);

static void mount_small(struct server *s)
{
    char *small = file_in(s, "small");
    run(s->folder, (const char *[]){"mkdir", "small", NULL}, NULL, NULL, NULL);
    if (mount("errand-e2e", small, "tmpfs", 0, "size=3m") != 0)
        cr_skip_test("mounting is not allowed here");
    mounted = small;
    const char **arguments = calloc(3, sizeof *arguments);
    arguments[0] = "--store";
    arguments[1] = format("%s/errand.db", small);
    s->arguments = arguments;
}

Test(full_disk, a_task_that_is_new_when_the_disk_is_full_waits_for_room)
{
    struct server *s = prepare(TASKS);
    mount_small(s);
    start(s);
    char *first = submit(s, "{'task': 'echo', 'args': 1}");
    final(s, first);
    kill_hard(s);
    char *filler = format("of=%s/filler", mounted);
    run(NULL, (const char *[]){"dd", "if=/dev/zero", filler, "bs=4096", NULL}, NULL, NULL, NULL);
    configure(s, format(WITH_ADDED "%s", tasks_without_head()));
    start(s);
    expect_readers_alone(s, first);
    REQUIRE(unlink(filler + strlen("of=")) == 0);
    expect_all_goes_on(s);
}

Test(full_disk, a_full_disk_is_503_for_writers_while_readers_go_on_and_heals_by_itself)
{
    struct server *s = prepare(TASKS);
    mount_small(s);
    start(s);
    char *first = submit(s, "{'task': 'echo', 'args': 1}");
    final(s, first);
    char *held = submit(s, "{'task': 'hold', 'args': '%s'}", file_in(s, "go"));
    AWAIT_STATUS(s, held, "running");

    char *large = calloc(1, 20001);
    memset(large, 'x', 20000);
    struct reply *r = NULL;
    int taken = 0;
    EXPECT(post(s, "/tasks/echo/pause", NULL), 200);
    for (int i = 0; i < 200; i++, taken++) {
        r = post(s, "/tasks", "{'task': 'echo', 'args': '%s'}", large);
        if (r->status != 201)
            break;
    }
    EXPECT_PROBLEM(r, 503, "unavailable");
    EXPECT(get(s, "/invocations/%s", first), 200);
    EXPECT(get(s, "/invocations?limit=1000"), 200);
    REQUIRE(taken >= 1);
    touch(file_in(s, "go"));

    /* room is made: it goes on without a restart */
    REQUIRE(mount("errand-e2e", mounted, "tmpfs", MS_REMOUNT, "size=32m") == 0, "remount: %s", strerror(errno));
    WAIT_UNTIL(post(s, "/tasks", "{'task': 'count'}")->status == 201);
    EXPECT_TEXT(final(s, held), "status", "succeeded");
    EXPECT(post(s, "/tasks/echo/resume", NULL), 200);
    WAIT_UNTIL(number_of(get(s, "/tasks/echo"), "counts.succeeded") == taken + 1);
    restart(s);
    EXPECT_NUMBER(get(s, "/tasks/echo"), "counts.succeeded", taken + 1);
    cr_assert_eq(terminate(s), 0);
}
