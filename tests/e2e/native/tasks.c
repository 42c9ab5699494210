/* Native tasks for the end-to-end tests. */
#include "errand_task.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* The text of an argument that is a JSON string without escapes. */
errand_task_fn echo, hold, deaf, numbered, fail, fail_for_good, fail_later, fail_until, count, segfault,
    segfault_after, last_words, leaves, no_json, chatter, long_result, reads_args, forks, waits, tree, most,
    sleeper, sleeps_and_holds, fail_when, left;

static int *volatile nowhere = (int *)8;

static void text_argument(struct errand_call *call, char *out, size_t size)
{
    size_t length;
    const char *args = errand_args(call, &length);
    snprintf(out, size, "%.*s", length >= 2 ? (int)length - 2 : 0, args + 1);
}

/* How long it has. */
void left(struct errand_call *call)
{
    char text[32];
    int n = snprintf(text, sizeof(text), "%lld", (long long)errand_time_left(call));
    errand_result(call, text, (size_t)n);
}

void echo(struct errand_call *call)
{
    size_t length;
    const char *args = errand_args(call, &length);
    errand_result(call, args, length);
}

/* Until the file is there, or until it is cancelled. */
void hold(struct errand_call *call)
{
    char path[4096];
    text_argument(call, path, sizeof(path));
    errand_log(call, "holding\n");
    while (access(path, F_OK) != 0) {
        if (errand_cancelled(call))
            return;
        usleep(2000);
    }
    errand_result(call, "\"let go\"", 8);
}

/* Until the file is there, deaf to everything else. */
void deaf(struct errand_call *call)
{
    char path[4096];
    text_argument(call, path, sizeof(path));
    while (access(path, F_OK) != 0)
        usleep(2000);
    errand_result(call, "\"let go\"", 8);
}

static bool comes(const char *path, int run, const char *what)
{
    char name[4200];
    snprintf(name, sizeof(name), "%s.%d.%s", path, run, what);
    return access(name, F_OK) == 0;
}

/* The number of this run is that of the first file PATH.N that is not there; it is made. */
static int take_number(const char *path)
{
    char name[4200];
    for (int run = 1;; run++) {
        snprintf(name, sizeof(name), "%s.%d", path, run);
        int fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0600);
        if (fd < 0 && errno == EEXIST)
            continue;
        close(fd);
        return run;
    }
}

/* Deaf as well, but each run has a number, which is in all that it says, and is
 * told by files how to go on: PATH.N.say, then .succeed, .fail, or .obey: to
 * leave as one that has heard of its cancellation. */
void numbered(struct errand_call *call)
{
    char path[4096], text[32];
    text_argument(call, path, sizeof(path));
    int run = take_number(path);
    errand_log(call, "run %d\n", run);
    snprintf(text, sizeof(text), "run %d", run);
    for (bool said = false;; usleep(2000)) {
        if (!said && comes(path, run, "say")) {
            errand_log(call, "run %d speaks\n", run);
            errand_progress(call, run, text);
            said = true;
        }
        if (comes(path, run, "succeed")) {
            errand_log(call, "run %d ends\n", run);
            snprintf(text, sizeof(text), "%d", run);
            errand_result(call, text, strlen(text));
            return;
        }
        if (comes(path, run, "fail")) {
            errand_fail(call, "mine", text);
            return;
        }
        if (comes(path, run, "crash"))
            abort();
        if (comes(path, run, "obey") && errand_cancelled(call))
            return;
    }
}

void fail(struct errand_call *call)
{
    errand_fail(call, "mine", "it went wrong");
}

/* Fails once the file is there. */
void fail_when(struct errand_call *call)
{
    char path[4096];
    text_argument(call, path, sizeof(path));
    while (access(path, F_OK) != 0)
        usleep(2000);
    fail(call);
}

void fail_for_good(struct errand_call *call)
{
    errand_fail_for_good(call, "hopeless", "no use");
}

void fail_later(struct errand_call *call)
{
    if (errand_attempt(call) == 1)
        errand_fail_retry_after(call, "busy", "come back", 200);
    else
        errand_result(call, "2", 1);
}

/* Fails, naming the attempt, until the attempt that its argument names. */
void fail_until(struct errand_call *call)
{
    char type[32];
    if (errand_attempt(call) >= atoi(errand_args(call, NULL))) {
        errand_result(call, "\"at last\"", 9);
        return;
    }
    snprintf(type, sizeof(type), "fault-%d", errand_attempt(call));
    errand_fail(call, type, "not yet");
}

