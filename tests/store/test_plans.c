/* Every statement that the store runs is caught as SQLite prepares it, and its
 * plan is looked at afterwards: nothing scans a table that grows, nothing
 * sorts, and each hot statement uses the index that was made for it. (SQLite
 * takes a partial index only where the query repeats its condition.) */
#include "base/clock.h"
#include "store/suspend.h"
#include "tests/store/groups.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

enum { TEXTS_MAX = 1200 };

static pthread_mutex_t texts_lock = PTHREAD_MUTEX_INITIALIZER;
static char *texts[TEXTS_MAX];
static int text_count;

static int catch_statement(unsigned mask, void *context, void *stmt, void *text)
{
    (void)mask;
    (void)context;
    (void)text;
    const char *sql = sqlite3_sql(stmt);
    pthread_mutex_lock(&texts_lock);
    int i = 0;
    while (i < text_count && strcmp(texts[i], sql) != 0)
        i++;
    if (i == text_count && i < TEXTS_MAX)
        texts[text_count++] = xstrdup(sql);
    pthread_mutex_unlock(&texts_lock);
    return 0;
}

static int watch_connection(sqlite3 *handle, char **error, const void *api)
{
    (void)error;
    (void)api;
    return sqlite3_trace_v2(handle, SQLITE_TRACE_STMT, catch_statement, NULL);
}

static bool ignore_row(void *context, const struct invocation *row)
{
    (void)context;
    (void)row;
    return true;
}

static void ignore_attempt(void *context, const struct attempt_row *row)
{
    (void)context;
    (void)row;
}

static void ignore_step(void *context, const struct step *step)
{
    (void)context;
    (void)step;
}

static bool ignore_message(void *context, const struct message *message)
{
    (void)context;
    (void)message;
    return true;
}

static void list(struct fixture *f, struct filter filter)
{
    for (int order = 0; order < 2; order++) {
        struct list_query query = {.filter = filter, .limit = 10, .oldest_first = order, .view = (enum view)order};
        int64_t next;
        IS_OK(reader_list(f->reader, &query, ignore_row, NULL, &next));
    }
}

static int one(void *context, int task)
{
    (void)context;
    (void)task;
    return 1;
}

/* A child that its parent waits for, and that a cancellation reaches. */
static void wait_for_a_child(struct fixture *f)
{
    struct waited w;
    struct submission child = plain(f);
    struct op_resume resume;
    started(&w, f, submit(f), 1);
    child.parent = w.turn.id;
    child.parent_lease = w.turn.lease;
    child.step = SPAN("step");
    submit_all(f, &child, 1);
    struct op_wait op;
    op_wait_init(&op, &w.turn);
    op.ids = &child.id;
    op.count = 1;
    IS_OK(store_do(f->store, &op.turn.op));
    struct kin kin = {.root = w.turn.id};
    struct invocation row;
    int64_t first;
    bool inside;
    IS_OK(reader_get(f->reader, w.turn.id, VIEW_FULL, &row));
    IS_OK(reader_get(f->reader, child.id, VIEW_FULL, &row));
    IS_OK(reader_child_after(f->reader, w.turn.id, 0, &first));
    IS_OK(reader_is_kin(f->reader, &kin, child.id, &inside));
    cr_expect(inside && first == child.id);
    list(f, (struct filter){.parent = w.turn.id});
    IS_OK(alter(f, ALTER_CANCEL, w.turn.id));
    upkeep(f, UPKEEP_FOLLOW_UP);
    op_resume_init(&resume, &w.turn);
    IS_OK(store_do(f->store, &resume.turn.op));
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
}

/* Twice each: what is there already is another statement. */
static void use_steps_and_messages(struct fixture *f, const struct turn *turn)
{
    struct op_step step;
    struct op_message_out out;
    struct op_message_in in;
    struct op_messages_given given;
    struct op_messages_read read;
    for (int i = 0; i < 2; i++) {
        op_step_init(&step, turn);
        step.name = SPAN("a");
        step.value = SPAN("1");
        IS_OK(store_do(f->store, &step.turn.op));
        buf_release(&step.kept);
        op_message_out_init(&out, turn);
        out.bodies = &SPAN("2");
        out.count = 1;
        IS_OK(store_do(f->store, &out.turn.op));
        for (int keyed = 0; keyed < 2; keyed++) {
            op_message_in_init(&in, turn->id);
            in.body = SPAN("3");
            in.key = keyed ? SPAN("k") : (struct span){NULL, 0};
            IS_OK(store_do(f->store, &in.op));
        }
        op_messages_given_init(&given, turn);
        given.up_to_seq = in.seq;
        IS_OK(store_do(f->store, &given.turn.op));
        op_messages_read_init(&read, turn);
        read.up_to_seq = in.seq;
        IS_OK(store_do(f->store, &read.turn.op));
    }
    struct kin kin = {.root = turn->id};
    struct message_query of_tree = {.among = &kin, .limit = 10};
    bool there;
    int64_t id, at;
    IS_OK(reader_messages(f->reader, &of_tree, ignore_message, NULL, &there));
    IS_OK(reader_has_message(f->reader, turn->id, 0, 1000, &there));
    IS_OK(reader_next_sender(f->reader, 0, &id));
    IS_OK(reader_message_time(f->reader, 1, &at));
    struct buf value = {0};
    IS_OK(reader_step(f->reader, turn->id, SPAN("a"), &value));
    buf_release(&value);
    IS_OK(reader_steps(f->reader, turn->id, ignore_step, NULL));
    IS_OK(reader_inbox(f->reader, turn->id, ignore_message, NULL));
    struct op_wait wait;
    op_wait_init(&wait, turn);
    wait.any = wait.inbox = true;
    wait.after_seq = -1;
    IS_OK(store_do(f->store, &wait.turn.op));
    bool more;
    int64_t after = 0;
    IS_OK(reader_inbox_look(f->reader, turn->id, &after, &more));
    for (unsigned i = 0; i < 4; i++) {
        struct message_query query = {
            .id = i & 1 ? turn->id : 0, .kinds = i & 2 ? 1u << MESSAGE_OUT : 0, .limit = 10};
        IS_OK(reader_messages(f->reader, &query, ignore_message, NULL, &more));
    }
}

