#include "tests/unit/attempts.h"
#include "workers/journal.h"
#include "workers/kinds/command/command.h"
#include "workers/registry.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[64], path[128];

static void make_folder(void)
{
    strcpy(folder, "/tmp/errand-journal-XXXXXX");
    cr_assert(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/slots", folder);
}

static void remove_folder(void)
{
    char line[128];
    snprintf(line, sizeof(line), "rm -rf %s", folder);
    cr_expect_eq(system(line), 0);
}

TestSuite(journal, .init = make_folder, .fini = remove_folder, .timeout = 60);

static pid_t pid_in(const char *name);

struct left {
    struct journal_entry *entries;
    int count;
};

static struct journal *opened(int slots, struct left *left)
{
    struct journal *journal;
    struct reason why;
    cr_assert_eq(journal_open(path, slots, &journal, &left->entries, &left->count, &why), OK, "%s", why.text);
    return journal;
}

/* What the next process finds, with the entries in the order of the slots. */
static struct left reopened(void)
{
    struct left left;
    struct journal *journal = opened(2, &left);
    journal_close(journal);
    return left;
}

/* Registered before the journal's: a sanitizer has nothing to say of a process
 * that ends in the middle. */
static void leave_at_once(void)
{
    _exit(0);
}

/* Runs the function in a process of its own, without a core dump; returns its
 * wait status. */
static int in_a_process(void (*body)(const char *), const char *argument)
{
    pid_t pid = fork();
    if (pid == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        atexit(leave_at_once);
        body(argument);
        _exit(0);
    }
    int status;
    waitpid(pid, &status, 0);
    return status;
}

static void enter(struct journal *journal, int slot, int64_t id, int attempt, bool alone)
{
    journal_enter(journal, slot, &(struct turn){.id = id, .lease = -id, .attempt = attempt}, alone);
}

Test(journal, a_clean_stop_leaves_no_file)
{
    struct left left;
    struct journal *journal = opened(2, &left);
    cr_expect_eq(left.count, 0);
    cr_expect_null(left.entries);
    enter(journal, 0, 5, 1, false);
    journal_leave(journal, 0);
    cr_expect(file_exists(path));
    journal_close(journal);
    cr_expect_not(file_exists(path));
}

Test(journal, what_ran_comes_back_once)
{
    struct left left;
    struct journal *journal = opened(4, &left);
    enter(journal, 1, 1001, 1, false);
    enter(journal, 2, 1002, 7, true);
    enter(journal, 3, 1003, 1, false);
    journal_leave(journal, 3);
    journal_close(journal);

    left = reopened();
    cr_assert_eq(left.count, 2);
    cr_expect(left.entries[0].id == 1001 && left.entries[0].lease == -1001 && left.entries[0].attempt == 1 &&
              !left.entries[0].alone && !left.entries[0].marked);
    cr_expect(left.entries[1].id == 1002 && left.entries[1].attempt == 7 && left.entries[1].alone);
    free(left.entries);
    left = reopened();
    cr_expect_eq(left.count, 0);
}

__attribute__((no_sanitize("address", "undefined"))) static void write_nowhere(void)
{
    volatile int *volatile nowhere = NULL;
    *nowhere = 1;
}

static void die_in_two_slots(const char *how)
{
    struct left left;
    struct journal *journal = opened(2, &left);
    journal_install_handlers();
    journal_thread_init();
    enter(journal, 0, 100, 1, false);
    enter(journal, 1, 101, 1, false); /* this thread's is the last one */
    if (strcmp(how, "segv") == 0)
        write_nowhere();
    if (strcmp(how, "abort") == 0)
        abort();
    if (strcmp(how, "fpe") == 0)
        raise(SIGFPE);
    if (strcmp(how, "exit") == 0)
        exit(0);
    if (strcmp(how, "kill") == 0)
        kill(getpid(), SIGKILL);
    if (strcmp(how, "term") == 0)
        raise(SIGTERM);
    if (strcmp(how, "_exit") == 0)
        _exit(0);
    /* from outside: nobody's doing, whichever thread it strikes */
    pid_t me = getpid();
    if (fork() == 0) {
        kill(me, SIGSEGV);
        _exit(0);
    }
    for (;;)
        pause();
}

Test(journal, a_fatal_signal_or_exit_marks_its_thread_alone)
{
    static const struct {
        const char *how;
        bool marked;
        int signal; /* how the process ended; 0: exit */
    } rows[] = {
        {"segv", true, SIGSEGV},  {"abort", true, SIGABRT}, {"fpe", true, SIGFPE}, {"exit", true, 0},
        {"kill", false, SIGKILL}, {"term", false, SIGTERM}, {"_exit", false, 0},   {"sent", false, SIGSEGV},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int status = in_a_process(die_in_two_slots, rows[i].how);
        cr_expect_eq(WIFSIGNALED(status) ? WTERMSIG(status) : 0, rows[i].signal, "%s: %x", rows[i].how, status);
        struct left left = reopened();
        cr_assert_eq(left.count, 2, "%s", rows[i].how);
        cr_expect_not(left.entries[0].marked, "%s", rows[i].how);
        cr_expect_eq(left.entries[1].marked, rows[i].marked, "%s", rows[i].how);
        free(left.entries);
    }
}

static void die_outside_a_body(const char *how)
{
    struct left left;
    struct journal *journal = opened(1, &left);
    (void)how;
    journal_install_handlers();
    journal_thread_init();
    enter(journal, 0, 100, 1, false);
    journal_leave(journal, 0);
    abort();
}

Test(journal, a_crash_between_bodies_leaves_nothing)
{
    int status = in_a_process(die_outside_a_body, "");
    cr_expect_eq(WTERMSIG(status), SIGABRT);
    struct left left = reopened();
    cr_expect_eq(left.count, 0);
}

/* --- the file itself ------------------------------------------------------------- */

static void write_file(const char *bytes, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    cr_assert_eq(write(fd, bytes, n), (ssize_t)n);
    close(fd);
}

static size_t read_file(char *bytes, size_t n)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = read(fd, bytes, n);
    close(fd);
    cr_assert_gt(got, 0);
    return (size_t)got;
}

