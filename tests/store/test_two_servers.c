/* Two servers on one file: nothing in memory is the truth.
 *
 * One file has one owner; here the lock that says so is not taken (the program
 * is linked with --wrap=flock), so that the second server can be opened. */
#include "base/clock.h"
#include "tests/store/support.h"

#include <stdio.h>
#include <stdlib.h>

static _Thread_local bool shared_file;

int __real_flock(int fd, int operation);
int __wrap_flock(int fd, int operation);

int __wrap_flock(int fd, int operation)
{
    return shared_file ? 0 : __real_flock(fd, operation);
}

static struct store *second_server(struct fixture *f, int *task, int *other)
{
    struct store *store;
    struct reason why = {""};
    struct store_options options = {.url = f->url, .node = 2, .retain_max = f->retain_max};
    shared_file = true;
    enum err err = store_open(&options, &store, &why);
    shared_file = false;
    cr_assert_eq(err, OK, "%s", why.text);
    IS_OK(store_task_id(store, SPAN("alpha"), task));
    IS_OK(store_task_id(store, SPAN("beta"), other));
    IS_OK(store_start(store, NULL));
    return store;
}

static void close_server(struct store *store)
{
    store_stop(store);
    store_close(store);
}

/* The fixture, as the other server sees it. */
static struct fixture *as(struct fixture *f, struct store *store)
{
    static _Thread_local struct fixture seen;
    seen = *f;
    seen.store = store;
    return &seen;
}

STORE_TEST(two_servers_give_tasks_and_invocations_no_number_twice)
{
    int task, other, third, same;
    struct store *second = second_server(f, &task, &other);
    cr_assert_eq(task, f->task);
    cr_assert_eq(other, f->other);
    IS_OK(store_task_id(second, SPAN("gamma"), &third));
    IS_OK(store_task_id(f->store, SPAN("gamma"), &same));
    cr_assert_eq(third, same);
    IS_OK(store_task_id(f->store, SPAN("delta"), &same));
    cr_assert_neq(third, same);
    for (int i = 0; i < 200; i++) {
        submit(f);
        submit(as(f, second));
    }
    cr_assert_eq(ask(f, "SELECT COUNT(DISTINCT id) FROM invocations"), 400);
    close_server(second);
}

/* What one of them sends is never before what the other has committed. */
STORE_TEST(two_servers_give_messages_one_order)
{
    int task, other;
    struct store *second = second_server(f, &task, &other);
    int64_t id = submit(f), last = 0;
    for (int i = 0; i < 100; i++) {
        struct op_message_in op;
        op_message_in_init(&op, id);
        op.body = SPAN("1");
        IS_OK(store_do(i % 2 ? second : f->store, &op.op));
        cr_assert_eq(op.seq, last + 1);
        last = op.seq;
    }
    close_server(second);
}

STORE_TEST(what_another_server_started_is_not_started_again)
{
    int task, other;
    struct store *second = second_server(f, &task, &other);
    struct fixture *there = as(f, second);
    int64_t id = submit(f);
    struct waited ours, theirs;
    started(&theirs, there, id, 1);
    waited_init(&ours, f, id, 1);
    queue_claim(&ours, f);
    cr_assert_eq(wait_claimed(&ours), ERR_CONFLICT);
    cr_assert_eq(end(&ours, f, FINISH_FINAL, STATUS_SUCCEEDED), ERR_CONFLICT);
    IS_OK(alter(f, ALTER_CANCEL, id));
    IS_OK(end(&theirs, there, FINISH_FINAL, STATUS_FAILED));
    cr_assert_eq(status_of(f, id), STATUS_CANCELLED, "cancelled through the one, ended through the other");
    close_server(second);
}

