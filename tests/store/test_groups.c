/* Groups, promises, dependencies: counted in the transaction of each change, released and
 * cancelled once. */
#include "tests/store/groups.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>

static int changes_of(struct fixture *f, int64_t group, bool final)
{
    int count = 0;
    pthread_mutex_lock(&f->lock);
    for (int i = 0; i < f->change_count; i++)
        count += f->changes[i].id == group && f->changes[i].group_final == final;
    pthread_mutex_unlock(&f->lock);
    return count;
}

static void end_as(struct fixture *f, int64_t id, enum status status)
{
    struct waited w;
    waited_init(&w, f, id, 1 + (int)askf(f, "SELECT attempt FROM invocations WHERE id = %lld", (long long)id));
    w.turn.group = w.claim.turn.turn.group = w.finish.turn.turn.group =
        askf(f, "SELECT COALESCE(grp, 0) FROM invocations WHERE id = %lld", (long long)id);
    w.claim.failures = (int)askf(f, "SELECT failures FROM invocations WHERE id = %lld", (long long)id);
    queue_claim(&w, f);
    IS_OK(wait_claimed(&w));
    IS_OK(end(&w, f, FINISH_FINAL, status));
}

/* --- groups -------------------------------------------------------------------------- */

STORE_TEST(a_group_ends_once_with_its_last_member)
{
    struct test_group *g = group_of(f, GROUP_PARALLEL, 40);
    IS_OK(make_group(f, g, 0));
    struct group_row row = group_row(f, g->group.id);
    cr_assert_eq(row.status, GROUP_RUNNING);
    cr_assert_eq(row.counts[STATUS_QUEUED], 40);
    for (int i = 0; i < 40; i++) {
        cr_assert_eq(changes_of(f, g->group.id, true), 0);
        end_as(f, g->ids[i], STATUS_SUCCEEDED);
    }
    row = group_row(f, g->group.id);
    cr_assert_eq(row.status, GROUP_SUCCEEDED);
    cr_assert_eq(row.total, 40);
    cr_assert(row.finished_at);
    cr_assert_eq(changes_of(f, g->group.id, true), 1);
    check_groups(f);
    check_counters(f);
}

STORE_TEST(an_empty_group_has_ended_at_once)
{
    struct test_group *g = group_of(f, GROUP_PARALLEL, 0);
    IS_OK(make_group(f, g, 0));
    cr_assert_eq(group_row(f, g->group.id).status, GROUP_SUCCEEDED);
    cr_assert_eq(changes_of(f, g->group.id, true), 1);
}

STORE_TEST(a_group_is_made_whole_or_not_at_all)
{
    struct test_group *g = group_of(f, GROUP_PARALLEL, 20);
    int64_t nobody = 12345;
    g->items[17].after = &nobody;
    g->items[17].after_count = 1;
    struct op_group op;
    op_group_init(&op, &g->group, g->items, 20);
    cr_assert_eq(store_do(f->store, &op.op), ERR_NOT_FOUND);
    cr_assert_eq(op.bad, 17);
    cr_assert_eq(op.bad_id, nobody);
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM invocations"), 0);
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM groups"), 0);
}

STORE_TEST(one_that_comes_in_parts_runs_when_it_is_whole)
{
    struct test_group *g = group_of(f, GROUP_PARALLEL, 100);
    g->group.total = 100;
    struct op_group op;
    op_group_init(&op, &g->group, g->items, 60);
    op.last = false;
    IS_OK(store_do(f->store, &op.op));
    struct group_row row = group_row(f, g->group.id);
    cr_assert(row.making && row.status == GROUP_HELD && row.counts[STATUS_HELD] == 60);
    cr_assert_eq(change_group(f, GROUP_CANCEL, g->group.id), ERR_BUSY);
    op_group_init(&op, &g->group, g->items + 60, 40);
    op.first = false;
    op.from = 60;
    IS_OK(store_do(f->store, &op.op));
    follow_all(f);
    row = group_row(f, g->group.id);
    cr_assert(!row.making && row.status == GROUP_RUNNING && row.counts[STATUS_QUEUED] == 100);
    check_groups(f);
    check_counters(f);
}

