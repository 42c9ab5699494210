/* Thousands of random operations: whatever happens, the counters are what
 * counting says, and no satellite row is an orphan. */
#include "base/clock.h"
#include "tests/store/support.h"

#include <stdlib.h>

enum { ROUNDS = 150, PER_ROUND = 60, KNOWN = 400 };

struct piece {
    struct op_submit submit;
    struct submission submission;
    struct op_alter alter;
    int64_t id;
    struct op_upkeep upkeep;
    struct parked parked;
    struct waited run;
    bool runs;
};

static char large[1500];

static struct op *random_op(struct fixture *f, struct piece *p, int64_t *known, uint64_t *seed)
{
    p->id = known[dice(seed, KNOWN)];
    uint32_t which = dice(seed, 12);
    if (which < 6) {
        p->submission = plain(f);
        p->submission.task = dice(seed, 2) ? f->task : f->other;
        p->submission.run_at = dice(seed, 4) ? 0 : clock_now_ms() + dice(seed, 40);
        p->submission.expires_at = dice(seed, 6) ? 0 : clock_now_ms() + dice(seed, 60);
        p->submission.retention_ms = dice(seed, 200);
        p->submission.max_queued = dice(seed, 5) ? 0 : 100;
        p->submission.labels = dice(seed, 3) ? (struct span){NULL, 0} : SPAN("{\"a\":\"1\",\"b\":\"2\"}");
        if (dice(seed, 5) == 0)
            p->submission.args = (struct span){large, sizeof large};
        if (dice(seed, 4) == 0) {
            p->submission.key = (struct span){"abcdefgh" + dice(seed, 8), 1};
            p->submission.key_digest[0] = p->submission.key_digest_sent[0] = (uint8_t)dice(seed, 2);
        }
        op_submit_init(&p->submit, &p->submission, 1);
        return &p->submit.op;
    }
    if (which < 10) {
        op_alter_init(&p->alter, (enum alter)dice(seed, 4), &p->id, 1);
        p->alter.set_priority = true;
        p->alter.priority = (int)dice(seed, 128);
        p->alter.set_run_at = dice(seed, 2);
        p->alter.run_at = clock_now_ms() + dice(seed, 30);
        return &p->alter.op;
    }
    op_upkeep_init(&p->upkeep, (enum upkeep)dice(seed, UPKEEPS));
    return &p->upkeep.op;
}

/* Some are run: with the right attempt, or a stale one. */
static void random_run(struct fixture *f, struct piece *p, int64_t id, uint64_t *seed)
{
    static struct log_chunk chunk = {1, {"line\n", 5}};
    struct invocation row;
    p->runs = id && reader_get(f->reader, id, VIEW_BASIC, &row) == OK;
    if (!p->runs)
        return;
    waited_init(&p->run, f, id, row.attempt + (dice(seed, 8) != 0));
    waited_task(&p->run, row.task);
    p->run.claim.failures = row.failures;
    p->run.finish.retention_ms = row.retention_ms;
    p->run.finish.next = (enum finish_next)dice(seed, 3);
    p->run.finish.status = (enum status)(STATUS_SUCCEEDED + dice(seed, 3));
    p->run.finish.run_at = dice(seed, 2) ? clock_now_ms() + dice(seed, 30) : 0;
    p->run.finish.result = dice(seed, 4) ? SPAN("[1]") : (struct span){large, sizeof large};
    if (dice(seed, 3) == 0) {
        p->run.finish.log = &chunk;
        p->run.finish.log_count = 1;
    }
    set_error(&p->run, "{\"type\":\"boom\"}", "boom");
    queue_claim(&p->run, f);
    if (dice(seed, 2))
        cr_assert(wait_claimed(&p->run) == OK || p->run.claim_err == ERR_CONFLICT);
    queue_finish(&p->run, f);
}

STORE_TEST(counters_are_what_counting_says_after_thousands_of_operations)
{
    static int64_t known[KNOWN];
    struct piece *pieces = xcalloc(PER_ROUND, sizeof *pieces);
    uint64_t seed = 42;
    int ended = 0;
    memset(large, '9', sizeof large);
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < PER_ROUND; i++) {
            struct piece *p = &pieces[i];
            struct op *op = random_op(f, p, known, &seed);
            park(op, &p->parked);
            store_queue(f->store, op);
            random_run(f, p, known[dice(&seed, KNOWN)], &seed);
        }
        for (int i = 0; i < PER_ROUND; i++) {
            wait_parked(&pieces[i].parked);
            if (pieces[i].runs)
                cr_assert(wait_finished(&pieces[i].run) == OK || pieces[i].run.finish_err == ERR_CONFLICT);
            ended += pieces[i].runs && pieces[i].run.finish_err == OK;
            if (pieces[i].submission.id && pieces[i].submission.err == OK)
                known[dice(&seed, KNOWN)] = pieces[i].submission.id;
        }
        if (round % 10 == 0)
            check_counters(f);
        if (round % 50 == 49)
            fixture_again(f);
    }
    check_counters(f);
    check_integrity(f->url);
    cr_assert_gt(ended, 0, "no turn ever ended well");
    free(pieces);
}
