/* Steps: the first to record a name is the one who counts, over turns, attempts
 * and restarts. */
#include "store/internal.h"
#include "tests/store/support.h"

#include <stdlib.h>

/* Records, and releases what was kept; found says whether `kept` must be it. */
static void record(struct fixture *f, const struct turn *turn, const char *name, const char *value,
                   const char *kept, enum err expected)
{
    struct op_step op;
    op_step_init(&op, turn);
    op.name = span_of(name);
    op.value = span_of(value);
    cr_expect_eq(store_do(f->store, &op.turn.op), expected, "%s", name);
    cr_expect_eq(op.found, kept != NULL, "%s", name);
    if (kept)
        IS_SPAN(buf_span(&op.kept), kept);
    buf_release(&op.kept);
}

static void is_step(struct fixture *f, int64_t id, const char *name, const char *value)
{
    struct buf found = {0};
    IS_OK(reader_step(f->reader, id, span_of(name), &found));
    IS_SPAN(buf_span(&found), value);
    buf_release(&found);
}

/* As many as that, as if they had been recorded. */
static void fill(struct fixture *f, const struct turn *turn, int count, int bytes)
{
    struct buf sql = {0};
    buf_addf(
        &sql,
        "INSERT INTO steps (id, name, number, bytes, value, at) WITH RECURSIVE n (i) AS "
        "(SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d) "
        "SELECT %lld, 'n' || i, i, i * %d, hex(zeroblob(%d)), 1 FROM n; UPDATE invocations SET flags = flags | 32",
        count, (long long)turn->id, bytes / 2 * 2, bytes / 2);
    exec_sql(f, buf_cstr(&sql));
    buf_release(&sql);
}

static int64_t steps_of(struct fixture *f, int64_t id)
{
    return askf(f, "SELECT COUNT(*) FROM steps WHERE id = %lld", (long long)id);
}

STORE_TEST(the_first_to_record_a_name_counts)
{
    struct waited w, other;
    started(&w, f, submit(f), 1);
    started(&other, f, submit(f), 1);
    f->change_count = 0;
    record(f, &w.turn, "charge", "{\"n\":1.10}", NULL, OK);
    cr_expect(f->change_count == 1 && f->changes[0].id == w.turn.id && f->changes[0].to == STATUS_RUNNING);
    record(f, &w.turn, "charge", "2", "{\"n\":1.10}", OK);
    cr_expect_eq(f->change_count, 1, "nothing changed");
    record(f, &w.turn, "", "null", NULL, OK);
    record(f, &other.turn, "charge", "3", NULL, OK);
    is_step(f, w.turn.id, "charge", "{\"n\":1.10}");
    is_step(f, w.turn.id, "", "null");
    is_step(f, other.turn.id, "charge", "3");
    cr_expect_eq(reader_step(f->reader, w.turn.id, SPAN("Charge"), &(struct buf){0}), ERR_NOT_FOUND);
}

STORE_TEST(two_of_one_name_meet_in_one_batch)
{
    struct waited w;
    struct op_step first, second;
    struct parked parked[2];
    started(&w, f, submit(f), 1);
    op_step_init(&first, &w.turn);
    first.name = SPAN("a");
    first.value = SPAN("1");
    second = first;
    second.value = SPAN("2");
    park(&first.turn.op, &parked[0]);
    park(&second.turn.op, &parked[1]);
    together(f, &first.turn.op, &second.turn.op);
    wait_parked(&parked[0]);
    wait_parked(&parked[1]);
    cr_expect(first.turn.op.err == OK && !first.found);
    cr_expect(second.turn.op.err == OK && second.found);
    IS_SPAN(buf_span(&second.kept), "1");
    buf_release(&second.kept);
}

STORE_TEST(who_has_no_lease_records_nothing_and_gets_nothing)
{
    struct waited w;
    int64_t id = submit(f);
    waited_init(&w, f, id, 1);
    record(f, &w.turn, "early", "1", NULL, ERR_CONFLICT);
    started(&w, f, id, 1);
    record(f, &w.turn, "a", "1", NULL, OK);
    struct turn stale = w.turn;
    stale.lease++;
    record(f, &stale, "a", "2", NULL, ERR_CONFLICT);
    record(f, &stale, "b", "2", NULL, ERR_CONFLICT);
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
    record(f, &w.turn, "a", "2", NULL, ERR_CONFLICT);
    record(f, &w.turn, "b", "2", NULL, ERR_CONFLICT);
    cr_expect_eq(steps_of(f, id), 1);
}

