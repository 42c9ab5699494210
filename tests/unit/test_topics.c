#include "server/http/topics.h"

#include <criterion/criterion.h>
#include <stdlib.h>

/* Waking needs the loop: tests/e2e/test_streams.c has that. */

static struct request *request(int n)
{
    static char requests[8];
    return (struct request *)&requests[n]; /* only compared */
}

static struct topic any_change(int64_t id)
{
    return (struct topic){TOPIC_INVOCATION, id};
}

static struct topic its_end(int64_t id)
{
    return (struct topic){TOPIC_INVOCATION_FINAL, id};
}

Test(topics, who_has_left_does_not_listen_any_more)
{
    struct topics *topics = topics_new();
    struct listener first = {0}, second = {0}, other = {0}, never = {0};
    topics_listen(topics, &first, request(1), its_end(7));
    topics_listen(topics, &second, request(2), its_end(7));
    topics_listen(topics, &other, request(1), any_change(8));
    cr_expect(topics_awaited(topics));
    cr_expect(topics_leave(&first));
    cr_expect_not(topics_leave(&first));
    cr_expect_not(topics_leave(&never));
    cr_expect(topics_leave(&second));
    cr_expect(topics_leave(&other));
    cr_expect_not(topics_awaited(topics));
    topics_free(topics);
    topics_free(NULL);
}

Test(topics, what_is_announced_of_others_leaves_it_there)
{
    const struct topic others[] = {its_end(6), any_change(7), any_change(6), its_end(0)};
    struct topics *topics = topics_new();
    struct listener listener = {0};
    topics_announce(topics, others, 4);
    topics_listen(topics, &listener, request(1), its_end(7));
    topics_announce(topics, others, 4);
    cr_expect(topics_leave(&listener));
    topics_listen(topics, &listener, request(1), any_change(8));
    topics_announce(topics, others, 4);
    cr_expect(topics_leave(&listener));
    topics_free(topics);
}
