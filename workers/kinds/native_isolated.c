/* Native tasks that run apart: in a pool of children of this very program (`errand
 * isolated`), which a crash costs, an exit() or a leak, and nobody else. */
#include "workers/kinds/native.h"
#include "workers/kinds/pool/pool.h"

#include "base/clock.h"
#include "workers/kinds/program/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* Whatever lies at its path by now, it is the same program. */
#define THIS_PROGRAM "/proc/self/exe"

enum {
    WORKERS_LEAST = 2,
    WORKERS_MOST = 64,
    IDLE_MS = 60000,
    TRY_MS = 10000,
    SAID_BYTES = 1000,
    ISOLATED_ALONE = 2, /* the exit status of workers/isolated.h */
};

/* As many as there are slots, unless they are configured. */
static int twice_the_processors(void)
{
    long count = 2 * sysconf(_SC_NPROCESSORS_ONLN);
    return count < WORKERS_LEAST ? WORKERS_LEAST : count > WORKERS_MOST ? WORKERS_MOST : (int)count;
}

static void set_defaults(struct pool_settings *is, const char *folder)
{
    keys_set_defaults(pool_tuning_keys, is, folder);
    is->workers.max = twice_the_processors();
    is->workers.idle_ms = IDLE_MS;
}

/* `true`, or what is said of its children. */
void native_read_isolate(const struct keys_input *in, const cJSON *item, const char *pointer, void *target)
{
    struct native_task *native = target;
    struct pool_settings *is = &native->in.own;
    struct span word = keys_text(item);
    bool yes = cJSON_IsObject(item) || cJSON_IsTrue(item) || span_is(word, "true");
    if (!yes && !cJSON_IsFalse(item) && !span_is(word, "false")) {
        faults_add(in->faults, yaml_line(in->doc, item), pointer, "must be true or false, or a mapping");
        return;
    }
    native->isolate = yes;
    set_defaults(is, in->folder);
    if (cJSON_IsObject(item))
        keys_read(in, item, pointer, (struct key_section[]){{.keys = pool_tuning_keys, .target = is}}, 1);
}

/* As a command line. */
static char **words_for(const struct native_task *native)
{
    const char *const words[] = {THIS_PROGRAM, "isolated", native->module, native->function};
    enum { WORDS = sizeof words / sizeof *words };
    char **run = xcalloc(WORDS + 1, sizeof *run);
    for (int i = 0; i < WORDS; i++)
        run[i] = xstrdup(words[i]);
    return run;
}

void native_isolate(struct task *task)
{
    struct native_task *native = task->definition;
    native->in.own.program.run = words_for(native);
    native->in.of = pool_definition_new(task->name, &native->in.own);
    task->kind = &native_isolated_kind;
}

/* --- of one that is not isolated, for a turn -------------------------------------------- */

static struct task *apart_new(const struct task *task)
{
    const struct native_task *native = task->definition;
    struct native_task *definition = xcalloc(1, sizeof *definition);
    struct task *apart = xcalloc(1, sizeof *apart);
    set_defaults(&definition->in.own, "/");
    *definition =
        (struct native_task){.in.own = definition->in.own, .module = native->module, .function = native->function};
    *apart = (struct task){
        .name = task->name,
        .options = task->options,
        .params = task->params,
        .log_level = task->log_level,
        .log_arguments = task->log_arguments,
        .definition = definition,
    };
    atomic_init(&apart->id, atomic_load(&task->id));
    native_isolate(apart);
    return apart;
}

/* All but the definition is the task's, whose module and function are borrowed, too. */
void native_apart_free(struct task *apart)
{
    if (!apart)
        return;
    native_task_release(apart->definition);
    free(apart->definition);
    free(apart);
}

struct task *native_apart(const struct task *task)
{
    struct native_task *native = task->definition;
    struct task *apart = atomic_load(&native->apart);
    if (apart)
        return apart;
    struct task *made = apart_new(task);
    if (atomic_compare_exchange_strong(&native->apart, &apart, made))
        return made;
    native_apart_free(made);
    return apart;
}

/* Its pool is served as long as somebody is in it. */
void native_apart_serve(struct task *task, bool serves)
{
    struct native_task *native = task->definition;
    struct task *apart = atomic_load(&native->apart);
    if (apart && !serves)
        pool_serve(apart, false);
}

/* --- is there such a function? ------------------------------------------------------------ */

/* Starts a child that nobody speaks to, which says what is wrong with the module and
 * ends, with NOT_A_CHILD if nothing is. */
