#include "base/clock.h"
#include "tests/unit/attempts.h"
#include "workers/cgroup.h"
#include "workers/journal.h"
#include "workers/kinds/command/command.h"
#include "workers/registry.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
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

static struct journal *opened(int turns, struct journal_left *left)
{
    struct journal *journal;
    struct reason why;
    cr_assert_eq(journal_open(path, turns, &journal, left, &why), OK, "%s", why.text);
    return journal;
}

/* What the next process finds, in the order of the records. */
static struct journal_left reopened(void)
{
    struct journal_left left;
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
 * wait status. Nothing is to be asserted there: Criterion waits for ever after
 * word of a process that it does not know. */
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

static struct journal_record *enter(struct journal *journal, int64_t id, int attempt)
{
    return journal_enter(journal, &(struct turn){.id = id, .lease = -id, .attempt = attempt});
}

Test(journal, a_clean_stop_leaves_no_file)
{
    struct journal_left left;
    struct journal *journal = opened(2, &left);
    cr_expect_eq(left.count, 0);
    journal_leave(enter(journal, 5, 1));
    cr_expect(file_exists(path));
    journal_close(journal);
    cr_expect_not(file_exists(path));
}

Test(journal, what_ran_comes_back_once)
{
    struct journal_left left;
    struct journal *journal = opened(4, &left);
    int64_t from = clock_now_ms();
    enter(journal, 1001, 1);
    enter(journal, 1002, 7);
    journal_leave(enter(journal, 1003, 1));
    int64_t until = clock_now_ms();
    journal_close(journal);

    left = reopened();
    cr_assert_eq(left.count, 2);
    const struct journal_entry *first = &left.entries[0], *second = &left.entries[1];
    cr_expect(first->id == 1001 && first->lease == -1001 && first->attempt == 1 && !first->marked);
    cr_expect(second->id == 1002 && second->attempt == 7);
    cr_expect(from <= first->started_at && first->started_at <= second->started_at && second->started_at <= until);
    journal_left_release(&left);
    left = reopened();
    cr_expect_eq(left.count, 0);
    journal_left_release(&left);
}

__attribute__((no_sanitize("address", "undefined"))) static void write_nowhere(void)
{
    volatile int *volatile nowhere = NULL;
    *nowhere = 1;
}

static void die_in_two_turns(const char *how)
{
    struct journal_left left;
    struct journal *journal = opened(2, &left);
    journal_install_handlers();
    journal_thread_init();
    enter(journal, 100, 1);
    enter(journal, 101, 1); /* this thread's is the last one */
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
        int status = in_a_process(die_in_two_turns, rows[i].how);
        cr_expect_eq(WIFSIGNALED(status) ? WTERMSIG(status) : 0, rows[i].signal, "%s: %x", rows[i].how, status);
        struct journal_left left = reopened();
        cr_assert_eq(left.count, 2, "%s", rows[i].how);
        cr_expect_not(left.entries[0].marked, "%s", rows[i].how);
        cr_expect_eq(left.entries[1].marked, rows[i].marked, "%s", rows[i].how);
        cr_expect_eq(left.entries[1].signal, rows[i].marked ? rows[i].signal : 0, "%s", rows[i].how);
        journal_left_release(&left);
    }
}

static void die_outside_a_body(const char *how)
{
    struct journal_left left;
    struct journal *journal = opened(1, &left);
    (void)how;
    journal_install_handlers();
    journal_thread_init();
    journal_leave(enter(journal, 100, 1));
    abort();
}

Test(journal, a_crash_between_bodies_leaves_nothing)
{
    int status = in_a_process(die_outside_a_body, "");
    cr_expect_eq(WTERMSIG(status), SIGABRT);
    struct journal_left left = reopened();
    cr_expect_eq(left.count, 0);
    journal_left_release(&left);
}

/* --- a turn may end on another thread than it began on --------------------------- */

struct wanderer {
    struct journal *journal;
    struct journal_record *record;
    sem_t entered, left;
};

static void *enter_here_and_crash_after(void *argument)
{
    struct wanderer *wanderer = argument;
    journal_thread_init();
    wanderer->record = enter(wanderer->journal, 100, 1);
    sem_post(&wanderer->entered);
    sem_wait(&wanderer->left);
    write_nowhere();
    return NULL;
}

static void leave_for_another(const char *how)
{
    struct journal_left left;
    struct wanderer wanderer = {.journal = opened(1, &left)};
    pthread_t thread;
    close(2);
    sem_init(&wanderer.entered, 0, 0);
    sem_init(&wanderer.left, 0, 0);
    pthread_create(&thread, NULL, enter_here_and_crash_after, &wanderer);
    sem_wait(&wanderer.entered);
    if (strcmp(how, "still its own") != 0) {
        journal_leave(wanderer.record);
        if (enter(wanderer.journal, 101, 1) != wanderer.record)
            _exit(1);
    }
    sem_post(&wanderer.left);
    pthread_join(thread, NULL);
}