/* --- with real bodies on threads of their own ----------------------------------- */

struct slot {
    struct journal *journal;
    int slot;
    struct task *task;
};

static void *slot_thread(void *argument)
{
    struct slot *slot = argument;
    struct run r;
    journal_thread_init();
    run_init(&r, slot->task, "{}");
    r.attempt.id += slot->slot;
    r.attempt.journal = slot->journal;
    r.attempt.slot = slot->slot;
    enter(slot->journal, slot->slot, r.attempt.id, 1, false);
    run(&r);
    journal_leave(slot->journal, slot->slot);
    run_release(&r);
    return NULL;
}

static struct registry *load(const char *function)
{
    const char *set = getenv("ERRAND_TEST_MODULES");
    char *module = realpath(set ? set : "build/tests/tasks_for_tests.so", NULL);
    struct faults faults = {0};
    struct buf text = {0};
    cr_assert(module, "build/tests/tasks_for_tests.so is not built");
    buf_addf(&text, "t: {kind: native, module: %s, function: %s}\nslow: {kind: native, module: %s}", module,
             function, module);
    struct yaml *doc = yaml_parse(buf_span(&text), &faults);
    struct registry *registry = registry_parse(kinds, doc, yaml_root(doc), NULL, "/", &faults);
    registry_load(registry, &faults);
    cr_assert_eq(faults.total, 0);
    yaml_free(doc);
    buf_release(&text);
    free(module);
    return registry;
}

static bool first_slot_is_taken(const void *unused)
{
    char bytes[4096];
    int64_t id;
    (void)unused;
    if (read_file(bytes, sizeof(bytes)) < 64 + sizeof(id))
        return false;
    memcpy(&id, bytes + 64, sizeof(id));
    return id != 0;
}

static void crash_beside_another(const char *function)
{
    struct left left;
    struct journal *journal = opened(2, &left);
    struct registry *registry = load(function);
    struct slot other = {journal, 0, registry_at(registry, 1)}, ours = {journal, 1, registry_at(registry, 0)};
    pthread_t threads[2];
    close(2); /* what sanitizers and the log say of it is expected */
    journal_install_handlers();
    pthread_create(&threads[0], NULL, slot_thread, &other);
    if (!eventually(first_slot_is_taken, NULL))
        _exit(0);
    pthread_create(&threads[1], NULL, slot_thread, &ours);
    pthread_join(threads[0], NULL);
}

Test(journal, a_body_that_crashes_is_marked_and_its_neighbour_is_not)
{
    static const char *const functions[] = {"segv", "overflow_stack", "raise_abort", "call_exit", "end_thread"};
    for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
        int status = in_a_process(crash_beside_another, functions[i]);
        cr_expect(WIFSIGNALED(status) || strcmp(functions[i], "call_exit") == 0, "%s", functions[i]);
        struct left left = reopened();
        cr_assert_eq(left.count, 2, "%s", functions[i]);
        cr_expect_not(left.entries[0].marked, "%s", functions[i]);
        cr_expect(left.entries[1].marked, "%s", functions[i]);
        free(left.entries);
    }
}

