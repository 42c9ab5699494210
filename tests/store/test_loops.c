/* Thousands of random operations on loops and their sets: whatever happens, a loop has what its
 * status says, no slot is held twice or left free while somebody waits, and no iteration is counted
 * twice or left out. */
#include "base/clock.h"
#include "tests/store/support.h"

#include <stdio.h>

enum { STEPS = 3000, LOOPS = 24, SETS = 3 };

struct play {
    struct fixture *f;
    uint64_t seed;
    int64_t loops[LOOPS];
    int64_t ended; /* iterations that were to be counted */
};

static char large[1500];

static struct span set_name(int i)
{
    static const char *const names[SETS] = {"one", "two", "three"};
    return span_of(names[i]);
}

static void make(struct play *p, int at)
{
    struct op_loop_make op;
    int set = (int)dice(&p->seed, SETS + 1);
    op_loop_make_init(&op);
    op.spec = (struct loop_spec){
        .task = p->f->task,
        .next = (enum loop_next)(LOOP_NEXT_INPUT + dice(&p->seed, 3)),
        .continues = dice(&p->seed, 2),
        .retention_ms = 86400000,
        .delay_ms = dice(&p->seed, 3) ? 0 : 1 + dice(&p->seed, 5),
        .max_iterations = dice(&p->seed, 4) ? 0 : 1 + dice(&p->seed, 5),
        .args = {large, dice(&p->seed, 4) ? 1 : sizeof large},
    };
    if (set < SETS)
        op.spec.set = (struct set_spec){.name = set_name(set),
                                        .slots = dice(&p->seed, 2) ? 0 : 1 + (int)dice(&p->seed, 4),
                                        .by_turn = set != 0};
    enum err err = store_do(p->f->store, &op.op);
    cr_assert(err == OK || (op.spec.set.slots && err == ERR_CONFLICT) ||
              (!op.spec.set.slots && err == ERR_INVALID));
    if (err == OK)
        p->loops[at] = op.id;
}

static struct loop_view look(struct play *p, int64_t id)
{
    static struct buf bytes;
    struct loop_view view = {0};
    enum err err = reader_loop(p->f->reader, (struct loop_ref){.id = id}, VIEW_FULL, &view, &bytes);
    cr_assert(err == OK || err == ERR_NOT_FOUND);
    return view;
}

static void alter_loop(struct play *p, int at)
{
    struct op_loop_alter op;
    op_loop_alter_init(&op, (enum loop_alter)dice(&p->seed, 6), (struct loop_ref){.id = p->loops[at]});
    op.patch.set_args = true;
    op.patch.args = (struct span){large, dice(&p->seed, 2) ? 1 : sizeof large};
    op.patch.set_delay = dice(&p->seed, 2);
    enum err err = store_do(p->f->store, &op.op);
    cr_assert(err == OK || err == ERR_CONFLICT || err == ERR_LIMIT || err == ERR_NOT_FOUND, "%d", (int)err);
    if (err == OK && op.what == LOOP_DELETE)
        p->loops[at] = 0;
}

static void alter_set(struct play *p)
{
    struct op_set_alter op;
    uint32_t which = dice(&p->seed, 12);
    op_set_alter_init(&op, which < 5 ? (enum set_alter)(which + 1) : SET_RESUME,
                      set_name((int)dice(&p->seed, SETS)));
    op.patch.slots = 1 + (int)dice(&p->seed, 4);
    op.patch.fail_fast = dice(&p->seed, 3) == 0;
    op.patch.says_fail_fast = true;
    enum err err = store_do(p->f->store, &op.op);
    cr_assert(err == OK || err == ERR_NOT_FOUND);
}

/* Its current iteration begins, ends, is cancelled, or both of the first. */
static void run_one(struct play *p, int at)
{
    static const char *const results[] = {"1",   "{\"next\":2}", "{\"pause\":true}", "{\"stop\":true}",
                                          "[3]", "null"};
    struct loop_view view = look(p, p->loops[at]);
    struct invocation row;
    if (!view.invocation || reader_get(p->f->reader, view.invocation, VIEW_BASIC, &row) != OK)
        return;
    if (dice(&p->seed, 8) == 0) {
        cr_assert_eq(alter(p->f, ALTER_CANCEL, row.id), OK);
        return;
    }
    if (row.status == STATUS_SCHEDULED)
        upkeep(p->f, UPKEEP_PROMOTE);
    if (status_of(p->f, row.id) != STATUS_QUEUED)
        return;
    struct waited w;
    waited_init(&w, p->f, row.id, row.attempt + 1);
    w.claim.failures = row.failures;
    w.finish.retention_ms = 86400000;
    w.finish.next = dice(&p->seed, 6) ? FINISH_FINAL : FINISH_REQUEUE;
    w.finish.status = dice(&p->seed, 4) ? STATUS_SUCCEEDED : STATUS_FAILED;
    w.finish.result = dice(&p->seed, 5) ? span_of(results[dice(&p->seed, 6)]) : (struct span){large, sizeof large};
    set_error(&w, "{\"type\":\"boom\"}", "boom");
    queue_claim(&w, p->f);
    if (dice(&p->seed, 2))
        cr_assert_eq(wait_claimed(&w), OK);
    if (dice(&p->seed, 3) == 0) /* in the middle of it */
        alter_loop(p, at);
    queue_finish(&w, p->f);
    enum err err = wait_finished(&w);
    cr_assert(err == OK || err == ERR_CONFLICT);
}

