/* The ceiling of command tasks: posix_spawn and waitpid, again and again.
 *
 *     ceiling_spawn THREADS SECONDS PROGRAM     prints how many a second */
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { THREADS_MAX = 64 };

static char *command[2];
static double seconds;

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec * 1e-9;
}

static void *spawn(void *arg)
{
    double *rate = arg, began = now(), passed;
    long count = 0;
    do {
        pid_t child;
        int status;
        if (posix_spawn(&child, command[0], NULL, NULL, command, environ) != 0 ||
            waitpid(child, &status, 0) != child || status != 0) {
            fprintf(stderr, "%s did not run\n", command[0]);
            exit(1);
        }
        count++;
        passed = now() - began;
    } while (passed < seconds);
    *rate = (double)count / passed;
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[THREADS_MAX];
    double rates[THREADS_MAX], sum = 0;
    int count = argc == 4 ? atoi(argv[1]) : 0;
    if (count < 1 || count > THREADS_MAX)
        return 2;
    seconds = atof(argv[2]);
    command[0] = argv[3];
    for (int i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, spawn, &rates[i]) != 0)
            return 1;
    for (int i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
        sum += rates[i];
    }
    printf("%.1f\n", sum);
    return 0;
}