/* Appends its id to the file `runs` of the working directory. */
void count(struct errand_call *call)
{
    char line[32];
    int n = snprintf(line, sizeof(line), "%s\n", errand_id(call));
    int fd = open("runs", O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (write(fd, line, (size_t)n) != n)
        errand_fail(call, "io", "runs");
    close(fd);
}

void segfault(struct errand_call *call)
{
    (void)call;
    *nowhere = 1;
}

/* Crashes once the file that its argument names is there. */
void segfault_after(struct errand_call *call)
{
    char path[4096];
    text_argument(call, path, sizeof(path));
    while (access(path, F_OK) != 0)
        usleep(2000);
    *nowhere = 1;
}

void last_words(struct errand_call *call)
{
    errand_log(call, "I am at step 1\n");
    errand_log(call, "and now at %d\n", 2);
    *nowhere = 1;
}

void leaves(struct errand_call *call)
{
    (void)call;
    exit(0);
}

void no_json(struct errand_call *call)
{
    errand_result(call, "{not json", 9);
}

void chatter(struct errand_call *call)
{
    errand_log(call, "one\n");
    errand_progress(call, 0.5, "half");
    errand_log(call, "two\n");
    hold(call);
}

/* A result of as many bytes as its argument says. */
void long_result(struct errand_call *call)
{
    size_t n = (size_t)atol(errand_args(call, NULL));
    char *text = malloc(n + 1);
    memset(text, 'x', n);
    text[0] = text[n - 1] = '"';
    errand_result(call, text, n);
    free(text);
}

/* What it can read of its arguments, as a line of each. */
void reads_args(struct errand_call *call)
{
    int64_t number = -7;
    double real = -7;
    int truth = -7;
    const char *text = "none", *json = "none";
    size_t length = 0;
    int found = errand_arg_int64(call, "number", &number);
    errand_log(call, "%d %lld\n", found, (long long)number);
    found = errand_arg_double(call, "real", &real);
    errand_log(call, "%d %g\n", found, real);
    found = errand_arg_bool(call, "truth", &truth);
    errand_log(call, "%d %d\n", found, truth);
    found = errand_arg_text(call, "text", &text, &length);
    errand_log(call, "%d %s %zu\n", found, text, length);
    found = errand_arg_json(call, "json", &json, NULL);
    errand_log(call, "%d %s\n", found, json);
    found = errand_arg_int64(call, "text", &number);
    errand_log(call, "%d %d\n", found, errand_arg_text(call, "nosuch", &text, NULL));
}

/* Waits for a child of its own long after that has ended: once the file is there. */
void forks(struct errand_call *call)
{
    char path[4096], text[16];
    int status = 0;
    text_argument(call, path, sizeof(path));
    pid_t pid = fork();
    if (pid == 0)
        _exit(7);
    while (access(path, F_OK) != 0)
        usleep(2000);
    if (waitpid(pid, &status, 0) != pid) {
        errand_fail(call, "robbed", "somebody else waited for my child");
        return;
    }
    snprintf(text, sizeof(text), "%d", WEXITSTATUS(status));
    errand_result(call, text, strlen(text));
}

/* --- children ------------------------------------------------------------------ */

static atomic_int bodies, most_bodies;

static void enter(void)
{
    int now = atomic_fetch_add(&bodies, 1) + 1, most = atomic_load(&most_bodies);
    while (now > most && !atomic_compare_exchange_weak(&most_bodies, &most, now)) {
    }
}

static void leave(void)
{
    atomic_fetch_sub(&bodies, 1);
}

/* Once the file `gate` is there, if it is named: submits `child` as the step
 * "child" if there is one, and waits for it or for `on`, for at most `for`
 * milliseconds. Its result is what that came to; the file `mark` says, too, what
 * errand_wait() and then errand_cancelled() said. */
void waits(struct errand_call *call)
{
    const char *child = NULL, *on = NULL, *status = "", *value = "", *gate = NULL, *mark = NULL;
    char id[ERRAND_ID_BYTES], text[4096];
    int64_t timeout_ms = -1;
    size_t length;
    errand_arg_text(call, "mark", &mark, NULL);
    if (errand_arg_text(call, "gate", &gate, NULL) == 0)
        while (access(gate, F_OK) != 0)
            usleep(2000);
    errand_arg_int64(call, "for", &timeout_ms);
    errand_arg_text(call, "on", &on, NULL);
    if (errand_arg_json(call, "child", &child, &length) == 0) {
        if (errand_submit(call, child, length, id) != 0) {
            errand_fail(call, "not_submitted", errand_why(call));
            return;
        }
        on = id;
        errand_log(call, "%s\n", id);
    }
    int waited = errand_wait(call, &on, 1, 0, timeout_ms);
    if (mark) {
        int fd = open(mark, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        dprintf(fd, "%d %d", waited, errand_cancelled(call));
        close(fd);
    }
    if (waited == ERRAND_REFUSED) {
        if (!errand_cancelled(call))
            errand_fail_for_good(call, "refused", errand_why(call));
    } else if (waited == ERRAND_TIMED_OUT) {
        errand_result(call, "\"timed out\"", 11);
    } else if (errand_look(call, on, &status, &value, NULL) == 0) {
        int n = snprintf(text, sizeof(text), "{\"status\":\"%s\",\"value\":%s}", status, value);
        errand_result(call, text, (size_t)n);
    }
}

/* Two of its kind below it, down to depth 0; how many there are in all. */
void tree(struct errand_call *call)
{
    int64_t depth = 0, sum = 1;
    char ids[2][ERRAND_ID_BYTES], text[96];
    const char *waited[2] = {ids[0], ids[1]}, *status, *value;
    enter();
    errand_arg_int64(call, "depth", &depth);
    for (int i = 0; i < 2 && depth; i++) {
        int n = snprintf(text, sizeof(text), "{\"task\":\"tree\",\"args\":{\"depth\":%d},\"step\":\"%d\"}",
                         (int)depth - 1, i);
        if (errand_submit(call, text, (size_t)n, ids[i]) != 0)
            errand_fail(call, "not_submitted", errand_why(call));
    }
    leave();
    int met = depth ? errand_wait(call, waited, 2, 0, -1) : 0;
    enter();
    for (int i = 0; i < 2 && depth && met == 0; i++)
        if (errand_look(call, ids[i], &status, &value, NULL) != 0) {
            errand_fail(call, "not_seen", errand_why(call));
            met = -1;
        } else if (strcmp(status, "succeeded") != 0) {
            errand_fail(call, "child", value);
            met = -1;
        } else {
            sum += atoll(value);
        }
    if (met == -1)
        ;
    else if (met == 0)
        errand_result(call, text, (size_t)snprintf(text, sizeof(text), "%lld", (long long)sum));
    else if (!errand_cancelled(call))
        errand_fail(call, "refused", errand_why(call));
    leave();
}

/* Suspends as its arguments say; when it is woken: what it had, and what woke it. */
void sleeper(struct errand_call *call)
{
    size_t length, woken_length = 0;
    const char *args = errand_args(call, &length);
    const char *state = errand_state(call, NULL), *woken = errand_woken(call, &woken_length);
    errand_log(call, "turn\n");
    if (!woken) {
        if (errand_suspend(call, args, length) != 0)
            errand_fail(call, "not_suspended", errand_why(call));
        errand_log(call, "late\n");
        return;
    }
    char *text = malloc(woken_length + 1000);
    int n = sprintf(text, "{\"state\":%s,\"woken\":%s}", state ? state : "null", woken);
    errand_result(call, text, (size_t)n);
    free(text);
}

/* The first turn leaves a state; the next gives it back when the file is there. */
void sleeps_and_holds(struct errand_call *call)
{
    static const char suspension[] = "{\"on\":{\"until\":\"1ms\"},\"state\":\"kept\"}";
    size_t length;
    const char *state = errand_state(call, &length);
    if (!state && errand_attempt(call) == 1)
        errand_suspend(call, suspension, sizeof suspension - 1);
    else if (!state)
        errand_fail_for_good(call, "no_state", "it was lost");
    if (!state)
        return;
    hold(call);
    if (!errand_cancelled(call))
        errand_result(call, state, length);
}

/* How many of those were in their own code at once, at most. */
void most(struct errand_call *call)
{
    char text[16];
    errand_result(call, text, (size_t)snprintf(text, sizeof(text), "%d", atomic_load(&most_bodies)));
}
