#include "workers/queue/timers.h"

#include <criterion/criterion.h>

/* Two on the wall clock, one on the other; none due. */
static struct timers made(void)
{
    struct timers timers;
    timers_init(&timers, 3, 2);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(timers_take(&timers, 0, 0), i, "each is due at the start");
        timers_done(&timers, i);
    }
    cr_assert_eq(timers_take(&timers, INT64_MAX - 1, INT64_MAX - 1), TIMER_NEVER);
    return timers;
}

Test(timers, the_sooner_counts_and_only_that_is_news)
{
    struct timers timers = made();
    cr_expect(timers_set(&timers, 0, 100));
    cr_expect_not(timers_set(&timers, 0, 100));
    cr_expect_not(timers_set(&timers, 0, 200));
    cr_expect(timers_set(&timers, 0, 50));
    cr_expect_eq(timers_take(&timers, 49, 1000), TIMER_NEVER);
    cr_expect_eq(timers_take(&timers, 50, 0), 0);
    timers_done(&timers, 0);
    cr_expect_eq(timers_take(&timers, 1000, 1000), TIMER_NEVER);
}

Test(timers, each_is_due_by_its_own_clock)
{
    struct timers timers = made();
    int64_t wall, mono;
    timers_set(&timers, 1, 70);
    timers_set(&timers, 2, 30);
    timers_next(&timers, &wall, &mono);
    cr_expect_eq(wall, 70);
    cr_expect_eq(mono, 30);
    cr_expect_eq(timers_take(&timers, 69, 29), TIMER_NEVER);
    cr_expect_eq(timers_take(&timers, 0, 30), 2);
    cr_expect_eq(timers_take(&timers, 70, 0), 1);
}

Test(timers, one_that_is_under_way_is_not_begun_again_but_remembered)
{
    struct timers timers = made();
    int64_t wall, mono;
    timers_set(&timers, 0, 10);
    cr_expect_eq(timers_take(&timers, 10, 0), 0);
    cr_expect(timers_set(&timers, 0, 5));
    cr_expect_eq(timers_take(&timers, 10, 0), TIMER_NEVER);
    timers_next(&timers, &wall, &mono);
    cr_expect_eq(wall, INT64_MAX);
    timers_done(&timers, 0);
    timers_next(&timers, &wall, &mono);
    cr_expect_eq(wall, 5);
    cr_expect_eq(timers_take(&timers, 10, 0), 0);
}
