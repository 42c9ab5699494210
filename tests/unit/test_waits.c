#include "server/http/topics.h"

#include <criterion/criterion.h>
#include <stdlib.h>

/* Waking needs the loop: tests/e2e/test_streams.c has that. */

static struct request *request(int n)
{
    static char requests[8];
    return (struct request *)&requests[n]; /* only compared */
}

Test(waits, who_was_taken_off_is_not_there_any_more)
{
    struct waits *waits = waits_new();
    waits_add(waits, request(1), 7, false);
    waits_add(waits, request(2), 7, true);
    waits_add(waits, request(1), 8, false);
    cr_expect(waits_remove(waits, request(1), 7));
    cr_expect_not(waits_remove(waits, request(1), 7));
    cr_expect_not(waits_remove(waits, request(3), 7));
    cr_expect(waits_remove(waits, request(2), 7));
    cr_expect(waits_remove(waits, request(1), 8));
    cr_expect_not(waits_remove(waits, request(1), 9));
    waits_free(waits);
    waits_free(NULL);
}

Test(waits, changes_that_do_not_concern_it_leave_it_there)
{
    static const struct change changes[] = {
        {.id = 6, .from = STATUS_RUNNING, .to = STATUS_SUCCEEDED},
        {.id = 7, .from = STATUS_QUEUED, .to = STATUS_RUNNING},
        {.id = 7, .from = STATUS_RUNNING, .to = STATUS_RUNNING},
        {.id = 0},
    };
    struct waits *waits = waits_new();
    waits_changed(waits, changes, 4);
    waits_add(waits, request(1), 7, false);
    waits_changed(waits, changes, 4);
    cr_expect(waits_remove(waits, request(1), 7));
    waits_free(waits);
}
