/* The small commands. */
#include "tests/e2e/support.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

SUITE(cli);

#define RUN(folder, out, err, ...) \
    run(folder, (const char *[]){errand_binary(), __VA_ARGS__, NULL}, NULL, out, err)

#define COMMANDS                                                                                               \
    "tasks:\n"                                                                                                 \
    "  echo: {kind: native, module: $NATIVE}\n"                                                                \
    "  fail: {kind: native, module: $NATIVE}\n"                                                                \
    "  add: {kind: native, module: $NATIVE, function: echo, params: {x: integer, y: {type: integer, default: " \
    "1}}}\n"                                                                                                   \
    "  exits: {kind: command, run: [sh, -c, 'echo to stderr >&2; exit 3']}\n"

Test(cli, run_runs_one_invocation_without_server_and_database)
{
    char *out, *err;
    struct server *s = prepare(COMMANDS);
    REQUIRE(RUN(s->folder, &out, &err, "run", "echo", "{\"n\": 9007199254740993}") == 0, "%s", err);
    cr_assert_str_eq(out, "{\"n\": 9007199254740993}\n");
    REQUIRE(RUN(s->folder, &out, &err, "run", "add", "[5]") == 0, "%s", err);
    cr_assert_str_eq(out, "{\"x\":5,\"y\":1}\n");
    REQUIRE(!exists(file_in(s, "errand.db")), "it made a database");
}

Test(cli, run_says_by_its_exit_status_how_it_went)
{
    char *out, *err;
    struct server *s = prepare(COMMANDS);
    cr_assert_eq(RUN(s->folder, &out, &err, "run", "fail"), 1);
    REQUIRE(strstr(err, "mine") && strstr(err, "it went wrong"), "%s", err);
    cr_assert_str_empty(out);
    cr_assert_eq(RUN(s->folder, &out, &err, "run", "exits"), 1);
    REQUIRE(strstr(err, "to stderr") && strstr(err, "exit:3"), "%s", err);
    cr_assert_eq(RUN(s->folder, NULL, &err, "run", "nosuch"), 2);
    REQUIRE(strstr(err, "nosuch"), "%s", err);
    cr_assert_eq(RUN(s->folder, NULL, &err, "run", "echo", "{not json"), 2);
    cr_assert_eq(RUN(s->folder, NULL, &err, "run", "add", "{\"z\": 1}"), 2);
    REQUIRE(strstr(err, "x") && strstr(err, "z"), "all that is wrong is named: %s", err);
    cr_assert_eq(RUN(s->folder, NULL, &err, "run"), 2);
}

Test(cli, a_backup_is_made_while_the_server_runs)
{
    char *err;
    struct server *s = serve(COMMANDS);
    char *id = submit(s, "{'task': 'echo', 'args': 'kept'}");
    final(s, id);
    REQUIRE(RUN(s->folder, NULL, &err, "backup", "--config", "errand.yaml", "copy.db") == 0, "%s", err);
    submit(s, "{'task': 'echo', 'args': 'later'}");
    REQUIRE(RUN(s->folder, NULL, &err, "backup", "--config", "errand.yaml", "nosuch/copy.db") != 0, "%s", err);
    struct server *second = prepare(COMMANDS);
    second->arguments = (const char *[]){"--store", file_in(s, "copy.db"), NULL};
    start(second);
    EXPECT_TEXT(EXPECT(get(second, "/invocations/%s", id), 200), "result", "kept");
    cr_assert_eq(cJSON_GetArraySize(field(get(second, "/invocations"), "items")), 1);
}

static int others_mode(const char *path)
{
    struct stat st;
    REQUIRE(stat(path, &st) == 0, "%s is not there", path);
    return st.st_mode & 077;
}

/* They were 0644: arguments and results for everybody. */
Test(cli, the_database_and_what_is_made_of_it_are_readable_by_nobody_else)
{
    char *err, *list;
    umask(0);
    struct server *s = serve(COMMANDS);
    final(s, submit(s, "{'task': 'echo', 'args': 'secret'}"));
    REQUIRE(RUN(s->folder, NULL, &err, "backup", "--config", "errand.yaml", "copy.db") == 0, "%s", err);
    cr_expect_eq(others_mode(file_in(s, "copy.db")), 0);
    run(s->folder, (const char *[]){"sh", "-c", "echo errand.db*", NULL}, NULL, &list, NULL);
    int seen = 0;
    for (char *name = strtok(list, " \n"); name; name = strtok(NULL, " \n"), seen++)
        cr_expect_eq(others_mode(file_in(s, name)), 0, "%s", name);
    cr_assert_geq(seen, 4);
    REQUIRE(!strstr(server_log(s), "chmod"), "%s", server_log(s));
    /* its owner may have wished it so: it is left, and said */
    REQUIRE(chmod(file_in(s, "errand.db"), 0640) == 0);
    cr_assert_eq(terminate(s), 0);
    start(s);
    cr_expect_eq(others_mode(file_in(s, "errand.db")), 040);
    REQUIRE(strstr(server_log(s), "chmod 600"), "%s", server_log(s));
}

