#include "tests/unit/attempts.h"
#include "workers/cgroup.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

TestSuite(cgroup, .timeout = 30);

static struct cgroup *entered(void)
{
    struct cgroup *cgroup = cgroup_enter();
    if (!cgroup)
        cr_skip_test("no cgroup can be made here");
    return cgroup;
}

/* What the kernel says of a thread of this process. */
static char *path_of_thread(pid_t thread)
{
    static char line[CGROUP_PATH_BYTES + 16];
    char file[64];
    bool found = false;
    snprintf(file, sizeof file, "/proc/self/task/%d/cgroup", (int)thread);
    FILE *lines = fopen(file, "r");
    while (lines && !found && fgets(line, sizeof line, lines))
        found = strncmp(line, "0::", 3) == 0;
    if (lines)
        fclose(lines);
    cr_assert(found, "%s", file);
    line[strcspn(line, "\n")] = '\0';
    return line + 3;
}

struct idle {
    pthread_t thread;
    pid_t id;
    pthread_barrier_t there, end;
};

static void *idle_main(void *arg)
{
    struct idle *idle = arg;
    idle->id = gettid();
    pthread_barrier_wait(&idle->there);
    pthread_barrier_wait(&idle->end);
    return NULL;
}

static void idle_start(struct idle *idle)
{
    pthread_barrier_init(&idle->there, NULL, 2);
    pthread_barrier_init(&idle->end, NULL, 2);
    cr_assert_eq(pthread_create(&idle->thread, NULL, idle_main, idle), 0);
    pthread_barrier_wait(&idle->there);
}

static void idle_end(struct idle *idle)
{
    pthread_barrier_wait(&idle->end);
    pthread_join(idle->thread, NULL);
}

Test(cgroup, all_threads_enter_and_leave)
{
    struct idle before, after;
    char *home = strdup(path_of_thread(getpid()));
    idle_start(&before);
    struct cgroup *cgroup = entered();
    idle_start(&after);
    char *path = strdup(cgroup_path(cgroup));
    cr_expect(cgroup_is_path(path), "%s", path);
    cr_expect(cgroup_has(path, getpid()));
    cr_expect_not(cgroup_has(path, getppid()));
    cr_expect_str_eq(path_of_thread(getpid()), path);
    cr_expect_str_eq(path_of_thread(before.id), path);
    cr_expect_str_eq(path_of_thread(after.id), path);
    cgroup_leave(cgroup);
    cr_expect_str_eq(path_of_thread(before.id), home);
    cr_expect_str_eq(path_of_thread(after.id), home);
    idle_end(&before);
    idle_end(&after);
    cgroup_leave(NULL);
    free(path);
    free(home);
}

Test(cgroup, a_service_of_systemd_has_one)
{
    char pid[16];
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    setenv("SYSTEMD_EXEC_PID", pid, 1);
    cr_expect_null(cgroup_enter());
    snprintf(pid, sizeof pid, "%d", (int)getppid()); /* of the one that started this one */
    setenv("SYSTEMD_EXEC_PID", pid, 1);
    cgroup_leave(entered());
}

/* Where the cgroup of that name is, beside those that are made here. */
static char *folder_beside(const char *name)
{
    static const char *const mounts[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
    static char folder[CGROUP_PATH_BYTES];
    for (int i = 0; i < 2; i++) {
        snprintf(folder, sizeof folder, "%s%s/cgroup.procs", mounts[i], path_of_thread(getpid()));
        if (!file_exists(folder))
            continue;
        snprintf(folder, sizeof folder, "%s%s/%s", mounts[i], path_of_thread(getpid()), name);
        return folder;
    }
    cr_skip_test("cgroups are mounted elsewhere here");
}

Test(cgroup, what_servers_that_are_gone_have_left_is_removed)
{
    pid_t gone = fork();
    if (gone == 0)
        _exit(0);
    waitpid(gone, NULL, 0);
    const struct {
        const char *format;
        pid_t maker;
        bool stays;
    } rows[] = {
        {"errand-%d-0123456789abcdef", gone, false},
        {"errand-%d-0123456789abcdef", getpid(), false}, /* of an earlier one with its pid */
        {"errand-%d-0123456789abcdef", getppid(), true},
        {"errand-%d-0123456789abcdeg", gone, true},
        {"errand-%d", gone, true},
        {"another-%d-0123456789abcdef", gone, true},
    };
    cgroup_leave(entered());
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char name[64];
        snprintf(name, sizeof name, rows[i].format, (int)rows[i].maker);
        char *folder = folder_beside(name);
        cr_assert_eq(mkdir(folder, 0755), 0, "%s", folder);
        cgroup_leave(cgroup_enter());
        cr_expect_eq(file_exists(folder), rows[i].stays, "%s", folder);
        rmdir(folder);
    }
}

Test(cgroup, a_path_of_ours_is_told_from_others)
{
    static const struct {
        const char *path;
        bool ours;
    } rows[] = {
        {"/errand-1-0123456789abcdef", true},
        {"/a/b.slice/errand-12-0123456789abcdef", true},
        {"", false},
        {"/", false},
        {"errand-1-0123456789abcdef", false},
        {"/errand-1-0123456789abcdef/", false},
        {"/errand-1-0123456789abcdef/a", false},
        {"/errand-1-0123456789abcdef0", false},
        {"/errand-1-", false},
        {"/errand-0-0123456789abcdef", false},
        {"/errand--1-0123456789abcdef", false},
        {"/a/../errand-1-0123456789abcdef", false},
        {"/../errand-1-0123456789abcdef", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        cr_expect_eq(cgroup_is_path(rows[i].path), rows[i].ours, "%s", rows[i].path);
    char endless[CGROUP_PATH_BYTES];
    memset(endless, 'a', sizeof endless);
    memcpy(endless, "/", 1);
    cr_expect_not(cgroup_is_path(endless));
}