STORE_TEST(a_later_attempt_gets_the_value_also_after_a_restart)
{
    struct waited w;
    int64_t id = submit(f);
    started(&w, f, id, 1);
    record(f, &w.turn, "a", "1", NULL, OK);
    IS_OK(end(&w, f, FINISH_RETRY, STATUS_FAILED));
    fixture_again(f);
    started(&w, f, id, 2);
    record(f, &w.turn, "a", "2", "1", OK);
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_FAILED));
    IS_OK(alter(f, ALTER_RETRY, id));
    started(&w, f, id, 3);
    record(f, &w.turn, "a", "3", "1", OK);
}

static void add_name(void *context, const struct step *step)
{
    struct buf *names = context;
    buf_add_span(names, step->name);
    buf_addc(names, '=');
    buf_add_span(names, step->value);
    buf_addc(names, ' ');
    cr_expect_gt(step->at, 0);
}

STORE_TEST(steps_are_read_as_they_were_recorded)
{
    struct waited w, other;
    struct buf names = {0};
    started(&w, f, submit(f), 1);
    started(&other, f, submit(f), 1);
    record(f, &w.turn, "z", "1", NULL, OK);
    record(f, &other.turn, "m", "2", NULL, OK);
    record(f, &w.turn, "a", "3", NULL, OK);
    IS_OK(reader_steps(f->reader, w.turn.id, add_name, &names));
    IS_SPAN(buf_span(&names), "z=1 a=3 ");
    buf_release(&names);
}

STORE_TEST(one_invocation_has_so_many_steps)
{
    struct waited w, other;
    started(&w, f, submit(f), 1);
    started(&other, f, submit(f), 1);
    fill(f, &w.turn, STEPS_MAX - 1, 2);
    record(f, &w.turn, "last", "1", NULL, OK);
    f->change_count = 0;
    record(f, &w.turn, "more", "1", NULL, ERR_LIMIT);
    cr_expect_eq(f->change_count, 0);
    record(f, &w.turn, "last", "2", "1", OK);
    record(f, &other.turn, "more", "1", NULL, OK);
    cr_expect_eq(steps_of(f, w.turn.id), STEPS_MAX);
}

STORE_TEST(the_values_of_one_invocation_have_so_many_bytes)
{
    enum { SOME = 1000 };
    struct waited w, other;
    char *rest = calloc(1, SOME + 1);
    memset(rest, '1', SOME);
    started(&w, f, submit(f), 1);
    started(&other, f, submit(f), 1);
    fill(f, &w.turn, 1, STEPS_BYTES_MAX - SOME);
    rest[SOME - 1] = '\0';
    record(f, &w.turn, "a", rest, NULL, OK);
    record(f, &w.turn, "b", "12", NULL, ERR_LIMIT);
    record(f, &w.turn, "b", "1", NULL, OK);
    record(f, &w.turn, "c", "1", NULL, ERR_LIMIT);
    record(f, &w.turn, "b", "2", "1", OK);
    cr_expect_eq(askf(f, "SELECT bytes FROM steps WHERE id = %lld AND name = 'b'", (long long)w.turn.id),
                 STEPS_BYTES_MAX);
    fixture_again(f);
    IS_OK(end(&w, f, FINISH_RETRY, STATUS_FAILED));
    started(&w, f, w.turn.id, 2);
    record(f, &w.turn, "c", "1", NULL, ERR_LIMIT);
    free(rest);
}

/* Those that were recorded before there was this limit say nothing of their length. */
STORE_TEST(values_of_unknown_length_do_not_count)
{
    struct waited w;
    started(&w, f, submit(f), 1);
    fill(f, &w.turn, 2, STEPS_BYTES_MAX);
    exec_sql(f, "UPDATE steps SET bytes = NULL");
    record(f, &w.turn, "a", "1", NULL, OK);
    cr_expect_eq(ask(f, "SELECT bytes FROM steps WHERE number = 3"), 1);
}

static enum err submit_step(struct fixture *f, const struct turn *parent, const char *step, int64_t *id)
{
    struct submission s = plain(f);
    struct op_submit op;
    s.parent = parent->id;
    s.parent_lease = parent->lease;
    s.step = span_of(step);
    op_submit_init(&op, &s, 1);
    IS_OK(store_do(f->store, &op.op));
    *id = s.id;
    return s.err;
}

STORE_TEST(a_name_is_a_value_s_or_a_child_s)
{
    struct waited w, other;
    int64_t child, again;
    started(&w, f, submit(f), 1);
    started(&other, f, submit(f), 1);
    record(f, &w.turn, "value", "1", NULL, OK);
    IS_OK(submit_step(f, &w.turn, "child", &child));
    record(f, &w.turn, "child", "1", NULL, ERR_BUSY);
    cr_expect_eq(submit_step(f, &w.turn, "value", &again), ERR_BUSY);
    IS_OK(submit_step(f, &w.turn, "child", &again));
    cr_expect_eq(again, child);
    record(f, &w.turn, "value", "2", "1", OK);
    cr_expect_eq(steps_of(f, w.turn.id), 1);
    record(f, &other.turn, "child", "1", NULL, OK);
    IS_OK(submit_step(f, &other.turn, "value", &again));
    struct turn stale = w.turn;
    stale.lease++;
    record(f, &stale, "child", "1", NULL, ERR_CONFLICT);
}