/* By a message, by a time; and given out elsewhere. */
static void suspend_twice(struct fixture *f)
{
    struct waited w;
    int64_t id = submit(f);
    started(&w, f, id, 1);
    for (int i = 0; i < 2; i++) {
        struct op_suspend op;
        op_suspend_init(&op, &w.turn);
        op.on = (struct suspension){.inbox = i == 0, .until = i ? clock_now_ms() + 2 : 0};
        IS_OK(store_do(f->store, &op.turn.op));
        struct op_message_in in;
        op_message_in_init(&in, id);
        in.body = SPAN("1");
        IS_OK(store_do(f->store, &in.op));
        while (status_of(f, id) == STATUS_WAITING)
            upkeep(f, UPKEEP_WAKE);
        waited_init(&w, f, id, 1);
        w.claim.resumes = true;
        w.claim.lease_ms = 1000;
        w.claim.lease_until = clock_now_ms() + 1000;
        queue_claim(&w, f);
        IS_OK(wait_claimed(&w));
    }
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
}

static void ignore_delivery(void *context, const struct delivery *delivery)
{
    (void)context;
    (void)delivery;
}

/* Tried twice, and repeated; more of them than are kept. */
static void tell(struct fixture *f)
{
    struct submission s = plain(f);
    s.callback = SPAN("http://a/");
    s.callback_place = SPAN("a:80");
    s.retention_ms = 0;
    submit_all(f, &s, 1);
    IS_OK(alter(f, ALTER_CANCEL, s.id));
    for (int i = 0; i < DELIVERIES_MAX; i++) {
        IS_OK(alter(f, ALTER_RETRY, s.id));
        IS_OK(alter(f, ALTER_CANCEL, s.id));
    }
    upkeep(f, UPKEEP_PRUNE);
    for (int i = 0; i < 2; i++) {
        struct op_due due;
        struct op_delivered delivered;
        struct op_repeat repeat;
        op_due_init(&due);
        due.room = due.room_per_place = 10;
        IS_OK(store_do(f->store, &due.op));
        op_delivered_init(&delivered, &due.items[0]);
        delivered.status = DELIVERY_DELIVERED;
        IS_OK(store_do(f->store, &delivered.op));
        op_repeat_init(&repeat, s.id, due.items[0].n);
        IS_OK(store_do(f->store, &repeat.op));
        op_due_release(&due);
    }
    struct buf url = {0};
    IS_OK(reader_callback(f->reader, s.id, &url));
    IS_OK(reader_deliveries(f->reader, s.id, ignore_delivery, NULL));
    buf_release(&url);
    IS_OK(alter(f, ALTER_DELETE, s.id));
    struct op_due empty;
    op_due_init(&empty);
    empty.room = empty.room_per_place = 10;
    IS_OK(store_do(f->store, &empty.op));
    op_due_release(&empty);
}

static bool ignore_result(void *context, const struct group_result *result)
{
    (void)context, (void)result;
    return true;
}

static void ignore_id(void *context, int64_t id)
{
    (void)context, (void)id;
}

static void use_groups(struct fixture *f)
{
    struct test_group *g = group_of(f, GROUP_CHAIN, 3);
    int64_t ids[AFTER_MAX];
    int count;
    struct buf out = {0};
    g->group.key = SPAN("g");
    g->group.retention_ms = 0;
    g->items[1].name = SPAN("second");
    g->group.common_args = SPAN("{}");
    IS_OK(make_group(f, g, 2));
    follow_all(f);
    struct waited w;
    waited_init(&w, f, g->ids[0], 1);
    w.turn.group = w.claim.turn.turn.group = w.finish.turn.turn.group = g->group.id;
    queue_claim(&w, f);
    IS_OK(wait_claimed(&w));
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
    struct submission after = plain(f);
    after.after = g->ids;
    after.after_count = 1;
    after.hold = true;
    after.release_by = 1;
    submit_all(f, &after, 1);
    upkeep(f, UPKEEP_RELEASE_BY);
    IS_OK(change_group(f, GROUP_CANCEL, g->group.id));
    IS_OK(alter(f, ALTER_RETRY, g->ids[1]));
    follow_all(f);
    group_row(f, g->group.id);
    IS_OK(reader_group_ids(f->reader, g->group.id, 0, 10, ignore_id, NULL));
    IS_OK(reader_group_args(f->reader, g->group.id, &out));
    IS_OK(reader_group_named(f->reader, g->group.id, SPAN("second"), ids));
    IS_OK(reader_group_results(f->reader, g->group.id, false, 0, 10, ignore_result, NULL));
    IS_OK(reader_group_results(f->reader, g->group.id, true, 0, 10, ignore_result, NULL));
    IS_OK(reader_after(f->reader, g->ids[1], ids, &count));
    list(f, (struct filter){.group = g->group.id});
    IS_OK(change_group(f, GROUP_CANCEL, g->group.id));
    follow_all(f);
    upkeep(f, UPKEEP_PRUNE);
    follow_all(f);
    buf_release(&out);
}

