#include "base/clock.h"
#include "tests/store/support.h"

#include <stdio.h>

/* What is read of one, copied. */
struct seen {
    struct schedule row;
    char name[SCHEDULE_NAME_MAX + 1], definition[200], problem[200];
    int count;
};

static void copy(char *to, size_t size, struct span from)
{
    snprintf(to, size, "%.*s", (int)from.len, from.p ? from.p : "");
}

static bool see(void *context, const struct schedule *row)
{
    struct seen *seen = context;
    seen->row = *row;
    seen->count++;
    copy(seen->name, sizeof seen->name, row->name);
    copy(seen->definition, sizeof seen->definition, row->definition);
    copy(seen->problem, sizeof seen->problem, row->problem);
    return true;
}

static struct seen look(struct fixture *f, const char *name)
{
    struct seen seen = {0};
    enum err err = reader_schedule(f->reader, span_of(name), see, &seen);
    cr_assert(err == OK || err == ERR_NOT_FOUND);
    return seen;
}

static enum err put(struct fixture *f, const char *name, const char *definition, int64_t now, int64_t next_at)
{
    struct op_schedule_put op;
    op_schedule_put_init(&op);
    op.put = (struct schedule_put){span_of(name), span_of(definition), next_at};
    op.now = now;
    return store_do(f->store, &op.op);
}

/* A plan of a row as it was seen: `count` submissions, and the next time. */
static struct op_schedule_fire plan(struct fixture *f, const struct seen *seen, struct submission *items,
                                    const int64_t *due, int count, int64_t next_at)
{
    struct op_schedule_fire op;
    op_schedule_fire_init(&op);
    op.id = seen->row.id;
    op.moves = true;
    op.version = seen->row.version;
    op.believed_next = seen->row.next_at;
    op.until = next_at - 1;
    op.next_at = next_at;
    op.items = items;
    op.due = due;
    op.count = count;
    for (int i = 0; i < count; i++)
        items[i] = plain(f);
    return op;
}

static int64_t count_all(struct fixture *f)
{
    return ask(f, "SELECT COUNT(*) FROM invocations");
}

STORE_TEST(a_plan_that_is_late_changes_nothing)
{
    struct submission s[1];
    static const int64_t due[] = {2000};
    IS_OK(put(f, "a", "{1}", 1000, 2000));
    struct seen seen = look(f, "a");
    struct op_schedule_fire op = plan(f, &seen, s, due, 1, 3000), late = plan(f, &seen, s, due, 1, 3000);
    IS_OK(store_do(f->store, &op.op));
    cr_assert_eq(store_do(f->store, &late.op), ERR_CONFLICT); /* by its next time */
    seen = look(f, "a");
    cr_assert_eq(seen.row.next_at, 3000);
    cr_assert_eq(seen.row.last_at, 2000);
    cr_assert_eq(seen.row.last_id, s[0].id);
    IS_OK(put(f, "a", "{2}", 2500, 3000));
    late = plan(f, &seen, s, due, 1, 4000);
    cr_assert_eq(store_do(f->store, &late.op), ERR_CONFLICT); /* by its version */
    cr_assert_eq(count_all(f), 1);
    check_counters(f);
}

STORE_TEST(the_same_definition_changes_nothing)
{
    IS_OK(put(f, "a", "{1}", 1000, 2000));
    struct seen before = look(f, "a");
    IS_OK(put(f, "a", "{1}", 5000, 6000));
    struct seen after = look(f, "a");
    cr_assert_eq(after.row.version, before.row.version);
    cr_assert_eq(after.row.next_at, 2000);
    IS_OK(put(f, "a", "{2}", 5000, 6000));
    after = look(f, "a");
    cr_assert(after.row.version > before.row.version && after.row.next_at == 6000 && after.row.until == 5000);
    cr_assert_eq(after.row.id, before.row.id);
}

STORE_TEST(the_file_has_its_own_and_no_others)
{
    struct schedule_put items[] = {{SPAN("a"), SPAN("{1}"), 2000}, {SPAN("b"), SPAN("{1}"), 2000}};
    struct op_schedule_sync sync;
    struct op_schedule_remove remove;
    IS_OK(put(f, "b", "{9}", 1000, 2000));
    IS_OK(put(f, "mine", "{9}", 1000, 2000));
    op_schedule_sync_init(&sync);
    sync.items = items;
    sync.count = 2;
    sync.now = 1000;
    IS_OK(store_do(f->store, &sync.op));
    cr_assert_eq(look(f, "b").row.source, SCHEDULE_OF_FILE);
    cr_assert_str_eq(look(f, "b").definition, "{1}");
    cr_assert_eq(put(f, "a", "{2}", 1000, 2000), ERR_CONFLICT);
    op_schedule_remove_init(&remove, SPAN("a"));
    cr_assert_eq(store_do(f->store, &remove.op), ERR_CONFLICT);
    sync.count = 1;
    IS_OK(store_do(f->store, &sync.op));
    cr_assert_eq(look(f, "a").count, 1);
    cr_assert_eq(look(f, "b").count, 0);
    cr_assert_eq(look(f, "mine").count, 1);
    op_schedule_remove_init(&remove, SPAN("mine"));
    IS_OK(store_do(f->store, &remove.op));
    op_schedule_remove_init(&remove, SPAN("mine"));
    cr_assert_eq(store_do(f->store, &remove.op), ERR_NOT_FOUND);
}

