/* A module that misbehaves as its variables say: when it is loaded (GUEST), or in a body. */
#include "errand_task.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

errand_task_fn closes_all, writes_on_the_socket, exits, moves, signals_its_group, returns_twice, asks_twice, fine;

static int is(const char *word)
{
    const char *guest = getenv("GUEST");
    return guest && strcmp(guest, word) == 0;
}

__attribute__((constructor)) static void loaded(void)
{
    if (is("crashes"))
        raise(SIGSEGV);
    if (is("exits"))
        exit(0);
    if (is("prints"))
        fprintf(stderr, "here I am\nand here\n");
    if (is("closes"))
        closefrom(0);
    if (is("leaves a child") && fork() == 0) {
        sleep(30);
        _exit(0);
    }
}

void fine(struct errand_call *call)
{
    errand_result(call, "1", 1);
}

void closes_all(struct errand_call *call)
{
    closefrom(0);
    errand_result(call, "1", 1);
}

void writes_on_the_socket(struct errand_call *call)
{
    for (int fd = 3; fd < 20; fd++)
        if (write(fd, "hello there\n", 12) < 0)
            continue;
    sleep(1);
    errand_result(call, "1", 1);
}

void exits(struct errand_call *call)
{
    (void)call;
    exit(0);
}

void moves(struct errand_call *call)
{
    errand_result(call, chdir("/") == 0 ? "1" : "0", 1);
}

void signals_its_group(struct errand_call *call)
{
    (void)call;
    kill(0, SIGKILL);
}

/* True: this is the process that was forked. */
static int is_copy(int *status)
{
    pid_t pid = fork();
    if (pid == 0)
        return 1;
    waitpid(pid, status, 0);
    return 0;
}

static void tell(struct errand_call *call, int status)
{
    char text[16];
    snprintf(text, sizeof(text), "%d", status);
    errand_result(call, text, strlen(text));
}

/* Its copy leaves as the body does, and there is a thread behind that. */
void returns_twice(struct errand_call *call)
{
    int status = 0;
    if (!is_copy(&status))
        tell(call, status);
}

/* Its copy asks the server, which does not know it. */
void asks_twice(struct errand_call *call)
{
    int status = 0;
    if (is_copy(&status))
        _exit(errand_message(call, "1", 1) != 0 ? 7 : 0);
    tell(call, WEXITSTATUS(status));
}