STORE_TEST(of_one_whose_last_members_never_came_nothing_is_left)
{
    for (int crash = 0; crash < 2; crash++) {
        struct test_group *g = group_of(f, GROUP_CHAIN, 100);
        struct op_group op;
        op_group_init(&op, &g->group, g->items, 60);
        op.last = false;
        IS_OK(store_do(f->store, &op.op));
        if (crash) {
            fixture_shut(f);
            fixture_open(f);
            IS_OK(store_recover(f->store, NULL, 0, NULL, NULL));
            fixture_start(f);
        } else {
            IS_OK(change_group(f, GROUP_ABANDON, g->group.id));
        }
        struct group_row row;
        cr_assert_eq(reader_group(f->reader, g->group.id, &row), ERR_NOT_FOUND);
        follow_all(f);
        static const char *const tables[] = {"invocations", "groups",       "members",      "completions",
                                             "holds",       "dependencies", "groups_making"};
        for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
            cr_assert_eq(askf(f, "SELECT COUNT(*) FROM %s", tables[i]), 0, "%s", tables[i]);
        check_counters(f);
    }
}

STORE_TEST(a_key_finds_the_group_again)
{
    struct test_group *g = group_of(f, GROUP_PARALLEL, 3), *again = group_of(f, GROUP_PARALLEL, 3);
    g->group.key = again->group.key = SPAN("k");
    IS_OK(make_group(f, g, 0));
    IS_OK(make_group(f, again, 0));
    cr_assert(again->group.replayed && again->group.id == g->group.id);
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM invocations"), 3);
    struct test_group *other = group_of(f, GROUP_PARALLEL, 3);
    other->group.key = SPAN("k");
    other->group.key_digest[0] = 1;
    cr_assert_eq(make_group(f, other, 0), ERR_MISMATCH);
}

STORE_TEST(more_come_to_a_group_that_is_open_until_it_is_closed)
{
    struct test_group *g = group_of(f, GROUP_PARALLEL, 2);
    g->group.open = true;
    IS_OK(make_group(f, g, 0));
    end_as(f, g->ids[0], STATUS_SUCCEEDED);
    end_as(f, g->ids[1], STATUS_SUCCEEDED);
    cr_assert_eq(group_row(f, g->group.id).status, GROUP_RUNNING);
    struct submission s = plain(f);
    s.group = g->group.id;
    submit_all(f, &s, 1);
    IS_OK(s.err);
    cr_assert_eq(s.index, 2);
    cr_assert_eq(row_of(f, s.id).index, 2);
    IS_OK(change_group(f, GROUP_CLOSE, g->group.id));
    cr_assert_eq(group_row(f, g->group.id).status, GROUP_RUNNING);
    struct submission late = plain(f), nowhere = plain(f);
    late.group = g->group.id;
    submit_all(f, &late, 1);
    cr_assert(late.err == ERR_CONFLICT && late.group_closed);
    nowhere.group = 777;
    submit_all(f, &nowhere, 1);
    cr_assert(nowhere.err == ERR_NOT_FOUND && nowhere.missing == 777);
    end_as(f, s.id, STATUS_SUCCEEDED);
    cr_assert_eq(group_row(f, g->group.id).status, GROUP_SUCCEEDED);
    check_groups(f);
}

STORE_TEST(promises_run_when_their_group_is_released)
{
    struct test_group *g = group_of(f, GROUP_PARALLEL, 700);
    g->group.hold = true;
    g->items[3].delay_ms = 3600000;
    IS_OK(make_group(f, g, 0));
    cr_assert_eq(group_row(f, g->group.id).status, GROUP_HELD);
    cr_assert_eq(row_of(f, g->ids[0]).holds, HOLD_PROMISE);
    IS_OK(change_group(f, GROUP_RELEASE, g->group.id));
    follow_all(f);
    struct group_row row = group_row(f, g->group.id);
    cr_assert(row.counts[STATUS_QUEUED] == 699 && row.counts[STATUS_SCHEDULED] == 1);
    cr_assert_eq(row.status, GROUP_RUNNING);
    IS_OK(change_group(f, GROUP_RELEASE, g->group.id));
    check_groups(f);
    check_counters(f);
}

