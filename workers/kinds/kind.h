/* A kind of task: how its body is run. One struct of properties and functions
 * a kind, and everything else asks it: no other file knows which kinds there
 * are, and no kind knows another. Adding one touches its own file or folder
 * here and its line in kinds.c.
 *
 *     configuration read      a definition of zeros and defaults, `keys` read into it, check()
 *     about to be served      load()
 *     submission              check_args()
 *     attempt                 start() ... attempt_end(); stop() at any moment
 *     configuration replaced  release(), once nothing that holds it is left
 *
 * A function that a kind does not need is NULL; `keys` and start() it needs, but for who runs
 * elsewhere.
 *
 * An attempt, from start() to attempt_end():
 *
 * - start() is called once, on a thread for bodies (or the main thread, for
 *   `errand run`). A kind may run the body there, to its end, and block as long
 *   as that takes; or hand it to a thread, a process or a transfer of its own
 *   and return at once. Either way it calls attempt_end() exactly once, on any
 *   thread, within start() or after it.
 * - Between the two the attempt and attempt->outcome are the kind's: it fills
 *   the outcome, which starts as a success with the result null. With
 *   attempt_end() they go back to the caller, and the kind touches them no more.
 *   The task outlives that. wake_fd is of use only to who blocks in start().
 * - A kind ends the body at attempt->deadline_us and fails it as `timeout`.
 * - attempt->stop is set when the body is to end early, and then stop() is
 *   called, so that whoever minds the body looks at the flag; and when the
 *   deadline, which stands still while the body waits, is there again. It may come
 *   before start() and after attempt_end(), on any thread, under the caller's
 *   locks and in a signal handler: it only wakes. So who minds a body looks at
 *   the flag before it first sleeps. A body that was stopped is outcome_fail()ed
 *   like any other; attempt_end() makes it a cancellation.
 * - What the body prints goes to attempt_log(), and whoever minds it calls
 *   attempt_log_tick() when that is due; progress goes to attempt_progress().
 * - A process that a kind starts for an attempt is written into attempt->record
 *   before it runs anything, so that it does not outlive a crash unnoticed.
 *
 * Threads: the structs are constant. */
#pragma once

#include "base/err.h"
#include "workers/tasks/task.h"

struct attempt;

/* A thread for bodies has so much stack. */
enum { BODY_STACK_BYTES = 1 << 20 };

/* Who starts bodies, for kinds that have room. On any thread, no locks held. A room whose
 * tasks are gone, or others of the same names by now, is passed over: it need not be there any
 * more. */
struct kind_host {
    void *context;

    /* In that room (kind->room_of()) there is place for so many bodies, -1 for none; how many
     * jobs wait for more. */
    int (*room)(void *context, const void *of, int room);
};

/* A worker of a kind's own, to be shown. */
struct kind_worker {
    const char *name, *state;
    int64_t pid;        /* 0: there is none at the moment */
    int capacity;       /* bodies that it holds at most */
    int64_t started_at; /* ms since the epoch; 0: it is not one process */
    const int64_t *running;
    int running_count;
    const char *error; /* of one that fails; NULL: none */
};

struct kind {
    const char *name; /* the word in the configuration */

    /* The body runs on the slot's own thread, inside the server. So nobody
     * minds it: the dispatcher calls attempt_log_tick() while it is busy. What it
     * logs dies with it, so the turn journal has it until it is flushed. */
    bool in_process;

    /* How many bodies of the task may be under way at once, -1 for none. They take no
     * slot: start() hands each to a thread of the kind's own and returns at once.
     * NULL: a body takes a slot. */
    int (*in_flight)(const struct task *task);

    /* How many descriptors they need at most, if that is not one each. */
    int (*descriptors)(const struct task *task);

    /* How many may be under way changes while the task is served: the kind tells the host
     * (below). A body that waits in place is not counted, and goes on when the
     * kind has room (attempt->waits). It runs in a process, so it stands in the
     * turn journal, and it is no turn before the kind has said that it begins. */
    bool has_room;

    /* In which: tasks may share it. A name for it and no more, as long as there is such a task. */
    const void *(*room_of)(const struct task *task);

    /* The same task, whose bodies run in children of their own: for one that may have brought this
     * process down. It lives as long as the task. Of kinds that run in the process alone. Any
     * thread. */
    struct task *(*apart)(const struct task *task);

    /* No body is started here: workers that ask for it run it (workers/leases.h).
     * Then there is no start() and no stop(). */
    bool elsewhere;

    /* Who was asked to run the body has the address of the turn, and may end it
     * there as well; or take it over (OUTCOME_HANDED_OVER). */
    bool served;

    /* stdout may become the result: whoever shows the log as it comes waits
     * for the end (outcome->drop_stdout) before showing that. */
    bool prints_result;

    /* Of its own, besides those of every task. They fill a definition: so many
     * bytes, all zeros before but for defaults. */
    const struct key *keys;
    size_t definition_bytes;

    /* The keys were read; what was faulty is not set. Fills in what follows
     * from others, and adds a fault for what no single key can see; `item` is
     * where they stood. May look at the file system. Any thread. */
    void (*check)(const struct keys_input *in, const cJSON *item, const char *pointer, struct task *task);

    /* All tasks were read: these are of the kind, faulty ones among them, and `pools` is what
     * stands under that key at the top, for those who share one; NULL: nothing does. NULL: a
     * kind whose tasks share nothing. Any thread. */
    void (*share)(const struct keys_input *in, const cJSON *pools, struct task *const *tasks, int count);

    /* What is not wrong but may not be meant, of a task without faults; NULL:
     * the kind has no advice. Any thread. */
    void (*advise)(const struct task *task, struct faults *advice);

    /* Makes a task without faults ready to be run, or adds faults. Called before
     * the first start(), once a definition. May block; the main thread. */
    void (*load)(struct task *task, struct faults *faults);

    /* Can a body be started with these arguments (bound if the task has params,
     * absent or JSON)? ERR_INVALID with every fault added under /args; `faults`
     * may be NULL. Any thread; does not block. */
    enum err (*check_args)(const struct task *task, struct span args, struct faults *faults);

    /* The tasks are served from now on, or (NULL) no longer: then the host is not
     * called any more when this returns. NULL: the kind has no room to tell of. */
    void (*host)(const struct kind_host *host);
    void (*serve)(struct task *task, bool serves); /* false: no body of it is started any more; to any task */

    /* So many jobs wait for the task's room. Any thread, under the caller's locks. */
    void (*wanted)(const struct task *task, int count);

    /* Gives each worker that it has for itself; names each room whose workers do not come to
     * run anything. Any thread; `each` is called under a lock, and only notes. NULL: it has none. */
    void (*workers)(void (*each)(void *context, const struct kind_worker *worker), void *context);
    void (*failing)(void (*each)(void *context, const char *name), void *context);

    void (*start)(struct attempt *attempt);
    void (*stop)(struct attempt *attempt);

    /* Nothing of the kind runs any more: ends what it has started for all of its
     * tasks. A start() may follow. */
    void (*end)(void);

    /* Frees what the keys do not own (keys_release() follows). Nothing of the
     * task runs any more; a definition with faults was neither checked nor loaded.
     * Any thread, the committer's too: must not block. */
    void (*release)(void *definition);
};

/* check_args() of the task's kind; OK if it has none. */
MUST_USE enum err kind_check_args(const struct task *task, struct span args, struct faults *faults);

/* What is said of each of the `pools` that tasks may share. */
extern const struct key pool_keys[];
