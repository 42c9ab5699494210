/* The server's own log: what it says of turns, and the files that it is written to. */
#include "tests/e2e/support.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

SUITE(server_log);

static int64_t size_of(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? (int64_t)st.st_size : -1;
}

Test(server_log, each_kind_has_a_level_and_arguments_are_shown_as_configured)
{
    static const struct {
        const char *settings, *start;
    } rows[] = {
        {"arguments: full", "args=\"{\\\"x\\\": 1, \\\"secret\\\": \\\"s\\\"}\""},
        {"arguments: truncated", "args=\"{\\\"x\\\": 1, \\\"secret\\\": \\\"s\\\"}\""},
        {"arguments: keys", "args=x,secret"},
        {"format: text", "args=x,secret"},
        {"arguments: hidden", "worker=slot-1\n"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct server *s = serve(format("slots: 1\n"
                                        "log: {level: info, kinds: {native: debug, command: error}, %s}\n"
                                        "tasks:\n"
                                        "  echo: {kind: native, module: $NATIVE}\n"
                                        "  fail: {kind: native, module: $NATIVE}\n"
                                        "  nope: {kind: command, run: ['false']}\n",
                                        rows[i].settings));
        char *command = submit(s, "{'task': 'nope'}");
        final(s, command);
        char *failed = submit(s, "{'task': 'fail'}");
        final(s, failed);
        char *id = submit(s, "{'task': 'echo', 'args': {'x': 1, 'secret': 's'}}");
        final(s, id);
        WAIT_UNTIL(
            strstr(server_log(s), format("level=debug msg=\"a turn has ended\" task=echo id=%s attempt=1", id)));
        char *log = server_log(s);
        char *start = strstr(log, format("msg=\"a turn starts\" task=echo id=%s attempt=1 worker=slot-1", id));
        REQUIRE(start, "%s", log);
        cr_expect(strstr(start, rows[i].start), "%s: %s", rows[i].settings, log);
        cr_expect(strstr(log, "as=succeeded ms="), "%s", log);
        cr_expect(strstr(log, format("msg=\"an attempt failed\" task=fail id=%s", failed)), "%s", log);
        cr_expect(!strstr(log, command), "%s", log);
        terminate(s);
    }
}

Test(server_log, what_is_run_elsewhere_is_told_of_too)
{
    struct server *s = serve("log: {kinds: {remote: debug}}\ntasks: {far: {kind: remote}}\n");
    char *id = submit(s, "{'task': 'far'}");
    struct reply *r = EXPECT(post(s, "/leases", "{'worker': 'w', 'wait': '30s'}"), 200);
    const char *token = text_of(r, "leases.0.token");
    EXPECT(post(s, format("/leases/%s/complete", token), "{'result': 1}"), 204);
    final(s, id);
    char *log = server_log(s);
    cr_expect(strstr(log, format("msg=\"a turn starts\" task=far id=%s attempt=1 worker=w", id)), "%s", log);
    cr_expect(strstr(log, format("msg=\"a turn has ended\" task=far id=%s attempt=1 as=succeeded", id)), "%s",
              log);
    cr_expect(!strstr(log, token), "a token: %s", log);
}

Test(server_log, a_reload_changes_what_is_told)
{
    struct server *s = serve("log: {kinds: {native: error}}\ntasks: {fail: {kind: native, module: $NATIVE}}\n");
    char *before = submit(s, "{'task': 'fail'}");
    final(s, before);
    configure(s, "log: {kinds: {native: debug}}\ntasks: {fail: {kind: native, module: $NATIVE}}\n");
    send_signal(s, SIGHUP);
    WAIT_UNTIL(strstr(server_log(s), "msg=reloaded"));
    char *after = submit(s, "{'task': 'fail'}");
    final(s, after);
    WAIT_UNTIL(strstr(server_log(s), after));
    cr_expect(!strstr(server_log(s), before), "%s", server_log(s));
}

Test(server_log, files_are_put_away_by_size_and_the_oldest_goes)
{
    enum { MAX = 2048 };
    struct server *s = serve("log: {level: debug, directory: $FOLDER/log, max_size: 2KiB, keep: 3}\n"
                             "tasks: {echo: {kind: native, module: $NATIVE}}\n");
    for (int i = 0; i < 60; i++)
        final(s, submit(s, "{'task': 'echo'}"));
    char *path = file_in(s, "log/errand.log");
    for (int i = 0; i <= 3; i++) {
        int64_t size = size_of(i ? format("%s.%d", path, i) : path);
        cr_expect(size > 0 && size <= MAX, "file %d has %lld bytes", i, (long long)size);
    }
    cr_expect_eq(size_of(format("%s.4", path)), -1);
    char *last = read_whole(path);
    cr_expect_eq(strncmp(last, "time=", 5), 0, "a line was torn: %s", last);
}

Test(server_log, a_workers_file_is_put_away_too)
{
    struct server *s = serve(format("log: {directory: $FOLDER/log, max_size: 4KiB, keep: 1}\n"
                                    "tasks:\n"
                                    "  p: {kind: process, run: [python3, %s], capacity: 2}\n",
                                    realpath("tests/e2e/children/child.py", NULL)));
    char *path = file_in(s, "log/p-1.log");
    char text[1001] = "";
    memset(text, 'x', sizeof text - 1);
    char *holds = submit(s, "{'task': 'p', 'args': {'do': 'file', 'path': '%s'}}", file_in(s, "go"));
    AWAIT_STATUS(s, holds, "running");
    for (int i = 0; i < 10; i++)
        final(s, submit(s, "{'task': 'p', 'args': {'do': 'print', 'text': '%s'}}", text));
    WAIT_UNTIL(size_of(format("%s.1", path)) > 0);
    cr_expect_leq(size_of(path), 4096);
    cr_expect_eq(size_of(format("%s.2", path)), -1);
}

Test(server_log, what_makes_no_sense_is_a_fault_with_its_line)
{
    struct server *s = prepare("log:\n"
                               "  kinds: {nativ: debug, http: loud}\n"
                               "  arguments: some\n"
                               "  keep: -1\n"
                               "  max_size: 3\n");
    char *err;
    const char *const check[] = {errand_binary(), "check", "--config", "errand.yaml", NULL};
    cr_assert_eq(run(s->folder, check, NULL, NULL, &err), 1);
    static const char *const words[] = {
        ":2: /log/kinds/nativ: there is no kind",
        ":2: /log/kinds/http: must be debug",
        ":3: /log/arguments: ",
        ":4: /log/keep: ",
        ":5: /log/max_size: ",
    };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        cr_expect(strstr(err, words[i]), "%s in %s", words[i], err);
}