Test(journal, a_thread_does_not_mark_a_record_that_is_anothers_by_now)
{
    static const struct {
        const char *how;
        int64_t id;
        bool marked;
    } rows[] = {{"still its own", 100, true}, {"another's", 101, false}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        cr_expect(in_a_process(leave_for_another, rows[i].how) != 0);
        struct journal_left left = reopened();
        cr_assert_eq(left.count, 1, "%s", rows[i].how);
        cr_expect_eq(left.entries[0].id, rows[i].id, "%s", rows[i].how);
        cr_expect_eq(left.entries[0].marked, rows[i].marked, "%s", rows[i].how);
        journal_left_release(&left);
    }
}

static void fork_one_that_ends(const char *how)
{
    struct journal_left left;
    struct journal *journal = opened(1, &left);
    journal_install_handlers();
    enter(journal, 100, 1);
    pid_t pid = fork();
    if (pid == 0) {
        if (strcmp(how, "exit") == 0)
            exit(0);
        abort();
    }
    waitpid(pid, NULL, 0);
    kill(getpid(), SIGKILL);
}

/* What a body has forked marked the turn, for which the next death was then its doing. */
Test(journal, the_end_of_a_process_that_a_body_forked_is_no_death_of_the_server)
{
    static const char *const ways[] = {"exit", "abort"};
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        cr_expect_eq(WTERMSIG(in_a_process(fork_one_that_ends, ways[i])), SIGKILL);
        struct journal_left left = reopened();
        cr_assert_eq(left.count, 1, "%s", ways[i]);
        cr_expect_not(left.entries[0].marked, "%s", ways[i]);
        journal_left_release(&left);
    }
}

/* --- the file itself ------------------------------------------------------------- */

/* As this machine has it; a test's files are small. */
enum { PAGE = 4096, RECORDS = PAGE / 64, FILE_MAX = 8 * PAGE };

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

static int64_t number_at(const char *bytes, size_t at)
{
    int64_t number;
    memcpy(&number, bytes + at, sizeof(number));
    return number;
}

Test(journal, it_grows_under_turns_that_keep_their_records)
{
    enum { TURNS = 3 * RECORDS + 1 };
    struct journal_left left;
    struct journal *journal = opened(1, &left);
    struct journal_record *records[TURNS];
    for (int i = 0; i < TURNS; i++)
        records[i] = enter(journal, 1000 + i, 1);
    for (int i = 0; i < TURNS; i += 2) /* through pointers from before it grew */
        journal_leave(records[i]);
    journal_close(journal);

    left = reopened();
    cr_assert_eq(left.count, TURNS / 2);
    for (int i = 0; i < left.count; i++)
        cr_expect_eq(left.entries[i].id, 1001 + 2 * i);
    journal_left_release(&left);
}

Test(journal, what_was_left_is_taken_again_before_it_grows)
{
    char bytes[FILE_MAX];
    struct journal_left left;
    struct journal *journal = opened(RECORDS, &left);
    size_t size = read_file(bytes, sizeof(bytes));
    struct journal_record *records[RECORDS];
    for (int round = 0; round < 100; round++) {
        for (int i = 0; i < RECORDS; i++)
            records[i] = enter(journal, 1 + i, 1);
        for (int i = 0; i < RECORDS; i++)
            journal_leave(records[(i * 7 + round) % RECORDS]);
    }
    cr_expect_eq(read_file(bytes, sizeof(bytes)), size);
    for (int i = 0; i <= RECORDS; i++)
        records[0] = enter(journal, 1 + i, 1);
    cr_expect_eq(read_file(bytes, sizeof(bytes)), size + PAGE);
    journal_close(journal);
}

struct crowd {
    struct journal *journal;
    int64_t first_id;
};

/* Many turns at once; of every ten the last stays. */
static void *come_and_go(void *argument)
{
    const struct crowd *crowd = argument;
    struct journal_record *records[10];
    for (int round = 0; round < 100; round++) {
        for (int i = 0; i < 10; i++)
            records[i] = enter(crowd->journal, crowd->first_id + round, i + 1);
        for (int i = 0; i < 9; i++)
            journal_leave(records[i]);
    }
    return NULL;
}

