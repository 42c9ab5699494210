#include "tests/unit/attempts.h"
#include "workers/kinds/command/command.h"

#include "base/json.h"
#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[64];

static void make_folder(void)
{
    strcpy(folder, "/tmp/errand-command-XXXXXX");
    cr_assert(mkdtemp(folder));
}

static void remove_folder(void)
{
    char line[128];
    snprintf(line, sizeof(line), "rm -rf %s", folder);
    cr_expect_eq(system(line), 0);
}

TestSuite(command, .init = make_folder, .fini = remove_folder, .timeout = 60);

static char *path_of(const char *name)
{
    static char path[128];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

#define WORDS(...) ((char *[]){__VA_ARGS__, NULL})
#define COMMAND(...)                                                                   \
    {                                                                                  \
        .name = "command", .kind = &command_kind, .definition = &(struct command_task) \
        {                                                                              \
            .program = {.run = WORDS(__VA_ARGS__), .cwd = folder }                     \
        }                                                                              \
    }
#define SHELL(script) COMMAND("/bin/sh", "-c", script)

static struct command_task *definition(struct task *task)
{
    return task->definition;
}

/* The process id that the script wrote into a file; waits for it. */
static pid_t pid_in(const char *name)
{
    cr_assert(eventually(file_exists, path_of(name)), "%s was not written", name);
    FILE *file = fopen(path_of(name), "r");
    int pid = 0;
    cr_assert(file);
    cr_assert_eq(fscanf(file, "%d", &pid), 1);
    fclose(file);
    return pid;
}

/* Written whole or not at all. */
#define WRITE_PID(name, pid) "echo " pid " >" name ".new; mv " name ".new " name "; "

static int open_files(void)
{
    int count = 0;
    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

Test(command, stdout_of_exit_0_is_the_result)
{
    static const struct {
        const char *script;
        bool json;
        const char *result;
    } rows[] = {
        {":", false, "\"\""},
        {"printf 'two\nlines\n'", false, "\"two\\nlines\\n\""},
        {"printf '{\"a\": 1}'", false, "\"{\\\"a\\\": 1}\""},
        {"printf '\\377x'", false, "\"" UTF8_REPLACEMENT "x\""},
        {"echo ' {\"a\": 1.10,  \"n\": 123456789012345678901}'", true,
         "{\"a\": 1.10,  \"n\": 123456789012345678901}"},
        {"echo null", true, "null"},
        {"cat", true, "{\"x\":1}"},
        {"echo noise >&2; cat; echo noise >&2", true, "{\"x\":1}"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char *script = strdup(rows[i].script);
        struct task task = SHELL(script);
        struct run r;
        definition(&task)->result_json = rows[i].json;
        run_init(&r, &task, "{\"x\":1}");
        run(&r);
        cr_expect_eq(r.outcome.end, OUTCOME_SUCCEEDED, "row %zu: %s", i, buf_cstr(&r.outcome.error));
        cr_expect_str_eq(buf_cstr(&r.outcome.result), rows[i].result, "row %zu", i);
        cr_expect(r.outcome.drop_stdout);
        run_release(&r);
        free(script);
    }
}

Test(command, a_failure_has_its_exit_code_or_signal_and_the_end_of_stderr)
{
    static const struct {
        const char *script, *type, *exit_code, *stderr_end;
        bool json;
    } rows[] = {
        {"echo why >&2; exit 3", "exit:3", "3", "why\n", false},
        {"exit 255", "exit:255", "255", "", false},
        {"kill -9 $$", "signal:9", "", "", false},
        {"echo gone >&2; kill -TERM $$", "signal:15", "", "gone\n", false},
        {"echo '{'; echo e >&2", "bad_result", "0", "e\n", true},
        {":", "bad_result", "0", "", true},
        {"echo '{} {}'", "bad_result", "0", "", true},
        {"printf '\"\\377\"'", "bad_result", "0", "", true},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char *script = strdup(rows[i].script);
        struct task task = SHELL(script);
        struct run r;
        definition(&task)->result_json = rows[i].json;
        run_init(&r, &task, "{}");
        run(&r);
        cr_expect(failed_as(&r, rows[i].type), "row %zu: %s", i, buf_cstr(&r.outcome.error));
        cr_expect_str_eq(error_member(&r, "exit_code"), rows[i].exit_code, "row %zu", i);
        cr_expect_str_eq(error_member(&r, "stderr"), rows[i].stderr_end, "row %zu", i);
        cr_expect(r.outcome.retry);
        cr_expect_not(r.outcome.drop_stdout);
        run_release(&r);
        free(script);
    }
}

Test(command, only_the_last_4_kib_of_stderr_are_in_the_error_and_all_in_the_log)
{
    struct task task =
        SHELL("i=0; while [ $i -lt 1000 ]; do echo \"\u00e4 line $i\"; i=$((i+1)); done >&2; exit 1");
    struct run r;
    run_init(&r, &task, "{}");
    run(&r);
    cr_expect(failed_as(&r, "exit:1"));
    const char *end = error_member(&r, "stderr");
    size_t n = strlen(end);
    cr_expect(n <= 4096 && n > 4090, "%zu", n);
    cr_expect_str_eq(end + n - 12, "\u00e4 line 999\n");
    cr_expect_null(strstr(end, UTF8_REPLACEMENT)); /* not cut inside a character */
    char *log = run_log(&r);
    cr_expect(strstr(log, "line 0\n") && strstr(log, "line 999\n"));
    free(log);
    run_release(&r);
}

Test(command, the_log_holds_both_streams_as_they_came_when_it_fails)
{
    struct task task = SHELL("echo a; sleep 0.05; echo b >&2; sleep 0.05; echo c; exit 1");
    struct run r;
    run_init(&r, &task, "{}");
    run(&r);
    char *log = run_log(&r);
    cr_expect(strcmp(log, "1:a\n2:b\n1:c\n") == 0, "%s", log);
    free(log);
    run_release(&r);
}

Test(command, stdout_that_became_the_result_leaves_the_log)
{
    struct task task = SHELL("echo out; echo err >&2; echo out again; sleep 0.02; echo err again >&2");
    struct run r;
    run_init(&r, &task, "{}");
    run(&r);
    cr_expect_str_eq(buf_cstr(&r.outcome.result), "\"out\\nout again\\n\"");
    cr_expect(r.outcome.drop_stdout);
    cr_expect_eq(r.flushed.len, 0);
    cr_expect_null(strstr(buf_cstr(&r.rest), "1:"), "%s", buf_cstr(&r.rest));
    cr_expect(strstr(buf_cstr(&r.rest), "err\n") && strstr(buf_cstr(&r.rest), "err again\n"));
    run_release(&r);
}

Test(command, the_log_of_a_long_one_is_seen_while_it_runs)
{
    struct task task = SHELL("echo here; exec sleep 60");
    struct run r;
    run_init(&r, &task, "{}");
    run_start(&r);
    cr_expect(run_wait_log(&r, "1:here\n"));
    attempt_stop(&r.attempt, STOP_CANCEL);
    run_join(&r);
    cr_expect_eq(r.attempt.log_stdout, 5);
    run_release(&r);
}

Test(command, stdin_gets_the_arguments_whatever_their_size)
{
    static const size_t sizes[] = {2, 4096, 4097, 65536, 65537, 900000};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct task task = SHELL("wc -c");
        struct buf args = {0};
        struct run r;
        buf_addc(&args, '"');
        while (args.len < sizes[i] - 1)
            buf_addc(&args, 'x');
        buf_addc(&args, '"');
        definition(&task)->result_json = true;
        run_init(&r, &task, buf_cstr(&args));
        run(&r);
        cr_expect_eq(r.outcome.end, OUTCOME_SUCCEEDED, "%s", buf_cstr(&r.outcome.error));
        cr_expect_eq(strtoul(buf_cstr(&r.outcome.result), NULL, 10), sizes[i]);
        run_release(&r);
        buf_release(&args);
    }
}

Test(command, arguments_larger_than_a_pipe_come_back_while_they_are_written)
{
    struct task task = COMMAND("cat");
    struct buf args = {0};
    struct run r;
    buf_addc(&args, '"');
    for (int i = 0; i < 100000; i++)
        buf_addl(&args, "01234567");
    buf_addc(&args, '"');
    definition(&task)->result_json = true;
    run_init(&r, &task, buf_cstr(&args));
    run(&r);
    cr_expect_eq(r.outcome.end, OUTCOME_SUCCEEDED);
    cr_expect_str_eq(buf_cstr(&r.outcome.result), args.data);
    run_release(&r);
    buf_release(&args);
}

/* With SIGPIPE at its default, which would kill the test. */
Test(command, a_stdin_closed_early_is_no_failure)
{
    static const char *const scripts[] = {":", "exec 0<&-; sleep 0.1; echo fine",
                                          "head -c 10 >/dev/null; sleep 0.1"};
    struct buf args = {0};
    buf_addc(&args, '"');
    for (int i = 0; i < 100000; i++)
        buf_addl(&args, "01234567");
    buf_addc(&args, '"');
    buf_cstr(&args);
    signal(SIGPIPE, SIG_DFL);
    for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
        char *script = strdup(scripts[i]);
        struct task task = SHELL(script);
        struct run r;
        run_init(&r, &task, args.data);
        run(&r);
        cr_expect_eq(r.outcome.end, OUTCOME_SUCCEEDED, "row %zu", i);
        run_release(&r);
        free(script);
    }
    buf_release(&args);
}

Test(command, ten_mib_of_output_are_read_and_too_much_for_a_result)
{
    struct task task = SHELL("head -c 10485760 /dev/zero | tr '\\0' x; echo end >&2");
    struct run r;
    run_init(&r, &task, "{}");
    run(&r);
    cr_expect(failed_as(&r, "bad_result"));
    cr_expect(strstr(error_member(&r, "message"), "1048576"), "%s", error_member(&r, "message"));
    cr_expect_str_eq(error_member(&r, "stderr"), "end\n");
    char *log = run_log(&r);
    cr_expect(strstr(log, "[errand: the log reached its limit of 1 MiB, the rest is left out]"));
    free(log);
    run_release(&r);
}

Test(command, ten_mib_of_output_are_a_result_where_the_limit_allows)
{
    struct task task = SHELL("head -c 10485760 /dev/zero | tr '\\0' x");
    struct run r;
    run_init(&r, &task, "{}");
    r.limits.result_bytes = 10485760 + 2;
    run(&r);
    cr_expect_eq(r.outcome.end, OUTCOME_SUCCEEDED);
    cr_expect_eq(r.outcome.result.len, 10485760 + 2);
    run_release(&r);
}

Test(command, a_result_counts_as_json_against_the_limit)
{
    struct task task = SHELL("printf '\\n\\n\\n\\n\\n\\n'");
    struct run r;
    run_init(&r, &task, "{}");
    r.limits.result_bytes = 10; /* six bytes, fourteen in JSON */
    run(&r);
    cr_expect(failed_as(&r, "bad_result"));
    run_release(&r);
}

Test(command, arguments_stand_in_argv_without_a_shell)
{
    struct task task = COMMAND("printf", "%s|", "{a}", "{b}", "x{a}y");
    struct run r;
    run_init(&r, &task, "{\"a\":\"; echo $HOME `id` \\\"\",\"b\":[1, 2]}");
    run(&r);
    cr_expect_str_eq(buf_cstr(&r.outcome.result), "\"; echo $HOME `id` \\\"|[1, 2]|x; echo $HOME `id` \\\"y|\"");
    run_release(&r);
}

Test(command, arguments_that_do_not_fit_fail_for_good)
{
    struct task task = COMMAND("echo", "{a}");
    struct run r;
    run_init(&r, &task, "{\"a\":\"\\u0000\"}");
    run(&r);
    cr_expect(failed_as(&r, "invalid_args"));
    cr_expect(strstr(error_member(&r, "message"), "/args/a"));
    cr_expect_not(r.outcome.retry);
    run_release(&r);
}

Test(command, the_environment_is_the_servers_the_tasks_and_errands)
{
    struct task task = SHELL(
        "echo \"$ERRAND_ID $ERRAND_ATTEMPT $ERRAND_TASK $FROM_SERVER $BOTH $FROM_TASK\"; env | grep -c ^BOTH=");
    char id[ID_TEXT_LEN + 1] = {0}, wanted[128];
    struct run r;
    setenv("FROM_SERVER", "server", 1);
    setenv("BOTH", "server", 1);
    setenv("ERRAND_ID", "another", 1);
    definition(&task)->program.env = WORDS("BOTH=task", "FROM_TASK=a b");
    run_init(&r, &task, "{}");
    r.attempt.number = 4;
    run(&r);
    id_format(r.attempt.id, id);
    snprintf(wanted, sizeof(wanted), "\"%s 4 command server task a b\\n1\\n\"", id);
    cr_expect_str_eq(buf_cstr(&r.outcome.result), wanted);
    run_release(&r);
}

Test(command, it_runs_in_its_folder_and_in_a_group_of_its_own)
{
    struct task task = SHELL("pwd; cut -d' ' -f1,5 /proc/self/stat; echo $$");
    struct run r;
    run_init(&r, &task, "{}");
    run(&r);
    struct buf text = {0};
    char cwd[128];
    int reader, group, shell;
    json_unescape(buf_span(&r.outcome.result), &text);
    cr_assert_eq(sscanf(buf_cstr(&text), "%127s %d %d %d", cwd, &reader, &group, &shell), 4, "%s", text.data);
    cr_expect_str_eq(cwd, folder);
    cr_expect_eq(group, shell);
    cr_expect_neq(group, getpgrp());
    buf_release(&text);
    run_release(&r);
}

Test(command, a_child_starts_with_default_signals_and_no_other_files)
{
    /* the 31 classic signals: make ignores libc's own real-time ones, which is no business of ours */
    struct task task = SHELL("for n in Blk Ign; do v=$(sed -n \"s/^Sig$n:.//p\" /proc/self/status); "
                             "printf '%s %x\\n' $n $((0x$v & 0x7fffffff)); done; exec ls /proc/self/fd");
    struct run r;
    int leaked = open("/dev/null", O_RDONLY); /* not close-on-exec, as a careless module's */
    sigset_t some;
    sigemptyset(&some);
    sigaddset(&some, SIGTERM);
    sigaddset(&some, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &some, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, SIG_DFL);
    run_init(&r, &task, "{}");
    run(&r);
    cr_expect_str_eq(buf_cstr(&r.outcome.result), "\"Blk 0\\nIgn 0\\n"
                                                  "0\\n1\\n2\\n3\\n\"");
    sigset_t now;
    pthread_sigmask(SIG_SETMASK, NULL, &now);
    cr_expect(sigismember(&now, SIGTERM) && !sigismember(&now, SIGCHLD)); /* ours is as before */
    close(leaked);
    run_release(&r);
}

Test(command, programs_are_looked_for_along_the_path)
{
    FILE *file = fopen(path_of("mine"), "w");
    fputs("#!/bin/sh\necho mine\n", file);
    fclose(file);
    chmod(path_of("mine"), 0755);
    char path[128];
    snprintf(path, sizeof(path), "PATH=/nowhere:%s:/bin", folder);
    const struct {
        char *program, *env;
    } rows[] = {
        {"mine", path}, {"./mine", NULL}, {path_of("mine"), NULL}, {"mine", "PATH=/bin:"}, {"mine", "PATH=."},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct task task = COMMAND(rows[i].program);
        struct run r;
        definition(&task)->program.env = WORDS(rows[i].env);
        run_init(&r, &task, "{}");
        run(&r);
        cr_expect_str_eq(buf_cstr(&r.outcome.result), "\"mine\\n\"", "row %zu: %s", i, buf_cstr(&r.outcome.error));
        run_release(&r);
    }
}

Test(command, what_cannot_start_fails_as_a_shell_says_it)
{
    FILE *file = fopen(path_of("plain"), "w");
    fputs("no program\n", file);
    fclose(file);
    chmod(path_of("plain"), 0755);
    file = fopen(path_of("script"), "w");
    fputs("#!/no/such/interpreter\n", file);
    fclose(file);
    chmod(path_of("script"), 0755);
    static const struct {
        char *program;
        const char *cwd, *type, *message;
    } rows[] = {
        {"no-such-program", NULL, "exit:127", "`no-such-program`: No such file"},
        {"/no/such/program", NULL, "exit:127", "No such file"},
        {"./script", NULL, "exit:127", "No such file"},
        {"./plain", NULL, "exit:126", "Exec format error"},
        {"/etc/passwd", NULL, "exit:126", "Permission denied"},
        {"/", NULL, "exit:126", "Permission denied"},
        {"/bin/true", "/no/such/folder", "exit:126", "enter the folder `/no/such/folder`: No such file"},
    };
    int before = open_files();
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct task task = COMMAND(rows[i].program);
        struct run r;
        if (rows[i].cwd)
            definition(&task)->program.cwd = (char *)rows[i].cwd;
        run_init(&r, &task, "{}");
        run(&r);
        cr_expect(failed_as(&r, rows[i].type), "row %zu: %s", i, buf_cstr(&r.outcome.error));
        cr_expect(strstr(error_member(&r, "message"), rows[i].message), "row %zu: %s", i,
                  error_member(&r, "message"));
        run_release(&r);
    }
    cr_expect_eq(open_files(), before);
}

