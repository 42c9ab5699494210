/* Native tasks for test_isolated.c. */
#include "errand_task.h"

#include <fcntl.h>
#include <inttypes.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

errand_task_fn who, spin, prints, prints_and_dies, nested, deep_step, wordy, comma, copies, holds_stream, wide,
    keeps;

static void give(struct errand_call *call, const char *json)
{
    errand_result(call, json, strlen(json));
}

/* Its process, and its thread's number of runs so far. */
void who(struct errand_call *call)
{
    static __thread int runs;
    char text[80];
    snprintf(text, sizeof text, "{\"pid\":%d,\"runs\":%d,\"attempt\":%d,\"fd\":%s}", (int)getpid(), ++runs,
             errand_attempt(call), getenv("ERRAND_FD") ? "true" : "false");
    give(call, text);
}

/* Never returns, and never asks. Its argument is a file that says that it has begun. */
void spin(struct errand_call *call)
{
    const char *path = NULL;
    if (errand_arg_text(call, "mark", &path, NULL) == 0)
        close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    for (volatile int i = 0;; i++)
        ;
}

void prints(struct errand_call *call)
{
    printf("printed %s", errand_args(call, NULL));
    fprintf(stderr, "and told");
    give(call, "true");
}

void prints_and_dies(struct errand_call *call)
{
    (void)call;
    printf("the last line\n");
    _exit(9);
}

static char *brackets(int64_t depth)
{
    char *text = malloc((size_t)depth * 2 + 1);
    memset(text, '[', (size_t)depth);
    memset(text + depth, ']', (size_t)depth);
    text[depth * 2] = '\0';
    return text;
}

static char *brackets_of(struct errand_call *call)
{
    return brackets(strtoll(errand_args(call, NULL), NULL, 10));
}

/* A result that is nested so deeply. */
void nested(struct errand_call *call)
{
    char *text = brackets_of(call);
    give(call, text);
    free(text);
}

/* What is said with something that is nested so deeply. */
void deep_step(struct errand_call *call)
{
    char *text = brackets_of(call), id[ERRAND_ID_BYTES], result[80];
    size_t n = strlen(text);
    int step = errand_step(call, "deep", text, n, NULL, NULL), message = errand_message(call, text, n);
    char *submission = malloc(n + 100), *suspension = malloc(n + 100);
    sprintf(submission, "{\"task\":\"echo\",\"args\":%s}", text);
    sprintf(suspension, "{\"on\":{\"until\":\"1ms\"},\"state\":%s", text);
    snprintf(result, sizeof result, "[%d,%d,%d,%d]", step, message,
             errand_submit(call, submission, strlen(submission), id),
             errand_suspend(call, suspension, strlen(suspension)));
    give(call, result);
    free(submission);
    free(suspension);
    free(text);
}

/* One line of log of so many bytes. */
void wordy(struct errand_call *call)
{
    size_t n = strtoull(errand_args(call, NULL), NULL, 10);
    char *text = malloc(n + 1);
    memset(text, 'w', n);
    text[n] = '\0';
    errand_log(call, "%s", text);
    free(text);
}

/* Many words of progress; all but some are held back, and the last one is seen. */
void comma(struct errand_call *call)
{
    char note[16];
    setlocale(LC_ALL, "de_DE.UTF-8");
    for (int i = 0; i <= 10000; i++) {
        snprintf(note, sizeof note, "note %d", i);
        errand_progress(call, i / 4.0, note);
    }
    const char *path = NULL;
    if (errand_arg_text(call, "path", &path, NULL) == 0)
        while (access(path, F_OK) != 0)
            usleep(2000);
}

/* A copy of the process speaks, too, and goes on as if it were the one. */
void copies(struct errand_call *call)
{
    pid_t pid = fork();
    if (pid == 0) {
        errand_log(call, "copy\n");
        errand_progress(call, 9, "copy");
        _exit(0);
    }
    waitpid(pid, NULL, 0);
    errand_log(call, "one\n");
    give(call, "true");
}

/* Waits, with a stream of its own locked, for what does not come before the file. */
void holds_stream(struct errand_call *call)
{
    const char *path = NULL, *mark = NULL;
    char command[5000], line[16];
    errand_arg_text(call, "path", &path, NULL);
    errand_arg_text(call, "mark", &mark, NULL);
    snprintf(command, sizeof command, "touch %s; while ! [ -e %s ]; do sleep 0.01; done; echo end", mark, path);
    FILE *stream = popen(command, "r");
    if (stream && fgets(line, sizeof line, stream))
        give(call, "\"end\"");
    pclose(stream);
}

/* A submission of more than a line of the protocol has room for. */
void wide(struct errand_call *call)
{
    size_t n = 17 << 20;
    char *text = malloc(n + 1), id[ERRAND_ID_BYTES];
    memset(text, ' ', n);
    memcpy(text, "{\"task\":\"echo\",\"args\":1", 23);
    text[n - 1] = '}';
    if (errand_submit(call, text, n, id) != 0)
        errand_fail_for_good(call, "refused", errand_why(call));
    free(text);
}

/* What it finds of the step `kept`, before and after it has recorded it; then it fails once. */
void keeps(struct errand_call *call)
{
    const char *kept = "null", *again = "null";
    char result[200];
    int before = errand_step_get(call, "kept", &kept, NULL);
    int said = errand_step(call, "kept", "{\"n\":1}", 7, NULL, NULL);
    int after = errand_step_get(call, "kept", &again, NULL);
    snprintf(result, sizeof result, "[%d,%s,%d,%d,%s]", before, kept, said, after, again);
    errand_log(call, "%s\n", result);
    if (errand_attempt(call) == 1)
        errand_fail(call, "once", "again");
    else
        give(call, result);
}
