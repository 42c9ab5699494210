/* Inside `errand isolated`, the child's side of a pool whose bodies are native.
 *
 *     isolated.c         what the server tells it, and all runs
 *     isolated_crew.c    the threads that bodies run on
 *     isolated_run.c     one run: what its body says, and how it ends
 *     isolated_asks.c    what its body asks
 *     isolated_wire.c    the socket: lines out, questions and their answers
 *
 * Threads: the main one reads the socket, and has the list of runs to itself. A run is its body's
 * thread's until it is over; then the main thread frees it. What a body says its own thread
 * writes, and it sleeps until what it asks is answered. */
#pragma once

#include "workers/kinds/attempt.h"
#include "workers/step_list.h"

#include <pthread.h>
#include <sys/types.h>

/* --- isolated_wire.c ---------------------------------------------------------------- */

struct wire_question;

struct wire {
    int fd;
    pid_t pid;                /* a body may fork: its copy says nothing here */
    size_t line_bytes;        /* that a line has at most, with its line break */
    pthread_mutex_t say_lock; /* one line at a time: held while it is written */
    pthread_mutex_t ask_lock; /* guards what follows */
    struct wire_question *questions;
    int64_t last_seq;
};

void wire_init(struct wire *wire, int fd);
void wire_release(struct wire *wire);

/* `{"type":TYPE,"run":RUN`: the members that follow, and the closing brace, are the caller's. */
void wire_begin(struct buf *line, const char *type, int64_t run);

/* Is that too long a line, with room for what comes to a question? */
/* False in a process that a body has forked: nobody hears that, or answers it. */
bool wire_is_ours(const struct wire *wire);
bool wire_is_too_long(const struct wire *wire, const struct buf *line);

/* Says a line, which is released. Any thread; blocks until it is written. */
void wire_say(struct wire *wire, struct buf *line);

/* Says a question, a line without its end, and waits for the answer: an object, the
 * caller's to release. Any thread but the main one, which hands the answer over. */
void wire_ask(struct wire *wire, struct buf *line, struct buf *answer);
void wire_answered(struct wire *wire, struct span line);

/* --- isolated_run.c ----------------------------------------------------------------- */

struct isolated_run {
    struct attempt attempt; /* first: who has the one has the other */
    struct outcome outcome;
    struct wire *wire;
    int64_t number;
    struct task task; /* under the name that it was submitted by */
    struct attempt_limits limits;
    struct buf name, args, state, woken;
    struct step_list steps; /* all that is recorded */
    bool has_suspended;

    /* under the attempt's lock */
    bool progress_is_held;
    double progress_value;
    struct buf progress_note;
    int64_t progress_us; /* when the last one was said */

    atomic_bool is_over;              /* and the main thread's */
    struct isolated_run *prev, *next; /* all of them: the main thread's */
    struct isolated_run *queue_prev, *queue_next;
};

static inline struct isolated_run *isolated_run_of(struct attempt *attempt)
{
    return (struct isolated_run *)attempt;
}

/* What a line of the type `run` says; NULL: it lacks something. `wake_fd` is the main thread's. */
struct isolated_run *isolated_run_new(struct wire *wire, const struct task *task, struct span line, int wake_fd);
void isolated_run_free(struct isolated_run *run);

/* On the body's thread: to its end; and then says how it ended. */
void isolated_run_body(struct isolated_run *run);
void isolated_run_say_end(struct isolated_run *run);

/* Says the progress that was held back, if it is time: in how many milliseconds it is, or -1.
 * The main thread. */
int isolated_run_tick(struct isolated_run *run);

/* --- isolated_asks.c ---------------------------------------------------------------- */

bool isolated_submit(struct attempt *attempt, struct span submission, int64_t *id, struct reason *why);
enum waited isolated_wait(struct attempt *attempt, const int64_t *ids, int count, bool any, int64_t timeout_ms,
                          struct reason *why);
enum err isolated_look(struct attempt *attempt, int64_t id, struct child_view *out);
enum said isolated_step(struct attempt *attempt, struct span name, struct span value, struct buf *kept,
                        struct reason *why);
enum said isolated_step_get(struct attempt *attempt, struct span name, struct buf *value, struct reason *why);
enum said isolated_message(struct attempt *attempt, struct span body, struct reason *why);
enum said isolated_inbox(struct attempt *attempt, int64_t after_seq, int64_t timeout_ms, struct inbox_message *out,
                         struct reason *why);
enum said isolated_suspend(struct attempt *attempt, struct span suspension, struct reason *why);

/* --- isolated_crew.c ---------------------------------------------------------------- */

/* As many threads as bodies were held at once; they stay. */
struct isolated_crew {
    pthread_mutex_t work_lock; /* guards what follows, but for the threads, which are the main thread's */
    pthread_cond_t comes;
    struct isolated_run *queue;
    int queued;
    int free; /* threads whose body has ended */
    bool closes;
    pthread_t *threads;
    int thread_count;
};

void isolated_crew_init(struct isolated_crew *crew);

/* Has it run by a thread: as soon as one is free, if no other can be had. False: there is none. */
bool isolated_crew_take(struct isolated_crew *crew, struct isolated_run *run);

/* Nothing runs any more: waits until all have ended. */
void isolated_crew_end(struct isolated_crew *crew);
