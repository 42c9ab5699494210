/* The native task of groups.py. {"mark": NAME, "needs": "NAME NAME …", "ms": N, "chance": N}: it must find the marks of
 * all that it needs, works, and fails by that chance in a hundred or leaves its own mark. Marks are empty files in the
 * folder $CRASH_MARKS; a need that is not met is written down there, as `unmet-…`. */
#include <errand_task.h>

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

errand_task_fn member;

static int has_mark(const char *name, size_t length)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%.*s", getenv("CRASH_MARKS"), (int)length, name);
    return access(path, F_OK) == 0;
}

static void leave_mark(const char *what, const char *name, size_t length)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s%.*s", getenv("CRASH_MARKS"), what, (int)length, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        abort();
    close(fd);
}

static void check_needs(struct errand_call *call, const char *mark, size_t mark_length)
{
    const char *needs = "";
    size_t length = 0;
    errand_arg_text(call, "needs", &needs, &length);
    for (const char *end = needs + length; needs < end;) {
        const char *space = memchr(needs, ' ', (size_t)(end - needs));
        size_t n = (size_t)((space ? space : end) - needs);
        if (!has_mark(needs, n))
            leave_mark("unmet-", mark, mark_length);
        needs += n + 1;
    }
}

void member(struct errand_call *call)
{
    double ms = 0, chance = 0;
    const char *mark = "";
    size_t length = 0;
    uint32_t drawn;
    errand_arg_text(call, "mark", &mark, &length);
    errand_arg_double(call, "ms", &ms);
    errand_arg_double(call, "chance", &chance);
    check_needs(call, mark, length);
    for (int i = 0; i < (int)ms && !errand_cancelled(call); i++)
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    if (getrandom(&drawn, sizeof drawn, 0) != sizeof drawn)
        abort();
    if (drawn % 100 < chance) {
        errand_fail(call, "unlucky", "by chance");
        return;
    }
    leave_mark("", mark, length);
    errand_result(call, "true", 4);
}