/* --- handlers that were there before --------------------------------------------- */

static void exit_as_the_earlier_handler(int sig)
{
    _exit(40 + sig);
}

static void crash_with_an_earlier_handler(const char *how)
{
    signal(SIGSEGV, exit_as_the_earlier_handler);
    die_in_two_slots(how);
}

Test(journal, a_handler_installed_before_is_called_after)
{
    int status = in_a_process(crash_with_an_earlier_handler, "segv");
    cr_expect_eq(WEXITSTATUS(status), 40 + SIGSEGV);
    struct left left = reopened();
    cr_assert_eq(left.count, 2);
    cr_expect(left.entries[1].marked);
    free(left.entries);
}

/* --- damaged files ----------------------------------------------------------------- */

Test(journal, a_damaged_or_foreign_file_counts_as_empty)
{
    char good[4096];
    struct left left;
    struct journal *journal = opened(3, &left);
    enter(journal, 0, 100, 1, false);
    size_t n = read_file(good, sizeof(good));
    journal_close(journal);

    const struct {
        const char *what;
        size_t at, length;
        char byte;
        int count;
    } rows[] = {
        {"as it was", 0, n, 'E', 1},     {"another magic", 0, n, 'X', 0},     {"another version", 8, n, 9, 0},
        {"too many slots", 15, n, 9, 0}, {"one slot fewer", 12, n, 2, 0},     {"cut short", 0, n - 1, 'E', 0},
        {"only a start", 0, 10, 'E', 0}, {"flags unknown", 64 + 12, n, 9, 0}, {"attempt 0", 64 + 8, n, 0, 0},
    };
    close(2);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char bytes[4096];
        memcpy(bytes, good, n);
        bytes[rows[i].at] = rows[i].byte;
        write_file(bytes, rows[i].length);
        left = reopened();
        cr_expect_eq(left.count, rows[i].count, "%s", rows[i].what);
        free(left.entries);
    }
    write_file("", 0);
    left = reopened();
    cr_expect_eq(left.count, 0);
}

static void open_what_is_in_use(const char *unused)
{
    struct journal *journal;
    struct left left;
    (void)unused;
    enum err err = journal_open(path, 1, &journal, &left.entries, &left.count, NULL);
    _exit(err == ERR_BUSY && !journal && !left.entries ? 33 : 1);
}

Test(journal, one_in_use_is_refused_and_left_alone)
{
    struct left left;
    struct journal *journal = opened(1, &left);
    enter(journal, 0, 100, 1, false);
    cr_expect_eq(WEXITSTATUS(in_a_process(open_what_is_in_use, "")), 33);
    journal_close(journal);
    left = reopened();
    cr_expect_eq(left.count, 1);
    free(left.entries);
}

static void die_but_leave_a_fork(const char *unused)
{
    struct left left;
    struct journal *journal = opened(1, &left);
    (void)unused;
    enter(journal, 0, 100, 1, false);
    pid_t pid = fork(); /* as a module's body may */
    if (pid == 0)
        for (;;)
            pause();
    snprintf(path, sizeof(path), "%s/pid", folder);
    FILE *file = fopen(path, "w");
    fprintf(file, "%d", (int)pid);
    fclose(file);
    kill(getpid(), SIGKILL);
}

Test(journal, a_process_that_a_body_forked_does_not_hold_it)
{
    in_a_process(die_but_leave_a_fork, "");
    struct left left = reopened();
    cr_expect_eq(left.count, 1);
    free(left.entries);
    kill(pid_in("pid"), SIGKILL);
}

Test(journal, a_folder_that_is_not_there_is_an_error)
{
    struct journal *journal;
    struct left left;
    struct reason why;
    close(2);
    cr_expect_eq(journal_open("/no/such/folder/slots", 1, &journal, &left.entries, &left.count, &why), ERR_IO);
    cr_expect(strstr(why.text, "No such file"));
}

Test(journal, in_memory_nothing_is_left)
{
    struct journal *journal;
    struct left left;
    cr_assert_eq(journal_open(NULL, 2, &journal, &left.entries, &left.count, NULL), OK);
    cr_expect_eq(left.count, 0);
    enter(journal, 0, 100, 1, false);
    journal_child(journal, 0, 12345);
    journal_leave(journal, 0);
    journal_close(journal);
    journal_close(NULL);
}

/* --- survivors --------------------------------------------------------------------- */

#define WRITE_PID(name, pid) "echo " pid " >" name ".new; mv " name ".new " name "; "

static char pid_path[128];

