/* Inside pools of long-lived children.
 *
 *     settings.c     what a configuration says of a pool: its keys
 *     definition.c   what kinds call, handed on to the minder
 *     minder.c       its thread: waits for all children, and for what is due
 *     pool.c         how many children there are, and which of them gets a body
 *     child.c        one process: its start and its end, and what room it has
 *     child_talk.c   what it says and is told: its socket, its pipes, its log
 *     body.c         one body in a child: what it says, how it ends
 *     suspects.c     who is to run alone
 *     message.c      the protocol, taken apart. Pure
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

#include "base/lines.h"
#include "base/log_file.h"
#include "workers/kinds/pool/message.h"
#include "workers/kinds/pool/pool.h"
#include "workers/kinds/program/spawn.h"

#include <sys/types.h>

enum {
    UNREAD_BYTES_MAX = 64 << 20, /* that wait for a child to read them */
    ASKED_MAX = 1000,            /* requests of a body under way */
    HELD_BYTES_MAX = 32 << 20,   /* of a pool's requests under way, before more are read */
    FAILING_AFTER = 3,           /* children in a row that end without having done anything */
    CHILD_NAME_MAX = TASK_NAME_MAX + 16,
};

struct child;
struct body;

void pool_definition_free(struct pool_definition *of); /* no task is left, and its pool is over */

/* The children of one definition, which it has for its own once no task is left. */
struct pool {
    struct pool *prev, *next;
    struct pool_definition *of;
    const struct pool_settings *is; /* of that, as is the name */
    const char *name;
    bool served;      /* under post.lock: it may have children before anything is to do */
    bool outdated;    /* under post.lock: the configuration is another one, and it gets nothing new */
    bool released;    /* under post.lock: the definition is gone */
    bool rests;       /* under post.lock: it has ended, and the minder knows it no more */
    int wanted;       /* under post.lock: jobs that wait for room */
    _Atomic int room; /* told last */
    atomic_bool failing;
    struct reason why; /* under post.lock: how the last child ended that was of no use, and what it printed last */

    struct child *children; /* changed under post.lock */
    int alive;              /* those that take bodies, or will */
    int target;             /* how many that are to be */
    size_t held;            /* bytes of its requests under way */
    struct body *pending;   /* bodies that wait for room, the first first */
    struct body *leaving;   /* that are over but for answers on their way */
    int in_a_row;           /* children that ended without having done anything */
    int64_t start_us;       /* not before that */
    int64_t lost_us;        /* when the last of those ended */
    int64_t grace_ms;       /* between two words to a child that it is to end: as the last body had it */
    bool ends;              /* no child is started any more */
    int64_t lines_us;       /* of what the log says of it: since when */
    int lines, lines_left_out;
    int64_t said_us; /* of what its children print into it: the same */
    int said;
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
    bool writing;     /* there is more to tell it */
    uint32_t watched; /* what of its socket is watched */
    bool is_dead;     /* its process has ended: what is left is read */
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
    struct buf printed;    /* the end of that, until it is given something */
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

/* False with errno: there is no thread to be had. Under post.lock. */
bool minder_run(void);

void post_lock(void);
void post_unlock(void);

/* --- minder.c: the minder's own ----------------------------------------------------------- */

bool minder_watch(struct watch *watch, uint32_t events);
void minder_unwatch(struct watch *watch);
void minder_look_at(int64_t at_us);    /* at the latest */
void minder_mute(struct watch *watch); /* it is not watched for a while */
int minder_null(void);                 /* /dev/null; -1 with errno */
void minder_bury(struct child *child);
int minder_tell_room(struct pool *pool, int room);
bool minder_has_host(void);

/* Is there one of that name? A pool of another configuration may have it. */
bool minder_has_child(const char *pool, int number);

/* --- suspects.c: the minder's ------------------------------------------------------------- */

/* Ids of those whose child died with several in it: they run alone next. */
void suspects_add(int64_t id);
bool suspects_take(int64_t id);
void suspects_forget(void);

/* --- pool.c ------------------------------------------------------------------------------- */

struct pool *pool_new(struct pool_definition *of);
void pool_free(struct pool *pool);

/* Gives bodies to children, has as many of them as there are to be, says how much room there is. */
void pool_settle(struct pool *pool, int64_t now_us);

/* True: it has nothing more to do and no child. */
bool pool_is_over(const struct pool *pool);
void pool_close(struct pool *pool);

/* A line about a child may be logged; and how many were not before it. */
bool pool_may_log(struct pool *pool, int *left_out);

/* A child has ended that had been of use; or had not, how, and what it printed last. */
void pool_lost_child(struct pool *pool);
void pool_lost_useless(struct pool *pool, const char *how, struct span said);

/* A child has been of use. One that was there before the others ended proves nothing. */
void pool_is_well(struct pool *pool, const struct child *by);

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

/* The last line that it printed before it was given anything; empty: none. */
struct span child_last_line(const struct child *child);

/* What it said before its pool had asked for so much that it was not heard. */
void child_read_on(struct child *child);

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

/* Of one that has no child yet: if it is to end, it does; it is queued again; or it fails. */
void body_leave_pending(struct body *body);
void body_put_back(struct body *body, struct span message);
void body_fail_pending(struct body *body, struct span message);
