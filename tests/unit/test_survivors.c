#include "base/id.h"
#include "tests/unit/attempts.h"
#include "workers/cgroup.h"
#include "workers/survivors.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

TestSuite(survivors, .timeout = 30);

enum whose { NO_ID, ITS_ID, ANOTHERS_ID };

/* Tests run side by side: each has ids of its own. */
static int64_t id_of(enum whose whose)
{
    return INT64_C(4711000000000) + (int64_t)getpid() * 4 + whose;
}

/* What a command left: `leader` leads its group. */
struct left {
    pid_t leader, process;
};

/* NULL: none. */
static char *id_variable(enum whose whose)
{
    static char text[10 + ID_TEXT_LEN + 1] = "ERRAND_ID=";
    id_format(id_of(whose), text + 10);
    return whose == NO_ID ? NULL : text;
}

enum place { IN_GROUP, IN_A_SESSION_OF_ITS_OWN };

/* A leader that ends at once unless it `stays`, and its child. */
static struct left leave(enum place place, char *variable, bool stays)
{
    int told[2];
    struct left left = {0};
    char *sleep_argv[] = {"sleep", "60", NULL};
    cr_assert_eq(pipe(told), 0);
    left.leader = fork();
    if (left.leader == 0) {
        setpgid(0, 0);
        pid_t child = fork();
        if (child == 0) {
            if (place == IN_A_SESSION_OF_ITS_OWN)
                setsid();
            execve("/bin/sleep", sleep_argv, (char *[]){variable, NULL});
            _exit(127);
        }
        if (write(told[1], &child, sizeof child) != sizeof child)
            _exit(1);
        if (stays)
            execve("/bin/sleep", sleep_argv, (char *[]){"OTHER=1", NULL});
        _exit(0);
    }
    cr_assert_eq(read(told[0], &left.process, sizeof left.process), (ssize_t)sizeof left.process);
    if (!stays)
        waitpid(left.leader, NULL, 0);
    close(told[0]);
    close(told[1]);
    return left;
}

static bool runs_sleep(const void *pid)
{
    char path[64], name[16] = {0};
    snprintf(path, sizeof path, "/proc/%d/comm", (int)*(const pid_t *)pid);
    FILE *file = fopen(path, "r");
    bool got = file && fgets(name, sizeof name, file);
    if (file)
        fclose(file);
    return got && strcmp(name, "sleep\n") == 0;
}

/* They lived on beside their second attempt. */
Test(survivors, are_known_by_their_id_or_their_group)
{
    static const struct {
        const char *name;
        enum place place;
        enum whose id; /* NO_ID: its environment is empty */
        bool leader_stays, late, dies;
    } rows[] = {
        {"in its group", IN_GROUP, ITS_ID, false, false, true},
        {"in a session of its own", IN_A_SESSION_OF_ITS_OWN, ITS_ID, false, false, true},
        {"without an environment", IN_GROUP, NO_ID, false, false, true},
        {"another's, in a session of its own", IN_A_SESSION_OF_ITS_OWN, ANOTHERS_ID, false, false, false},
        {"another's, in that group", IN_GROUP, ANOTHERS_ID, false, false, false},
        {"without an environment, in a group that somebody leads", IN_GROUP, NO_ID, true, false, false},
        {"without an environment, elsewhere", IN_A_SESSION_OF_ITS_OWN, NO_ID, false, false, false},
        {"from before", IN_A_SESSION_OF_ITS_OWN, ITS_ID, false, true, false},
    };
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* what dies is waited for here */
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t since_ms = survivors_clock_ms();
        struct left left = leave(rows[i].place, id_variable(rows[i].id), rows[i].leader_stays);
        cr_assert(eventually(runs_sleep, &left.process), "%s", rows[i].name);
        struct survivor wanted = {
            .group = left.leader, .id = id_of(ITS_ID), .since_ms = rows[i].late ? since_ms + 60000 : since_ms};
        survivors_kill(&wanted, 1, NULL);
        cr_expect_eq(process_is_gone(&left.process), rows[i].dies, "%s", rows[i].name);
        kill(left.process, SIGKILL);
        if (rows[i].leader_stays)
            kill(left.leader, SIGKILL);
        while (wait(NULL) > 0) {
        }
    }
}