Test(journal, threads_that_come_and_go_at_once_have_a_record_each)
{
    enum { THREADS = 8 };
    struct journal_left left;
    struct journal *journal = opened(1, &left);
    pthread_t threads[THREADS];
    struct crowd crowds[THREADS];
    bool seen[THREADS * 100] = {false};
    for (int i = 0; i < THREADS; i++) {
        crowds[i] = (struct crowd){journal, 1000 + i * 100};
        pthread_create(&threads[i], NULL, come_and_go, &crowds[i]);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    journal_close(journal);
    left = reopened();
    cr_assert_eq(left.count, THREADS * 100);
    for (int i = 0; i < left.count; i++) {
        cr_expect_eq(left.entries[i].attempt, 10);
        cr_expect_not(seen[left.entries[i].id - 1000]);
        seen[left.entries[i].id - 1000] = true;
    }
    journal_left_release(&left);
}

static void *come_and_stay(void *argument)
{
    const struct crowd *crowd = argument;
    for (int i = 0; i < 1000; i++)
        enter(crowd->journal, crowd->first_id + i, 1);
    return NULL;
}

/* Whoever added the page found it empty when it had let go of the lock, and went into plain memory. */
Test(journal, a_thread_that_adds_a_page_has_a_record_of_it)
{
    enum { THREADS = 32 };
    struct journal_left left;
    struct journal *journal = opened(1, &left);
    pthread_t threads[THREADS];
    struct crowd crowds[THREADS];
    for (int i = 0; i < THREADS; i++) {
        crowds[i] = (struct crowd){journal, 1 + i * 1000};
        pthread_create(&threads[i], NULL, come_and_stay, &crowds[i]);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    journal_close(journal);
    left = reopened();
    cr_expect_eq(left.count, THREADS * 1000);
    journal_left_release(&left);
}

/* --- what a body had logged -------------------------------------------------------- */

static void log_lines(struct journal_record *record, int from, int to)
{
    char line[32];
    for (int i = from; i <= to; i++)
        journal_log(record, (struct span){line, (size_t)snprintf(line, sizeof(line), "line %d\n", i)});
}

Test(journal, what_was_logged_and_not_sent_is_left)
{
    struct journal_left left;
    struct journal *journal = opened(1, &left);
    struct journal_record *sent = enter(journal, 1, 1);
    log_lines(sent, 1, 3);
    journal_log_sent(sent);
    struct journal_record *silent = enter(journal, 2, 1), *told = enter(journal, 3, 1);
    log_lines(told, 1, 2);
    struct journal_record *both = enter(journal, 4, 1);
    log_lines(both, 1, 1);
    journal_log_sent(both);
    log_lines(both, 2, 3);
    struct journal_record *before = enter(journal, 5, 1);
    log_lines(before, 1, 9);
    journal_leave(before);
    cr_assert_eq(enter(journal, 6, 1), before);
    journal_log_sent(silent);
    journal_close(journal);

    left = reopened();
    static const char *const logs[] = {"", "", "line 1\nline 2\n", "line 2\nline 3\n", ""};
    cr_assert_eq(left.count, 5);
    for (int i = 0; i < 5; i++)
        cr_expect_str_eq(buf_cstr(&left.entries[i].log), logs[i], "%d", i);
    journal_left_release(&left);
}

Test(journal, of_a_long_log_the_end_is_left_and_what_is_lost_is_said)
{
    enum { ROOM = PAGE - 16 };
    static const size_t rows[][3] = {/* bytes logged, in pieces of so many, that are kept */
                                     {ROOM, 7, ROOM},    {ROOM + 1, ROOM, ROOM},     {3 * ROOM + 5, 100, ROOM},
                                     {ROOM, ROOM, ROOM}, {ROOM + 1, ROOM + 1, ROOM}, {1 << 20, 65521, ROOM}};
    char *bytes = xmalloc(1 << 20);
    for (int i = 0; i < 1 << 20; i++)
        bytes[i] = (char)('a' + i * 31 % 26);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        size_t all = rows[i][0], piece = rows[i][1], kept = rows[i][2];
        struct journal_left left;
        struct journal *journal = opened(1, &left);
        struct journal_record *record = enter(journal, 1, 1);
        for (size_t at = 0; at < all; at += piece)
            journal_log(record, (struct span){bytes + at, piece < all - at ? piece : all - at});
        journal_close(journal);

        left = reopened();
        cr_assert_eq(left.count, 1);
        struct span log = buf_span(&left.entries[0].log);
        char notice[128] = "";
        if (all > kept)
            snprintf(notice, sizeof(notice), "[errand: the %zu bytes before this were lost in the crash]\n",
                     all - kept);
        cr_assert_eq(log.len, strlen(notice) + kept, "row %zu", i);
        cr_expect_eq(memcmp(log.p, notice, strlen(notice)), 0, "row %zu", i);
        cr_expect_eq(memcmp(log.p + strlen(notice), bytes + all - kept, kept), 0, "row %zu", i);
        journal_left_release(&left);
    }
    free(bytes);
}

Test(journal, a_damaged_log_is_left_out_and_its_turn_is_not)
{
    char good[FILE_MAX];
    struct journal_left left;
    struct journal *journal = opened(1, &left);
    log_lines(enter(journal, 1, 1), 1, 1);
    size_t n = read_file(good, sizeof(good));
    journal_close(journal);
    cr_assert_eq(n, 3 * PAGE);

    static const struct {
        const char *what;
        size_t at, length;
        char byte;
        int count, logs;
    } rows[] = {
        {"as it was", 0, 3 * PAGE, 'E', 1, 1},
        {"another page", PAGE + 56, 3 * PAGE, 1, 1, 0},
        {"a page that is not there", PAGE + 57, 3 * PAGE, 1, 1, 0},
        {"a negative page", PAGE + 63, 3 * PAGE, -1, 1, 0},
        {"cut off", 0, 2 * PAGE, 'E', 1, 0},
        {"a negative length", 2 * PAGE + 15, 3 * PAGE, -1, 1, 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char bytes[FILE_MAX];
        memcpy(bytes, good, n);
        bytes[rows[i].at] = rows[i].byte;
        write_file(bytes, rows[i].length);
        left = reopened();
        cr_assert_eq(left.count, rows[i].count, "%s", rows[i].what);
        cr_expect_eq(left.entries[0].log.len > 0, rows[i].logs, "%s", rows[i].what);
        journal_left_release(&left);
    }
}

/* --- a full disk --------------------------------------------------------------------- */

static void allow(rlim_t bytes)
{
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){bytes, RLIM_INFINITY});
}