/* A server that came back queued what others were running. */
STORE_TEST(recovery_takes_what_was_its_own)
{
    int task, other;
    struct store *second = second_server(f, &task, &other);
    struct fixture *there = as(f, second);
    int64_t mine = submit(f), not_mine = submit(f);
    struct waited ours, theirs;
    started(&ours, f, mine, 1);
    started(&theirs, there, not_mine, 1);
    store_stop(f->store); /* and dies */
    reader_close(f->reader);
    db_close(f->raw);
    store_close(f->store);
    shared_file = true;
    fixture_open(f);
    shared_file = false;
    struct casualty casualties[] = {{.id = not_mine, .lease = 99, .pays = true},
                                    {.id = mine, .lease = ours.turn.lease}};
    IS_OK(store_recover(f->store, casualties, 2, NULL, NULL));
    fixture_start(f);
    cr_assert_eq(status_of(f, mine), STATUS_QUEUED);
    cr_assert_eq(status_of(f, not_mine), STATUS_RUNNING);
    cr_assert_eq(row_of(f, not_mine).recoveries, 0);
    theirs.claim.turn.op.next = NULL;
    there->reader = f->reader;
    queue_finish(&theirs, there);
    IS_OK(wait_finished(&theirs));
    cr_assert_eq(status_of(f, not_mine), STATUS_SUCCEEDED);
    close_server(second);
}

/* Limits were counted in memory, where the other's submissions are not seen. */
STORE_TEST(a_backlogs_limit_counts_what_is_on_disk)
{
    int task, other;
    struct store *second = second_server(f, &task, &other);
    int accepted = 0;
    for (int i = 0; i < 20; i++) {
        struct submission s = plain(f);
        s.max_queued = 10;
        submit_all(i % 2 ? f : as(f, second), &s, 1);
        cr_assert(s.err == OK || s.err == ERR_LIMIT);
        accepted += s.err == OK;
    }
    cr_assert_eq(accepted, 10);
    store_set_retain_max(f->store, 3);
    for (int i = 0; i < 6; i++)
        succeed(as(f, second), askf(f, "SELECT MIN(id) FROM invocations WHERE status = 2"));
    cr_assert(upkeep(f, UPKEEP_PRUNE).op.err == OK);
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM invocations WHERE status = 5"), 3);
    close_server(second);
}

STORE_TEST(one_key_given_to_two_servers_makes_one_invocation)
{
    int task, other;
    struct store *second = second_server(f, &task, &other);
    int64_t ids[2];
    for (int i = 0; i < 2; i++) {
        struct submission s = plain(f);
        s.key = SPAN("k");
        submit_all(i ? f : as(f, second), &s, 1);
        IS_OK(s.err);
        cr_assert_eq(s.replayed, i == 1);
        ids[i] = s.id;
    }
    cr_assert_eq(ids[0], ids[1]);
    close_server(second);
}

/* --- everything at once ------------------------------------------------------------ */

enum { SHARED = 24, SECONDS_MS = 4000 };

struct server {
    struct fixture *f;
    struct store *store;
    int task;
    pthread_t threads[3];
};

static _Atomic int64_t shared_ids[SHARED];
static _Atomic int64_t stop_at_us;
static _Atomic int wins, refusals;

/* Each accepted end says which lease it had, so that the row can be asked. */
static void *run_some(void *context)
{
    struct server *server = context;
    struct fixture here = *server->f;
    struct reader *reader;
    uint64_t seed = (uint64_t)(uintptr_t)server ^ (uint64_t)clock_mono_us();
    here.store = server->store;
    IS_OK(reader_open(server->store, &reader, NULL));
    while (clock_mono_us() < stop_at_us) {
        struct invocation row;
        struct waited w;
        char result[40];
        int64_t id = shared_ids[dice(&seed, SHARED)];
        if (!id || reader_get(reader, id, VIEW_BASIC, &row) != OK)
            continue;
        waited_init(&w, &here, id, row.attempt + 1);
        waited_task(&w, row.task);
        w.claim.failures = row.failures;
        snprintf(result, sizeof result, "%lld", (long long)w.turn.lease);
        w.finish.result = span_of(result);
        w.finish.next = dice(&seed, 3) ? FINISH_FINAL : FINISH_RETRY;
        w.finish.status = w.finish.next == FINISH_FINAL && dice(&seed, 2) ? STATUS_SUCCEEDED : STATUS_FAILED;
        set_error(&w, "{\"type\":\"boom\"}", "boom");
        struct log_chunk chunk = {1, span_of(result)};
        w.finish.log = &chunk;
        w.finish.log_count = (int)dice(&seed, 2);
        if (dice(&seed, 2)) {
            together(&here, &w.claim.turn.op, &w.finish.turn.op);
        } else {
            queue_claim(&w, &here);
            queue_finish(&w, &here);
        }
        enum err claim = wait_claimed(&w), finish = wait_finished(&w);
        cr_assert(claim == OK || claim == ERR_CONFLICT);
        cr_assert_eq(finish, claim, "who has the turn ends it, nobody else does");
        if (claim == OK)
            wins++;
        else
            refusals++;
    }
    reader_close(reader);
    return NULL;
}