static bool ignore_schedule(void *context, const struct schedule *row)
{
    if (context)
        *(int64_t *)context = row->id;
    return true;
}

/* Made, paused, due while the last one runs, and gone on with as that ends. */
static void use_schedules(struct fixture *f)
{
    struct op_schedule_put put;
    struct op_schedule_sync sync;
    struct op_schedule_pause pause;
    struct op_schedule_remove remove;
    struct waited w;
    int64_t id, next;
    struct schedule_put one = {SPAN("a"), SPAN("{1}"), 10};
    for (int i = 0; i < 2; i++) {
        op_schedule_put_init(&put);
        put.put = (struct schedule_put){SPAN("b"), i ? SPAN("{2}") : SPAN("{1}"), 10};
        IS_OK(store_do(f->store, &put.op));
        op_schedule_sync_init(&sync);
        sync.items = &one;
        sync.count = i;
        IS_OK(store_do(f->store, &sync.op));
    }
    IS_OK(reader_schedule(f->reader, SPAN("a"), ignore_schedule, &id));
    IS_OK(reader_schedules(f->reader, 0, 10, ignore_schedule, NULL));
    IS_OK(reader_schedules_due(f->reader, 10, 10, ignore_schedule, NULL));
    IS_OK(reader_schedules_next(f->reader, 0, &next));
    static const enum schedule_overlap overlaps[] = {OVERLAP_SKIP, OVERLAP_SKIP, OVERLAP_QUEUE, OVERLAP_CANCEL};
    for (int i = 0; i < 4; i++) {
        struct submission s = plain(f);
        struct op_schedule_fire fire;
        op_schedule_fire_init(&fire);
        fire.id = id;
        fire.moves = true;
        fire.version = 1;
        fire.believed_next = 10 + i;
        fire.next_at = 11 + i;
        fire.overlap = overlaps[i];
        fire.items = &s;
        fire.due = &fire.believed_next;
        fire.count = 1;
        IS_OK(store_do(f->store, &fire.op));
        if (!i)
            started(&w, f, s.id, 1);
        fire.moves = false;
        fire.count = 0;
        IS_OK(store_do(f->store, &fire.op));
    }
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
    op_schedule_pause_init(&pause);
    pause.id = id;
    pause.version = 1;
    IS_OK(store_do(f->store, &pause.op));
    op_schedule_remove_init(&remove, SPAN("b"));
    IS_OK(store_do(f->store, &remove.op));
}

static bool ignore_loop(void *context, const struct loop_view *row)
{
    (void)context;
    (void)row;
    return true;
}

static bool ignore_set(void *context, const struct set_view *row)
{
    (void)context;
    (void)row;
    return true;
}

static void ignore_slot(void *context, const struct set_slot *row)
{
    (void)context;
    (void)row;
}

static int64_t make_loop(struct fixture *f, struct span name, bool in_set)
{
    static char large[2000];
    struct op_loop_make op;
    memset(large, '5', sizeof large);
    op_loop_make_init(&op);
    op.name = name;
    op.spec = (struct loop_spec){.task = f->task,
                                 .next = LOOP_NEXT_OUTPUT,
                                 .retention_ms = in_set ? 1 : 86400000,
                                 .delay_ms = in_set ? 2 : 0,
                                 .args = {large, in_set ? sizeof large : 1}};
    if (in_set)
        op.spec.set = (struct set_spec){
            .name = SPAN("pool"), .slots = 1, .by_turn = true, .says_slot = true, .fail_fast = true};
    IS_OK(store_do(f->store, &op.op));
    return op.id;
}

static void alter_loop(struct fixture *f, enum loop_alter what, int64_t id, enum err wanted)
{
    struct op_loop_alter op;
    op_loop_alter_init(&op, what, (struct loop_ref){id, SPAN("a")});
    op.patch.set_args = true;
    op.patch.args = SPAN("1");
    cr_expect_eq(store_do(f->store, &op.op), wanted, "%d", (int)what);
}

static void list_loops(struct fixture *f)
{
    for (int i = 0; i < 6; i++) {
        struct loop_query query = {.set = i & 2 ? SPAN("pool") : (struct span){NULL, 0},
                                   .shown = i & 4 ? 1u << LOOP_SHOWN_PAUSED : 0,
                                   .oldest_first = i & 1,
                                   .limit = 10,
                                   .view = VIEW_FULL};
        int64_t next;
        IS_OK(reader_loops(f->reader, &query, ignore_loop, NULL, &next));
        IS_OK(reader_sets(f->reader, 0, 10, ignore_set, NULL, &next));
    }
    struct set_view set;
    IS_OK(reader_set(f->reader, SPAN("pool"), &set));
    IS_OK(reader_set_slots(f->reader, set.id, ignore_slot, NULL));
    list(f, (struct filter){.loop = {.name = SPAN("a")}});
}

/* It was given its inbox up to that one. */
static void end_iteration(struct fixture *f, int64_t loop, int64_t seq, enum status status)
{
    struct loop_view view;
    struct buf bytes = {0};
    struct waited w;
    IS_OK(reader_loop(f->reader, (struct loop_ref){.id = loop}, VIEW_FULL, &view, &bytes));
    started(&w, f, view.invocation, 1);
    struct op_messages_given given;
    op_messages_given_init(&given, &w.turn);
    given.up_to_seq = seq;
    if (seq)
        IS_OK(store_do(f->store, &given.turn.op));
    w.finish.result = SPAN("1");
    IS_OK(end(&w, f, FINISH_FINAL, status));
    struct invocation row;
    IS_OK(reader_get(f->reader, w.turn.id, VIEW_FULL, &row));
    buf_release(&bytes);
}

