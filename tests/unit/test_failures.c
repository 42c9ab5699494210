#include "workers/failures.h"

#include <criterion/criterion.h>

Test(failures, are_logged_a_few_times_a_while_and_then_counted)
{
    struct failures f = {0};
    int left_out = -1;
    int64_t now = 1000;
    for (int i = 0; i < FAILURES_MAX; i++) {
        cr_expect(failures_may_log(&f, 7, now + i, &left_out));
        cr_expect_eq(left_out, 0);
    }
    cr_expect_not(failures_may_log(&f, 7, now + 20, &left_out));
    cr_expect_not(failures_may_log(&f, 7, now + FAILURES_EVERY_US - 1, &left_out));
    cr_expect(failures_may_log(&f, 700, now, &left_out), "another task has its own lines");
    cr_expect_eq(left_out, 0);
    cr_expect(failures_may_log(&f, 7, now + FAILURES_EVERY_US, &left_out));
    cr_expect_eq(left_out, 2);
    cr_expect(failures_may_log(&f, 7, now + FAILURES_EVERY_US + 1, &left_out));
    cr_expect_eq(left_out, 0);
    failures_release(&f);
}