enum where { OUTSIDE, INSIDE, BELOW };

/* The cgroup of a server, and one below it. */
struct cgroups {
    struct cgroup *server, *lower;
    char *server_path, *lower_path;
};

static void enter(struct cgroups *cgroups)
{
    cgroups->server = cgroup_enter();
    if (!cgroups->server)
        cr_skip_test("no cgroup can be made here");
    cgroups->server_path = strdup(cgroup_path(cgroups->server));
    cgroups->lower = cgroup_enter();
    cr_assert(cgroups->lower);
    cgroups->lower_path = strdup(cgroup_path(cgroups->lower));
}

/* To the one that is given. */
static void leave_cgroups(struct cgroups *cgroups, enum where until)
{
    if (until < BELOW) {
        cgroup_leave(cgroups->lower);
        cgroups->lower = NULL;
    }
    if (until < INSIDE) {
        cgroup_leave(cgroups->server);
        cgroups->server = NULL;
    }
}

static void remove_cgroups(struct cgroups *cgroups)
{
    leave_cgroups(cgroups, OUTSIDE);
    cgroup_remove(cgroups->lower_path);
    cgroup_remove(cgroups->server_path);
    free(cgroups->lower_path);
    free(cgroups->server_path);
}

/* They lived on beside their second attempt. */
Test(survivors, with_neither_id_nor_group_are_known_by_their_cgroup)
{
    static const struct {
        const char *name;
        enum where place, caller;
        char *variable;
        enum whose id; /* instead of that */
        bool late, other_name, dies;
    } rows[] = {
        {"without an environment", INSIDE, OUTSIDE, NULL, NO_ID, false, false, true},
        {"without an id", INSIDE, OUTSIDE, "OTHER=1", NO_ID, false, false, true},
        {"in a cgroup below", BELOW, OUTSIDE, NULL, NO_ID, false, false, true},
        {"with its id", INSIDE, OUTSIDE, NULL, ITS_ID, false, false, true},
        {"another's", INSIDE, OUTSIDE, NULL, ANOTHERS_ID, false, false, false},
        {"with an empty id", INSIDE, OUTSIDE, "ERRAND_ID=", NO_ID, false, false, false},
        {"from before", INSIDE, OUTSIDE, NULL, NO_ID, true, false, false},
        {"in no such cgroup", OUTSIDE, OUTSIDE, NULL, NO_ID, false, false, false},
        {"in a cgroup whose name begins so", INSIDE, OUTSIDE, NULL, NO_ID, false, true, false},
        {"beside the caller", INSIDE, INSIDE, NULL, NO_ID, false, false, false},
    };
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* what dies is waited for here */
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct cgroups cgroups;
        enter(&cgroups);
        leave_cgroups(&cgroups, rows[i].place);
        int64_t since_ms = survivors_clock_ms() + (rows[i].late ? 60000 : 0);
        char *variable = rows[i].id ? id_variable(rows[i].id) : rows[i].variable;
        struct left left = leave(IN_A_SESSION_OF_ITS_OWN, variable, false);
        cr_assert(eventually(runs_sleep, &left.process), "%s", rows[i].name);
        leave_cgroups(&cgroups, rows[i].caller);
        char *path = strdup(cgroups.server_path);
        if (rows[i].other_name)
            path[strlen(path) - 1] = '\0';
        survivors_kill(&(struct survivor){left.leader, id_of(ITS_ID), since_ms}, 1, path);
        cr_expect_eq(process_is_gone(&left.process), rows[i].dies, "%s", rows[i].name);
        kill(left.process, SIGKILL);
        while (wait(NULL) > 0) {
        }
        remove_cgroups(&cgroups);
        free(path);
    }
}