static void loop_and_share_slots(struct fixture *f)
{
    int64_t named = make_loop(f, SPAN("a"), false), again = make_loop(f, SPAN("a"), false);
    cr_expect_eq(named, again);
    for (int i = 0; i < 2 * UNREAD_MAX + 2; i++) {
        struct op_message_in in;
        op_message_in_init_loop(&in, (struct loop_ref){.name = SPAN("a")});
        in.body = SPAN("1");
        IS_OK(store_do(f->store, &in.op));
        if (i % 900 == 899)
            end_iteration(f, named, in.seq, STATUS_SUCCEEDED);
    }
    alter_loop(f, LOOP_PAUSE, named, OK);
    alter_loop(f, LOOP_PATCH, 0, OK);
    alter_loop(f, LOOP_RESUME, named, OK);
    end_iteration(f, named, 0, STATUS_SUCCEEDED);
    int64_t first = make_loop(f, (struct span){NULL, 0}, true);
    make_loop(f, (struct span){NULL, 0}, true);
    list_loops(f);
    end_iteration(f, first, 0, STATUS_SUCCEEDED);
    while (upkeep(f, UPKEEP_LOOPS).next_at)
        ;
    for (int what = SET_PAUSE; what <= SET_PATCH; what++) {
        struct op_set_alter op;
        op_set_alter_init(&op, (enum set_alter)(what % SET_PATCH + 1), SPAN("pool"));
        op.patch.slots = 2;
        IS_OK(store_do(f->store, &op.op));
        upkeep(f, UPKEEP_FOLLOW_UP);
        if (what == SET_PAUSE)
            make_loop(f, (struct span){NULL, 0}, true);
    }
    end_iteration(f, named, 0, STATUS_FAILED);
    alter_loop(f, LOOP_STOP, named, OK);
    alter_loop(f, LOOP_DELETE, named, OK);
    while (upkeep(f, UPKEEP_LOOPS).next_at)
        ;
    upkeep(f, UPKEEP_FOLLOW_UP);
    upkeep(f, UPKEEP_PRUNE);
}

static bool has_them(const struct filter *filter, int task, struct span args)
{
    (void)filter, (void)task, (void)args;
    return true;
}

static void let_deadline_come(struct fixture *f, int64_t id)
{
    char sql[100];
    snprintf(sql, sizeof sql, "UPDATE deadlines SET at = 5 WHERE id = %lld", (long long)id);
    exec_sql(f, sql);
}

/* What few submissions have: places, kept results, deadlines, arguments. */
static void use_particulars(struct fixture *f)
{
    struct particulars of[6] = {{.first.returned = false}};
    struct submission s[6];
    struct history history = {0};
    int64_t hits, now = clock_now_ms();
    for (int i = 0; i < 6; i++) {
        s[i] = plain(f);
        of[i].unique = (struct unique_place){.scope = UNIQUE_UNFINISHED,
                                             .key = {i == 5 ? 2 : 1},
                                             .on_conflict = i == 2 ? UNIQUE_REPLACE : UNIQUE_RETURN};
        of[i].cached = (struct cached){.key = {1}, .for_ms = 1000};
        of[i].deadline_at = now + 60000;
        buf_addl(&of[i].argument_text, "x1");
        of[i].arguments[0] = (struct argument){0, 1, 1, 1};
        of[i].argument_count = 1;
        s[i].key = i == 1 ? SPAN("further") : (struct span){NULL, 0};
        s[i].particulars = &of[i];
    }
    s[2].run_at = now + 2;
    submit_all(f, s, 3);
    submit_all(f, &s[1], 1); /* a replay by its further key */
    list(f, (struct filter){.task = f->task,
                            .arg_paths = {SPAN("x"), SPAN("y")},
                            .arg_values = {SPAN("1"), SPAN("2")},
                            .arg_count = 2,
                            .arg_indexed = 1,
                            .args_match = has_them});
    while (status_of(f, s[0].id) == STATUS_SCHEDULED)
        upkeep(f, UPKEEP_PROMOTE);
    succeed(f, s[0].id);
    submit_all(f, &s[3], 1); /* the kept result */
    IS_OK(reader_cache_hits(f->reader, f->task, &hits));
    IS_OK(reader_history(f->reader, s[0].id, now, &history));
    exec_sql(f, "UPDATE cached_results SET until_at = 5 WHERE task = 1");
    upkeep(f, UPKEEP_CACHE);
    submit_all(f, &s[4], 1);
    let_deadline_come(f, s[4].id);
    upkeep(f, UPKEEP_DEADLINE);
    IS_OK(alter(f, ALTER_RETRY, s[4].id));
    IS_OK(alter(f, ALTER_CANCEL, s[4].id));
    IS_OK(alter(f, ALTER_DELETE, s[4].id));
    IS_OK(alter(f, ALTER_DELETE, s[0].id));
    submit_all(f, &s[5], 1);
    struct waited w;
    started(&w, f, s[5].id, 1);
    let_deadline_come(f, s[5].id);
    upkeep(f, UPKEEP_DEADLINE);
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_CANCELLED));
    history_release(&history);
    for (int i = 0; i < 6; i++) {
        buf_release(&of[i].first.text);
        buf_release(&of[i].cached.result);
        buf_release(&of[i].argument_text);
    }
}

