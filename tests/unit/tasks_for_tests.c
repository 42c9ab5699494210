/* Bodies that behave well or badly, for the tests of the native kind. */
#include <errand_task.h>

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

errand_task_fn nothing, echo, whoami, segv, overflow_stack, raise_abort, call_exit, end_thread, slow, deaf,
    slow_result, fail_plain, fail_good, fail_later, fail_odd, report_progress, big, invalid, too_deep, last_counts,
    log_lines, log_long, log_threads, log_slow, records;

int a_variable = 1;

static void give(struct errand_call *call, const char *json)
{
    errand_result(call, json, strlen(json));
}

static void pause_ms(long ms)
{
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

void nothing(struct errand_call *call)
{
    (void)call;
}

void echo(struct errand_call *call)
{
    size_t length;
    const char *args = errand_args(call, &length);
    errand_result(call, args, length);
}

void whoami(struct errand_call *call)
{
    errand_log(call, "%s %s %d", errand_id(call), errand_task(call), errand_attempt(call));
}

void segv(struct errand_call *call)
{
    (void)call;
    volatile int *volatile nowhere = NULL;
    *nowhere = 1;
}

static int deeper(volatile char *above)
{
    volatile char frame[4096];
    frame[0] = above[0];
    return frame[0] == 1 ? 1 : deeper(frame) + frame[0];
}

void overflow_stack(struct errand_call *call)
{
    volatile char frame[1] = {0};
    errand_progress(call, deeper(frame), NULL);
}

void raise_abort(struct errand_call *call)
{
    (void)call;
    abort();
}

void call_exit(struct errand_call *call)
{
    (void)call;
    exit(3);
}

void end_thread(struct errand_call *call)
{
    (void)call;
    pthread_exit(NULL);
}

/* Until it is told to stop; then without a result. */
void slow(struct errand_call *call)
{
    errand_progress(call, 0, "begun");
    while (!errand_cancelled(call))
        pause_ms(1);
}

/* Waits until it is told to stop, and gives a result all the same. */
void slow_result(struct errand_call *call)
{
    slow(call);
    give(call, "\"done\"");
}

/* Never asks. */
void deaf(struct errand_call *call)
{
    errand_progress(call, 0, "begun");
    pause_ms(200);
}

void fail_plain(struct errand_call *call)
{
    errand_fail(call, "unlucky", "it did not work");
}

void fail_good(struct errand_call *call)
{
    errand_fail_for_good(call, "hopeless", "it never will");
}

void fail_later(struct errand_call *call)
{
    errand_fail_retry_after(call, "busy", "come back", 1500);
}

void fail_never_again(struct errand_call *call)
{
    errand_fail_retry_after(call, "busy", "come back", INT64_MAX);
}

void fail_odd(struct errand_call *call)
{
    errand_fail(call, NULL, "\"quoted\" \xFF");
}

void report_progress(struct errand_call *call)
{
    errand_progress(call, 0.25, "a quarter");
    errand_progress(call, NAN, "not a number");
    errand_progress(call, 1, NULL);
}

void big(struct errand_call *call)
{
    size_t length = 2 * 1024 * 1024;
    char *json = malloc(length);
    memset(json, 'x', length);
    json[0] = json[length - 1] = '"';
    errand_result(call, json, length);
    free(json);
}

void invalid(struct errand_call *call)
{
    give(call, "{\"x\": nope}");
}

void too_deep(struct errand_call *call)
{
    char json[200];
    memset(json, '[', 100);
    memset(json + 100, ']', 100);
    errand_result(call, json, sizeof(json));
}

void last_counts(struct errand_call *call)
{
    errand_fail_for_good(call, "hopeless", "no");
    give(call, "{");
    give(call, "{\"yes\":1.10}");
}

void log_lines(struct errand_call *call)
{
    for (int i = 0; i < 3; i++)
        errand_log(call, "line %d\n", i);
}

void log_long(struct errand_call *call)
{
    errand_log(call, "%5000d", 7);
}

/* Seen while it runs. */
void log_slow(struct errand_call *call)
{
    errand_log(call, "begin\n");
    pause_ms(120);
    errand_log(call, "middle\n");
    slow(call);
}

static void *log_from_thread(void *call)
{
    for (int i = 0; i < 1000; i++) {
        errand_log(call, "0123456789abcde\n");
        errand_progress(call, i, "x");
        errand_cancelled(call);
    }
    return NULL;
}

void log_threads(struct errand_call *call)
{
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, log_from_thread, call);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
}

/* What its argument names; fails with the reason where it is refused. */
void records(struct errand_call *call)
{
    static char long_name[102], large[65538];
    memset(long_name, 'n', sizeof long_name - 1);
    memset(large, ' ', sizeof large - 1);
    large[0] = '1';
    const char *what = errand_args(call, NULL), *text = NULL;
#define IS(name, expression)                                   \
    if (strcmp(what, "\"" name "\"") == 0 && (expression) < 0) \
    errand_fail(call, "refused", errand_why(call))
    IS("step_without_name", errand_step(call, NULL, "1", 1, NULL, NULL));
    IS("step_with_long_name", errand_step(call, long_name, "1", 1, NULL, NULL));
    IS("step_with_bytes", errand_step(call, "\xff", "1", 1, NULL, NULL));
    IS("step_without_value", errand_step(call, "a", NULL, 0, NULL, NULL));
    IS("step_with_text", errand_step(call, "a", "text", 4, NULL, NULL));
    IS("get_without_name", errand_step_get(call, "", &text, NULL));
    IS("message_without_body", errand_message(call, NULL, 0));
    IS("message_with_two", errand_message(call, "1 2", 3));
    IS("message_too_large", errand_message(call, large, 65537));
    IS("good_step", errand_step(call, "a", "1", 1, NULL, NULL));
    IS("good_get", errand_step_get(call, "a", &text, NULL));
    IS("good_message", errand_message(call, "1", 1));
    IS("good_inbox", errand_inbox(call, 0, 0, &text, NULL, NULL));
#undef IS
}
