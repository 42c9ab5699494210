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

static struct pool_definition *pool_of(const struct task *task)
{
    return ((const struct native_task *)task->definition)->pool;
}

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
    struct pool_settings *is = &native->isolation;
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
    native->isolation.program.run = words_for(native);
    native->pool = pool_definition_new(task->name, &native->isolation);
    task->kind = &native_isolated_kind;
}

/* --- of one that is not isolated, for a turn -------------------------------------------- */

static struct task *apart_new(const struct task *task)
{
    const struct native_task *native = task->definition;
    struct native_task *definition = xcalloc(1, sizeof *definition);
    struct task *apart = xcalloc(1, sizeof *apart);
    set_defaults(&definition->isolation, "/");
    *definition = (struct native_task){
        .isolation = definition->isolation, .module = native->module, .function = native->function};
    *apart = (struct task){
        .name = task->name,
        .options = task->options,
        .params = task->params,
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

/* --- is there such a function? ------------------------------------------------------------ */

/* Starts a child that nobody speaks to, which says what is wrong with the module and
 * ends, with NOT_A_CHILD if nothing is. */
static int start_try(const struct native_task *native, int errors, struct spawn *spawn)
{
    struct program program = {0};
    char **words = native->pool->is.program.run, **vars = program_environment(&program, (char *[]){NULL});
    int null = spawn_move_up(open("/dev/null", O_RDWR | O_CLOEXEC), 3);
    *spawn = (struct spawn){.path = words[0], .argv = words, .envp = vars, .stdio = {null, null, errors}};
    int error = null < 0 ? errno : spawn_start(spawn);
    if (null >= 0)
        close(null);
    free(vars);
    return error;
}

/* True: there is something, or its end. */
static bool wait_until(int fd, int64_t until_us)
{
    int64_t left_ms = (until_us - clock_mono_us()) / 1000;
    struct pollfd ready = {fd, POLLIN, 0};
    return left_ms > 0 && poll(&ready, 1, (int)left_ms) > 0;
}

static void read_words(int fd, int64_t until_us, struct buf *said)
{
    char bytes[1024];
    while (wait_until(fd, until_us)) {
        ssize_t n = read(fd, bytes, sizeof bytes);
        if (n <= 0)
            return;
        if (said->len < SAID_BYTES)
            buf_add(said, bytes, (size_t)n);
    }
}

/* True: there is such a function. */
static bool try_to_load(const struct native_task *native, struct buf *said)
{
    struct spawn spawn = {0};
    int ends[2], status = -1;
    if (!spawn_pipe(&ends[0], &ends[1])) {
        buf_adds(said, strerrordesc_np(errno));
        return false;
    }
    int error = start_try(native, ends[1], &spawn);
    close(ends[1]);
    if (error) {
        buf_adds(said, strerrordesc_np(error));
    } else {
        int64_t until_us = clock_mono_us() + TRY_MS * 1000;
        read_words(ends[0], until_us, said);
        wait_until(spawn.pidfd, until_us);
        kill(-spawn.pid, SIGKILL);
        while (waitpid(spawn.pid, &status, 0) < 0 && errno == EINTR)
            continue;
        close(spawn.pidfd);
    }
    close(ends[0]);
    return !error && WIFEXITED(status) && WEXITSTATUS(status) == ISOLATED_ALONE;
}

/* Its one line, without whose it is. */
static const char *line_of(struct buf *said)
{
    static const char prefix[] = "errand isolated: ";
    char *text = (char *)buf_cstr(said);
    text[strcspn(text, "\n")] = '\0';
    return strncmp(text, prefix, sizeof prefix - 1) == 0 ? text + sizeof prefix - 1 : text;
}

/* The module is loaded in children alone. */
static void load(struct task *task, struct faults *faults)
{
    struct buf said = {0};
    if (!try_to_load(task->definition, &said))
        native_add_fault(faults, task, "module",
                         "cannot be used:", said.len ? line_of(&said) : "its child did not end well");
    buf_release(&said);
}

/* --- the kind ------------------------------------------------------------------------ */

static int in_flight(const struct task *task)
{
    return pool_in_flight(pool_of(task));
}

static const void *room_of(const struct task *task)
{
    return pool_of(task);
}

static int descriptors(const struct task *task)
{
    return pool_descriptors(pool_of(task));
}

static void serve(struct task *task, bool serves)
{
    pool_serve(pool_of(task), serves);
}

static void wanted(const struct task *task, int count)
{
    pool_wanted(pool_of(task), count);
}

static void start(struct attempt *attempt)
{
    pool_start(pool_of(attempt->task), attempt);
}

static void stop(struct attempt *attempt)
{
    (void)attempt;
    pool_stop();
}

const struct kind native_isolated_kind = {
    .name = "native",
    .in_flight = in_flight,
    .descriptors = descriptors,
    .has_room = true,
    .room_of = room_of,
    .keys = native_keys,
    .definition_bytes = sizeof(struct native_task),
    .load = load,
    .serve = serve,
    .wanted = wanted,
    .start = start,
    .stop = stop,
    .release = native_task_release,
};