STORE_TEST(a_paused_one_is_not_due_and_a_resumed_one_begins_then)
{
    struct op_schedule_pause op;
    struct seen due = {0};
    int64_t next;
    IS_OK(put(f, "a", "{1}", 1000, 2000));
    IS_OK(put(f, "b", "{1}", 1000, 7000));
    op_schedule_pause_init(&op);
    op.id = look(f, "a").row.id;
    op.version = 1;
    op.paused = true;
    op.now = 1500;
    IS_OK(store_do(f->store, &op.op));
    cr_assert_eq(store_do(f->store, &op.op), ERR_CONFLICT); /* another version by now */
    IS_OK(reader_schedules_due(f->reader, 5000, 10, see, &due));
    cr_assert_eq(due.count, 0);
    IS_OK(put(f, "a", "{2}", 1000, 2000)); /* stays paused */
    cr_assert(look(f, "a").row.paused && !look(f, "a").row.next_at);
    op.version = look(f, "a").row.version;
    op.paused = false;
    op.now = 4000;
    op.next_at = 4500;
    IS_OK(store_do(f->store, &op.op));
    IS_OK(reader_schedules_due(f->reader, 5000, 10, see, &due));
    cr_assert(due.count == 1 && due.row.until == 4000);
    IS_OK(reader_schedules_next(f->reader, 5000, &next));
    cr_assert_eq(next, 7000);
}

/* --- while the last one is unfinished ------------------------------------------------- */

struct overlapping {
    struct submission first[1], items[2];
    struct seen seen;
};

static const int64_t due_first[] = {2000}, due_more[] = {3000, 3500};

/* The first one is there, and runs. */
static void begin(struct overlapping *o, struct fixture *f, struct waited *w)
{
    IS_OK(put(f, "a", "{1}", 1000, 2000));
    o->seen = look(f, "a");
    struct op_schedule_fire op = plan(f, &o->seen, o->first, due_first, 1, 3000);
    IS_OK(store_do(f->store, &op.op));
    if (w)
        started(w, f, o->first[0].id, 1);
    o->seen = look(f, "a");
}

static struct op_schedule_fire more(struct overlapping *o, struct fixture *f, enum schedule_overlap overlap)
{
    struct op_schedule_fire op = plan(f, &o->seen, o->items, due_more, 2, o->seen.row.next_at + 1000);
    op.overlap = overlap;
    for (int i = 0; i < 2; i++) {
        o->items[i].args = i ? SPAN("\"second\"") : SPAN("\"first\"");
        o->items[i].labels = SPAN("{\"a\":\"b\"}");
        o->items[i].expires_at = clock_now_ms() + 100000;
    }
    IS_OK(store_do(f->store, &op.op));
    o->seen = look(f, "a");
    return op;
}

