/* Native tasks to measure with. */
#include <errand_task.h>

#include <stdio.h>
#include <time.h>
#include <unistd.h>

errand_task_fn noop, started, doze;

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
