#include "workers/foreground.h"

#include "tests/unit/attempts.h"
#include "workers/registry.h"
#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[64];

static void make_folder(void)
{
    strcpy(folder, "/tmp/errand-foreground-XXXXXX");
    cr_assert(mkdtemp(folder));
}

static void remove_folder(void)
{
    char line[128];
    snprintf(line, sizeof(line), "rm -rf %s", folder);
    cr_expect_eq(system(line), 0);
}

TestSuite(foreground, .init = make_folder, .fini = remove_folder, .timeout = 60);

static char *path_of(const char *name)
{
    static char path[128];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static void redirect(int fd, const char *name)
{
    int file = open(path_of(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    dup2(file, fd);
    close(file);
}

/* Starts it in a process of its own: `errand run t ARGS`. */
static pid_t start(const char *definition, const char *args)
{
    struct faults faults = {0};
    struct yaml *doc = yaml_parse(span_of(definition), &faults);
    cr_assert(doc);
    struct registry *registry = registry_parse(
        kinds, &(struct registry_source){.doc = doc, .tasks = yaml_root(doc), .folder = folder}, &faults);
    cr_assert(registry, "%s", faults.count ? faults.items[0].detail : "");
    pid_t pid = fork();
    if (pid == 0) {
        static const struct attempt_limits limits = {1 << 20, 1 << 20, 300};
        redirect(1, "stdout");
        redirect(2, "stderr");
        _exit(foreground_run(registry_at(registry, 0), span_of(args), &limits));
    }
    registry_unref(registry);
    yaml_free(doc);
    return pid;
}

static int status_of(pid_t pid)
{
    int status;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* The bytes of a file; valid until the next call. */
static const char *content(const char *name)
{
    static char bytes[8192];
    FILE *file = fopen(path_of(name), "r");
    size_t n = file ? fread(bytes, 1, sizeof(bytes) - 1, file) : 0;
    if (file)
        fclose(file);
    bytes[n] = '\0';
    return bytes;
}

#define SHELL(script) "kind: command, run: [sh, -c, '" script "']"

Test(foreground, the_result_goes_to_stdout_and_all_else_to_stderr)
{
    static const struct {
        const char *definition, *args;
        int status;
        const char *out, *err;
    } rows[] = {
        {"t: {" SHELL("cat; echo log >&2") "}", "{\"a\": 1}", 0, "\"{\\\"a\\\": 1}\"\n", "log\n"},
        {"t: {" SHELL("cat") ", result: json}", " [1.10] ", 0, "[1.10]\n", ""},
        {"t: {" SHELL("cat") ", result: json}", NULL, 0, "null\n", ""},
        {"t: {" SHELL("cat") ", result: json, params: {y: {type: integer, default: 1}}}", NULL, 0, "{\"y\":1}\n",
         ""},
        {"t: {" SHELL("cat") ", result: json, params: {x: integer, y: {type: integer, default: 1}}}", "[5]", 0,
         "{\"x\":5,\"y\":1}\n", ""},
        {"t: {" SHELL("echo partial; echo log >&2; exit 3") "}", "{}", 1, "", "partial\n"},
        {"t: {" SHELL("echo partial; echo log >&2; exit 3") "}", "{}", 1, "", "\"type\":\"exit:3\""},
        {"t: {" SHELL("exec sleep 60") ", timeout: 50ms}", "{}", 1, "", "\"type\":\"timeout\""},
        /* retried: the third attempt succeeds */
        {"t: {" SHELL(
             "echo $ERRAND_ATTEMPT; [ $ERRAND_ATTEMPT = 3 ]") ", max_retries: 2, backoff: {initial: 1ms}}",
         "{}", 0, "\"3\\n\"\n", "attempt 2 failed, the next one is in"},
        {"t: {" SHELL("exit 1") ", max_retries: 9, retry_for: [exit:2]}", "{}", 1, "", "{\"type\":\"exit:1\""},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        cr_expect_eq(status_of(start(rows[i].definition, rows[i].args)), rows[i].status, "row %zu", i);
        cr_expect_str_eq(content("stdout"), rows[i].out, "row %zu: %s", i, content("stdout"));
        cr_expect(strstr(content("stderr"), rows[i].err), "row %zu: %s", i, content("stderr"));
    }
}

Test(foreground, wrong_arguments_are_all_named_and_nothing_runs)
{
    static const struct {
        const char *definition, *args, *one, *other;
    } rows[] = {
        {"t: {" SHELL("touch ran") ", params: {x: integer, y: integer}}", "{\"x\":1.5,\"z\":1}", "/args/x",
         "/args/z"},
        {"t: {" SHELL("touch ran") "}", "{\"x\":", "/args", "JSON"},
        {"t: {" SHELL("touch ran") "}", "", "/args", "JSON"},
        {"t: {kind: command, run: [touch, ran, '{x}', '{y}']}", "{}", "/args/x", "/args/y"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        cr_expect_eq(status_of(start(rows[i].definition, rows[i].args)), 2, "row %zu", i);
        cr_expect_str_eq(content("stdout"), "");
        cr_expect(strstr(content("stderr"), rows[i].one), "row %zu: %s", i, content("stderr"));
        cr_expect(strstr(content("stderr"), rows[i].other), "row %zu: %s", i, content("stderr"));
        cr_expect_not(file_exists(path_of("ran")));
    }
}

static bool stderr_says_up(const void *unused)
{
    (void)unused;
    return strstr(content("stderr"), "up") != NULL;
}

Test(foreground, a_signal_cancels_it)
{
    static const struct {
        int signal;
        const char *definition;
        int status;
    } rows[] = {
        {SIGINT, "t: {" SHELL("sleep 0.15; echo up >&2; exec sleep 60") "}", 130},
        {SIGTERM, "t: {" SHELL("sleep 0.15; echo up >&2; exec sleep 60") "}", 130},
        {SIGINT, "t: {" SHELL("echo up >&2; exit 1") ", max_retries: 1, backoff: {initial: 1m, max: 1m}}", 130},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        unlink(path_of("stderr"));
        pid_t pid = start(rows[i].definition, "{}");
        cr_expect(eventually(stderr_says_up, NULL), "row %zu", i);
        kill(pid, rows[i].signal);
        cr_expect_eq(status_of(pid), rows[i].status, "row %zu", i);
        cr_expect_str_eq(content("stdout"), "");
        cr_expect(strstr(content("stderr"), "cancelled"), "row %zu: %s", i, content("stderr"));
    }
}

/* The attempt had failed and its log was being shown when the signal came: the
 * failure was the last word, although a retry was to come. */
Test(foreground, a_signal_after_a_failed_attempt_cancels_the_next)
{
    char page[4096] = {0}, text[4097] = {0};
    cr_assert_eq(mkfifo(path_of("stderr"), 0600), 0);
    int fifo = open(path_of("stderr"), O_RDWR | O_NONBLOCK | O_CLOEXEC);
    cr_assert_geq(fifo, 0);
    cr_assert_eq(fcntl(fifo, F_SETPIPE_SZ, sizeof page), sizeof page);
    cr_assert_eq(write(fifo, page, sizeof page), sizeof page); /* what is shown has to wait */
    pid_t pid =
        start("t: {" SHELL(
                  "echo up >&2; echo $$ >self.new; mv self.new self; exit 1") ", max_retries: 1,"
                                                                              " backoff: {initial: 1m, max: 1m}}",
              "{}");
    cr_assert(eventually(file_exists, path_of("self")));
    FILE *file = fopen(path_of("self"), "r");
    pid_t shell;
    cr_assert_eq(fscanf(file, "%d", &shell), 1);
    fclose(file);
    cr_assert(eventually(process_is_gone, &shell));
    kill(pid, SIGINT);
    cr_assert_eq(read(fifo, page, sizeof page), sizeof page);
    cr_expect_eq(status_of(pid), 130);
    cr_expect_gt(read(fifo, text, sizeof text - 1), 0);
    cr_expect(strstr(text, "cancelled"), "%s", text);
    close(fifo);
}

Test(foreground, a_second_signal_ends_it)
{
    pid_t pid =
        start("t: {" SHELL("trap \"echo told >&2\" TERM; echo up >&2; while :; do sleep 0.01; done") "}", "{}");
    cr_expect(eventually(stderr_says_up, NULL));
    kill(pid, SIGINT);
    kill(pid, SIGINT);
    int status = status_of(pid);
    cr_expect(status == -SIGINT || status == 130, "%d", status); /* two at once may count as one */
}