STORE_TEST(a_group_that_is_not_released_in_time_is_cancelled)
{
    struct test_group *g = group_of(f, GROUP_PARALLEL, 3);
    g->group.hold = true;
    g->group.release_by = 1;
    IS_OK(make_group(f, g, 0));
    upkeep(f, UPKEEP_RELEASE_BY);
    follow_all(f);
    cr_assert_eq(group_row(f, g->group.id).status, GROUP_CANCELLED);
    cr_assert(strstr(row_of(f, g->ids[1]).error.p, "not_released"));
    cr_assert_eq(change_group(f, GROUP_RELEASE, g->group.id), ERR_CONFLICT);
}

STORE_TEST(one_failure_cancels_the_rest_if_it_is_to_fail_fast)
{
    struct test_group *g = group_of(f, GROUP_PARALLEL, 900);
    g->group.fail_fast = true;
    IS_OK(make_group(f, g, 0));
    end_as(f, g->ids[5], STATUS_FAILED);
    follow_all(f);
    struct group_row row = group_row(f, g->group.id);
    cr_assert_eq(row.status, GROUP_FAILED);
    cr_assert(row.counts[STATUS_FAILED] == 1 && row.counts[STATUS_CANCELLED] == 899);
    cr_assert(strstr(row_of(f, g->ids[899]).error.p, "fail_fast"));
    cr_assert_eq(changes_of(f, g->group.id, true), 1);
    IS_OK(alter(f, ALTER_RETRY, g->ids[5]));
    cr_assert_eq(group_row(f, g->group.id).status, GROUP_RUNNING, "a retry opens it again");
    end_as(f, g->ids[5], STATUS_SUCCEEDED);
    cr_assert_eq(group_row(f, g->group.id).status, GROUP_CANCELLED);
    cr_assert_eq(changes_of(f, g->group.id, true), 2);
    check_groups(f);
    check_counters(f);
}

STORE_TEST(a_cancelled_group_cancels_what_is_not_final)
{
    struct test_group *g = group_of(f, GROUP_PARALLEL, 600);
    IS_OK(make_group(f, g, 0));
    end_as(f, g->ids[0], STATUS_SUCCEEDED);
    struct waited w;
    waited_init(&w, f, g->ids[1], 1);
    w.turn.group = w.claim.turn.turn.group = w.finish.turn.turn.group = g->group.id;
    queue_claim(&w, f);
    IS_OK(wait_claimed(&w));
    IS_OK(change_group(f, GROUP_CANCEL, g->group.id));
    follow_all(f);
    struct group_row row = group_row(f, g->group.id);
    cr_assert(row.counts[STATUS_CANCELLED] == 598 && row.counts[STATUS_RUNNING] == 1);
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_FAILED));
    cr_assert_eq(group_row(f, g->group.id).status, GROUP_CANCELLED);
    check_groups(f);
}

static bool note(void *context, const struct group_result *result)
{
    struct buf *out = context;
    buf_addf(out, "%d:%s ", result->index, status_name(result->status));
    return true;
}

static const char *results(struct fixture *f, int64_t id, bool by_completion)
{
    static char text[1000];
    struct buf out = {0};
    IS_OK(reader_group_results(f->reader, id, by_completion, 0, 100, note, &out));
    snprintf(text, sizeof text, "%s", buf_cstr(&out));
    buf_release(&out);
    return text;
}

STORE_TEST(results_come_as_they_were_submitted_or_as_they_ended_each_once)
{
    struct test_group *g = group_of(f, GROUP_PARALLEL, 4);
    IS_OK(make_group(f, g, 0));
    end_as(f, g->ids[2], STATUS_FAILED);
    end_as(f, g->ids[0], STATUS_SUCCEEDED);
    cr_assert_str_eq(results(f, g->group.id, false), "0:succeeded 1:queued 2:failed 3:queued ");
    cr_assert_str_eq(results(f, g->group.id, true), "2:failed 0:succeeded ");
    IS_OK(alter(f, ALTER_RETRY, g->ids[2]));
    cr_assert_str_eq(results(f, g->group.id, true), "0:succeeded ");
    end_as(f, g->ids[1], STATUS_SUCCEEDED);
    end_as(f, g->ids[2], STATUS_SUCCEEDED);
    cr_assert_str_eq(results(f, g->group.id, true), "0:succeeded 1:succeeded 2:succeeded ");
}