#define NONE(sql, ...) cr_assert_eq(askf(p->f, "SELECT COUNT(*) FROM " sql __VA_ARGS__), 0, "%s", sql)

/* While nothing is on its way to a set's loops. */
static void check(struct play *p)
{
    NONE("loops WHERE status = 1 AND set_id IS NULL AND invocation IS NULL");
    NONE("loops WHERE set_id IS NULL AND (slot IS NOT NULL OR ticket IS NOT NULL OR due_at IS NOT NULL)");
    NONE("loops WHERE status = 1 AND set_id IS NOT NULL AND "
         "(slot IS NOT NULL) + (ticket IS NOT NULL) + (due_at IS NOT NULL) <> 1");
    NONE("loops WHERE set_id IS NOT NULL AND (slot IS NOT NULL) <> (invocation IS NOT NULL)");
    NONE("loops WHERE status = 3 AND invocation IS NULL");
    NONE("loops WHERE (status > 3) <> (prune_at IS NOT NULL)");
    NONE("loops l WHERE l.invocation IS NOT NULL AND NOT EXISTS (SELECT 1 FROM iterations n JOIN invocations i "
         "ON i.id = n.id WHERE n.id = l.invocation AND n.loop = l.id AND n.number = l.iteration + 1 "
         "AND i.status IN (1, 2, 3, 4) AND i.follow & 32 <> 0)");
    /* Any other that is not final would run beside it. */
    NONE("iterations n JOIN invocations i ON i.id = n.id WHERE i.status IN (1, 2, 3, 4) "
         "AND NOT EXISTS (SELECT 1 FROM loops l WHERE l.id = n.loop AND l.invocation = n.id)");
    NONE("sets s WHERE used <> (SELECT COUNT(*) FROM loops WHERE set_id = s.id AND slot IS NOT NULL)");
    NONE("sets s WHERE waiting <> (SELECT COUNT(*) FROM loops WHERE set_id = s.id AND ticket IS NOT NULL)");
    NONE("sets s WHERE loops <> (SELECT COUNT(*) FROM loops WHERE set_id = s.id) OR loops = 0");
    NONE("sets WHERE paused = 0 AND action IS NULL AND waiting > 0 AND used < slots");
}

/* Each number once, but for those that were taken back; those that ended are the first ones. */
static void check_numbers(struct play *p)
{
    NONE("loops l WHERE l.iteration <> (SELECT COUNT(DISTINCT n.number) FROM iterations n JOIN invocations i "
         "ON i.id = n.id WHERE n.loop = l.id AND n.number <= l.iteration)");
    NONE("(SELECT n.loop FROM iterations n JOIN invocations i ON i.id = n.id WHERE i.status IN (5, 6) "
         "GROUP BY n.loop, n.number HAVING COUNT(*) > 1)");
}

STORE_TEST(loops_and_sets_keep_their_promises_whatever_is_asked)
{
    struct play play = {.f = f, .seed = (uint64_t)clock_mono_us()}, *p = &play;
    printf("seed %llu\n", (unsigned long long)p->seed);
    memset(large, '7', sizeof large);
    for (int step = 0; step < STEPS; step++) {
        int at = (int)dice(&p->seed, LOOPS);
        uint32_t which = dice(&p->seed, 20);
        if (!p->loops[at])
            make(p, at);
        else if (which < 11)
            run_one(p, at);
        else if (which < 16)
            alter_loop(p, at);
        else if (which < 17)
            alter_set(p);
        upkeep(f, UPKEEP_LOOPS);
        while (upkeep(f, UPKEEP_FOLLOW_UP).more)
            ;
        check(p);
        if (step % 500 == 499) {
            check_numbers(p);
            check_counters(f);
            fixture_again(f);
        }
    }
}

/* The worst moment: the commit of an end fails as a whole. */
STORE_TEST(an_end_and_the_next_iteration_are_one)
{
    struct op_loop_make op;
    op_loop_make_init(&op);
    op.spec =
        (struct loop_spec){.task = f->task, .next = LOOP_NEXT_OUTPUT, .retention_ms = 1000, .args = SPAN("0")};
    IS_OK(store_do(f->store, &op.op));
    struct buf bytes = {0};
    struct loop_view view;
    IS_OK(reader_loop(f->reader, (struct loop_ref){.id = op.id}, VIEW_FULL, &view, &bytes));
    struct waited w;
    started(&w, f, view.invocation, 1);
    exec_sql(f, "CREATE TRIGGER fault BEFORE INSERT ON iterations BEGIN SELECT RAISE(ABORT, 'a fault'); END");
    w.finish.result = SPAN("1");
    cr_expect_eq(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED), ERR_DB);
    cr_expect_eq(status_of(f, view.invocation), STATUS_RUNNING);
    exec_sql(f, "DROP TRIGGER fault");
    waited_init(&w, f, view.invocation, 1);
    check_counters(f);
    buf_release(&bytes);
}
