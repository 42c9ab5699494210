/* Every change of status, and how long it had each. */
#include "base/clock.h"
#include "base/id.h"
#include "store/suspend.h"
#include "tests/store/support.h"

#include <stdio.h>

/* "queued:submitted running:started ..." */
static char *story(struct fixture *f, int64_t id)
{
    static char texts[4][20000];
    static int next;
    char *out = texts[next++ % 4];
    struct history history = {0};
    size_t n = 0;
    IS_OK(reader_history(f->reader, id, clock_now_ms() + 1000, &history));
    for (int i = 0; i < history.count && n < 19000; i++) {
        const struct history_item *item = &history.items[i];
        n += (size_t)snprintf(out + n, 20000 - n, "%s%s:%.*s", i ? " " : "", status_name(item->status),
                              (int)item->reason.len, item->reason.p);
        if (item->who.p)
            n += (size_t)snprintf(out + n, 20000 - n, "(%.*s)", (int)item->who.len, item->who.p);
        cr_assert(i == 0 || item->at >= item[-1].at, "%d", i);
    }
    history_release(&history);
    return out;
}

static void alter_as(struct fixture *f, enum alter what, int64_t id, const char *who)
{
    struct op_alter op;
    op_alter_init(&op, what, &id, 1);
    op.who = span_of(who);
    op.set_run_at = what == ALTER_PATCH;
    IS_OK(store_do(f->store, &op.op));
}

static void suspend(struct fixture *f, const struct turn *turn)
{
    struct op_suspend op;
    op_suspend_init(&op, turn);
    op.on = (struct suspension){.inbox = true};
    IS_OK(store_do(f->store, &op.turn.op));
}

static void wake(struct fixture *f, int64_t id)
{
    struct op_message_in in;
    op_message_in_init(&in, id);
    in.body = SPAN("1");
    IS_OK(store_do(f->store, &in.op));
}

static void go_on(struct waited *w, struct fixture *f, int64_t id)
{
    waited_init(w, f, id, 1);
    w->claim.resumes = true;
    w->claim.flags = (unsigned)askf(f, "SELECT flags FROM invocations WHERE id = %lld", (long long)id);
    queue_claim(w, f);
    IS_OK(wait_claimed(w));
}

STORE_TEST(a_plain_ones_history_is_its_row)
{
    int64_t id = submit(f);
    cr_assert_str_eq(story(f, id), "queued:submitted");
    succeed(f, id);
    cr_assert_str_eq(story(f, id), "queued:submitted running:started succeeded:succeeded");
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM history"), 0, "and nothing is written for it");
}

STORE_TEST(retries_are_told_with_their_time)
{
    struct waited w;
    int64_t id = submit(f);
    started(&w, f, id, 1);
    w.finish.run_at = clock_now_ms() + 5;
    w.finish.finished_at = clock_now_ms();
    IS_OK(end(&w, f, FINISH_RETRY, STATUS_FAILED));
    while (status_of(f, id) == STATUS_SCHEDULED)
        upkeep(f, UPKEEP_PROMOTE);
    started(&w, f, id, 2);
    w.finish.finished_at = clock_now_ms();
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_FAILED));
    cr_assert_str_eq(story(f, id),
                     "queued:submitted running:started scheduled:retry queued:due running:started failed:boom");
    alter_as(f, ALTER_RETRY, id, "ann");
    cr_assert_str_eq(story(f, id), "queued:submitted running:started scheduled:retry queued:due running:started "
                                   "failed:failed queued:retried(ann)");
    started(&w, f, id, 3);
    w.finish.finished_at = clock_now_ms();
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
    cr_assert_str_eq(story(f, id), "queued:submitted running:started scheduled:retry queued:due running:started "
                                   "failed:failed queued:retried(ann) running:started succeeded:succeeded");
    IS_OK(alter(f, ALTER_DELETE, id));
    check_counters(f);
}

STORE_TEST(who_has_cancelled_and_patched_is_told)
{
    struct waited w;
    struct submission later = plain(f);
    later.run_at = clock_now_ms() + 60000;
    submit_all(f, &later, 1);
    alter_as(f, ALTER_PATCH, later.id, "ann");
    cr_assert_str_eq(story(f, later.id), "scheduled:submitted queued:patched(ann)");
    alter_as(f, ALTER_CANCEL, later.id, "bob");
    cr_assert_str_eq(story(f, later.id), "scheduled:submitted queued:patched(ann) cancelled:cancelled(bob)");
    int64_t id = submit(f);
    started(&w, f, id, 1);
    alter_as(f, ALTER_CANCEL, id, "ann");
    w.finish.finished_at = clock_now_ms();
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_FAILED));
    cr_assert_str_eq(story(f, id),
                     "queued:submitted running:started running:cancel_requested(ann) cancelled:cancelled");
    id = submit(f);
    IS_OK(alter(f, ALTER_CANCEL, id));
    cr_assert_str_eq(story(f, id), "queued:submitted cancelled:cancelled");
}

