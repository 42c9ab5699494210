#include "tests/unit/attempts.h"

#include "base/clock.h"
#include "base/json.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

static struct run *run_of(struct attempt *attempt)
{
    return (struct run *)attempt;
}

static void add_pieces(struct buf *out, const struct log_pending *pending)
{
    size_t at = 0;
    for (int i = 0; i < pending->count; i++) {
        buf_addf(out, "%d:", (int)pending->pieces[i].stream);
        buf_add(out, pending->bytes.data + at, pending->pieces[i].len);
        at += pending->pieces[i].len;
    }
}

static void take_log(struct attempt *attempt, struct log_pending *pending)
{
    struct run *run = run_of(attempt);
    pthread_mutex_lock(&run->lock);
    add_pieces(&run->flushed, pending);
    pthread_mutex_unlock(&run->lock);
}

static void take_progress(struct attempt *attempt, double value, struct span note)
{
    struct run *run = run_of(attempt);
    pthread_mutex_lock(&run->lock);
    buf_addf(&run->progress, "%g %.*s;", value, note.p ? (int)note.len : 1, note.p ? note.p : "-");
    pthread_mutex_unlock(&run->lock);
}

static const struct attempt_sink sink = {.log = take_log, .progress = take_progress};

void run_init(struct run *run, const struct task *task, const char *args)
{
    *run = (struct run){
        .attempt = {.task = task,
                    /* Its own: what other tests leave is looked for by its id, beside this one. */
                    .id = INT64_C(123456789012345678) + (int64_t)getpid() * 100,
                    .number = 1,
                    .args = span_of(args),
                    .sink = &sink,
                    .wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)},
        .limits = {1024 * 1024, 1024 * 1024, 300},
        .lock = PTHREAD_MUTEX_INITIALIZER,
    };
    run->attempt.limits = &run->limits;
}

void run_release(struct run *run)
{
    outcome_release(&run->outcome);
    close(run->attempt.wake_fd);
    buf_release(&run->flushed);
    buf_release(&run->rest);
    buf_release(&run->progress);
}

static void *body(void *argument)
{
    struct run *run = argument;
    attempt_run(&run->attempt, &run->outcome);
    run->took_ms = (clock_mono_us() - run->started_us) / 1000;
    add_pieces(&run->rest, &run->attempt.pending);
    attempt_release(&run->attempt);
    return NULL;
}

void run_start(struct run *run)
{
    run->started_us = clock_mono_us();
    attempt_init(&run->attempt);
    pthread_create(&run->thread, NULL, body, run);
}

void run_join(struct run *run)
{
    pthread_join(run->thread, NULL);
}

void run(struct run *run)
{
    run->started_us = clock_mono_us();
    attempt_init(&run->attempt);
    body(run);
}

bool eventually(bool (*condition)(const void *), const void *argument)
{
    int64_t until_us = clock_mono_us() + 5000000;
    while (!condition(argument)) {
        if (clock_mono_us() > until_us)
            return false;
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    return true;
}

/* A zombie that nobody reaps counts as gone. */
bool process_is_gone(const void *pid)
{
    char path[64], text[256] = {0};
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)*(const pid_t *)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return true;
    ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    const char *end = n > 0 ? strrchr(text, ')') : NULL;
    return !end || end[2] == 'Z' || end[2] == 'X';
}

bool file_exists(const void *path)
{
    return access(path, F_OK) == 0;
}

struct log_question {
    struct run *run;
    const char *text;
};

static bool log_has(const void *argument)
{
    const struct log_question *question = argument;
    pthread_mutex_lock(&question->run->lock);
    bool found = strstr(buf_cstr(&question->run->flushed), question->text) != NULL;
    pthread_mutex_unlock(&question->run->lock);
    return found;
}

bool run_wait_log(struct run *run, const char *text)
{
    return eventually(log_has, &(struct log_question){run, text});
}

static bool has_progress(const void *argument)
{
    struct run *run = *(struct run *const *)argument;
    pthread_mutex_lock(&run->lock);
    bool found = run->progress.len > 0;
    pthread_mutex_unlock(&run->lock);
    return found;
}

bool run_wait_progress(struct run *run)
{
    return eventually(has_progress, &run);
}

char *run_log(struct run *run)
{
    struct buf all = {0};
    buf_add_span(&all, buf_span(&run->flushed));
    buf_add_span(&all, buf_span(&run->rest));
    return buf_take(&all);
}

bool failed_as(const struct run *run, const char *type)
{
    const struct buf *error = &run->outcome.error;
    return run->outcome.end == OUTCOME_FAILED && span_is(buf_span(&run->outcome.type), type) && error->len &&
           json_check(error->data, error->len, 10, NULL) == OK && strcmp(error_member(run, "type"), type) == 0 &&
           *error_member(run, "message");
}

const char *error_member(const struct run *run, const char *name)
{
    static struct buf text;
    text.len = 0;
    struct span value = json_get(buf_span(&run->outcome.error), name);
    if (value.p && json_type(value) == JSON_STRING)
        json_unescape(value, &text);
    else if (value.p)
        buf_add_span(&text, value);
    return buf_cstr(&text);
}