STORE_TEST(members_go_with_their_group)
{
    struct test_group *g = group_of(f, GROUP_CHAIN, 300);
    g->group.retention_ms = 0;
    g->group.common_args = SPAN("{\"a\":1}");
    g->items[0].name = SPAN("first");
    IS_OK(make_group(f, g, 0));
    int64_t member;
    IS_OK(reader_group_named(f->reader, g->group.id, SPAN("first"), &member));
    cr_assert_eq(member, g->ids[0]);
    IS_OK(change_group(f, GROUP_CANCEL, g->group.id));
    follow_all(f);
    cr_assert_eq(group_row(f, g->group.id).status, GROUP_CANCELLED);
    cr_assert_eq(alter(f, ALTER_DELETE, g->ids[7]), ERR_CONFLICT);
    while (upkeep(f, UPKEEP_PRUNE).more)
        ;
    follow_all(f);
    static const char *const tables[] = {"invocations", "groups",       "members",      "completions",
                                         "holds",       "dependencies", "member_names", "payloads"};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        cr_assert_eq(askf(f, "SELECT COUNT(*) FROM %s", tables[i]), 0, "%s", tables[i]);
    check_counters(f);
}

/* --- chains and dependencies ------------------------------------------------------------- */

STORE_TEST(a_link_runs_when_the_one_before_it_has_succeeded)
{
    struct test_group *g = group_of(f, GROUP_CHAIN, 4);
    IS_OK(make_group(f, g, 0));
    for (int i = 0; i < 4; i++) {
        for (int k = 0; k < 4; k++)
            cr_assert_eq(status_of(f, g->ids[k]), k < i ? STATUS_SUCCEEDED : k == i ? STATUS_QUEUED : STATUS_HELD);
        end_as(f, g->ids[i], STATUS_SUCCEEDED);
    }
    cr_assert_eq(group_row(f, g->group.id).status, GROUP_SUCCEEDED);
    check_groups(f);
}

STORE_TEST(a_chain_stops_at_the_first_failure_and_goes_on_from_there)
{
    struct test_group *g = group_of(f, GROUP_CHAIN, 700);
    IS_OK(make_group(f, g, 0));
    end_as(f, g->ids[0], STATUS_SUCCEEDED);
    end_as(f, g->ids[1], STATUS_FAILED);
    follow_all(f);
    struct group_row row = group_row(f, g->group.id);
    cr_assert_eq(row.status, GROUP_FAILED);
    cr_assert_eq(row.counts[STATUS_CANCELLED], 698);
    cr_assert(strstr(row_of(f, g->ids[699]).error.p, "\"dependency\""));
    check_groups(f);
    cr_assert_eq(alter(f, ALTER_RETRY, g->ids[2]), ERR_CONFLICT, "the one before it has failed");
    IS_OK(alter(f, ALTER_RETRY, g->ids[1]));
    follow_all(f);
    row = group_row(f, g->group.id);
    cr_assert(row.counts[STATUS_HELD] == 698 && row.counts[STATUS_QUEUED] == 1 && row.status == GROUP_RUNNING);
    check_groups(f);
    end_as(f, g->ids[1], STATUS_SUCCEEDED);
    cr_assert_eq(status_of(f, g->ids[2]), STATUS_QUEUED);
    check_counters(f);
}

STORE_TEST(a_retried_link_that_ends_before_anybody_heard_of_the_retry_is_heard_all_the_same)
{
    struct test_group *g = group_of(f, GROUP_CHAIN, 3);
    IS_OK(make_group(f, g, 0));
    end_as(f, g->ids[0], STATUS_FAILED);
    follow_all(f);
    IS_OK(alter(f, ALTER_RETRY, g->ids[0]));
    end_as(f, g->ids[0], STATUS_SUCCEEDED);
    follow_all(f);
    cr_assert_eq(status_of(f, g->ids[1]), STATUS_QUEUED);
    cr_assert_eq(status_of(f, g->ids[2]), STATUS_HELD);
    check_groups(f);
}

static int64_t submit_after(struct fixture *f, const int64_t *after, int count, enum after_policy policy)
{
    struct submission s = plain(f);
    s.after = after;
    s.after_count = count;
    s.after_policy = policy;
    submit_all(f, &s, 1);
    IS_OK(s.err);
    return s.id;
}

