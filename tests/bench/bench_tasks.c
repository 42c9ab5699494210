/* Native tasks to measure with. */
#include <errand_task.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

errand_task_fn noop, started, doze, tree, steps, naps;

void noop(struct errand_call *call)
{
    (void)call;
}

/* When its body began, in nanoseconds of CLOCK_REALTIME. */
void started(struct errand_call *call)
{
    struct timespec at;
    char text[32];
    clock_gettime(CLOCK_REALTIME, &at);
    int length = snprintf(text, sizeof text, "%lld", (long long)at.tv_sec * 1000000000 + at.tv_nsec);
    errand_result(call, text, (size_t)length);
}

/* Keeps its slot, so that what is queued behind it stays queued. */
void doze(struct errand_call *call)
{
    while (!errand_cancelled(call))
        usleep(100000);
}

/* Two of its kind below it, which it waits for, down to depth 0. */
void tree(struct errand_call *call)
{
    int64_t depth = 0;
    char ids[2][ERRAND_ID_BYTES], text[96];
    const char *waited[2] = {ids[0], ids[1]};
    errand_arg_int64(call, "depth", &depth);
    for (int i = 0; i < 2 && depth; i++) {
        int length = snprintf(text, sizeof text, "{\"task\":\"tree\",\"args\":{\"depth\":%d}}", (int)depth - 1);
        if (errand_submit(call, text, (size_t)length, ids[i]) != 0)
            errand_fail(call, "not_submitted", errand_why(call));
    }
    if (depth && errand_wait(call, waited, 2, 0, -1) != 0)
        errand_fail(call, "not_waited", errand_why(call));
}

/* Records so many, one after the other. */
void steps(struct errand_call *call)
{
    int64_t count = 0;
    char name[32];
    errand_arg_int64(call, "count", &count);
    for (int64_t i = 0; i < count; i++) {
        snprintf(name, sizeof name, "step %lld", (long long)i);
        if (errand_step(call, name, "1", 1, NULL, NULL) != 0) {
            errand_fail(call, "not_recorded", errand_why(call));
            return;
        }
    }
}

/* Suspends so often, for the shortest time. */
void naps(struct errand_call *call)
{
    int64_t count = 0;
    char text[80];
    const char *state = errand_state(call, NULL);
    long had = state ? atol(state) : 0;
    errand_arg_int64(call, "count", &count);
    if (had == count)
        return;
    int length = snprintf(text, sizeof text, "{\"on\":{\"until\":\"1ms\"},\"state\":%ld}", had + 1);
    if (errand_suspend(call, text, (size_t)length) != 0)
        errand_fail(call, "not_suspended", errand_why(call));
}