/* Everything the store can do, once. */
static void do_everything(struct fixture *f)
{
    static char large[2000];
    memset(large, '4', sizeof large);
    struct submission s = plain(f);
    s.labels = SPAN("{\"a\":\"b\"}");
    s.args = (struct span){large, sizeof large};
    s.key_owner = SPAN("");
    s.key = SPAN("k");
    submit_all(f, &s, 1);
    submit_all(f, &s, 1);
    struct waited w;
    started(&w, f, s.id, 1);
    struct op_progress progress = progress_of(&w, 0.5, SPAN("half"));
    IS_OK(store_do(f->store, &progress.turn.op));
    use_steps_and_messages(f, &w.turn);
    struct log_chunk chunk = {1, SPAN("x")};
    w.finish.log = &chunk;
    tell(f);
    w.finish.log_count = 1;
    w.finish.drop_stdout = true;
    IS_OK(end(&w, f, FINISH_RETRY, STATUS_FAILED));
    started(&w, f, s.id, 2);
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_FAILED));
    list(f, (struct filter){.error = SPAN("boom")});
    IS_OK(alter(f, ALTER_RETRY, s.id));
    started(&w, f, s.id, 3);
    w.finish.result = (struct span){large, sizeof large};
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
    struct invocation row;
    IS_OK(reader_get(f->reader, s.id, VIEW_FULL, &row));
    IS_OK(reader_attempts(f->reader, s.id, ignore_attempt, NULL));
    struct buf out = {0};
    int64_t total, seq = 0;
    IS_OK(reader_log(f->reader, s.id, 0, 0, 100, &out, &total));
    IS_OK(reader_log_after(f->reader, s.id, 0, &seq, 100, &out));
    buf_release(&out);
    uint8_t digest[32];
    IS_OK(reader_find_key(f->reader, SPAN(""), SPAN("k"), &row.id, digest));
    IS_OK(alter(f, ALTER_DELETE, s.id));
    int64_t id = submit(f);
    waited_init(&w, f, id, 1);
    together(f, &w.claim.turn.op, &w.finish.turn.op);
    id = submit(f);
    struct op_alter patch;
    op_alter_init(&patch, ALTER_PATCH, &id, 1);
    patch.set_priority = true;
    IS_OK(store_do(f->store, &patch.op));
    list(f, (struct filter){.statuses = 1u << STATUS_QUEUED});
    list(f, (struct filter){.statuses = 1u << STATUS_RUNNING | 1u << STATUS_FAILED | 1u << STATUS_CANCELLED});
    list(f, (struct filter){.statuses = 1u << STATUS_SCHEDULED});
    list(f, (struct filter){.task = f->task});
    list(f, (struct filter){.label_count = 1, .label_names = {SPAN("a")}, .label_values = {SPAN("b")}});
    list(f, (struct filter){.key = SPAN("k")});
    struct op_refill refill;
    op_refill_init(&refill);
    refill.task = f->task;
    refill.limit = 10;
    IS_OK(store_do(f->store, &refill.op));
    op_refill_release(&refill);
    struct submission soon[2] = {plain(f), plain(f)};
    soon[0].run_at = soon[1].expires_at = clock_now_ms() + 2;
    soon[1].retention_ms = 0;
    submit_all(f, soon, 2);
    while (upkeep(f, UPKEEP_PROMOTE).next_at || upkeep(f, UPKEEP_EXPIRE).next_at)
        ;
    upkeep(f, UPKEEP_PRUNE);
    IS_OK(alter(f, ALTER_CANCEL, id));
    id = submit(f);
    started(&w, f, id, 1);
    IS_OK(alter(f, ALTER_CANCEL, id));
    wait_for_a_child(f);
    suspend_twice(f);
    use_groups(f);
    loop_and_share_slots(f);
    use_particulars(f);
    use_schedules(f);
    store_set_retain_max(f->store, 1);
    upkeep(f, UPKEEP_PRUNE);
    int64_t casualty = submit(f);
    fixture_shut(f);
    fixture_open(f);
    IS_OK(store_recover(
        f->store, &(struct casualty){.id = casualty, .lease = 7, .pays = true, .marked = true, .log = SPAN("a")},
        1, one, NULL));
    fixture_start(f);
}