STORE_TEST(policies_decide_who_goes_on)
{
    static const struct {
        enum status first, second;
        enum status success, any, failure;
    } rows[] = {
        {STATUS_SUCCEEDED, STATUS_SUCCEEDED, STATUS_QUEUED, STATUS_QUEUED, STATUS_CANCELLED},
        {STATUS_SUCCEEDED, STATUS_FAILED, STATUS_CANCELLED, STATUS_QUEUED, STATUS_QUEUED},
        {STATUS_FAILED, STATUS_SUCCEEDED, STATUS_CANCELLED, STATUS_QUEUED, STATUS_QUEUED},
        {STATUS_CANCELLED, STATUS_FAILED, STATUS_CANCELLED, STATUS_QUEUED, STATUS_QUEUED},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int late = 0; late < 3; late++) { /* how many have ended when they are submitted */
            int64_t ids[] = {submit(f), submit(f)}, dependents[3];
            enum status ends[] = {rows[i].first, rows[i].second};
            for (int k = 0; k <= 2; k++) {
                if (k == late)
                    for (int policy = AFTER_SUCCESS; policy <= AFTER_FAILURE; policy++)
                        dependents[policy - 1] = submit_after(f, ids, 2, (enum after_policy)policy);
                if (k < 2)
                    end_as(f, ids[k], ends[k]);
            }
            follow_all(f);
            enum status expected[] = {rows[i].success, rows[i].any, rows[i].failure};
            for (int k = 0; k < 3; k++)
                cr_assert_eq(status_of(f, dependents[k]), expected[k], "row %zu, late %d, policy %d: %s", i, late,
                             k, status_name(status_of(f, dependents[k])));
            check_groups(f);
        }
}

STORE_TEST(a_promise_that_comes_after_another_needs_both)
{
    for (int released_first = 0; released_first < 2; released_first++) {
        int64_t before = submit(f);
        struct submission s = plain(f);
        s.after = &before;
        s.after_count = 1;
        s.hold = true;
        s.delay_ms = 1;
        submit_all(f, &s, 1);
        IS_OK(s.err);
        cr_assert_eq(row_of(f, s.id).holds, HOLD_PROMISE | HOLD_DEPENDENCY);
        struct op_release op;
        op_release_init(&op, s.id);
        for (int k = 0; k < 2; k++) {
            cr_assert_eq(status_of(f, s.id), STATUS_HELD);
            if (k == released_first)
                end_as(f, before, STATUS_SUCCEEDED);
            else
                IS_OK(store_do(f->store, &op.op));
        }
        cr_assert_neq(status_of(f, s.id), STATUS_HELD);
    }
}

STORE_TEST(what_is_never_released_is_cancelled_and_cannot_be_released_then)
{
    struct submission s = plain(f);
    s.hold = true;
    s.release_by = 1;
    submit_all(f, &s, 1);
    upkeep(f, UPKEEP_RELEASE_BY);
    cr_assert_eq(status_of(f, s.id), STATUS_CANCELLED);
    cr_assert(strstr(row_of(f, s.id).error.p, "not_released"));
    struct op_release op;
    op_release_init(&op, s.id);
    cr_assert_eq(store_do(f->store, &op.op), ERR_CONFLICT);
}

STORE_TEST(what_others_come_after_is_kept_for_them)
{
    int64_t before = submit(f), dependent = submit_after(f, &before, 1, AFTER_SUCCESS);
    end_as(f, before, STATUS_SUCCEEDED);
    cr_assert_eq(alter(f, ALTER_DELETE, before), ERR_CONFLICT);
    end_as(f, dependent, STATUS_SUCCEEDED);
    IS_OK(alter(f, ALTER_DELETE, before));
    IS_OK(alter(f, ALTER_DELETE, dependent));
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM dependencies"), 0);
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM holds"), 0);
}

/* --- waiting for groups ------------------------------------------------------------------------ */