static void log_to(const char *name)
{
    char file[128];
    snprintf(file, sizeof(file), "%s/%s", folder, name);
    int fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    dup2(fd, 2);
    close(fd);
}

static int lines_with(const char *name, const char *text)
{
    char file[128], line[1024];
    int count = 0;
    snprintf(file, sizeof(file), "%s/%s", folder, name);
    FILE *lines = fopen(file, "r");
    while (lines && fgets(line, sizeof(line), lines))
        count += strstr(line, text) != NULL;
    if (lines)
        fclose(lines);
    return count;
}

/* 1 to 200 while there is room for 64, and 201 to 300 when there is again. */
static void run_on_a_full_disk(const char *unused)
{
    struct journal_left left;
    struct journal *journal = opened(1, &left);
    struct journal_record *named = enter(journal, 1, 1), *unnamed;
    (void)unused;
    log_to("log");
    allow(2 * PAGE);
    for (int i = 2; i <= 200; i++)
        unnamed = enter(journal, i, 1);
    journal_child(unnamed, 4711);
    log_lines(unnamed, 1, 1);
    journal_leave(unnamed);
    unnamed = enter(journal, 200, 1);
    log_lines(named, 1, 2);
    allow(RLIM_INFINITY);
    for (int i = 201; i <= 300; i++)
        named = enter(journal, i, 1);
    log_lines(named, 3, 3);
    journal_leave(unnamed);
    kill(getpid(), SIGKILL);
}

Test(journal, on_a_full_disk_turns_run_without_a_name_until_there_is_room)
{
    cr_expect_eq(WTERMSIG(in_a_process(run_on_a_full_disk, "")), SIGKILL);
    struct journal_left left = reopened();
    cr_assert_eq(left.count, RECORDS + 100);
    cr_expect_eq(left.entries[RECORDS - 1].id, RECORDS);
    cr_expect_eq(left.entries[RECORDS].id, 201);
    cr_expect_eq(left.entries[0].log.len, 0);
    cr_expect_str_eq(buf_cstr(&left.entries[RECORDS + 99].log), "line 3\n");
    cr_expect_eq(lines_with("log", "the turn journal cannot grow"), 1);
    journal_left_release(&left);
}

static void open_on_a_full_disk(const char *unused)
{
    struct journal *journal;
    struct journal_left left;
    struct reason why;
    (void)unused;
    log_to("log");
    allow(2 * PAGE);
    enum err err = journal_open(path, 2 * RECORDS, &journal, &left, &why);
    _exit(err == ERR_IO && !journal && !left.entries && strstr(why.text, "File too large") ? 33 : 1);
}

/* The file had been cut before the room for the new one was there. */
Test(journal, one_that_cannot_begin_anew_keeps_what_is_left)
{
    struct journal_left left;
    struct journal *journal = opened(1, &left);
    enter(journal, 100, 1);
    journal_close(journal);
    cr_expect_eq(WEXITSTATUS(in_a_process(open_on_a_full_disk, "")), 33);
    left = reopened();
    cr_expect_eq(left.count, 1);
    journal_left_release(&left);
}

/* --- with real bodies on threads of their own ----------------------------------- */

struct thread {
    struct journal *journal;
    int number;
    struct task *task;
};

