/* The runner: hands ready work to slots, and keeps time.
 *
 * Threads inside: those that bodies run on, as many as run and one to spare
 * (threads.c), and the dispatcher, which sleeps until the next due time or a
 * wake-up: it has what is due promoted, expired, pruned and followed up, refills
 * the queue, and tries reports and starts again that met a fault or a shortage.
 * The runner listens to the store; everything that becomes queued reaches it
 * that way, whoever queued it.
 *
 * Threads outside: every function may be called from any thread unless it says
 * otherwise. */
#pragma once

#include "store/store.h"
#include "workers/kinds/attempt.h"
#include "workers/registry.h"

struct runner;
struct schedule_list;

/* What callbacks say, which is for whoever knows how things are shown. */
struct runner_callbacks {
    void *context;

    /* Appends the body of a delivery, in which a result has at most so many bytes. ERR_NOT_FOUND:
     * its owner is gone. On a thread of the runner's, with its reader. NULL: there are no callbacks. */
    enum err (*add_body)(void *context, struct reader *reader, const struct delivery *delivery,
                         int64_t result_bytes, struct buf *out);
};

struct runner_options {
    struct store *store;       /* opened, not started; outlives the runner */
    struct registry *registry; /* referenced */
    int slots;
    struct attempt_limits limits;
    struct runner_callbacks callbacks;
    const char *store_path;   /* a file, to ask whether its disk is full */
    const char *journal_path; /* NULL: none is kept (`:memory:`) */
};

/* Recovers what the last process left (journal, store_recover) and registers
 * with the store. Call before store_start. */
MUST_USE enum err runner_open(const struct runner_options *options, struct runner **out, struct reason *why);

/* Starts the threads; the last is the one that bodies begin on. Call after store_start. */
MUST_USE enum err runner_start(struct runner *runner, struct reason *why);

/* A reload: the tasks as they are now. What runs is not disturbed. */
MUST_USE enum err runner_set_registry(struct runner *runner, struct registry *registry,
                                      const struct attempt_limits *limits);

/* The schedules of the configuration, at the start and at each reload: blocks until they are on disk, or, if the
 * disk takes no writes, leaves that to the dispatcher. After store_start; referenced. */
void runner_set_schedules(struct runner *runner, struct schedule_list *list);

/* One was made, changed or resumed: it may be due sooner than any other. */
void runner_schedules_changed(struct runner *runner);

/* Stops and resumes new work, of the whole service or of a task; queues the
 * write through `op` (its done is the caller's) and acts on its commit. */
void runner_pause(struct runner *runner, struct op_pause *op);

/* The address of this server, by which lease URLs are made, without a slash at
 * its end; NULL: it has none. It is copied. Before runner_start(), and at a reload. */
void runner_set_url(struct runner *runner, const char *url);

/* Appends it, nothing if there is none. */
void runner_add_url(struct runner *runner, struct buf *out);

/* Prunes now: fewer may be kept than before (store_set_retain_max). */
void runner_prune(struct runner *runner);

enum close_policy {
    CLOSE_JOIN,   /* run everything that is queued, then stop */
    CLOSE_CANCEL, /* finish what runs, leave the rest on disk */
    CLOSE_KILL,   /* stop what runs now and leave it to be run again */
};

/* Begins closing; a later, stronger policy replaces a weaker one. */
void runner_close_with(struct runner *runner, enum close_policy policy);

/* Waits until nothing runs any more and all finishes are committed, or until
 * the time is over (false). Once true, nothing starts any more, and
 * runner_free may be called. */
bool runner_wait(struct runner *runner, int64_t timeout_ms);

/* For a process that exits past bodies that do not return: takes them out of
 * the journal, so that the next start queues them again and nobody pays. The
 * runner is not used after this. */
void runner_abandon(struct runner *runner);

/* Ends the threads. After runner_wait() was true. Takes NULL. */
void runner_free(struct runner *runner);

/* Are starts held back for want of processes, descriptors or memory? */
bool runner_is_short(struct runner *runner);

/* What is known of the claim of a turn whose body runs here, or has just handed it over. */
enum claim_state {
    CLAIM_NONE,       /* there is no such turn here, or its claim was refused */
    CLAIM_ON_ITS_WAY, /* the row will have its lease when what is queued now is on disk, or when commits work again */
    CLAIM_WRITTEN,
};
enum claim_state runner_claim(struct runner *runner, int64_t id, int64_t lease);

/* What the log says of a turn that is run elsewhere: it was given out; it has ended, as
 * `finish` says, which is not on its way yet. A failure gets a line, unless its task
 * had enough of them lately. */
void runner_log_start(struct runner *runner, const struct turn *turn, struct span worker);
void runner_log_end(struct runner *runner, const struct op_finish *finish, int64_t ms);

/* Of a turn of this process: the last message of the inbox that it was given; 0:
 * none, or it is not one of those. */
int64_t runner_given(struct runner *runner, const struct turn *turn);

/* What the slots do: one entry a slot, in order; the caller frees.
 * For GET /stats. */
struct slot_view {
    int slot;
    int64_t id; /* 0: idle */
    int64_t since;
};
struct slot_view *runner_slots(struct runner *runner, int *count);

/* Latencies since the start in milliseconds, from histograms with 5 % buckets:
 * from eligible to started, and from started to finished. */
struct latency {
    double p50, p99;
};
void runner_latency(struct runner *runner, struct latency *wait, struct latency *run);
