/* Runs single attempts for the tests of the task kinds, and keeps what came
 * out of them. */
#pragma once

#include "workers/kinds/attempt.h"

struct run {
    struct attempt attempt; /* set what differs before run_start() or run() */
    struct attempt_limits limits;
    struct outcome outcome;
    int64_t started_us, took_ms;
    pthread_t thread;

    pthread_mutex_t lock; /* guards what follows */
    struct buf flushed;   /* "1:text" or "2:text" a piece, while it runs */
    struct buf rest;      /* the same, of what was not flushed */
    struct buf progress;  /* "0.5 note;" */
};

/* An attempt of the task with these arguments (JSON, kept by reference), limits
 * of 1 MiB for results and logs, and a grace of 300 ms. */
void run_init(struct run *run, const struct task *task, const char *args);
void run_release(struct run *run);

/* On this thread; or on another one that run_join() waits for. */
void run(struct run *run);
void run_start(struct run *run);
void run_join(struct run *run);

/* Waits until the flushed log contains the text; false after five seconds. */
bool run_wait_log(struct run *run, const char *text);

/* Waits until the body said anything of its progress. */
bool run_wait_progress(struct run *run);

/* Both parts of the log, one after the other; the caller frees. */
char *run_log(struct run *run);

/* Waits until the condition holds; false after five seconds. */
bool eventually(bool (*condition)(const void *), const void *argument);
bool process_is_gone(const void *pid);
bool file_exists(const void *path);

/* Is it that failure, and is the error object valid JSON with that type? */
bool failed_as(const struct run *run, const char *type);

/* The text of a member of the error object, unescaped; "" if absent. Static. */
const char *error_member(const struct run *run, const char *name);