static void *thread_body(void *argument)
{
    struct thread *thread = argument;
    struct run r;
    journal_thread_init();
    run_init(&r, thread->task, "{}");
    r.attempt.id += thread->number;
    r.attempt.record = enter(thread->journal, r.attempt.id, 1);
    run(&r);
    journal_leave(r.attempt.record);
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
    struct registry *registry = registry_parse(
        kinds, &(struct registry_source){.doc = doc, .tasks = yaml_root(doc), .folder = "/"}, &faults);
    registry_load(registry, &faults);
    cr_assert_eq(faults.total, 0);
    yaml_free(doc);
    buf_release(&text);
    free(module);
    return registry;
}

static bool first_record_is_taken(const void *unused)
{
    char bytes[FILE_MAX];
    (void)unused;
    return read_file(bytes, sizeof(bytes)) > PAGE && number_at(bytes, PAGE) != 0;
}

static void crash_beside_another(const char *function)
{
    struct journal_left left;
    struct journal *journal = opened(2, &left);
    struct registry *registry = load(function);
    struct thread other = {journal, 0, registry_at(registry, 1)}, ours = {journal, 1, registry_at(registry, 0)};
    pthread_t threads[2];
    close(2); /* what sanitizers and the log say of it is expected */
    journal_install_handlers();
    pthread_create(&threads[0], NULL, thread_body, &other);
    if (!eventually(first_record_is_taken, NULL))
        _exit(0);
    pthread_create(&threads[1], NULL, thread_body, &ours);
    pthread_join(threads[0], NULL);
}

Test(journal, a_body_that_crashes_is_marked_and_its_neighbour_is_not)
{
    static const struct {
        const char *function;
        int signal;
    } rows[] = {
        {"segv", SIGSEGV}, {"overflow_stack", SIGSEGV}, {"raise_abort", SIGABRT},
        {"call_exit", 0},  {"end_thread", SIGABRT},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *function = rows[i].function;
        int status = in_a_process(crash_beside_another, function);
        cr_expect(WIFSIGNALED(status) || strcmp(function, "call_exit") == 0, "%s", function);
        struct journal_left left = reopened();
        cr_assert_eq(left.count, 2, "%s", function);
        cr_expect_not(left.entries[0].marked, "%s", function);
        cr_expect(left.entries[1].marked, "%s", function);
        cr_expect_eq(left.entries[1].signal, rows[i].signal, "%s", function);
        journal_left_release(&left);
    }
}

/* --- handlers that were there before --------------------------------------------- */

/* A second signal, in the handler of the first, changes nothing. */
static void exit_as_the_earlier_handler(int sig)
{
    raise(SIGFPE);
    _exit(40 + sig);
}

static void do_nothing(int sig)
{
    (void)sig;
}

static void crash_with_an_earlier_handler(const char *how)
{
    signal(SIGSEGV, exit_as_the_earlier_handler);
    signal(SIGFPE, do_nothing);
    die_in_two_turns(how);
}

Test(journal, a_handler_installed_before_is_called_after)
{
    int status = in_a_process(crash_with_an_earlier_handler, "segv");
    cr_expect_eq(WEXITSTATUS(status), 40 + SIGSEGV);
    struct journal_left left = reopened();
    cr_assert_eq(left.count, 2);
    cr_expect(left.entries[1].marked);
    cr_expect_eq(left.entries[1].signal, SIGSEGV);
    journal_left_release(&left);
}

/* --- files of others ----------------------------------------------------------------- */

Test(journal, a_damaged_or_foreign_file_counts_as_empty)
{
    char good[FILE_MAX];
    struct journal_left left;
    struct journal *journal = opened(1, &left);
    for (int i = 0; i <= RECORDS; i++)
        enter(journal, 100, 1);
    size_t n = read_file(good, sizeof(good));
    journal_close(journal);
    cr_assert_eq(n, 3 * PAGE);

    const struct {
        const char *what;
        size_t at, length;
        char byte;
        int count;
    } rows[] = {
        {"as it was", 0, n, 'E', RECORDS + 1},
        {"another magic", 0, n, 'X', 0},
        {"another version", 8, n, 9, 0},
        {"no size of a page", 12, n, 1, 0},
        {"pages of half the size", 13, n, 8, 0},
        {"pages of a gigabyte", 15, n, 64, 0},
        {"cut short", 0, n - 1, 'E', RECORDS},
        {"only a header", 0, PAGE, 'E', 0},
        {"only a start", 0, 10, 'E', 0},
        {"flags unknown", PAGE + 40, n, 9, RECORDS},
        {"attempt 0", PAGE + 36, n, 0, RECORDS},
        {"a negative id", PAGE + 7, n, -1, RECORDS},
        {"a negative group", PAGE + 47, n, -1, RECORDS},
        {"no such signal", PAGE + 33, n, 1, RECORDS},
        {"a cgroup of somebody else", 64, n, '/', RECORDS + 1},
    };
    close(2);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char bytes[FILE_MAX];
        memcpy(bytes, good, n);
        bytes[rows[i].at] = rows[i].byte;
        write_file(bytes, rows[i].length);
        left = reopened();
        cr_expect_eq(left.count, rows[i].count, "%s: %d", rows[i].what, left.count);
        journal_left_release(&left);
    }
    write_file("", 0);
    left = reopened();
    cr_expect_eq(left.count, 0);
    journal_left_release(&left);
}

