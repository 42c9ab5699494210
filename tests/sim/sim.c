/* The queue's and the transition's decisions against a clock of our own and random events.
 *
 *     sim [STEPS [SEED]]      worlds of some thousand steps each, until so many steps are done
 *     sim compare [STEPS [SEED]]      the model against the real store (compare.c)
 *
 * Each world has a seed of its own, which the line that tells of a fault has: SEED= and STEPS= of
 * that line repeat the world alone. */
#include "tests/sim/compare.h"
#include "tests/sim/world.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORLD_STEPS = 4000, PROGRESS_STEPS = 20000000 };

char fault_repeat[128];

void fault(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("sim: ", stdout);
    vprintf(format, args);
    va_end(args);
    printf("\n%s\n", fault_repeat);
    fflush(stdout);
    exit(1);
}

static void add(struct tally *sum, const struct tally *tally)
{
    long *to = (long *)sum;
    const long *from = (const long *)tally;
    for (size_t i = 0; i < sizeof *sum / sizeof *to; i++)
        to[i] += from[i];
}

static long run_world(uint64_t seed, long steps, struct tally *sum)
{
    struct world world;
    world_open(&world, seed);
    world.traced = getenv("TRACE") != NULL;
    while (world.step < steps) {
        snprintf(fault_repeat, sizeof fault_repeat, "SEED=%" PRIu64 " STEPS=%ld repeats it (step %ld)", seed,
                 steps, world.step + 1);
        world_step(&world);
    }
    snprintf(fault_repeat, sizeof fault_repeat, "SEED=%" PRIu64 " STEPS=%ld repeats it (at its end)", seed, steps);
    world_end(&world);
    add(sum, &world.tally);
    world_close(&world);
    return steps;
}

static void print_tally(const struct tally *t)
{
    printf("taken %ld, refused %ld, came back %ld, refills %ld, suspects %ld, lost %ld, expired %ld\n", t->taken,
           t->refused, t->came_back, t->refills, t->suspects, t->lost, t->expired);
    printf(
        "suspended %ld, waited %ld, gave way %ld, handed over %ld, crashes %ld, failed commits %ld, reloads %ld, "
        "by another server %ld, circles %ld\n",
        t->suspended, t->waited, t->gave_way, t->handed_over, t->crashes, t->failed_commits, t->reloads, t->others,
        t->circles);
}

/* What never happens is not tested. */
static void check_tally(const struct tally *tally, long steps)
{
    const long *counts = (const long *)tally;
    for (size_t i = 0; i < offsetof(struct tally, circles) / sizeof *counts; i++)
        if (!counts[i] && steps >= 1000000)
            fault("number %zu of the tally never happened", i);
}

static int simulate(long steps, uint64_t seed)
{
    struct tally sum = {0};
    long done = 0, said = 0;
    for (uint64_t k = 0; done < steps; k++) {
        long left = steps - done;
        done += run_world(seed + k, left < WORLD_STEPS ? left : WORLD_STEPS, &sum);
        if (done - said >= PROGRESS_STEPS) {
            said = done;
            printf("%ld steps\n", done);
            fflush(stdout);
        }
    }
    print_tally(&sum);
    check_tally(&sum, steps);
    printf("%ld steps from seed %" PRIu64 "\n", done, seed);
    return 0;
}

int main(int argc, char **argv)
{
    bool compares = argc > 1 && strcmp(argv[1], "compare") == 0;
    argc -= compares;
    argv += compares;
    long steps = argc > 1 ? strtol(argv[1], NULL, 10) : compares ? 4000 : 1000000;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    return compares ? compare(steps, seed) : simulate(steps, seed);
}
