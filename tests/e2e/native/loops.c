/* A native task for ../crash/loops.py: an iteration that counts on, takes in what stands in its inbox,
 * and fails by chance. */
#include "errand_task.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

errand_task_fn counts;

static int dice(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (int)(at.tv_nsec / 128 % 100);
}

/* Messages are numbers. The sum of those that are there, and how many. */
static int take_in(struct errand_call *call, int64_t *sum, int64_t *count)
{
    int64_t seq = 0;
    const char *body;
    size_t length;
    int got;
    while ((got = errand_inbox(call, seq, 0, &body, &length, &seq)) == 0) {
        char text[32] = "";
        memcpy(text, body, length < sizeof text - 1 ? length : sizeof text - 1);
        *sum += strtoll(text, NULL, 10);
        ++*count;
    }
    return got == ERRAND_NONE ? 0 : -1;
}

/* {n, max, us, chance, pad, sum, heard}: the same with what has changed is the result. */
void counts(struct errand_call *call)
{
    int64_t n = 0, max = 0, us = 0, chance = 0, pad = 0, sum = 0, heard = 0;
    errand_arg_int64(call, "n", &n);
    errand_arg_int64(call, "max", &max);
    errand_arg_int64(call, "us", &us);
    errand_arg_int64(call, "chance", &chance);
    errand_arg_int64(call, "pad", &pad);
    errand_arg_int64(call, "sum", &sum);
    errand_arg_int64(call, "heard", &heard);
    if (take_in(call, &sum, &heard) != 0) {
        errand_fail(call, "inbox", "it could not be read");
        return;
    }
    usleep((useconds_t)us);
    if (dice() < chance) {
        errand_fail(call, "chance", "by chance");
        return;
    }
    char *text = malloc((size_t)pad + 256);
    int length =
        snprintf(text, 256,
                 "{\"n\":%" PRId64 ",\"max\":%" PRId64 ",\"us\":%" PRId64 ",\"chance\":%" PRId64
                 ",\"pad\":%" PRId64 ",\"sum\":%" PRId64 ",\"heard\":%" PRId64 ",\"stop\":%s,\"filler\":\"",
                 n + 1, max, us, chance, pad, sum, heard, n + 1 >= max ? "true" : "false");
    memset(text + length, 'p', (size_t)pad);
    memcpy(text + length + pad, "\"}", 3);
    errand_result(call, text, (size_t)(length + pad + 2));
    free(text);
}