STORE_TEST(a_turn_waits_for_a_group_as_for_one_and_never_for_its_own)
{
    struct waited w;
    int64_t waiter = submit(f);
    started(&w, f, waiter, 1);
    struct test_group *g = group_of(f, GROUP_PARALLEL, 2);
    g->group.parent = waiter;
    g->group.parent_lease = w.turn.lease;
    g->group.step = SPAN("all");
    IS_OK(make_group(f, g, 0));
    struct test_group *again = group_of(f, GROUP_PARALLEL, 2);
    again->group.parent = waiter;
    again->group.parent_lease = w.turn.lease;
    again->group.step = SPAN("all");
    IS_OK(make_group(f, again, 0));
    cr_assert(again->group.replayed && again->group.id == g->group.id);
    struct op_wait wait;
    op_wait_init(&wait, &w.turn);
    wait.ids = &g->group.id;
    wait.count = 1;
    IS_OK(store_do(f->store, &wait.turn.op));
    cr_assert_not(wait.met);
    struct waited member;
    waited_init(&member, f, g->ids[0], 1);
    member.turn.group = member.claim.turn.turn.group = member.finish.turn.turn.group = g->group.id;
    queue_claim(&member, f);
    IS_OK(wait_claimed(&member));
    struct op_wait circle;
    op_wait_init(&circle, &member.turn);
    circle.ids = &waiter;
    circle.count = 1;
    cr_assert_eq(store_do(f->store, &circle.turn.op), ERR_INVALID, "the parent waits for the member's group");
    circle.ids = &g->group.id;
    cr_assert_eq(store_do(f->store, &circle.turn.op), ERR_INVALID, "its own group");
    IS_OK(end(&member, f, FINISH_FINAL, STATUS_SUCCEEDED));
    cr_assert_eq(ask(f, "SELECT waits_left FROM invocations WHERE waits_left IS NOT NULL"), 1);
    end_as(f, g->ids[1], STATUS_FAILED);
    cr_assert_eq(ask(f, "SELECT waits_left FROM invocations WHERE waits_left IS NOT NULL"), 0);
}

STORE_TEST(cancelling_a_parent_cancels_its_group)
{
    struct waited w;
    int64_t parent = submit(f);
    started(&w, f, parent, 1);
    struct test_group *g = group_of(f, GROUP_PARALLEL, 5);
    g->group.parent = parent;
    g->group.parent_lease = w.turn.lease;
    IS_OK(make_group(f, g, 0));
    IS_OK(alter(f, ALTER_CANCEL, parent));
    follow_all(f);
    cr_assert_eq(group_row(f, g->group.id).status, GROUP_CANCELLED);
}

static bool is_kin_of(struct fixture *f, int64_t root, int64_t id)
{
    struct kin *kin = calloc(1, sizeof *kin);
    bool inside;
    kin->root = root;
    IS_OK(reader_is_kin(f->reader, kin, id, &inside));
    free(kin);
    return inside;
}

STORE_TEST(members_of_a_turns_group_descend_from_it)
{
    struct waited w;
    int64_t parent = submit(f), child;
    started(&w, f, parent, 1);
    struct test_group *g = group_of(f, GROUP_PARALLEL, 2);
    g->group.parent = parent;
    g->group.parent_lease = w.turn.lease;
    IS_OK(make_group(f, g, 0));
    cr_assert(is_kin_of(f, parent, g->ids[1]) && is_kin_of(f, parent, g->group.id));
    cr_assert_not(is_kin_of(f, parent, submit(f)));
    IS_OK(reader_child_after(f->reader, parent, 0, &child));
    cr_assert_eq(child, g->group.id);
    IS_OK(reader_child_after(f->reader, g->group.id, g->ids[0], &child));
    cr_assert_eq(child, g->ids[1]);
    struct invocation row;
    IS_OK(reader_get_awaited(f->reader, g->group.id, VIEW_BASIC, &row));
    cr_assert(row.status == STATUS_RUNNING && row.parent == parent);
}

STORE_TEST(what_is_held_may_be_changed_and_stays_held)
{
    struct submission s = plain(f);
    s.hold = true;
    s.delay_ms = 3600000;
    submit_all(f, &s, 1);
    struct op_alter patch;
    op_alter_init(&patch, ALTER_PATCH, &s.id, 1);
    patch.set_priority = patch.set_run_at = true;
    patch.priority = 7;
    IS_OK(store_do(f->store, &patch.op));
    cr_assert(status_of(f, s.id) == STATUS_HELD && row_of(f, s.id).priority == 7);
    struct op_release op;
    op_release_init(&op, s.id);
    IS_OK(store_do(f->store, &op.op));
    cr_assert_eq(status_of(f, s.id), STATUS_QUEUED, "at once: the delay was taken away");
    IS_OK(store_do(f->store, &op.op));
    check_counters(f);
}

/* --- by chance ------------------------------------------------------------------------------------ */

enum { GROUPS = 12, PER_GROUP = 9 };

