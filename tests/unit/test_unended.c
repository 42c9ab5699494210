#include "server/resources/unended.h"

#include <criterion/criterion.h>

static void add(struct unended *u, int64_t id, int64_t last_child)
{
    unended_add(u, (struct unended_item){.id = id, .last_child = last_child});
}

Test(unended, each_is_there_once_in_the_order_of_the_ids)
{
    static const int64_t ids[] = {5, 9, 1, 5, 7, 1, 9}, sorted[] = {1, 5, 7, 9};
    struct unended u = {0};
    for (int i = 0; i < 7; i++)
        add(&u, ids[i], 0);
    cr_assert_eq(u.count, 4);
    for (int i = 0; i < 4; i++)
        cr_expect_eq(u.items[i].id, sorted[i]);
    unended_release(&u);
}

Test(unended, what_is_added_behind_a_pass_is_met_by_it_and_nothing_twice)
{
    struct unended u = {0};
    add(&u, 5, 0);
    add(&u, 8, 0);
    u.at = 1; /* 5 was looked at */
    add(&u, 3, 0);
    add(&u, 6, 0);
    cr_assert_eq(u.items[u.at].id, 6);
    u.at = u.count;
    unended_end_pass(&u);
    cr_expect_eq(u.count, 4);
    cr_expect_eq(u.at, 0);
    unended_release(&u);
}

Test(unended, one_that_was_removed_may_come_again)
{
    struct unended u = {0};
    add(&u, 5, 3);
    add(&u, 6, 0);
    add(&u, 5, 9);
    cr_expect_eq(u.items[0].last_child, 3, "it is there");
    unended_remove(&u, 0);
    unended_remove(&u, 1);
    add(&u, 5, 9);
    unended_end_pass(&u);
    cr_assert_eq(u.count, 1);
    cr_expect_eq(u.items[0].last_child, 9);
    unended_remove(&u, 0);
    unended_end_pass(&u);
    cr_expect_eq(u.count, 0);
    cr_expect_null(u.items, "an idle stream keeps no memory");
}

Test(unended, there_is_an_end_to_its_memory)
{
    struct unended u = {0};
    for (int64_t id = 1; id <= UNENDED_MAX + 10; id++)
        add(&u, id, 0);
    cr_expect_eq(u.count, UNENDED_MAX);
    cr_expect_not(unended_has_room(&u));
    add(&u, 7, 0);
    unended_remove(&u, 6);
    add(&u, 7, UNENDED_CHILDLESS);
    cr_expect_not(u.items[6].removed);
    unended_release(&u);
}
