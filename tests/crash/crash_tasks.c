/* Native tasks for crash.py. Each start leaves a line `ID ATTEMPT` in the file
 * $CRASH_MARKS, on disk before anything else happens. */
#include <errand_task.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

errand_task_fn noop, echo, unsteady;

static void leave_mark(struct errand_call *call)
{
    char line[64];
    const char *path = getenv("CRASH_MARKS");
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    int length = snprintf(line, sizeof line, "%s %d\n", errand_id(call), errand_attempt(call));
    if (fd < 0 || write(fd, line, (size_t)length) != length || fdatasync(fd) != 0)
        errand_fail_for_good(call, "no_mark", "the mark could not be written");
    if (fd >= 0)
        close(fd);
}

void noop(struct errand_call *call)
{
    leave_mark(call);
}

static void give_back(struct errand_call *call)
{
    size_t length;
    const char *args = errand_args(call, &length);
    errand_result(call, args, length);
}

void echo(struct errand_call *call)
{
    leave_mark(call);
    give_back(call);
}

/* Fails at its first `{"fails":N` attempts. */
void unsteady(struct errand_call *call)
{
    const char *at = strstr(errand_args(call, NULL), "\"fails\":");
    leave_mark(call);
    if (at && errand_attempt(call) <= atoi(at + 8))
        errand_fail(call, "unsteady", "not yet");
    else
        give_back(call);
}