static const struct {
    const char *part;  /* of the statement */
    const char *index; /* what its plan must name */
} hot[] = {
    {"UPDATE invocations SET status = 3", "INTEGER PRIMARY KEY"},
    {"UPDATE invocations SET status = ?3, finished_at", "INTEGER PRIMARY KEY"},
    {"UPDATE invocations SET status = ?3, attempt = ?4", "INTEGER PRIMARY KEY"},
    {"priority = ?2 AND id > ?3 AND rank IS NULL ORDER BY id",
     "invocations_ready (task=? AND priority=? AND id>?)"},
    {"priority > ?2 AND rank IS NULL ORDER BY priority, id", "invocations_ready (task=? AND priority>?)"},
    {"rank > ?3 AND rank IS NOT NULL ORDER BY rank", "invocations_ranked (task=? AND priority=? AND rank>?)"},
    {"priority > ?2 AND rank IS NOT NULL ORDER BY priority, rank", "invocations_ranked (task=? AND priority>?)"},
    {"MIN(priority)", "invocations_ready (task=? AND priority>?)"},
    {"status = 1 AND run_at <= ?1", "invocations_due (run_at<?)"},
    {"SELECT run_at FROM invocations WHERE status = 1", "invocations_due"},
    {"expires_at <= ?1", "invocations_expiry (expires_at>? AND expires_at<?)"},
    {"SELECT expires_at", "invocations_expiry"},
    {"FROM invocations WHERE prune_at IS NOT NULL AND prune_at <= ?1",
     "invocations_prune (prune_at>? AND prune_at<?)"},
    {"SELECT prune_at FROM invocations", "invocations_prune"},
    {"FROM invocations WHERE key_owner = ?1 AND key = ?2", "invocations_key (key_owner=? AND key=?)"},
    {"i.key_owner = ?3", "invocations_key (key_owner=? AND key=?"},
    {"i.status = 2 AND i.task = ?3", "invocations_ready (task=? AND priority=? AND id>? AND id<?)"},
    {"i.status = 1 AND", "invocations_status (status=? AND id>? AND id<?)"},
    {"i.status = 3 AND", "invocations_status (status=? AND id>? AND id<?)"},
    {"i.status = 6 AND", "invocations_status (status=? AND id>? AND id<?)"},
    {"i.status = 7 AND", "invocations_status (status=? AND id>? AND id<?)"},
    {"i.task = ?3 AND i.id", "invocations_task (task=? AND id>? AND id<?)"},
    {"FROM labels l", "labels_1 (name=? AND value=? AND id>? AND id<?)"},
    {"FROM errors e", "errors_1 (type=? AND id>? AND id<?)"},
    {"SELECT waiter FROM waits WHERE target", "waits_target (target=?"},
    {"s.next_at <= ?1", "schedules_due (next_at>? AND next_at<?)"},
    {"SELECT next_at FROM schedules", "schedules_due (next_at>?)"},
    {"DELETE FROM schedule_waiting WHERE behind", "schedule_waiting_behind (behind=?)"},
    {"FROM schedules WHERE source", "schedules_source (source=? AND id>?)"},
    {"UPDATE waits SET ended = 1 WHERE waiter", "(waiter=? AND target=?)"},
    {"c.parent = ?1 AND c.step = ?2", "children_step (parent=? AND step=?)"},
    {"SELECT parent FROM children", "INTEGER PRIMARY KEY (rowid=?)"},
    {"UPDATE callbacks SET made", "INTEGER PRIMARY KEY (rowid=?)"},
    {"FROM callbacks c JOIN", "INTEGER PRIMARY KEY (rowid=?)"},
    {"FROM callback_places WHERE next_at <= ?1", "callback_places_due (next_at<?)"},
    {"SELECT next_at FROM callback_places", "callback_places_due (next_at>?)"},
    {"FROM deliveries WHERE place", "deliveries_due (place=?)"},
    {"FROM deliveries WHERE owner = ?1 AND n = ?2", "deliveries_1 (owner=? AND n=?)"},
    {"FROM deliveries WHERE owner = ?1 ORDER BY n", "deliveries_1 (owner=?)"},
    {"DELETE FROM deliveries WHERE owner = ?1 AND n <=", "deliveries_1 (owner=? AND n<?)"},
    {"SELECT n, LENGTH(url) FROM deliveries", "deliveries_1 (owner=?)"},
    {"SELECT 1 FROM deliveries", "deliveries_1 (owner=?)"},
    {"UPDATE deliveries", "deliveries_1 (owner=? AND n=?)"},
    {"UPDATE callback_places", "callback_places_1 (place=?)"},
    {"FROM callback_places WHERE place", "callback_places_1 (place=?)"},
    {"SELECT parent, step FROM children", "INTEGER PRIMARY KEY (rowid=?)"},
    {"FROM children WHERE parent = ?1 AND id > ?2", "children_parent (parent=? AND id>?)"},
    {"c.parent = ?3", "children_parent (parent=? AND id>? AND id<?)"},
    {"SELECT target FROM waits", "(waiter=?)"},
    {"SELECT 1 FROM results_kept", "results_kept_target (target=?)"},
    {"SELECT 1 FROM results_kept", "waits_target (target=?)"},
    {"DELETE FROM results_kept", "(waiter=?)"},
    {"AND prune_at > ?1", "invocations_prune (prune_at>?)"},
    {"follows = 1 ORDER BY id", "children_follow (parent=?)"},
    {"holder IS NULL) AND lease_until IS NULL UNION", "invocations_status (status=?)"},
    {"holder IS NULL) AND lease_until IS NULL UNION", "SEARCH invocations USING INTEGER PRIMARY KEY (rowid=?)"},
    {"DELETE FROM labels", "labels_id"},
    {"DELETE FROM errors", "errors_id"},
    {"DELETE FROM payloads", "payloads_1 (id=?"},
    {"DELETE FROM logs WHERE id = ?1 AND seq <= ?2", "logs_1 (id=? AND seq<?)"},
    {"DELETE FROM logs WHERE id = ?1 AND attempt", "logs_1 (id=? AND seq>?)"},
    {"DELETE FROM attempts", "attempts_1 (id=? AND attempt<?)"},
    {"INSERT INTO logs (id, seq, attempt, stream, data) SELECT ?1, ?2", "INTEGER PRIMARY KEY"},
    {"SELECT seq, LENGTH(data) FROM logs WHERE id = ?1 ORDER BY seq", "logs_1 (id=?)"},
    {"FROM details", "INTEGER PRIMARY KEY"},
    {"AND seq > ?2", "logs_1 (id=? AND seq>?)"},
    {"SELECT number, bytes FROM steps", "COVERING INDEX steps_number (id=?)"},
    {"SELECT 1 FROM steps", "steps_1 (id=? AND name=?)"},
    {"NOT EXISTS (SELECT 1 FROM children", "children_step (parent=? AND step=?)"},
    {"INSERT INTO inboxes", "INTEGER PRIMARY KEY"},
    {"FROM inboxes g", "SEARCH g USING INTEGER PRIMARY KEY"},
    {"DELETE FROM inboxes", "INTEGER PRIMARY KEY"},
    {"SELECT seq FROM messages WHERE seq > ?2", "COVERING INDEX messages_id (id=? AND kind=? AND seq>?)"},
    {"SELECT value FROM steps", "steps_1 (id=? AND name=?)"},
    {"FROM steps WHERE id = ?1 ORDER BY number", "steps_number (id=?)"},
    {"DELETE FROM steps", "steps_number (id=? AND number<?)"},
    {"SELECT number FROM messages WHERE id", "messages_id (id=? AND kind=?)"},
    {"SELECT number FROM messages WHERE seq", "INTEGER PRIMARY KEY (rowid=?)"},
    {"kind = 2 AND seq <= ?2 ORDER BY seq DESC", "messages_id (id=? AND kind=? AND seq<?)"},
    {"key_digest FROM messages", "messages_key (id=? AND key_owner=? AND key=?)"},
    {"AND seq > (SELECT CASE WHEN inbox_read", "messages_id (id=? AND kind=? AND seq>?)"},
    {"FROM suspensions WHERE wakes_at IS NOT NULL AND wakes_at <=", "suspensions_due (wakes_at>? AND wakes_at<?)"},
    {"SELECT wakes_at FROM suspensions", "suspensions_due"},
    {"FROM suspensions s JOIN", "INTEGER PRIMARY KEY"},
    {"UPDATE suspensions SET given", "INTEGER PRIMARY KEY"},
    {"SELECT seq, LENGTH(body) FROM messages WHERE id = COALESCE((SELECT loop",
     "messages_id (id=? AND kind=? AND seq>?)"},
    {"UPDATE invocations SET status = 4, lease = NULL", "INTEGER PRIMARY KEY"},
    {"UPDATE invocations SET status = 2, attempt = attempt - 1", "INTEGER PRIMARY KEY"},
    {"FROM messages WHERE seq > ?1 ORDER", "INTEGER PRIMARY KEY (rowid>?)"},
    {"AND kind = ?3 ORDER BY seq", "messages_kind (kind=? AND seq>?)"},
    {"AND kind = ?4 ORDER BY seq", "messages_id (id=? AND kind=? AND seq>?)"},
    {"AND id = ?3 AND kind = 2 ORDER BY seq", "MERGE (UNION ALL)"},
    {"AND id = ?3 AND kind = 2 ORDER BY seq", "messages_id (id=? AND kind=? AND seq>?)"},
    {"SELECT seq FROM messages WHERE id = ?1 AND kind = ?2 AND seq > ?3",
     "messages_id (id=? AND kind=? AND seq>?)"},
    {"SELECT id FROM messages WHERE id > ?1", "messages_id (id>?)"},
    {"SELECT at FROM messages", "INTEGER PRIMARY KEY (rowid<?)"},
    {"LENGTH(body) FROM messages", "messages_id (id=? AND kind=?"},
    {"DELETE FROM messages WHERE id", "messages_id (id=? AND kind=? AND seq<?)"},
    {"UPDATE invocations SET inbox_read", "INTEGER PRIMARY KEY (rowid=?)"},
    {"UPDATE uniques SET taken = 0 WHERE task", "uniques_place (task=? AND key=?)"},
    {"FROM uniques u JOIN invocations", "uniques_place (task=? AND key=?)"},
    {"FROM uniques WHERE task", "uniques_place (task=? AND key=?)"},
    {"UPDATE uniques SET taken = 0 WHERE id", "INTEGER PRIMARY KEY"},
    {"UPDATE uniques SET taken = 1", "INTEGER PRIMARY KEY"},
    {"SELECT task, key, until_at FROM uniques", "INTEGER PRIMARY KEY"},
    {"WHERE NOT EXISTS (SELECT 1 FROM further_keys", "further_keys_1 (key_owner=? AND key=?)"},
    {"FROM further_keys k JOIN invocations i", "further_keys_1 (key_owner=? AND key=?)"},
    {"FROM further_keys WHERE id", "further_keys_id (id=?"},
    {"SELECT source, result FROM cached_results", "cached_results_1 (task=? AND key=?)"},
    {"FROM cached_results WHERE until_at <=", "cached_results_until (until_at<?)"},
    {"SELECT until_at FROM cached_results", "cached_results_until"},
    {"DELETE FROM cached_results", "cached_results_1 (task=? AND key=?)"},
    {"INSERT INTO cached_results", "INTEGER PRIMARY KEY"},
    {"FROM deadlines d CROSS JOIN", "deadlines_at (at<?)"},
    {"SELECT at FROM deadlines WHERE open", "deadlines_at"},
    {"SELECT at FROM deadlines WHERE id", "INTEGER PRIMARY KEY"},
    {"UPDATE deadlines", "INTEGER PRIMARY KEY"},
    {"FROM arguments a", "arguments_1 (task=? AND term=? AND id>? AND id<?)"},
    {"DELETE FROM arguments", "arguments_id (id=?)"},
    {"FROM history WHERE id", "history_1 (id=?"},
    {"SELECT attempt, started_at, worker FROM attempts", "attempts_1 (id=?)"},
    {"SELECT COALESCE(i.args, p.data)", "payloads_1 (id=? AND kind=?)"},
    {"FROM iterations n JOIN loops l", "SEARCH n USING INTEGER PRIMARY KEY (rowid=?)"},
    {"FROM loops WHERE id", "INTEGER PRIMARY KEY (rowid=?)"},
    {"FROM loops WHERE name", "loops_name (name=?)"},
    {"UPDATE loops SET", "INTEGER PRIMARY KEY (rowid=?)"},
    {"ticket IS NOT NULL ORDER BY ticket", "loops_ticket (set_id=? AND ticket>?)"},
    {"slot IS NOT NULL ORDER BY slot", "loops_slot (set_id=? AND slot>?)"},
    {"FROM loops WHERE due_at IS NOT NULL AND", "loops_due (due_at>? AND due_at<?)"},
    {"FROM loops WHERE prune_at IS NOT NULL AND", "loops_prune (prune_at>? AND prune_at<?)"},
    {"FROM loops WHERE set_id = ?1 AND id >", "loops_set (set_id=? AND id>?)"},
    {"l.set_id = ?3", "loops_set (set_id=? AND id>? AND id<?)"},
    {"l.status = ?3", "loops_status (status=? AND id>? AND id<?)"},
    {"iterations n CROSS JOIN", "iterations_loop (loop=? AND id>? AND id<?)"},
    {"DELETE FROM messages WHERE seq = (SELECT", "INTEGER PRIMARY KEY (rowid=?)"},
    {"FROM groups WHERE prune_at IS NOT NULL AND prune_at <= ?1", "groups_prune (prune_at>? AND prune_at<?)"},
    {"FROM groups WHERE release_by IS NOT NULL AND", "groups_release (release_by>? AND release_by<?)"},
    {"FROM holds WHERE release_by IS NOT NULL AND", "holds_release (release_by>? AND release_by<?)"},
    {"FROM groups WHERE key_owner", "groups_key (key_owner=? AND key=?)"},
    {"UPDATE groups SET held", "INTEGER PRIMARY KEY (rowid=?)"},
    {"FROM members m LEFT JOIN", "members_1 (grp=? AND id>?"},
    {"FROM members m CROSS JOIN", "members_1 (grp=? AND id>?"},
    {"FROM completions e CROSS JOIN", "completions_1 (grp=? AND number>?)"},
    {"FROM dependencies WHERE predecessor = ?1 AND id > ?2", "dependencies_predecessor (predecessor=? AND id>?)"},
    {"SET state = 1 WHERE predecessor", "dependencies_predecessor (predecessor=? AND id=? AND state=?)"},
    {"SELECT predecessor FROM dependencies", "dependencies_1 (id=?)"},
};
enum { HOT = sizeof hot / sizeof *hot };