static pid_t pid_in(const char *name)
{
    int pid = 0;
    snprintf(pid_path, sizeof(pid_path), "%s/%s", folder, name);
    cr_assert(eventually(file_exists, pid_path), "%s was not written", name);
    FILE *file = fopen(pid_path, "r");
    cr_assert_eq(fscanf(file, "%d", &pid), 1);
    fclose(file);
    return pid;
}

/* A server that dies by SIGKILL while its command has a child: the command dies
 * with it, the grandchild survives. */
static void serve_and_die(const char *script)
{
    struct left left;
    struct journal *journal = opened(1, &left);
    char *text = strdup(script);
    struct command_task command = {.run = (char *[]){"/bin/sh", "-c", text, NULL}, .cwd = folder};
    struct task task = {.name = "t", .kind = &command_kind, .definition = &command};
    struct slot slot = {journal, 0, &task};
    pthread_t thread;
    pthread_create(&thread, NULL, slot_thread, &slot);
    pid_in("ready");
    kill(getpid(), SIGKILL);
}

#define GRANDCHILD "sleep 60 & " WRITE_PID("child", "$!") WRITE_PID("ready", "$$") "wait"

Test(journal, survivors_of_a_command_are_killed_before_anything_else)
{
    int status = in_a_process(serve_and_die, GRANDCHILD);
    cr_assert_eq(WTERMSIG(status), SIGKILL);
    pid_t child = pid_in("child"), shell = pid_in("ready");
    cr_expect(eventually(process_is_gone, &shell)); /* with its parent */
    cr_expect_not(process_is_gone(&child));
    struct left left = reopened();
    cr_expect(process_is_gone(&child)); /* before it was opened, not after */
    cr_expect_eq(left.count, 1);
    free(left.entries);
}

static bool is_sleep(const void *pid)
{
    char name[64], comm[16] = {0};
    snprintf(name, sizeof(name), "/proc/%d/comm", (int)*(const pid_t *)pid);
    FILE *file = fopen(name, "r");
    bool got = file && fgets(comm, sizeof(comm), file);
    if (file)
        fclose(file);
    return got && strcmp(comm, "sleep\n") == 0;
}

Test(journal, one_in_the_group_without_its_id_is_spared)
{
    int status = in_a_process(serve_and_die, "env -u ERRAND_ID sleep 60 & " WRITE_PID("child", "$!")
                                                 WRITE_PID("ready", "$$") "wait");
    cr_assert_eq(WTERMSIG(status), SIGKILL);
    pid_t child = pid_in("child");
    cr_assert(eventually(is_sleep, &child)); /* and `env` no more */
    struct left left = reopened();
    free(left.entries);
    cr_expect_not(process_is_gone(&child));
    kill(child, SIGKILL);
}

Test(journal, survivors_of_another_boot_are_not_looked_for)
{
    int status = in_a_process(serve_and_die, GRANDCHILD);
    cr_assert_eq(WTERMSIG(status), SIGKILL);
    pid_t child = pid_in("child");
    char bytes[4096];
    size_t n = read_file(bytes, sizeof(bytes));
    bytes[16] = bytes[16] == '0' ? '1' : '0'; /* of the boot id */
    write_file(bytes, n);
    struct left left = reopened();
    cr_expect_eq(left.count, 1);
    cr_expect_not(process_is_gone(&child));
    kill(child, SIGKILL);
    free(left.entries);
}

/* The records were unmapped under the threads that were left behind: one that
 * came back before the process had ended brought it down. */
Test(journal, threads_that_are_left_behind_may_still_write_and_leave_nothing)
{
    struct left left;
    struct journal *journal = opened(2, &left);
    enter(journal, 0, 7, 1, false);
    enter(journal, 1, 8, 1, false);
    journal_abandon(journal);
    journal_child(journal, 1, 4711);
    journal_leave(journal, 0);
    left = reopened();
    cr_expect_eq(left.count, 0);
    journal_close(journal);
}

Test(journal, a_finished_command_leaves_no_group_behind)
{
    struct left left;
    struct journal *journal = opened(1, &left);
    struct command_task command = {.run = (char *[]){"/bin/true", NULL}, .cwd = folder};
    struct task task = {.name = "t", .kind = &command_kind, .definition = &command};
    struct run r;
    run_init(&r, &task, "{}");
    r.attempt.journal = journal;
    enter(journal, 0, r.attempt.id, 1, false);
    run(&r);
    char bytes[4096];
    int32_t group;
    read_file(bytes, sizeof(bytes));
    memcpy(&group, bytes + 64 + 24, sizeof(group));
    cr_expect_eq(group, 0);
    journal_leave(journal, 0);
    run_release(&r);
    journal_close(journal);
}