Test(cli, a_token_is_made_and_works)
{
    char *out, *err;
    struct server *s = prepare(COMMANDS);
    REQUIRE(RUN(s->folder, &out, &err, "token", "--scopes", "read,submit", "shop") == 0, "%s", err);
    char *token = strstr(out, "errand_"), *line = strstr(out, "- {");
    REQUIRE(token && line, "%s", out);
    token = strndup(token, strcspn(token, "\n"));
    configure(s, format("tokens:\n    %s\n" COMMANDS, line));
    start(s);
    EXPECT(get(s, "/tasks"), 401);
    s->token = token;
    EXPECT(get(s, "/tasks"), 200);
    final(s, submit(s, "{'task': 'echo'}"));
    EXPECT(post(s, "/pause", NULL), 403);
    char *again;
    RUN(s->folder, &again, NULL, "token", "--scopes", "read,submit", "shop");
    REQUIRE(strcmp(out, again) != 0, "two tokens are the same");
    cr_assert_eq(RUN(s->folder, NULL, &err, "token", "--scopes", "everything", "shop"), 2);
    cr_assert_eq(RUN(s->folder, NULL, &err, "token"), 2);
}

Test(cli, version_and_help_say_what_it_is)
{
    char *out, *err;
    cr_assert_eq(RUN(NULL, &out, &err, "version"), 0);
    REQUIRE(strncmp(out, "errand ", 7) == 0 && strstr(out, "SQLite"), "%s", out);
    cr_assert_eq(RUN(NULL, &out, &err, "--version"), 0);
    cr_assert_eq(RUN(NULL, &out, &err, "help"), 0);
    REQUIRE(strstr(out, "serve") && strstr(out, "backup"), "%s", out);
    cr_assert_eq(RUN(NULL, &out, &err, "serve", "--help"), 0);
}

Test(cli, what_it_does_not_know_is_refused)
{
    char *err;
    struct server *s = prepare(COMMANDS);
    cr_assert_eq(RUN(s->folder, NULL, &err, "nosuch"), 2);
    cr_assert_eq(RUN(s->folder, NULL, &err, "serve", "--nosuch"), 2);
    REQUIRE(strstr(err, "--nosuch"), "%s", err);
    cr_assert_eq(RUN(s->folder, NULL, &err, "serve", "--slots"), 2);
    REQUIRE(RUN(s->folder, NULL, &err, "serve", "--slots", "-3") != 0);
    REQUIRE(strstr(err, "slots"), "%s", err);
    REQUIRE(RUN(s->folder, NULL, &err, "serve", "--listen", "127.0.0.1:99999") != 0);
}

Test(cli, an_address_that_is_taken_is_told)
{
    char *err;
    struct server *s = serve(COMMANDS);
    struct server *second = prepare(COMMANDS);
    char *address = format("127.0.0.1:%d", s->port);
    cr_assert_eq(RUN(second->folder, NULL, &err, "serve", "--config", "errand.yaml", "--listen", address), 1);
    REQUIRE(strstr(err, address) || strstr(err, "in use"), "%s", err);
}

/* In the folder: starts the server by the given words, asks over the socket, ends it, prints what was said. */
#define CONVERSE                                                                                     \
    "rm -f out; \"$@\" >out 2>err & p=$!\n"                                                          \
    "until grep -q listening out; do kill -0 $p || { cat err; exit 1; }; sleep 0.02; done\n"         \
    "cat out; stat -c '%a' sock\n"                                                                   \
    "curl -sS --unix-socket sock --json '{\"task\": \"echo\", \"args\": [1]}' -H 'Prefer: wait=20' " \
    "http://localhost/tasks\n"                                                                       \
    "kill -TERM $p; wait $p; echo \" ended $?\"; ls\n"

Test(cli, it_listens_on_a_unix_socket)
{
    char *out, *err;
    struct server *s = prepare("listen: unix:sock\n" COMMANDS);
    const char *const argv[] = {"sh", "-c", CONVERSE, "sh", errand_binary(), "serve", NULL};
    for (int i = 0; i < 2; i++) { /* what a killed one left is no obstacle */
        REQUIRE(run(s->folder, argv, NULL, &out, &err) == 0, "%s%s", out, err);
        REQUIRE(strstr(out, format("listening on unix:%s\n660\n", file_in(s, "sock"))), "%s", out);
        REQUIRE(strstr(out, "\"result\":[1]") && strstr(out, " ended 0"), "%s%s", out, err);
        REQUIRE(!exists(file_in(s, "sock")), "it is left behind");
        run(s->folder,
            (const char *[]){"python3", "-c", "import socket; socket.socket(socket.AF_UNIX).bind('sock')", NULL},
            NULL, NULL, NULL);
        REQUIRE(exists(file_in(s, "sock")));
    }
}

/* The descriptor was ignored, and its requests hung. */
Test(cli, it_takes_the_socket_that_it_was_given)
{
    static const char starter[] = "import os, socket, sys\n"
                                  "s = socket.socket(socket.AF_UNIX); s.bind('sock'); s.listen()\n"
                                  "os.dup2(s.fileno(), 3); os.set_inheritable(3, True)\n"
                                  "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))\n"
                                  "os.execv(sys.argv[1], sys.argv[1:])\n";
    char *out, *err;
    struct server *s = prepare(COMMANDS);
    const char *const argv[] = {"sh", "-c",    CONVERSE,        "sh",    "python3",
                                "-c", starter, errand_binary(), "serve", NULL};
    REQUIRE(run(s->folder, argv, NULL, &out, &err) == 0, "%s%s", out, err);
    REQUIRE(strstr(out, "listening on unix:sock\n") && strstr(out, "\"result\":[1]"), "%s%s", out, err);
    REQUIRE(exists(file_in(s, "sock")), "it is its owner's to remove");
}