static void open_what_is_in_use(const char *unused)
{
    struct journal *journal;
    struct journal_left left;
    (void)unused;
    enum err err = journal_open(path, 1, &journal, &left, NULL);
    _exit(err == ERR_BUSY && !journal && !left.entries ? 33 : 1);
}

Test(journal, one_in_use_is_refused_and_left_alone)
{
    struct journal_left left;
    struct journal *journal = opened(1, &left);
    enter(journal, 100, 1);
    cr_expect_eq(WEXITSTATUS(in_a_process(open_what_is_in_use, "")), 33);
    journal_close(journal);
    left = reopened();
    cr_expect_eq(left.count, 1);
    journal_left_release(&left);
}

static void die_but_leave_a_fork(const char *unused)
{
    struct journal_left left;
    struct journal *journal = opened(1, &left);
    (void)unused;
    enter(journal, 100, 1);
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
    struct journal_left left = reopened();
    cr_expect_eq(left.count, 1);
    journal_left_release(&left);
    kill(pid_in("pid"), SIGKILL);
}

Test(journal, a_folder_that_is_not_there_is_an_error)
{
    struct journal *journal;
    struct journal_left left;
    struct reason why;
    close(2);
    cr_expect_eq(journal_open("/no/such/folder/slots", 1, &journal, &left, &why), ERR_IO);
    cr_expect(strstr(why.text, "No such file"));
}

Test(journal, in_memory_nothing_is_left)
{
    struct journal *journal;
    struct journal_left left;
    cr_assert_eq(journal_open(NULL, 2, &journal, &left, NULL), OK);
    cr_expect_eq(left.count, 0);
    for (int i = 1; i <= 3 * RECORDS; i++) {
        struct journal_record *record = enter(journal, i, 1);
        journal_child(record, 12345);
        if (i % 2)
            journal_leave(record);
    }
    journal_close(journal);
    journal_close(NULL);
}

/* --- survivors --------------------------------------------------------------------- */

#define WRITE_PID(name, pid) "echo " pid " >" name ".new; mv " name ".new " name "; "

static char pid_path[128];

static bool is_written(const char *name)
{
    snprintf(pid_path, sizeof(pid_path), "%s/%s", folder, name);
    return eventually(file_exists, pid_path);
}

static pid_t pid_in(const char *name)
{
    int pid = 0;
    cr_assert(is_written(name), "%s was not written", name);
    FILE *file = fopen(pid_path, "r");
    cr_assert_eq(fscanf(file, "%d", &pid), 1);
    fclose(file);
    return pid;
}

static bool in_a_cgroup;

/* A server that dies by SIGKILL while its command has a child: the command dies
 * with it, the grandchild survives. */
static void serve_and_die(const char *script)
{
    struct journal_left left;
    struct journal *journal = opened(1, &left);
    struct cgroup *cgroup = in_a_cgroup ? cgroup_enter() : NULL;
    if (in_a_cgroup && !cgroup)
        return;
    if (cgroup)
        journal_set_cgroup(journal, cgroup_path(cgroup));
    char *text = strdup(script);
    struct command_task command = {.program.run = (char *[]){"/bin/sh", "-c", text, NULL}, .program.cwd = folder};
    struct task task = {.name = "t", .kind = &command_kind, .definition = &command};
    struct thread minder = {journal, 0, &task};
    pthread_t thread;
    pthread_create(&thread, NULL, thread_body, &minder);
    if (is_written("ready"))
        kill(getpid(), SIGKILL);
}

static void serve_in_a_cgroup_and_die(const char *script)
{
    in_a_cgroup = true;
    serve_and_die(script);
}

#define GRANDCHILD "sleep 60 & " WRITE_PID("child", "$!") WRITE_PID("ready", "$$") "wait"

