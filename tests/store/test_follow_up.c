/* What follows a change without a bound is done in steps, and goes on after a
 * crash. */
#include "base/clock.h"
#include "store/follow_up.h"
#include "tests/store/support.h"

#include <stdlib.h>

/* A finished invocation with `pieces` of output, `bytes` each. */
static int64_t chatty(struct fixture *f, int pieces, size_t bytes)
{
    int64_t id = submit(f);
    struct waited w;
    struct log_chunk *chunks = xcalloc((size_t)pieces, sizeof *chunks);
    char *text = xcalloc(1, bytes);
    for (int i = 0; i < pieces; i++)
        chunks[i] = (struct log_chunk){1, {text, bytes}};
    started(&w, f, id, 1);
    struct op_log log = log_of(&w, 0, chunks, pieces);
    IS_OK(store_do(f->store, &log.turn.op));
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
    free(chunks);
    free(text);
    return id;
}

static int64_t logs_of(struct fixture *f, int64_t id)
{
    return askf(f, "SELECT COUNT(*) FROM logs WHERE id = %lld", (long long)id);
}

STORE_TEST(much_output_goes_in_steps_that_survive_a_crash)
{
    int64_t id = chatty(f, 1300, 1), other = chatty(f, 3, 1);
    f->change_count = 0;
    IS_OK(alter(f, ALTER_DELETE, id));
    cr_assert(f->changes[0].follow_up, "or nobody would do the rest");
    struct invocation row;
    cr_assert_eq(reader_get(f->reader, id, VIEW_BASIC, &row), ERR_NOT_FOUND);
    cr_assert_eq(logs_of(f, id), 800);
    check_counters(f);
    fixture_again(f);
    cr_assert(upkeep(f, UPKEEP_FOLLOW_UP).more);
    cr_assert_eq(logs_of(f, id), 300);
    cr_assert(!upkeep(f, UPKEEP_FOLLOW_UP).more);
    cr_assert_eq(logs_of(f, id), 0);
    cr_assert_eq(logs_of(f, other), 3);
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM follow_ups"), 0);
    f->change_count = 0;
    IS_OK(alter(f, ALTER_DELETE, other));
    cr_assert(!f->changes[0].follow_up);
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM logs"), 0);
}

/* Pruning was bounded in rows, so that a step could be gigabytes. */
STORE_TEST(a_step_is_bounded_in_bytes)
{
    int64_t id = chatty(f, 10, 1 << 20);
    IS_OK(alter(f, ALTER_DELETE, id));
    int64_t left = logs_of(f, id);
    cr_assert(left >= 5 && left < 10, "%lld of 10 are left", (long long)left);
    int steps = 0;
    while (upkeep(f, UPKEEP_FOLLOW_UP).more)
        cr_assert_lt(++steps, 10);
    cr_assert_eq(logs_of(f, id), 0);
}

STORE_TEST(pruning_many_leaves_the_rest_to_follow)
{
    enum { COUNT = 8 };
    for (int i = 0; i < COUNT; i++)
        chatty(f, 200, 1);
    store_set_retain_max(f->store, 1);
    for (int i = 0; upkeep(f, UPKEEP_PRUNE).more; i++)
        cr_assert_lt(i, COUNT + 1);
    check_counters(f);
    cr_assert_eq(count_of(f, f->task, STATUS_SUCCEEDED), 1);
    while (upkeep(f, UPKEEP_FOLLOW_UP).more)
        ;
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM logs"), 200);
}

STORE_TEST(many_attempts_go_in_steps_too)
{
    int64_t id = submit(f);
    for (int i = 1; i <= 600; i++) {
        struct waited w;
        waited_init(&w, f, id, i);
        w.finish.next = i < 600 ? FINISH_REQUEUE : FINISH_FINAL;
        together(f, &w.claim.turn.op, &w.finish.turn.op);
        IS_OK(wait_claimed(&w));
        IS_OK(wait_finished(&w));
    }
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM attempts"), 599);
    IS_OK(alter(f, ALTER_DELETE, id));
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM attempts"), 99);
    cr_assert(!upkeep(f, UPKEEP_FOLLOW_UP).more);
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM attempts"), 0);
}

/* A follow-up of a kind that this program does not know is thrown away. */
STORE_TEST(an_unknown_follow_up_is_not_thrown_away)
{
    exec_sql(f, "INSERT INTO follow_ups (kind, id) VALUES (99, 1)");
    upkeep(f, UPKEEP_FOLLOW_UP);
    cr_expect_eq(ask(f, "SELECT COUNT(*) FROM follow_ups"), 1);
}
