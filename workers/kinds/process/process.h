/* Inside the process kind: pools of long-lived children.
 *
 *     definition.c   what a configuration says of a pool
 *     process.c      the kind: what the others call, handed on to the minder
 *     minder.c       its thread: waits for all children, and for what is due
 *     pool.c         how many children there are, and which of them gets a body
 *     child.c        one process: its start and its end, and what room it has
 *     child_talk.c   what it says and is told: its socket, its pipes, its log
 *     body.c         one body in a child: what it says, how it ends
 *     lines.c, message.c   the protocol, taken apart. Pure
 *
 * One thread, the minder, has everything here to itself, and waits for no commit: what a
 * body asks is answered from elsewhere. Others hand it what they have in the post, and
 * wake it. A child dies with the thread that started it (spawn.h), which is the
 * minder, so it ends last.
 *
 * Threads: the minder's alone, unless a line says otherwise. `post.lock` guards the
 * post, and what is shown of pools: it may be taken under any lock of whoever runs
 * bodies, and none is taken under it. The minder calls sinks and the host with no lock
 * held but `post.host_lock`, which is for the host alone. */
#pragma once

#include "base/log_file.h"
#include "workers/kinds/attempt.h"
#include "workers/kinds/kind.h"
#include "workers/kinds/process/lines.h"
#include "workers/kinds/process/message.h"
#include "workers/kinds/program/program.h"
#include "workers/kinds/program/spawn.h"

#include <sys/types.h>

enum {
    WORKERS_MAX = 1000,
    CAPACITY_MAX = 1000,
    UNREAD_BYTES_MAX = 64 << 20, /* that wait for a child to read them */
    ASKED_MAX = 1000,            /* requests of a body under way */
    FAILING_AFTER = 3,           /* children in a row that end without having done anything */
    CHILD_NAME_MAX = TASK_NAME_MAX + 16,
};

enum start { START_LAZY, START_EAGER };

/* A definition. */
struct process_task {
    struct program program; /* first: its readers fill it */
    struct {
        int min, max;
        int first;       /* if they are started eagerly */
        int64_t idle_ms; /* above min they end after that; 0: never */
    } workers;
    int capacity;
    enum start start;
    int64_t start_timeout_ms;
    int64_t max_invocations; /* of one child; 0: any number */
    int64_t max_memory;      /* bytes resident; 0: any */
    struct pool *pool;       /* under post.lock; NULL: it has had nothing to do yet */
};

static inline struct process_task *process_task(const struct task *task)
{
    return task->definition;
}

/* definition.c */
extern const struct key process_keys[];
void process_check(const struct keys_input *in, const cJSON *item, const char *pointer, struct task *task);

struct child;
struct body;

/* The children of one definition, whose settings it has for its own: it may outlive that. */
struct pool {
    struct pool *prev, *next;
    char *name;
    const void *definition; /* a name for the host, no more */
    struct process_task is; /* its program is the pool's own once it is released */
    bool served;            /* under post.lock: it may have children before anything is to do */
    bool released;          /* under post.lock: the definition is gone */
    bool rests;             /* under post.lock: it has ended, and the minder knows it no more */
    int wanted;             /* under post.lock: jobs that wait for room */
    _Atomic int room;       /* told last */
    atomic_bool failing;

    struct child *children; /* changed under post.lock */
    int alive;              /* those that take bodies, or will */
    int target;             /* how many that are to be */
    struct body *pending;   /* bodies that wait for room, the first first */
    struct body *leaving;   /* that are over but for answers on their way */
    int in_a_row;           /* children that ended without having done anything */
    int64_t start_us;       /* not before that */
    int64_t grace_ms;       /* between two words to a child that it is to end: as the last body had it */
    bool ends;              /* no child is started any more */
};

enum child_state { CHILD_STARTING, CHILD_READY, CHILD_RETIRING /* no new bodies */, CHILD_CLOSING, CHILD_DYING };

enum watched { WATCH_WAKE, WATCH_SOCKET, WATCH_OUT, WATCH_ERR, WATCH_PROCESS, WATCHES };

/* What epoll gives back. */
struct watch {
    enum watched what;
    struct child *child;
    int fd; /* -1: not watched (any more) */
};

struct child {
    struct child *prev, *next;
    struct pool *pool;
    char name[CHILD_NAME_MAX];
    int number;
    pid_t pid;
    struct watch watches[WATCHES];
    enum child_state state; /* changed under post.lock */
    int64_t started_at;     /* wall clock, and: */
    int64_t since_ms;       /* clock_boot_ms() */
    int64_t due_us;         /* when the next thing is done to it: it must be ready, or is killed; 0: nothing */
    int64_t ready_us, idle_us;
    int64_t weigh_us; /* when its memory is looked at next */
    int stage;        /* of its end: 0 asked, 1 SIGTERM, 2 SIGKILL */
    bool reads;       /* its socket is read */
    bool writing;     /* EPOLLOUT is asked for */
    bool gone;        /* it has ended: freed after this round */
    struct lines in;
    struct buf out;
    size_t sent;         /* of out */
    struct body *bodies; /* changed under post.lock */
    int body_count;
    int64_t given, done; /* bodies, over its life */
    int64_t next_run;
    struct body *alone;    /* which has it for itself, or will */
    bool is_blamed_on_one; /* it was told to end for the sake of one body, whose end is its own affair */
    struct reason why;     /* of a child that does not speak the protocol; empty: it does */
    struct log_file *log;  /* NULL: it has none of its own */
    int64_t lines_us;      /* of what it prints into the server's log: since when */
    int lines_said;
};