Test(journal, survivors_of_a_command_are_killed_before_anything_else)
{
    int status = in_a_process(serve_and_die, GRANDCHILD);
    cr_assert_eq(WTERMSIG(status), SIGKILL);
    pid_t child = pid_in("child"), shell = pid_in("ready");
    cr_expect(eventually(process_is_gone, &shell)); /* with its parent */
    cr_expect_not(process_is_gone(&child));
    struct journal_left left = reopened();
    cr_expect(process_is_gone(&child)); /* before it was opened, not after */
    cr_expect_eq(left.count, 1);
    journal_left_release(&left);
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

/* Wherever cgroups are mounted here. */
static bool cgroup_is_gone(const void *cgroup)
{
    static const char *const mounts[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
    for (int i = 0; i < 2; i++) {
        char name[FILE_MAX];
        snprintf(name, sizeof(name), "%s%s", mounts[i], (const char *)cgroup);
        if (file_exists(name))
            return false;
    }
    return true;
}

Test(journal, one_in_the_group_without_its_id_is_spared)
{
    int status = in_a_process(serve_and_die, "env -u ERRAND_ID sleep 60 & " WRITE_PID("child", "$!")
                                                 WRITE_PID("ready", "$$") "wait");
    cr_assert_eq(WTERMSIG(status), SIGKILL);
    pid_t child = pid_in("child");
    cr_assert(eventually(is_sleep, &child)); /* and `env` no more */
    struct journal_left left = reopened();
    journal_left_release(&left);
    cr_expect_not(process_is_gone(&child));
    kill(child, SIGKILL);
}

/* With neither its id nor its group it lived on beside its second attempt. */
Test(journal, one_without_an_id_in_the_servers_cgroup_is_killed_and_the_cgroup_removed)
{
    int status = in_a_process(serve_in_a_cgroup_and_die, "setsid env -i A=1 sleep 60 & " WRITE_PID("child", "$!")
                                                             WRITE_PID("ready", "$$") "wait");
    if (WIFEXITED(status))
        cr_skip_test("no cgroup can be made here");
    pid_t child = pid_in("child");
    char bytes[FILE_MAX];
    cr_assert(eventually(is_sleep, &child));
    read_file(bytes, sizeof(bytes));
    const char *cgroup = bytes + 64;
    cr_expect(cgroup_has(cgroup, child), "%s", cgroup);
    struct journal_left left = reopened();
    journal_left_release(&left);
    cr_expect(process_is_gone(&child));
    kill(child, SIGKILL);
    cr_expect(eventually(cgroup_is_gone, cgroup), "%s", cgroup);
}

/* A path that no server has written could name anybody's. */
Test(journal, a_cgroup_that_is_none_of_ours_is_left_alone)
{
    struct cgroup *cgroup = cgroup_enter();
    if (!cgroup)
        cr_skip_test("no cgroup can be made here");
    char path_of_it[CGROUP_PATH_BYTES], other[2 * CGROUP_PATH_BYTES];
    strcpy(path_of_it, cgroup_path(cgroup));
    pid_t child = fork();
    if (child == 0) {
        pause();
        _exit(0);
    }
    cgroup_leave(cgroup); /* and it stays, with the child in it */
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);

    snprintf(other, sizeof(other), "%s/..%s", path_of_it, strrchr(path_of_it, '/'));
    struct journal_left left;
    struct journal *journal = opened(1, &left);
    journal_set_cgroup(journal, other);
    enter(journal, 100, 1);
    journal_close(journal);
    left = reopened();
    cr_expect_eq(left.count, 1);
    journal_left_release(&left);
    cr_expect_not(cgroup_is_gone(path_of_it));
    cgroup_remove(path_of_it);
}

Test(journal, survivors_of_another_boot_are_not_looked_for)
{
    int status = in_a_process(serve_and_die, GRANDCHILD);
    cr_assert_eq(WTERMSIG(status), SIGKILL);
    pid_t child = pid_in("child");
    char bytes[FILE_MAX];
    size_t n = read_file(bytes, sizeof(bytes));
    bytes[16] = bytes[16] == '0' ? '1' : '0'; /* of the boot id */
    write_file(bytes, n);
    struct journal_left left = reopened();
    cr_expect_eq(left.count, 1);
    cr_expect_not(process_is_gone(&child));
    kill(child, SIGKILL);
    journal_left_release(&left);
}

/* --- what an older server left -------------------------------------------------------- */

/* A file of version 1: a header of 64 bytes, then a record of 64 a slot. */
struct old_file {
    char bytes[64 + 4 * 64];
    size_t size;
};

static void put(struct old_file *file, size_t at, const void *value, size_t n)
{
    memcpy(file->bytes + at, value, n);
}

static struct old_file old_file(int32_t slots)
{
    struct old_file file = {.size = 64 + (size_t)slots * 64};
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    put(&file, 0, "ERRNDJNL", 8);
    put(&file, 8, &(int32_t){1}, 4);
    put(&file, 12, &slots, 4);
    cr_assert_eq(read(fd, file.bytes + 16, 36), 36);
    close(fd);
    return file;
}

static void put_slot(struct old_file *file, int slot, int64_t id, int32_t attempt, int32_t flags, int64_t lease)
{
    size_t at = 64 + (size_t)slot * 64;
    put(file, at, &id, 8);
    put(file, at + 8, &attempt, 4);
    put(file, at + 12, &flags, 4);
    put(file, at + 32, &lease, 8);
}

Test(journal, what_a_server_of_version_1_left_is_read)
{
    struct old_file file = old_file(4);
    put_slot(&file, 0, 100, 1, 0, 77);
    put_slot(&file, 2, 102, 3, 1 /* marked */, 0 /* from before there were leases */);
    put_slot(&file, 3, 103, 2, 2 /* alone */, -5);
    write_file(file.bytes, file.size);
    struct journal_left left = reopened();
    cr_assert_eq(left.count, 3);
    const struct journal_entry *entries = left.entries;
    cr_expect(entries[0].id == 100 && entries[0].lease == 77 && entries[0].attempt == 1 && !entries[0].marked);
    cr_expect(entries[1].id == 102 && entries[1].lease == 0 && entries[1].attempt == 3 && entries[1].marked &&
              entries[1].signal == -1);
    cr_expect(entries[2].id == 103 && !entries[2].marked && entries[2].started_at == 0);
    journal_left_release(&left);
    left = reopened();
    cr_expect_eq(left.count, 0);
    journal_left_release(&left);
}

Test(journal, what_is_damaged_in_version_1_is_left_out)
{
    static const struct {
        const char *what;
        size_t at;
        char byte;
        int longer, count;
    } rows[] = {
        {"as it was", 64, 100, 0, 2},
        {"one slot fewer", 12, 1, 0, 0},
        {"too many slots", 15, 1, 0, 0},
        {"cut short", 64, 100, -1, 0},
        {"too long", 64, 100, 1, 0},
        {"flags unknown", 64 + 12, 9, 0, 1},
        {"a negative group", 64 + 27, -1, 0, 1},
    };
    close(2);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct old_file file = old_file(2);
        put_slot(&file, 0, 100, 1, 0, 77);
        put_slot(&file, 1, 101, 1, 0, 78);
        file.bytes[rows[i].at] = rows[i].byte;
        write_file(file.bytes, file.size + (size_t)rows[i].longer);
        struct journal_left left = reopened();
        cr_expect_eq(left.count, rows[i].count, "%s: %d", rows[i].what, left.count);
        journal_left_release(&left);
    }
}