/* --- going --------------------------------------------------------------------------- */

struct op_forget {
    struct op op;
    int64_t id;
};

static enum err apply_forget(struct tx *tx, struct op *base)
{
    return steps_forget(tx, ((struct op_forget *)base)->id);
}

STORE_TEST(what_is_forgotten_can_be_recorded_anew)
{
    static const struct op_class class = {.name = "forget", .apply = apply_forget};
    struct waited w, other;
    started(&w, f, submit(f), 1);
    started(&other, f, submit(f), 1);
    record(f, &w.turn, "a", "1", NULL, OK);
    record(f, &other.turn, "a", "2", NULL, OK);
    struct op_forget op = {.id = w.turn.id};
    op_init(&op.op, &class);
    IS_OK(store_do(f->store, &op.op));
    record(f, &w.turn, "a", "3", NULL, OK);
    is_step(f, w.turn.id, "a", "3");
    is_step(f, other.turn.id, "a", "2");
}

STORE_TEST(steps_go_with_their_invocation_in_steps_that_survive_a_crash)
{
    struct waited w, other;
    started(&w, f, submit(f), 1);
    started(&other, f, submit(f), 1);
    fill(f, &w.turn, 1300, 2);
    record(f, &other.turn, "a", "1", NULL, OK);
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
    IS_OK(end(&other, f, FINISH_FINAL, STATUS_SUCCEEDED));
    f->change_count = 0;
    IS_OK(alter(f, ALTER_DELETE, w.turn.id));
    cr_assert(f->changes[0].follow_up);
    cr_expect_eq(steps_of(f, w.turn.id), 800);
    check_counters(f);
    fixture_again(f);
    cr_expect(upkeep(f, UPKEEP_FOLLOW_UP).more);
    cr_expect_eq(steps_of(f, w.turn.id), 300);
    cr_expect_not(upkeep(f, UPKEEP_FOLLOW_UP).more);
    cr_expect_eq(steps_of(f, w.turn.id), 0);
    cr_expect_eq(steps_of(f, other.turn.id), 1);
    f->change_count = 0;
    IS_OK(alter(f, ALTER_DELETE, other.turn.id));
    cr_expect_not(f->changes[0].follow_up);
    cr_expect_eq(ask(f, "SELECT COUNT(*) FROM steps"), 0);
}

STORE_TEST(a_removal_of_steps_is_bounded_in_bytes)
{
    struct waited w;
    started(&w, f, submit(f), 1);
    fill(f, &w.turn, 10, 1 << 20);
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
    IS_OK(alter(f, ALTER_DELETE, w.turn.id));
    int64_t left = steps_of(f, w.turn.id);
    cr_expect(left >= 5 && left < 10, "%lld of 10 are left", (long long)left);
    for (int steps = 0; upkeep(f, UPKEEP_FOLLOW_UP).more; steps++)
        cr_assert_lt(steps, 10);
    cr_expect_eq(steps_of(f, w.turn.id), 0);
}

/* How many statements, and rows of them, the removal of one takes. */
static int64_t cost_of_removal(struct fixture *f, struct waited *w)
{
    IS_OK(end(w, f, FINISH_FINAL, STATUS_SUCCEEDED));
    int64_t before = f->store->db->steps;
    IS_OK(alter(f, ALTER_DELETE, w->turn.id));
    return f->store->db->steps - before;
}

STORE_TEST(who_has_neither_steps_nor_messages_does_not_pay_for_them)
{
    enum {
        STEP = 2 + 1,
        OUT = 2 + 1,
        IN = 1,
        GIVEN = 1 /* a row and the end, and the deletion; the end; the deletion */
    };
    struct waited plain_one, full;
    started(&plain_one, f, submit(f), 1);
    started(&full, f, submit(f), 1);
    record(f, &full.turn, "a", "1", NULL, OK);
    struct op_message_out out;
    op_message_out_init(&out, &full.turn);
    out.bodies = &SPAN("1");
    out.count = 1;
    IS_OK(store_do(f->store, &out.turn.op));
    int64_t cost = cost_of_removal(f, &plain_one);
    cr_expect_eq(cost_of_removal(f, &full), cost + STEP + OUT + IN + GIVEN);
    check_counters(f);
}