enum ending { ENDING_NONE, ENDING_STOPPED, ENDING_TIMEOUT };

struct body {
    struct body *prev, *next; /* in its child's, or among the pending, or the leaving */
    struct attempt *attempt;
    struct pool *pool;
    struct child *child; /* NULL: it waits for one */
    int64_t run;
    int64_t id;         /* of its invocation, to be shown */
    bool alone;         /* it runs with no other in its child */
    enum ending ending; /* it was told to end */
    int64_t kill_us;    /* and is made to: */
    bool pressed;       /* its child was told to end for its sake */
    bool over;          /* the body has ended: it is here for the answers that are on their way */
    int asked;          /* requests under way */
    struct asking *askings;
};

/* A request under way. */
struct asking {
    struct question question; /* first */
    struct asking *prev, *next;
    struct asking *posted; /* in the post */
    struct body *body;
    int64_t seq;
    struct buf line;
};

/* --- minder.c: any thread ------------------------------------------------------------- */

/* It looks at everything, soon. Async-signal-safe. */
void minder_wake(void);

void minder_start_body(struct body *body);
void minder_answer(struct asking *asking);
void minder_add_pool(struct pool *pool);     /* under post.lock */
void minder_release_pool(struct pool *pool); /* its definition is gone: it is freed in time */
void minder_host(const struct kind_host *host);

/* False with errno: there is no thread to be had. Under post.lock. */
bool minder_run(void);

/* All children are asked to end, and made to; then the thread ends. Nothing runs any more. */
void minder_end(void);

void minder_show_workers(void (*each)(void *context, const struct kind_worker *worker), void *context);
void minder_show_failing(void (*each)(void *context, const char *task), void *context);

void post_lock(void);
void post_unlock(void);

/* --- minder.c: the minder's own ----------------------------------------------------------- */

bool minder_watch(struct watch *watch, uint32_t events);
void minder_unwatch(struct watch *watch);
void minder_look_at(int64_t at_us); /* at the latest */
int minder_null(void);              /* /dev/null; -1 with errno */
void minder_bury(struct child *child);
int minder_tell_room(struct pool *pool, int room);

/* Ids of those whose child died with several in it: they run alone next. */
void minder_suspect(int64_t id);
bool minder_take_suspect(int64_t id);

/* --- pool.c ------------------------------------------------------------------------------- */

struct pool *pool_new(const char *name, struct process_task *definition);
void pool_free(struct pool *pool);

/* Gives bodies to children, has as many of them as there are to be, says how much room there is. */
void pool_settle(struct pool *pool, int64_t now_us);

/* True: it has nothing more to do and no child. */
bool pool_is_over(const struct pool *pool);
void pool_close(struct pool *pool);

/* A child has ended, and whether it had been of use. */
void pool_lost_child(struct pool *pool, bool of_use);
void pool_is_well(struct pool *pool);

/* --- child.c ------------------------------------------------------------------------------ */

/* False: none could be started, which is logged. */
bool child_start(struct pool *pool, int64_t now_us);
void child_free(struct child *child);
void child_event(struct child *child, enum watched what, uint32_t events);
void child_look(struct child *child, int64_t now_us);

/* It does not speak the protocol. */
void child_break(struct child *child, const char *format, ...) __attribute__((format(printf, 2, 3)));
void child_kill(struct child *child, int signal);
void child_retire(struct child *child); /* no new bodies; when it holds none it is closed */
void child_body_ended(struct child *child);

/* How many bodies run in it; of what it may take more. */
int child_running(const struct child *child);
int child_room(const struct child *child);

/* One body has it for itself, or will; while that waits in place others may run. */
bool child_is_taken(const struct child *child);

void child_set_state(struct child *child, enum child_state state);

/* --- child_talk.c ------------------------------------------------------------------------- */

/* Queues a line, whose end is added. A child that does not read is killed. */
void child_say(struct child *child, struct buf *line);

/* Into its own log, as it is; or a line of ours. */
void child_log(struct child *child, enum stream stream, struct span bytes);
void child_note(struct child *child, const char *text);

/* Something has come, or goes; and all that there is, of one that has ended. */
void child_read(struct child *child, enum watched what, uint32_t events);
void child_read_rest(struct child *child);

/* --- body.c ------------------------------------------------------------------------------- */

void body_begin(struct body *body, struct child *child, int64_t now_us);
void body_look(struct body *body, int64_t now_us);
void body_message(struct child *child, const struct message *message, struct span line);
void body_answered(struct asking *asking);

/* Its child has died: `pays`, and how in words and members of an error. */
void body_lost(struct body *body, bool pays, struct span message, struct span detail);

/* Of one that has no child yet: if it is to end, it does; or it fails. */
void body_leave_pending(struct body *body);
void body_fail_pending(struct body *body, struct span message);