STORE_TEST(waits_and_suspensions_are_told_and_told_apart)
{
    struct waited w;
    struct op_wait wait;
    struct op_resume resume;
    struct history history = {0};
    int64_t id = submit(f), child = submit(f);
    started(&w, f, id, 1);
    op_wait_init(&wait, &w.turn);
    wait.ids = &child;
    wait.count = 1;
    IS_OK(store_do(f->store, &wait.turn.op));
    op_resume_init(&resume, &w.turn);
    IS_OK(store_do(f->store, &resume.turn.op));
    suspend(f, &w.turn);
    cr_assert_str_eq(story(f, id),
                     "queued:submitted running:started waiting:waits running:goes_on waiting:suspended");
    wake(f, id);
    go_on(&w, f, id);
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
    cr_assert_str_eq(story(f, id),
                     "queued:submitted running:started waiting:waits running:goes_on waiting:suspended "
                     "queued:woken running:started succeeded:succeeded");
    IS_OK(reader_history(f->reader, id, 0, &history));
    cr_assert_eq(history.items[1].turn, 1);
    cr_assert_eq(history.items[6].turn, 2);
    cr_assert_eq(history.items[6].attempt, 1);
    history_release(&history);
}

/* Spent times by hand: each row says what it was, from when, and until when it was to be scheduled. */
STORE_TEST(times_are_told_apart)
{
    (void)f;
    struct history history = {0};
    static const struct history_item items[] = {
        {.at = 1000, .status = STATUS_HELD},
        {.at = 1500, .status = STATUS_SCHEDULED, .until_at = 1700},
        {.at = 2000, .status = STATUS_RUNNING},
        {.at = 2500, .status = STATUS_WAITING},
        {.at = 4000, .status = STATUS_SCHEDULED, .until_at = 9000},
        {.at = 5000, .status = STATUS_QUEUED},
        {.at = 5000, .status = STATUS_RUNNING},
    };
    history.items = xcalloc(7, sizeof *items);
    memcpy(history.items, items, sizeof items);
    history.count = history.cap = 7;
    history_settle(&history, STATUS_RUNNING, 5600);
    cr_assert_eq(history.count, 8);
    cr_assert_eq(history.items[2].at, 1700);
    cr_assert_eq(history.spent_ms[STATUS_HELD], 500);
    cr_assert_eq(history.spent_ms[STATUS_SCHEDULED], 1200);
    cr_assert_eq(history.spent_ms[STATUS_QUEUED], 300);
    cr_assert_eq(history.spent_ms[STATUS_RUNNING], 1100);
    cr_assert_eq(history.spent_ms[STATUS_WAITING], 1500);
    history_release(&history);
}

STORE_TEST(only_the_newest_changes_are_kept)
{
    struct waited w;
    int64_t id = submit(f);
    struct history history = {0};
    started(&w, f, id, 1);
    for (int i = 0; i < HISTORY_MAX; i++) {
        suspend(f, &w.turn);
        wake(f, id);
        go_on(&w, f, id);
    }
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM history"), HISTORY_MAX + 1);
    IS_OK(reader_history(f->reader, id, 0, &history));
    cr_assert(history.cut);
    cr_assert_eq(history.items[history.count - 1].turn, HISTORY_MAX + 1);
    history_release(&history);
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
    IS_OK(alter(f, ALTER_DELETE, id));
    check_counters(f);
}

STORE_TEST(a_turn_lost_with_its_server_is_told)
{
    struct waited w;
    int64_t id = submit(f);
    started(&w, f, id, 1);
    fixture_shut(f);
    fixture_open(f);
    IS_OK(store_recover(f->store, NULL, 0, NULL, NULL));
    fixture_start(f);
    cr_assert_str_eq(story(f, id), "queued:submitted running:started queued:lost");
}

STORE_TEST(there_is_no_history_of_nobody)
{
    struct history history = {0};
    cr_assert_eq(reader_history(f->reader, 12345, 0, &history), ERR_NOT_FOUND);
    history_release(&history);
}