/* In a process that may have no more of it: what is short passes. */
Test(command, what_is_short_for_a_moment_is_nobodys_failure)
{
    static const struct {
        const char *of;
        int resource;
        rlim_t limit;
        const char *message;
    } rows[] = {
        {"descriptors", RLIMIT_NOFILE, 8, "cannot make its pipes"},
        {"processes", RLIMIT_NPROC, 1, "cannot make a process"},
    };
    struct task task = COMMAND("/bin/true");
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        pid_t pid = fork();
        cr_assert_geq(pid, 0);
        if (pid == 0) {
            struct run r;
            struct rlimit limit = {rows[i].limit, rows[i].limit};
            run_init(&r, &task, "{}");
            if (setrlimit(rows[i].resource, &limit) != 0)
                _exit(2);
            if (geteuid() == 0 && setresuid(65534, 65534, 65534) != 0) /* root may have any number */
                _exit(3);
            run(&r);
            bool well = r.outcome.end == OUTCOME_UNSTARTED && strstr(buf_cstr(&r.outcome.error), rows[i].message);
            _exit(well ? 0 : 4);
        }
        int status;
        cr_assert_eq(waitpid(pid, &status, 0), pid);
        cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s: %x", rows[i].of, status);
    }
}

Test(command, no_descriptor_and_no_zombie_is_left)
{
    struct task task = SHELL("echo x; exit 1");
    int before = open_files();
    for (int i = 0; i < 20; i++) {
        struct run r;
        run_init(&r, &task, "{}");
        run(&r);
        run_release(&r);
    }
    cr_expect_eq(open_files(), before);
    cr_expect_eq(waitpid(-1, NULL, WNOHANG), -1);
}