static int start_try(const struct native_task *native, int errors, struct spawn *spawn)
{
    struct program program = {0};
    char **words = native->in.of->is.program.run, **vars = program_environment(&program, (char *[]){NULL});
    int null = spawn_move_up(open("/dev/null", O_RDWR | O_CLOEXEC), 3);
    *spawn = (struct spawn){.path = words[0], .argv = words, .envp = vars, .stdio = {null, null, errors}};
    int error = null < 0 ? errno : spawn_start(spawn);
    if (null >= 0)
        close(null);
    free(vars);
    return error;
}

/* Waits for the end of the process or more of its words. */
static bool wait_for_more(int pidfd, int words, int64_t until_us, bool *has_ended, bool *has_words)
{
    struct pollfd fds[] = {{pidfd, POLLIN, 0}, {words, POLLIN, 0}};
    int64_t left_ms = (until_us - clock_mono_us()) / 1000;
    int n = left_ms > 0 ? poll(fds, 2, (int)left_ms) : 0;
    *has_ended = n > 0 && fds[0].revents;
    *has_words = n > 0 && fds[1].revents;
    return n > 0 || (n < 0 && errno == EINTR);
}

/* What it says last is kept. False: that was all. */
static bool read_words(int fd, struct buf *said)
{
    char bytes[SAID_BYTES];
    ssize_t n = read(fd, bytes, sizeof bytes);
    if (n <= 0)
        return n < 0 && errno == EINTR;
    if (said->len > SAID_BYTES) {
        memmove(said->data, said->data + said->len - SAID_BYTES, SAID_BYTES);
        said->len = SAID_BYTES;
    }
    buf_add(said, bytes, (size_t)n);
    return true;
}

/* To the end of the process, whoever else has its stderr by then. False: it does not end. */
static bool hear_it_out(int pidfd, int words, struct buf *said)
{
    int64_t until_us = clock_mono_us() + TRY_MS * 1000;
    bool has_ended = false, has_words;
    while (wait_for_more(pidfd, words, until_us, &has_ended, &has_words) && (has_words || !has_ended))
        if (has_words && !read_words(words, said))
            words = -1;
    return has_ended;
}

static int reap(pid_t pid)
{
    int status = 0;
    kill(-pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return status;
}

static void say_how(struct buf *how, int status)
{
    if (WIFSIGNALED(status))
        buf_addf(how, "its child was ended by signal %d (%s)", WTERMSIG(status),
                 sigdescr_np(WTERMSIG(status)) ? sigdescr_np(WTERMSIG(status)) : "unknown");
    else
        buf_addf(how, "its child exited with code %d", WEXITSTATUS(status));
}

/* The line of ours in what it said; or how it ended, as it has none. */
static void say_why(struct buf *why, struct buf *said, int status)
{
    static const char prefix[] = "errand isolated: ";
    const char *line = strstr(buf_cstr(said), prefix);
    for (const char *next = line; next; next = strstr(line, prefix))
        line = next + sizeof prefix - 1;
    if (line)
        buf_add(why, line, strcspn(line, "\n"));
    else
        say_how(why, status);
}

/* True: there is such a function. */
static bool try_to_load(const struct native_task *native, struct buf *why)
{
    struct spawn spawn = {0};
    struct buf said = {0};
    int ends[2];
    if (!spawn_pipe(&ends[0], &ends[1])) {
        buf_adds(why, strerrordesc_np(errno));
        return false;
    }
    int error = start_try(native, ends[1], &spawn);
    close(ends[1]);
    if (error) {
        buf_adds(why, strerrordesc_np(error));
    } else {
        bool has_ended = hear_it_out(spawn.pidfd, ends[0], &said);
        int status = reap(spawn.pid);
        close(spawn.pidfd);
        if (!has_ended)
            buf_addf(why, "it was not loaded within %d s", TRY_MS / 1000);
        else if (!WIFEXITED(status) || WEXITSTATUS(status) != ISOLATED_ALONE)
            say_why(why, &said, status);
    }
    close(ends[0]);
    buf_release(&said);
    return !why->len;
}

/* The module is loaded in children alone. */
static void load(struct task *task, struct faults *faults)
{
    struct buf why = {0};
    if (!try_to_load(task->definition, &why))
        native_add_fault(faults, task, "module", "cannot be used:", buf_cstr(&why));
    buf_release(&why);
}

/* --- the kind ------------------------------------------------------------------------ */

const struct kind native_isolated_kind = {
    .name = "native",
    .in_flight = pool_in_flight,
    .descriptors = pool_descriptors,
    .has_room = true,
    .room_of = pool_room_of,
    .keys = native_keys,
    .definition_bytes = sizeof(struct native_task),
    .load = load,
    .serve = pool_serve,
    .wanted = pool_wanted,
    .start = pool_start,
    .stop = pool_stop,
    .release = native_task_release,
};