STORE_TEST(overlap_says_what_is_made_while_the_last_one_is_unfinished)
{
    static const struct {
        enum schedule_overlap overlap;
        int made, skipped;
        bool waits;
    } rows[] = {
        {OVERLAP_ALLOW, 2, 0, false},
        {OVERLAP_SKIP, 0, 2, false},
        {OVERLAP_QUEUE, 0, 1, true},
        {OVERLAP_CANCEL, 0, 1, true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct overlapping o;
        struct waited w;
        begin(&o, f, &w);
        struct op_schedule_fire op = more(&o, f, rows[i].overlap);
        cr_expect(op.made == rows[i].made && op.skipped == rows[i].skipped && op.waits == rows[i].waits,
                  "row %zu: %d, %d, %d", i, op.made, op.skipped, op.waits);
        cr_expect_eq(o.seen.row.skipped, rows[i].skipped, "row %zu", i);
        struct op_schedule_remove remove;
        op_schedule_remove_init(&remove, SPAN("a"));
        IS_OK(store_do(f->store, &remove.op));
        IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
    }
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM schedule_waiting"), 0);
    check_counters(f);
}

STORE_TEST(what_waits_is_made_by_the_end_of_the_one_before)
{
    struct overlapping o;
    struct waited w;
    begin(&o, f, &w);
    more(&o, f, OVERLAP_QUEUE);
    cr_assert_eq(o.seen.row.waiting_at, 3000); /* the first of the two */
    more(&o, f, OVERLAP_QUEUE);
    cr_assert_eq(o.seen.row.skipped, 3);
    cr_assert_eq(count_all(f), 1);
    IS_OK(end(&w, f, FINISH_RETRY, STATUS_FAILED)); /* not its end */
    cr_assert_eq(count_all(f), 1);
    started(&w, f, o.first[0].id, 2);
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
    cr_assert_eq(count_all(f), 2);
    o.seen = look(f, "a");
    struct invocation row = row_of(f, o.seen.row.last_id);
    IS_SPAN(row.args, "\"first\"");
    IS_SPAN(row.labels, "{\"a\":\"b\"}");
    cr_assert(row.expires_at > clock_now_ms() && row.status == STATUS_QUEUED);
    cr_assert(!o.seen.row.waiting_at && o.seen.row.last_at == 3000);
    succeed(f, o.seen.row.last_id);
    cr_assert_eq(count_all(f), 2);
    check_counters(f);
}

/* Cancelled while it is queued, it is final at once, and the newest runs. */
STORE_TEST(cancel_of_one_that_has_not_started_makes_the_new_ones_at_once)
{
    struct overlapping o;
    begin(&o, f, NULL);
    struct op_schedule_fire op = more(&o, f, OVERLAP_CANCEL);
    cr_assert(op.made == 2 && !op.waits);
    cr_assert_eq(status_of(f, o.first[0].id), STATUS_CANCELLED);
    check_counters(f);
}

STORE_TEST(cancel_of_one_that_runs_lets_the_newest_wait_for_its_end)
{
    struct overlapping o;
    struct waited w;
    begin(&o, f, &w);
    more(&o, f, OVERLAP_CANCEL);
    more(&o, f, OVERLAP_CANCEL); /* the one that waited gives way */
    cr_assert_eq(o.seen.row.waiting_at, 3500);
    cr_assert_eq(o.seen.row.skipped, 3);
    set_error(&w, "{\"type\":\"x\"}", "x");
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_FAILED));
    cr_assert_eq(status_of(f, o.first[0].id), STATUS_CANCELLED);
    cr_assert_eq(count_all(f), 2);
    IS_SPAN(row_of(f, look(f, "a").row.last_id).args, "\"second\"");
    check_counters(f);
}

/* The cancellation of what is queued behind goes another way than a turn's end. */
STORE_TEST(a_client_that_cancels_the_one_before_lets_the_next_one_run)
{
    struct overlapping o;
    begin(&o, f, NULL);
    more(&o, f, OVERLAP_QUEUE);
    IS_OK(alter(f, ALTER_CANCEL, o.first[0].id));
    cr_assert_eq(count_all(f), 2);
    cr_assert_eq(status_of(f, look(f, "a").row.last_id), STATUS_QUEUED);
    check_counters(f);
}

STORE_TEST(a_full_queue_is_the_schedules_problem)
{
    struct submission s[2];
    static const int64_t due[] = {2000, 2001};
    IS_OK(put(f, "a", "{1}", 1000, 2000));
    struct seen seen = look(f, "a");
    struct op_schedule_fire op = plan(f, &seen, s, due, 2, 3000);
    s[0].max_queued = s[1].max_queued = 1;
    IS_OK(store_do(f->store, &op.op));
    cr_assert(op.made == 1 && op.skipped == 1 && s[1].err == ERR_LIMIT);
    seen = look(f, "a");
    cr_assert_eq(seen.row.skipped, 1);
    cr_assert_not_null(strstr(seen.problem, "max_queued"));
    check_counters(f);
}

STORE_TEST(schedules_are_listed_in_order_and_survive)
{
    char name[16];
    for (int i = 0; i < 5; i++) {
        snprintf(name, sizeof name, "s%d", i);
        IS_OK(put(f, name, "{1}", 1000, 2000 + i));
    }
    fixture_again(f);
    struct seen seen = {0};
    IS_OK(reader_schedules(f->reader, 0, 3, see, &seen));
    cr_assert(seen.count == 3);
    cr_assert_str_eq(seen.name, "s2");
    IS_OK(reader_schedules(f->reader, seen.row.id, 10, see, &seen));
    cr_assert(seen.count == 5);
    cr_assert_str_eq(seen.name, "s4");
}