Test(command, whoever_stops_it_decides_how_it_ends)
{
    static const struct {
        const char *script;
        enum stop stop;
        int64_t timeout_ms;
        enum outcome_end end;
        const char *type;
        int64_t at_least_ms; /* the grace of 300 ms was waited for */
    } rows[] = {
        {"echo up >&2; exec sleep 60", STOP_CANCEL, 0, OUTCOME_CANCELLED, "", 0},
        {"echo up >&2; exec sleep 60", STOP_KILL, 0, OUTCOME_STOPPED, "", 0},
        {"echo up >&2; exec sleep 60", STOP_NONE, 50, OUTCOME_FAILED, "timeout", 50},
        {"trap '' TERM; echo up >&2; sleep 60", STOP_CANCEL, 0, OUTCOME_CANCELLED, "", 300},
        {"trap '' TERM; echo up >&2; sleep 60", STOP_KILL, 0, OUTCOME_STOPPED, "", 300},
        {"trap '' TERM; echo up >&2; sleep 60", STOP_NONE, 50, OUTCOME_FAILED, "timeout", 350},
        /* what ends well has succeeded, but for a timeout */
        {"trap 'exit 0' TERM; echo up >&2; sleep 60 & wait", STOP_CANCEL, 0, OUTCOME_SUCCEEDED, "", 0},
        {"trap 'exit 0' TERM; echo up >&2; sleep 60 & wait", STOP_KILL, 0, OUTCOME_SUCCEEDED, "", 0},
        {"trap 'exit 0' TERM; echo up >&2; sleep 60 & wait", STOP_NONE, 50, OUTCOME_FAILED, "timeout", 50},
        /* told to stop in time, it used the grace past its deadline */
        {"trap '' TERM; echo up >&2; sleep 60", STOP_KILL, 250, OUTCOME_STOPPED, "", 300},
        {"trap 'exit 4' TERM; echo up >&2; sleep 60 & wait", STOP_CANCEL, 0, OUTCOME_CANCELLED, "", 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char *script = strdup(rows[i].script);
        struct task task = SHELL(script);
        struct run r;
        run_init(&r, &task, "{}");
        r.attempt.timeout_ms = rows[i].timeout_ms;
        run_start(&r);
        if (rows[i].stop) {
            cr_expect(run_wait_log(&r, "up"), "row %zu", i);
            attempt_stop(&r.attempt, rows[i].stop);
        }
        run_join(&r);
        cr_expect_eq(r.outcome.end, rows[i].end, "row %zu: %d", i, r.outcome.end);
        cr_expect_str_eq(buf_cstr(&r.outcome.type), rows[i].type, "row %zu", i);
        cr_expect(r.took_ms >= rows[i].at_least_ms && r.took_ms < 10000, "row %zu: %d ms", i, (int)r.took_ms);
        run_release(&r);
        free(script);
    }
}

Test(command, a_wake_up_left_over_from_earlier_stops_nothing)
{
    struct task task = SHELL("sleep 0.1; echo done");
    struct run r;
    uint64_t one = 1;
    run_init(&r, &task, "{}");
    cr_assert_eq(write(r.attempt.wake_fd, &one, sizeof(one)), sizeof(one));
    run(&r);
    cr_expect_str_eq(buf_cstr(&r.outcome.result), "\"done\\n\"");
    run_release(&r);
}

Test(command, the_timeout_kills_the_whole_group)
{
    struct task task = SHELL("sleep 60 & " WRITE_PID("child", "$!") "trap '' TERM; wait; sleep 60");
    struct run r;
    run_init(&r, &task, "{}");
    r.attempt.timeout_ms = 200;
    r.limits.kill_grace_ms = 100;
    run(&r);
    cr_expect(failed_as(&r, "timeout"));
    cr_expect(strstr(error_member(&r, "message"), "200ms"));
    pid_t child = pid_in("child");
    cr_expect(eventually(process_is_gone, &child));
    run_release(&r);
}

Test(command, what_it_leaves_behind_is_killed_and_not_waited_for)
{
    struct task task = SHELL("(trap '' TERM HUP; sleep 60) & " WRITE_PID("child", "$!") "echo result");
    struct run r;
    run_init(&r, &task, "{}");
    run(&r);
    cr_expect_str_eq(buf_cstr(&r.outcome.result), "\"result\\n\"");
    cr_expect_lt(r.took_ms, 5000);
    pid_t child = pid_in("child");
    cr_expect(eventually(process_is_gone, &child));
    run_release(&r);
}

Test(command, one_that_left_the_group_and_holds_the_pipes_is_not_waited_for)
{
    struct task task =
        SHELL("setsid sh -c '" WRITE_PID("child", "$$") "exec sleep 60' & "
                                                        "while [ ! -e child ]; do sleep 0.01; done; echo result");
    struct run r;
    run_init(&r, &task, "{}");
    run(&r);
    cr_expect_str_eq(buf_cstr(&r.outcome.result), "\"result\\n\"");
    cr_expect_lt(r.took_ms, 5000);
    kill(pid_in("child"), SIGKILL);
    run_release(&r);
}

Test(command, one_that_closes_its_pipes_goes_on_running)
{
    struct task task = SHELL("exec >/dev/null 2>&1 0<&-; sleep 0.2; exit 5");
    struct run r;
    run_init(&r, &task, "{}");
    run(&r);
    cr_expect(failed_as(&r, "exit:5"));
    cr_expect_geq(r.took_ms, 190);
    run_release(&r);
}

Test(command, it_dies_with_the_thread_that_started_it)
{
    struct task task = SHELL(WRITE_PID("self", "$$") "exec sleep 60");
    pid_t server = fork();
    if (server == 0) {
        struct run r;
        run_init(&r, &task, "{}");
        run(&r);
        _exit(0);
    }
    pid_t child = pid_in("self");
    cr_expect_not(process_is_gone(&child));
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    cr_expect(eventually(process_is_gone, &child));
}

/* A parent whose own descriptors are closed gets pipes in their places. */
Test(command, it_works_where_the_standard_descriptors_are_closed)
{
    pid_t server = fork();
    if (server == 0) {
        struct task task = SHELL("cat; echo err >&2; exit 7");
        struct run r;
        close(0);
        close(1);
        close(2);
        run_init(&r, &task, "{\"x\":1}");
        run(&r);
        bool good = strstr(buf_cstr(&r.rest), "{\"x\":1}") && strcmp(error_member(&r, "stderr"), "err\n") == 0;
        _exit(good ? 0 : 1);
    }
    int status;
    waitpid(server, &status, 0);
    cr_expect_eq(status, 0);
}

static void *run_many(void *argument)
{
    struct task task = SHELL("cat; echo err >&2");
    struct run r;
    (void)argument;
    definition(&task)->result_json = true;
    for (int i = 0; i < 30; i++) {
        run_init(&r, &task, "[1, 2]");
        run(&r);
        cr_expect_str_eq(buf_cstr(&r.outcome.result), "[1, 2]");
        char *log = run_log(&r); /* on a busy machine some of it was flushed before the end */
        cr_expect(strstr(log, "2:err\n"), "%s", log);
        free(log);
        run_release(&r);
    }
    return NULL;
}

Test(command, many_threads_run_commands_at_once)
{
    pthread_t threads[8];
    for (int i = 0; i < 8; i++)
        pthread_create(&threads[i], NULL, run_many, NULL);
    for (int i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
}
