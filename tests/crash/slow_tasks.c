/* Native tasks for slow.py. Every run makes a stamp of its own, says it first
 * of all, and it is in all that the run reports; its start and its end stand in
 * the file $CRASH_MARKS. A run takes from a half to the whole of {"ms":N}. */
#include <errand_task.h>

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

errand_task_fn deaf, obedient, unsteady;

static uint64_t draw(void)
{
    uint64_t n;
    if (getrandom(&n, sizeof n, 0) != sizeof n)
        abort();
    return n;
}

static void leave_mark(struct errand_call *call, const char *stamp, const char *what)
{
    char line[128];
    const char *path = getenv("CRASH_MARKS");
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    int n = snprintf(line, sizeof line, "%s %d %s %s\n", errand_id(call), errand_attempt(call), stamp, what);
    if (fd < 0 || write(fd, line, (size_t)n) != n)
        abort();
    close(fd);
}

static void begin(struct errand_call *call, char stamp[17])
{
    char note[32];
    snprintf(stamp, 17, "%016" PRIx64, draw());
    leave_mark(call, stamp, "start");
    errand_log(call, "stamp=%s\n", stamp);
    snprintf(note, sizeof note, "stamp=%s", stamp);
    errand_progress(call, 0.5, note);
}

/* Not 0 if it was cut short. */
static int work(struct errand_call *call, int listens)
{
    const char *at = strstr(errand_args(call, NULL), "\"ms\":");
    uint64_t most = at ? strtoull(at + 5, NULL, 10) : 0;
    for (uint64_t left = most - draw() % (most / 2 + 1); left > 0; left--) {
        nanosleep(&(struct timespec){0, 1000000}, NULL);
        if (listens && errand_cancelled(call))
            return 1;
    }
    return 0;
}

static void succeed(struct errand_call *call, const char *stamp)
{
    char text[64];
    int n = snprintf(text, sizeof text, "{\"stamp\":\"%s\"}", stamp);
    leave_mark(call, stamp, "end");
    errand_log(call, "end of stamp=%s\n", stamp);
    errand_result(call, text, (size_t)n);
}

void deaf(struct errand_call *call)
{
    char stamp[17];
    begin(call, stamp);
    work(call, 0);
    succeed(call, stamp);
}

/* It hears that it is cancelled, and takes as long again to leave. */
void obedient(struct errand_call *call)
{
    char stamp[17];
    begin(call, stamp);
    if (!work(call, 1)) {
        succeed(call, stamp);
        return;
    }
    work(call, 0);
    leave_mark(call, stamp, "end");
}

/* Deaf, and two of three runs fail. */
void unsteady(struct errand_call *call)
{
    char stamp[17], message[32];
    begin(call, stamp);
    work(call, 0);
    if (draw() % 3 == 0) {
        succeed(call, stamp);
        return;
    }
    leave_mark(call, stamp, "end");
    snprintf(message, sizeof message, "stamp=%s", stamp);
    errand_fail(call, "unsteady", message);
}
