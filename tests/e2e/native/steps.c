/* Native tasks that record steps and messages, for test_steps.c and ../crash/steps.py. */
#include "errand_task.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

errand_task_fn ledger, fails_once, says, sends, reads;

/* A line that is there whole even if the process is killed the moment after. */
static void note(struct errand_call *call, const char *what, int64_t step, const char *value)
{
    char line[128];
    int n = snprintf(line, sizeof line, "%s %s %" PRId64 " %s\n", what, errand_id(call), step, value);
    int fd = open("ledger", O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd < 0 || write(fd, line, (size_t)n) != n)
        abort();
    close(fd);
}

/* No two are alike, so that work which was done twice shows. */
static void work(struct errand_call *call, int64_t step, int64_t microseconds, char value[32])
{
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    snprintf(value, 32, "%" PRId64, (int64_t)at.tv_sec * 1000000000 + at.tv_nsec);
    note(call, "work", step, value);
    usleep((useconds_t)microseconds);
}

/* Says that the step is there, to whoever listens. */
static int tell(struct errand_call *call, int64_t step, const char *value)
{
    char text[96];
    int n = snprintf(text, sizeof text, "{\"step\":%" PRId64 ",\"value\":%s}", step, value);
    if (errand_message(call, text, (size_t)n) != 0) {
        if (!errand_cancelled(call))
            errand_fail_for_good(call, "message", errand_why(call));
        return -1;
    }
    note(call, "sent", step, value);
    return 0;
}

static int dice(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (int)(at.tv_nsec / 128 % 100);
}

/* One step of the ledger; NULL: the body is to return. */
static const char *do_step(struct errand_call *call, int64_t step, int64_t microseconds)
{
    char name[32], value[32];
    const char *kept;
    snprintf(name, sizeof name, "step %" PRId64, step);
    int found = errand_step_get(call, name, &kept, NULL);
    if (found == 0)
        return kept;
    if (found == ERRAND_NONE) {
        work(call, step, microseconds, value);
        found = errand_step(call, name, value, strlen(value), &kept, NULL);
        if (found == 0) {
            note(call, "done", step, kept);
            return kept;
        }
    }
    if (!errand_cancelled(call))
        errand_fail_for_good(call, "step", found == ERRAND_FOUND ? "another has recorded it" : errand_why(call));
    return NULL;
}

/* `steps` steps that each take `us`, and a message for each that a turn comes by; their values
 * in order are the result. With a `chance` in a hundred it fails after a step. */
void ledger(struct errand_call *call)
{
    int64_t steps = 10, microseconds = 0, chance = 0;
    errand_arg_int64(call, "steps", &steps);
    errand_arg_int64(call, "us", &microseconds);
    errand_arg_int64(call, "chance", &chance);
    char *result = malloc((size_t)steps * 32 + 2), *end = result;
    bool goes_on = true;
    for (int64_t i = 0; i < steps && goes_on; i++) {
        const char *value = do_step(call, i, microseconds);
        goes_on = value && tell(call, i, value) == 0;
        if (goes_on && dice() < chance) {
            errand_fail(call, "chance", "as it happens");
            goes_on = false;
        }
        if (goes_on)
            end += sprintf(end, "%c%s", i ? ',' : '[', value);
    }
    *end++ = ']';
    if (goes_on)
        errand_result(call, result, (size_t)(end - result));
    free(result);
}

/* Three steps, the third of which fails at the first attempt. */
void fails_once(struct errand_call *call)
{
    for (int i = 0; i < 2; i++)
        if (!do_step(call, i, 0))
            return;
    if (errand_attempt(call) == 1)
        errand_fail(call, "mine", "not yet");
    else if (do_step(call, 2, 0))
        errand_result(call, "true", 4);
}

/* What errand_step() and so on answer: {code, kept, why}. `what` is step, get or
 * message; `name` and `json` are texts, repeated `times` and `json_times`. */
void says(struct errand_call *call)
{
    const char *what = "", *name = "", *json = "", *kept = "null";
    int64_t times = 1, json_times = 1;
    size_t n, m;
    errand_arg_text(call, "what", &what, NULL);
    errand_arg_text(call, "name", &name, &n);
    errand_arg_text(call, "json", &json, &m);
    errand_arg_int64(call, "times", &times);
    errand_arg_int64(call, "json_times", &json_times);
    char *long_name = calloc(1, strlen(name) * (size_t)times + 1),
         *text = calloc(1, strlen(json) * (size_t)json_times + 1);
    for (char *at = long_name; times-- > 0; at += strlen(name))
        strcpy(at, name);
    for (char *at = text; json_times-- > 0; at += strlen(json))
        strcpy(at, json);
    int code = strcmp(what, "step") == 0  ? errand_step(call, long_name, text, strlen(text), &kept, NULL)
               : strcmp(what, "get") == 0 ? errand_step_get(call, long_name, &kept, NULL)
                                          : errand_message(call, text, strlen(text));
    free(long_name);
    free(text);
    size_t size = strlen(kept) + 600;
    char *answer = malloc(size);
    int length = snprintf(answer, size, "{\"code\":%d,\"kept\":%s,\"why\":\"%s\"}", code, kept,
                          code == ERRAND_REFUSED ? errand_why(call) : "");
    errand_result(call, answer, (size_t)length);
    free(answer);
}

/* `count` messages, each a number; at the first of two attempts it fails halfway. */
void sends(struct errand_call *call)
{
    int64_t count = 1;
    char text[32];
    errand_arg_int64(call, "count", &count);
    for (int64_t i = 0; i < count; i++) {
        int n = snprintf(text, sizeof text, "{\"n\":%" PRId64 "}", i);
        if (errand_message(call, text, (size_t)n) != 0) {
            errand_fail(call, "not_sent", errand_why(call));
            return;
        }
    }
}

/* Takes `take` messages, waiting `for` milliseconds for each, and gives them back as
 * an array. Fails afterwards at the attempts before `good`. */
void reads(struct errand_call *call)
{
    int64_t take = 1, wait_ms = -1, seq = 0, good = 1;
    char result[4096] = "[";
    size_t length = 1;
    const char *body;
    errand_arg_int64(call, "take", &take);
    errand_arg_int64(call, "for", &wait_ms);
    errand_arg_int64(call, "good", &good);
    for (int64_t i = 0; i < take; i++) {
        int code = errand_inbox(call, seq, wait_ms, &body, NULL, &seq);
        if (code == ERRAND_REFUSED) {
            if (!errand_cancelled(call))
                errand_fail_for_good(call, "refused", errand_why(call));
            return;
        }
        if (code == ERRAND_NONE)
            body = "\"none\"";
        length += (size_t)snprintf(result + length, sizeof result - length, "%s%s", i ? "," : "", body);
    }
    result[length++] = ']';
    errand_log(call, "%.*s\n", (int)length, result);
    if (errand_attempt(call) < good)
        errand_fail(call, "mine", "again");
    else
        errand_result(call, result, length);
}