static int64_t any_member(struct test_group *const groups[], uint64_t *state)
{
    return groups[dice(state, GROUPS)]->ids[dice(state, PER_GROUP)];
}

/* No link has started before the one before it had succeeded, or been there before. */
static void check_order(struct fixture *f)
{
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM dependencies d JOIN invocations i ON i.id = d.id "
                        "JOIN invocations p ON p.id = d.predecessor JOIN holds h ON h.id = d.id "
                        "WHERE h.policy = 1 AND i.status IN (1, 2, 3) AND i.attempt = 0 AND p.status <> 5 "
                        "AND COALESCE(p.failed, 0) = 0"),
                 0, "a link goes on without the one before it");
}

STORE_TEST(whatever_happens_counts_add_up_and_groups_end)
{
    for (uint64_t seed = 1; seed <= 12; seed++) {
        uint64_t state = seed;
        struct test_group *groups[GROUPS];
        for (int i = 0; i < GROUPS; i++) {
            groups[i] = group_of(f, i % 2 ? GROUP_CHAIN : GROUP_PARALLEL, PER_GROUP);
            groups[i]->group.hold = dice(&state, 3) == 0;
            groups[i]->group.fail_fast = dice(&state, 3) == 0;
            IS_OK(make_group(f, groups[i], dice(&state, 2) ? 0 : 4));
        }
        for (int step = 0; step < 300; step++) {
            int64_t id = any_member(groups, &state);
            enum status status = status_of(f, id);
            int what = (int)dice(&state, 12);
            if (what < 6 && status == STATUS_QUEUED)
                end_as(f, id, what < 4 ? STATUS_SUCCEEDED : STATUS_FAILED);
            else if (what == 6)
                IS_OK(alter(f, ALTER_CANCEL, id));
            else if (what == 7 && status_is_final(status) && status != STATUS_SUCCEEDED)
                (void)!alter(f, ALTER_RETRY, id);
            else if (what == 8)
                (void)!change_group(f, GROUP_RELEASE, groups[dice(&state, GROUPS)]->group.id);
            else if (what == 9 && dice(&state, 6) == 0)
                (void)!change_group(f, GROUP_CANCEL, groups[dice(&state, GROUPS)]->group.id);
            else if (what >= 10)
                upkeep(f, UPKEEP_FOLLOW_UP);
            if (step % 20 == 0) {
                check_groups(f);
                check_order(f);
            }
        }
        for (int i = 0; i < GROUPS; i++)
            (void)!change_group(f, GROUP_RELEASE, groups[i]->group.id);
        follow_all(f);
        for (int round = 0; round < PER_GROUP; round++)
            for (int i = 0; i < GROUPS * PER_GROUP; i++) {
                int64_t id = groups[i / PER_GROUP]->ids[i % PER_GROUP];
                if (status_of(f, id) == STATUS_QUEUED)
                    end_as(f, id, STATUS_SUCCEEDED);
                if (i % 7 == 0)
                    upkeep(f, UPKEEP_FOLLOW_UP);
            }
        follow_all(f);
        check_groups(f);
        check_order(f);
        for (int i = 0; i < GROUPS; i++)
            cr_assert(group_row(f, groups[i]->group.id).status > GROUP_RUNNING, "seed %d, group %d", (int)seed, i);
    }
    check_counters(f);
}

/* Between the end of a group's time and the step that removes it: the retry was answered, and then
 * the member was removed as it was queued. */
STORE_TEST(a_member_that_was_retried_outlives_its_group)
{
    struct test_group *g = group_of(f, GROUP_PARALLEL, 2);
    g->group.retention_ms = 0;
    IS_OK(make_group(f, g, 0));
    int64_t retried = g->ids[0], other = g->ids[1];
    end_as(f, retried, STATUS_FAILED);
    end_as(f, other, STATUS_SUCCEEDED);
    upkeep(f, UPKEEP_PRUNE);
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM groups WHERE state & 128 <> 0"), 1);
    IS_OK(alter(f, ALTER_RETRY, retried));
    follow_all(f);
    struct invocation row = row_of(f, retried);
    cr_expect_eq(row.status, STATUS_QUEUED);
    cr_expect_eq(row.group, 0);
    cr_expect_eq(askf(f, "SELECT COUNT(*) FROM invocations WHERE id = %lld", (long long)other), 0);
    check_counters(f);
    free(g);
}