/* These tables stay small, or are read whole when the store is opened. */
static bool may_be_scanned(const char *detail, const char *sql)
{
    return strstr(detail, "SCAN tasks") || strstr(detail, "SCAN counters") || strstr(detail, "schema_version") ||
           strstr(detail, "SCAN follow_ups") || strstr(detail, "SCAN groups_making") ||
           strstr(detail, "CONSTANT ROW") || strstr(sql, "MAX(id) FROM invocations") ||
           (strncmp(detail, "SCAN invocations USING", 22) == 0 && strstr(sql, "LIMIT 1"));
}

static void check_plan(struct fixture *f, const char *sql, int hits[HOT])
{
    struct db_stmt *stmt;
    struct buf text = {0}, plan = {0};
    buf_addf(&text, "EXPLAIN QUERY PLAN %s", sql);
    IS_OK(db_prepare(f->raw, buf_cstr(&text), &stmt));
    bool row;
    while (db_step(stmt, &row) == OK && row) {
        struct span detail = db_span(stmt, 3);
        char line[300];
        snprintf(line, sizeof line, "%.*s", (int)detail.len, detail.p);
        cr_expect(!strstr(line, "TEMP B-TREE"), "sorts: %s", sql);
        cr_expect(strncmp(line, "SCAN", 4) != 0 || may_be_scanned(line, sql), "%s: %s", line, sql);
        buf_addf(&plan, "%s; ", line);
    }
    for (int i = 0; i < HOT; i++)
        if (strstr(sql, hot[i].part)) {
            hits[i]++;
            cr_expect(strstr(buf_cstr(&plan), hot[i].index), "%s\n  has the plan %s\n  without %s", sql,
                      buf_cstr(&plan), hot[i].index);
        }
    db_finalize(stmt);
    buf_release(&text);
    buf_release(&plan);
}

static bool has_plan(const char *sql)
{
    return strncmp(sql, "SELECT", 6) == 0 || strncmp(sql, "UPDATE", 6) == 0 || strncmp(sql, "DELETE", 6) == 0 ||
           strncmp(sql, "INSERT", 6) == 0;
}

STORE_TEST(each_statement_uses_the_index_that_was_made_for_it)
{
    if (strcmp(f->driver, "sqlite") != 0)
        return;
    fixture_shut(f);
    cr_assert_eq(sqlite3_auto_extension((void (*)(void))watch_connection), SQLITE_OK);
    fixture_open(f);
    fixture_start(f);
    do_everything(f);
    pthread_mutex_lock(&texts_lock);
    int count = text_count;
    pthread_mutex_unlock(&texts_lock);
    int hits[HOT] = {0};
    cr_assert_gt(count, 60);
    for (int i = 0; i < count; i++)
        if (has_plan(texts[i]))
            check_plan(f, texts[i], hits);
    for (int i = 0; i < HOT; i++)
        cr_expect_gt(hits[i], 0, "no statement with \"%s\" ran", hot[i].part);
    check_counters(f);
}