static void *submit_some(void *context)
{
    struct server *server = context;
    uint64_t seed = (uint64_t)(uintptr_t)server;
    struct fixture here = *server->f;
    here.store = server->store;
    while (clock_mono_us() < stop_at_us) {
        struct submission s = plain(&here);
        s.expires_at = dice(&seed, 4) ? 0 : clock_now_ms() + dice(&seed, 30);
        submit_all(&here, &s, 1);
        IS_OK(s.err);
        shared_ids[dice(&seed, SHARED)] = s.id;
    }
    return NULL;
}

static void *alter_some(void *context)
{
    struct server *server = context;
    uint64_t seed = (uint64_t)(uintptr_t)server + 1;
    while (clock_mono_us() < stop_at_us) {
        int64_t id = shared_ids[dice(&seed, SHARED)];
        struct op_alter alter;
        struct op_upkeep upkeep;
        op_alter_init(&alter, (enum alter)dice(&seed, 4), &id, 1);
        alter.set_priority = true;
        alter.priority = (int)dice(&seed, 100);
        enum err err = store_do(server->store, &alter.op);
        cr_assert(err == OK || err == ERR_CONFLICT || err == ERR_NOT_FOUND);
        op_upkeep_init(&upkeep, (enum upkeep)dice(&seed, UPKEEPS));
        IS_OK(store_do(server->store, &upkeep.op));
    }
    return NULL;
}

STORE_TEST(two_servers_at_everything_agree_in_the_end)
{
    static void *(*const bodies[])(void *) = {run_some, submit_some, alter_some};
    struct server servers[2] = {{.f = f, .store = f->store, .task = f->task}, {.f = f}};
    int other;
    servers[1].store = second_server(f, &servers[1].task, &other);
    stop_at_us = clock_mono_us() + SECONDS_MS * 1000;
    for (int i = 0; i < 6; i++)
        cr_assert_eq(pthread_create(&servers[i / 3].threads[i % 3], NULL, bodies[i % 3], &servers[i / 3]), 0);
    for (int i = 0; i < 6; i++)
        pthread_join(servers[i / 3].threads[i % 3], NULL);
    cr_assert_gt(wins, 0);
    cr_assert_gt(refusals, 0, "they never met");
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM invocations WHERE status = 5 AND CAST(result AS INTEGER) <> lease"),
                 0, "each end belongs to the turn that had the lease");
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM invocations WHERE status = 3"), 0);
    close_server(servers[1].store);
    fixture_again(f); /* counts are read anew */
    check_counters(f);
    check_integrity(f->url);
}

/* Each looks and finds the place free; the index lets one of them have it. */
struct racer {
    struct fixture *f;
    struct store *store;
    int task;
    int64_t ids[200];
};

static void *race(void *arg)
{
    struct racer *r = arg;
    for (int i = 0; i < 200; i++) {
        struct particulars of = {.unique = {.scope = UNIQUE_UNFINISHED, .key = {(uint8_t)i}}};
        struct submission s = plain(r->f);
        s.particulars = &of;
        submit_all(as(r->f, r->store), &s, 1);
        r->ids[i] = s.err == OK ? s.id : 0;
        buf_release(&of.first.text);
    }
    return NULL;
}

STORE_TEST(two_servers_give_a_unique_place_once)
{
    int task, other;
    struct store *second = second_server(f, &task, &other);
    static struct racer one, two;
    pthread_t thread;
    one = (struct racer){.f = f, .store = f->store};
    two = (struct racer){.f = f, .store = second};
    cr_assert_eq(pthread_create(&thread, NULL, race, &two), 0);
    race(&one);
    pthread_join(thread, NULL);
    for (int i = 0; i < 200; i++)
        cr_assert(one.ids[i] && one.ids[i] == two.ids[i], "%d", i);
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM invocations"), 200);
    close_server(second);
}
