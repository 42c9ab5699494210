#include "workers/foreground.h"

#include "base/clock.h"
#include "base/digest.h"
#include "base/json.h"
#include "workers/kinds/kind.h"
#include "workers/step_list.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { STEPS_MAX = 1000 }; /* as with a server */

struct foreground {
    struct attempt attempt;
    struct buf held_stdout; /* until it is known whether it is the result */
    struct step_list steps; /* over all attempts */
};

/* What the signal handler needs; written before it is installed. */
static struct attempt *interruptible;
static volatile sig_atomic_t interrupted;

static void on_interrupt(int sig)
{
    (void)sig;
    int saved_errno = errno;
    interrupted = 1;
    attempt_stop(interruptible, STOP_CANCEL);
    attempt_wake(interruptible); /* between two attempts no kind is there to do it */
    errno = saved_errno;
}

static void write_fd(int fd, struct span bytes)
{
    while (bytes.len > 0) {
        ssize_t n = write(fd, bytes.p, bytes.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return;
        bytes.p += n;
        bytes.len -= (size_t)n;
    }
}

/* Until the time is over or a signal comes, which stays in the descriptor. */
static void wait_ms(int wake_fd, int64_t ms)
{
    int64_t until_us = clock_mono_us() + ms * 1000;
    for (int64_t left_us = ms * 1000; left_us > 0 && !interrupted; left_us = until_us - clock_mono_us()) {
        struct pollfd wake = {wake_fd, POLLIN, 0};
        int64_t left_ms = (left_us + 999) / 1000;
        if (poll(&wake, 1, left_ms > INT32_MAX ? INT32_MAX : (int)left_ms) > 0 && !interrupted) {
            uint64_t count;
            if (read(wake_fd, &count, sizeof(count)) < 0)
                return;
        }
    }
}

/* --- the log and progress -------------------------------------------------------- */

static void show_log(struct attempt *attempt, struct log_pending *pending)
{
    struct foreground *foreground = (struct foreground *)attempt;
    bool hold = attempt->task->kind->prints_result;
    size_t at = 0;
    for (int i = 0; i < pending->count; i++) {
        struct log_piece piece = pending->pieces[i];
        struct span bytes = {pending->bytes.data + at, piece.len};
        if (hold && piece.stream == STREAM_STDOUT)
            buf_add_span(&foreground->held_stdout, bytes);
        else
            write_fd(STDERR_FILENO, bytes);
        at += piece.len;
    }
}

static void show_progress(struct attempt *attempt, double value, struct span note)
{
    (void)attempt;
    struct buf line = {0};
    buf_addf(&line, "progress %g", value);
    if (note.p) {
        buf_addc(&line, ' ');
        buf_add_span(&line, note);
    }
    buf_addc(&line, '\n');
    write_fd(STDERR_FILENO, buf_span(&line));
    buf_release(&line);
}

/* --- steps and messages ---------------------------------------------------------- */

/* There is no server: steps last as long as this run, whoever looks at messages looks at
 * stderr, and nobody sends any. */

static enum said keep_step(struct attempt *attempt, struct span name, struct span value, struct buf *kept,
                           struct reason *why)
{
    struct step_list *steps = &((struct foreground *)attempt)->steps;
    const struct listed_step *step = step_list_find(steps, name);
    bool before = step;
    if (!before && steps->count == STEPS_MAX) {
        reason_set(why, "there are %d steps", STEPS_MAX);
        return SAID_REFUSED;
    }
    if (!before)
        step = step_list_add(steps, name, value);
    buf_add_span(kept, buf_span(&step->value));
    return before ? SAID_BEFORE : SAID;
}

static enum said give_step(struct attempt *attempt, struct span name, struct buf *value, struct reason *why)
{
    const struct listed_step *step = step_list_find(&((struct foreground *)attempt)->steps, name);
    (void)why;
    if (step)
        buf_add_span(value, buf_span(&step->value));
    return step ? SAID : SAID_NOTHING;
}

static enum said show_message(struct attempt *attempt, struct span body, struct reason *why)
{
    struct buf line = {0};
    (void)attempt, (void)why;
    buf_addl(&line, "message ");
    json_add_line(&line, body);
    buf_addc(&line, '\n');
    write_fd(STDERR_FILENO, buf_span(&line));
    buf_release(&line);
    return SAID;
}

static enum said find_no_message(struct attempt *attempt, int64_t after_seq, int64_t timeout_ms,
                                 struct inbox_message *out, struct reason *why)
{
    (void)after_seq, (void)out;
    if (timeout_ms < 0) {
        reason_set(why, "there is no server, and nobody to send a message");
        return SAID_REFUSED;
    }
    int64_t began_us = clock_mono_us();
    wait_ms(attempt->wake_fd, timeout_ms);
    if (attempt->deadline_us)
        attempt->deadline_us += clock_mono_us() - began_us;
    return interrupted ? SAID_STOPPED : SAID_NOTHING;
}

static const struct attempt_sink sink = {
    .log = show_log,
    .progress = show_progress,
    .step = keep_step,
    .step_get = give_step,
    .message = show_message,
    .inbox = find_no_message,
};

static void show_rest(struct foreground *foreground, const struct outcome *outcome)
{
    show_log(&foreground->attempt, &foreground->attempt.pending);
    if (!outcome->drop_stdout)
        write_fd(STDERR_FILENO, buf_span(&foreground->held_stdout));
    foreground->held_stdout.len = 0;
}

/* --- arguments --------------------------------------------------------------------- */

static int show_faults(const struct faults *faults)
{
    for (int i = 0; i < faults->count; i++)
        fprintf(stderr, "%s: %s\n", faults->items[i].pointer, faults->items[i].detail);
    if (faults->total > faults->count)
        fprintf(stderr, "... and %d more\n", faults->total - faults->count);
    return FOREGROUND_INVALID;
}

/* Fills `bound` with what the body gets. False with faults added. */
static bool settle_args(const struct task *task, struct span args, struct buf *bound, struct faults *faults)
{
    struct json_fault fault;
    if (args.p && json_check(args.p, args.len, JSON_DEPTH_MAX, &fault)) {
        faults_add(faults, 0, "/args", "not valid JSON: %s, at byte %zu", fault.detail, fault.offset);
        return false;
    }
    if (task->params) {
        if (params_bind(task->params, args, "/args", bound, faults))
            return false;
    } else {
        buf_add_span(bound, args.p ? json_trim(args) : SPAN("null"));
    }
    buf_cstr(bound);
    return kind_check_args(task, buf_span(bound), faults) == OK;
}

/* --- running ------------------------------------------------------------------------ */

static double random_fraction(void)
{
    uint32_t bits;
    random_bytes(&bits, sizeof(bits));
    return bits / 4294967296.0;
}

/* How long until the next attempt; -1: there is none. */
static int64_t next_delay_ms(const struct task *task, const struct outcome *outcome, int failures)
{
    const struct task_options *options = &task->options;
    if (outcome->end != OUTCOME_FAILED || !outcome->retry || failures > options->max_retries ||
        !(outcome->insists || retry_allows(&options->retry, buf_span(&outcome->type))))
        return -1;
    return outcome->retry_after_ms >= 0 ? outcome->retry_after_ms
                                        : retry_delay_ms(&options->retry.backoff, failures, random_fraction());
}

static int show_outcome(const struct outcome *outcome)
{
    struct buf line = {0};
    int status = FOREGROUND_FAILED;
    int fd = STDERR_FILENO;
    switch (outcome->end) {
    case OUTCOME_SUCCEEDED:
        buf_add_span(&line, outcome->result.len ? buf_span(&outcome->result) : SPAN("null"));
        status = FOREGROUND_OK;
        fd = STDOUT_FILENO;
        break;
    case OUTCOME_FAILED:
    case OUTCOME_LOST:
    case OUTCOME_HANDED_OVER:
    case OUTCOME_UNSTARTED: buf_add_span(&line, buf_span(&outcome->error)); break;
    case OUTCOME_CANCELLED:
    case OUTCOME_STOPPED:
        buf_addl(&line, "cancelled");
        status = FOREGROUND_CANCELLED;
        break;
    }
    buf_addc(&line, '\n');
    write_fd(fd, buf_span(&line));
    buf_release(&line);
    return status;
}

static void run_once(struct foreground *foreground, struct outcome *outcome)
{
    struct attempt *attempt = &foreground->attempt;
    /* A signal between two attempts is this one's: init takes the flag back. */
    attempt_init(attempt);
    if (interrupted)
        attempt_stop(attempt, STOP_CANCEL);
    attempt_run(attempt, outcome);
    show_rest(foreground, outcome);
    attempt_release(attempt);
}

static int run_all(struct foreground *foreground)
{
    const struct task *task = foreground->attempt.task;
    for (int failures = 1;; failures++) {
        struct outcome outcome = {0};
        run_once(foreground, &outcome);
        int64_t delay_ms = next_delay_ms(task, &outcome, failures);
        if (delay_ms < 0) {
            int status = show_outcome(&outcome);
            outcome_release(&outcome);
            return status;
        }
        struct buf line = {0};
        buf_addf(&line, "attempt %d failed, the next one is in ", foreground->attempt.number);
        duration_add(&line, delay_ms);
        buf_addl(&line, ": ");
        buf_add_span(&line, buf_span(&outcome.error));
        buf_addc(&line, '\n');
        write_fd(STDERR_FILENO, buf_span(&line));
        buf_release(&line);
        outcome_release(&outcome);
        foreground->attempt.number++;
        wait_ms(foreground->attempt.wake_fd, delay_ms);
    }
}

static int run_interruptibly(struct foreground *foreground)
{
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = SA_RESETHAND};
    struct sigaction before_int, before_term;
    sigemptyset(&action.sa_mask);

    interruptible = &foreground->attempt;
    interrupted = 0;
    sigaction(SIGINT, &action, &before_int);
    sigaction(SIGTERM, &action, &before_term);
    int status = run_all(foreground);
    sigaction(SIGINT, &before_int, NULL);
    sigaction(SIGTERM, &before_term, NULL);
    return status;
}

int foreground_run(const struct task *task, struct span args, const struct attempt_limits *limits)
{
    struct faults faults = {0};
    struct buf bound = {0};
    int status = FOREGROUND_FAILED;

    int wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wake_fd < 0) {
        fprintf(stderr, "eventfd: %s\n", strerrordesc_np(errno));
    } else if (!settle_args(task, args, &bound, &faults)) {
        status = show_faults(&faults);
    } else {
        struct foreground foreground = {.attempt = {
                                            .task = task,
                                            .id = id_next(&(struct id_source){0}, clock_now_ms()),
                                            .number = 1,
                                            .args = buf_span(&bound),
                                            .timeout_ms = task->options.timeout_ms,
                                            .limits = limits,
                                            .sink = &sink,
                                            .wake_fd = wake_fd,
                                        }};
        status = run_interruptibly(&foreground);
        buf_release(&foreground.held_stdout);
        step_list_release(&foreground.steps);
    }
    if (wake_fd >= 0)
        close(wake_fd);
    buf_release(&bound);
    faults_release(&faults);
    return status;
}