Test(journal, survivors_of_a_server_of_version_1_are_killed)
{
    char bytes[FILE_MAX];
    cr_assert_eq(WTERMSIG(in_a_process(serve_and_die, GRANDCHILD)), SIGKILL);
    pid_t child = pid_in("child");
    read_file(bytes, sizeof(bytes));
    struct old_file file = old_file(1);
    put_slot(&file, 0, number_at(bytes, PAGE), 1, 0, 77);
    put(&file, 64 + 16, bytes + PAGE + 48, 8); /* since when */
    put(&file, 64 + 24, bytes + PAGE + 44, 4); /* the group */
    write_file(file.bytes, file.size);
    struct journal_left left = reopened();
    cr_expect_eq(left.count, 1);
    cr_expect(process_is_gone(&child));
    journal_left_release(&left);
}

/* --- ends ------------------------------------------------------------------------------- */

/* The records were unmapped under the threads that were left behind: one that
 * came back before the process had ended brought it down. */
Test(journal, threads_that_are_left_behind_may_still_write_and_leave_nothing)
{
    struct journal_left left;
    struct journal *journal = opened(2, &left);
    struct journal_record *first = enter(journal, 7, 1), *second = enter(journal, 8, 1);
    journal_abandon(journal);
    journal_child(second, 4711);
    journal_leave(first);
    left = reopened();
    cr_expect_eq(left.count, 0);
    journal_left_release(&left);
    journal_close(journal);
}

Test(journal, a_finished_command_leaves_no_group_behind)
{
    struct journal_left left;
    struct journal *journal = opened(1, &left);
    struct command_task command = {.program.run = (char *[]){"/bin/true", NULL}, .program.cwd = folder};
    struct task task = {.name = "t", .kind = &command_kind, .definition = &command};
    struct run r;
    run_init(&r, &task, "{}");
    r.attempt.record = enter(journal, r.attempt.id, 1);
    run(&r);
    char bytes[FILE_MAX];
    int32_t group;
    read_file(bytes, sizeof(bytes));
    memcpy(&group, bytes + PAGE + 44, sizeof(group));
    cr_expect_eq(group, 0);
    cr_expect(number_at(bytes, PAGE + 48) != 0, "it had a group");
    journal_leave(r.attempt.record);
    run_release(&r);
    journal_close(journal);
}
