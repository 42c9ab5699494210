/* A command and the address of its own turn. */
#include "tests/e2e/support.h"

#include <signal.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

SUITE(lease_url);

/* sh runs the script that it is given; ask sends a body to a path of its lease
 * and says what came back: "HTTP/1.1 200 OK", ... */
#define ASK "touch $FOLDER/asked; exec curl -si --max-time 60 --json \\\"$1\\\" \\\"$ERRAND_LEASE_URL/$0\\\""
#define CONFIG                                                                     \
    "tasks:\n"                                                                     \
    "  echo: {kind: native, module: $NATIVE}\n"                                    \
    "  hold: {kind: native, module: $NATIVE}\n"                                    \
    "  deaf: {kind: native, module: $NATIVE}\n"                                    \
    "  far: {kind: remote}\n"                                                      \
    "  sh: {kind: command, run: [sh, -c, '{script}'], params: {script: string}}\n" \
    "  ask: {kind: command, run: [sh, -c, \"" ASK "\", '{path}', '{body}'],\n"     \
    "        params: {path: string, body: {type: string, default: '{}'}}}\n"

static char *run_script(struct server *s, const char *script)
{
    return submit(s, "{'task': 'sh', 'args': {'script': '%s'}}", script);
}

static void exec(struct server *s, const char *sql)
{
    sqlite3 *handle;
    char *why = NULL;
    cr_assert_eq(sqlite3_open(file_in(s, "errand.db"), &handle), SQLITE_OK);
    sqlite3_busy_timeout(handle, 10000);
    cr_assert_eq(sqlite3_exec(handle, sql, NULL, NULL, &why), SQLITE_OK, "%s", why);
    sqlite3_close(handle);
}

static char *result_of(struct server *s, const char *id)
{
    struct reply *ended = final(s, id);
    REQUIRE(strcmp(text_of(ended, "status"), "succeeded") == 0, "%s", ended->body);
    return strdup(text_of(ended, "result"));
}

/* --- the address ---------------------------------------------------------------------- */

Test(lease_url, a_command_has_the_address_of_its_own_turn_and_no_log_shows_it)
{
    struct server *s = serve("log: {level: debug}\n" CONFIG);
    char *id = run_script(s, "curl -sf $ERRAND_LEASE_URL >/dev/null; printf %s $ERRAND_LEASE_URL");
    char *url = result_of(s, id), *begin = format("http://127.0.0.1:%d/leases/%s-", s->port, id);
    REQUIRE(strncmp(url, begin, strlen(begin)) == 0 && strlen(url) == strlen(begin) + 16, "%s", url);
    REQUIRE(!strstr(server_log(s), url + strlen(begin)), "a token in the log:\n%s", server_log(s));
    EXPECT_PROBLEM(get(s, "%s", strstr(url, "/leases")), 409, "stale-lease");
}

Test(lease_url, what_it_is_made_of_is_configured_and_follows_a_reload)
{
    static const char *const rows[][2] = {
        {"listen: 127.0.0.1:0\nurl: https://errand.example.org/at/\n", "https://errand.example.org/at/leases/"},
        {"listen: 127.0.0.1:0\nurl: http://other:81\n", "http://other:81/leases/"},
    };
    struct server *s = serve(format("%s" CONFIG, rows[0][0]));
    for (size_t i = 0; i < 2; i++) {
        char *url;
        configure(s, format("%s" CONFIG, rows[i][0]));
        send_signal(s, SIGHUP);
        WAIT_UNTIL((url = result_of(s, run_script(s, "printf %s $ERRAND_LEASE_URL")),
                    strncmp(url, rows[i][1], strlen(rows[i][1])) == 0));
    }
}

Test(lease_url, of_all_addresses_it_takes_loopbacks_and_of_a_socket_there_is_none)
{
    struct server *s = prepare("listen: 0.0.0.0:0\n" CONFIG);
    s->arguments = (const char *const[]){"--insecure", NULL};
    start(s);
    char *url = result_of(s, run_script(s, "printf %s $ERRAND_LEASE_URL"));
    char *begin = format("http://127.0.0.1:%d/leases/", s->port);
    REQUIRE(strncmp(url, begin, strlen(begin)) == 0, "%s", url);
}

Test(lease_url, without_a_server_there_is_none_and_another_ones_is_not_passed_on)
{
    struct server *s = prepare(CONFIG);
    char *out, *err;
    setenv("ERRAND_LEASE_URL", "http://127.0.0.1:1/leases/of-another", 1);
    const char *argv[] = {errand_binary(), "run", "sh", "{\"script\": \"printf '<%s>' $ERRAND_LEASE_URL\"}", NULL};
    cr_expect_eq(run(file_in(s, "."), argv, NULL, &out, &err), 0, "%s", err);
    REQUIRE(strstr(out, "<>"), "%s", out);
}

Test(lease_url, a_command_says_how_far_it_is)
{
    struct server *s = serve(CONFIG);
    char *id = submit(s, "{'task': 'ask', 'args': {'path': 'heartbeat', 'body': '{\\'progress\\': 0.5}'}}");
    char *answer = result_of(s, id);
    REQUIRE(strstr(answer, "HTTP/1.1 200"), "%s", answer);
    EXPECT_NUMBER(get(s, "/invocations/%s", id), "progress.value", 0.5);
}

/* --- before its claim is on disk ---------------------------------------------------------- */

/* The claim waits behind a commit that is held. It was answered 409. */
Test(lease_url, a_token_that_is_used_before_its_claim_is_on_disk_waits_for_that)
{
    static const char *const rows[][2] = {
        {"{'path': 'heartbeat', 'body': '{\\'progress\\': 1}'}", "HTTP/1.1 200"},
        {"{'path': 'complete'}", "HTTP/1.1 409"}, /* the server runs it: as ever */
    };
    for (size_t i = 0; i < 2; i++) {
        struct server *s = prepare("slots: 1\n" CONFIG);
        prepare_to_hold_commits(s);
        start(s);
        char *busy = submit(s, "{'task': 'deaf', 'args': '%s'}", file_in(s, "go"));
        AWAIT_STATUS(s, busy, "running");
        char *id = submit(s, "{'task': 'ask', 'args': %s}", quoted(rows[i][0]));
        struct client *client = client_open(s);
        hold_commits(s);
        client_ask(client, "POST", "/tasks/echo/pause", NULL, NULL, 0);
        await_held_commit(s);
        touch(file_in(s, "go"));
        WAIT_UNTIL(exists(file_in(s, "asked")));
        for (int64_t until = now_ms() + 300; now_ms() < until;)
            breathe();
        REQUIRE(strcmp(text_of(get(s, "/invocations/%s", id), "status"), "queued") == 0);
        release_commits(s);
        char *answer = result_of(s, id);
        REQUIRE(strstr(answer, rows[i][1]) && !strstr(answer, "stale"), "%s", answer);
    }
}

Test(lease_url, a_token_whose_claim_meets_a_fault_is_unavailable_and_not_stale)
{
    struct server *s = serve(CONFIG);
    exec(s, "CREATE TRIGGER fault BEFORE UPDATE ON invocations WHEN new.status IN (3, 5) "
            "BEGIN SELECT RAISE(ABORT, 'a fault'); END");
    char *id = submit(s, "{'task': 'ask', 'args': {'path': 'heartbeat'}}");
    WAIT_UNTIL(exists(file_in(s, "asked")));
    WAIT_UNTIL(strstr(server_log(s), "was not written"));
    exec(s, "DROP TRIGGER fault");
    char *answer = result_of(s, id);
    REQUIRE(strstr(answer, "HTTP/1.1 503"), "%s", answer);
}
