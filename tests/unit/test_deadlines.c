#include "base/deadlines.h"

#include <criterion/criterion.h>

enum { MANY = 500 };

Test(deadlines, the_earliest_is_first)
{
    struct deadlines deadlines = {0};
    static struct deadline all[MANY];
    cr_expect_null(deadlines_first(&deadlines));
    for (int i = 0; i < MANY; i++)
        deadlines_add(&deadlines, &all[i], (i * 7919) % MANY);
    for (int64_t due = 0; due < MANY; due++) {
        struct deadline *first = deadlines_first(&deadlines);
        cr_assert_eq(first->at_us, due);
        deadlines_remove(&deadlines, first);
        cr_expect_eq(first->place, 0);
    }
    cr_expect_null(deadlines_first(&deadlines));
    deadlines_release(&deadlines);
}

Test(deadlines, any_of_them_may_leave_and_the_others_stay_in_order)
{
    struct deadlines deadlines = {0};
    static struct deadline all[MANY];
    for (int i = 0; i < MANY; i++)
        deadlines_add(&deadlines, &all[i], (i * 7919) % MANY);
    for (int i = 0; i < MANY; i++)
        if (all[i].at_us % 3)
            deadlines_remove(&deadlines, &all[i]);
    deadlines_remove(&deadlines, &all[1]); /* 419: it has left already */
    for (int64_t due = 0; due < MANY; due += 3) {
        cr_assert_eq(deadlines_first(&deadlines)->at_us, due);
        deadlines_remove(&deadlines, deadlines_first(&deadlines));
    }
    cr_expect_null(deadlines_first(&deadlines));
    deadlines_release(&deadlines);
}
