#include "base/id.h"
#include "tests/unit/attempts.h"
#include "workers/survivors.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

TestSuite(survivors, .timeout = 30);

enum { ID = 4711 };

/* What a command left: `leader` leads its group. */
struct left {
    pid_t leader, process;
};

static char *id_variable(int64_t id)
{
    static char text[10 + ID_TEXT_LEN + 1] = "ERRAND_ID=";
    id_format(id, text + 10);
    return text;
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
        int64_t id; /* 0: its environment is empty */
        bool leader_stays, late, dies;
    } rows[] = {
        {"in its group", IN_GROUP, ID, false, false, true},
        {"in a session of its own", IN_A_SESSION_OF_ITS_OWN, ID, false, false, true},
        {"without an environment", IN_GROUP, 0, false, false, true},
        {"another's, in a session of its own", IN_A_SESSION_OF_ITS_OWN, ID + 1, false, false, false},
        {"another's, in that group", IN_GROUP, ID + 1, false, false, false},
        {"without an environment, in a group that somebody leads", IN_GROUP, 0, true, false, false},
        {"without an environment, elsewhere", IN_A_SESSION_OF_ITS_OWN, 0, false, false, false},
        {"from before", IN_A_SESSION_OF_ITS_OWN, ID, false, true, false},
    };
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* what dies is waited for here */
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t since_ms = survivors_clock_ms();
        struct left left = leave(rows[i].place, rows[i].id ? id_variable(rows[i].id) : NULL, rows[i].leader_stays);
        cr_assert(eventually(runs_sleep, &left.process), "%s", rows[i].name);
        struct survivor wanted = {
            .group = left.leader, .id = ID, .since_ms = rows[i].late ? since_ms + 60000 : since_ms};
        survivors_kill(&wanted, 1);
        cr_expect_eq(process_is_gone(&left.process), rows[i].dies, "%s", rows[i].name);
        kill(left.process, SIGKILL);
        if (rows[i].leader_stays)
            kill(left.leader, SIGKILL);
        while (wait(NULL) > 0) {
        }
    }
}
