#include "tests/store/support.h"

#include "base/clock.h"
#include "store/internal.h"

#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const struct driver_row {
    const char *name;
    const char *url; /* %s: the folder */
} drivers[] = {
    {"sqlite", "%s/errand.db"},
};

static void heard_changes(void *context, const struct change *changes, int count)
{
    struct fixture *f = context;
    pthread_mutex_lock(&f->lock);
    for (int i = 0; i < count && f->change_count < CHANGES_KEPT; i++)
        f->changes[f->change_count++] = changes[i];
    pthread_mutex_unlock(&f->lock);
    if (f->watch.call)
        f->watch.call(f, changes, count);
}

static void heard_health(void *context, bool healthy)
{
    struct fixture *f = context;
    pthread_mutex_lock(&f->lock);
    if (healthy)
        f->healthy_again++;
    else
        f->unhealthy++;
    pthread_cond_broadcast(&f->heard);
    pthread_mutex_unlock(&f->lock);
}

void fixture_open(struct fixture *f)
{
    struct reason why = {""};
    struct store_options options = {.url = f->url, .node = 1, .retain_max = f->retain_max};
    enum err err = store_open(&options, &f->store, &why);
    cr_assert_eq(err, OK, "%s: %s", f->driver, why.text);
    store_listen(f->store,
                 &(struct store_listener){.committed = heard_changes, .health = heard_health, .context = f});
    IS_OK(store_task_id(f->store, SPAN("alpha"), &f->task));
    IS_OK(store_task_id(f->store, SPAN("beta"), &f->other));
}

void fixture_start(struct fixture *f)
{
    IS_OK(store_start(f->store, NULL));
    IS_OK(reader_open(f->store, &f->reader, NULL));
    IS_OK(db_open(f->url, DB_READER, &f->raw, NULL));
}

void fixture_shut(struct fixture *f)
{
    store_stop(f->store);
    reader_close(f->reader);
    db_close(f->raw);
    store_close(f->store);
    f->reader = NULL;
    f->raw = NULL;
    f->store = NULL;
}

void fixture_again(struct fixture *f)
{
    fixture_shut(f);
    fixture_open(f);
    fixture_start(f);
}

void each_driver(fixture_test test, bool start)
{
    for (size_t i = 0; i < sizeof drivers / sizeof *drivers; i++) {
        struct fixture *f = xcalloc(1, sizeof *f);
        f->driver = drivers[i].name;
        pthread_mutex_init(&f->lock, NULL);
        pthread_cond_init(&f->heard, NULL);
        snprintf(f->folder, sizeof f->folder, "/tmp/errand-test-XXXXXX");
        cr_assert_not_null(mkdtemp(f->folder));
        snprintf(f->url, sizeof f->url, drivers[i].url, f->folder);
        fixture_open(f);
        if (start)
            fixture_start(f);
        test(f);
        if (f->store)
            fixture_shut(f);
        char command[128];
        snprintf(command, sizeof command, "rm -rf %s", f->folder);
        cr_expect_eq(system(command), 0);
        free(f);
    }
}

int64_t ask(struct fixture *f, const char *sql)
{
    struct db_stmt *stmt;
    bool row;
    IS_OK(db_prepare(f->raw, sql, &stmt));
    enum err err = db_step(stmt, &row);
    int64_t value = err == OK && row ? db_int(stmt, 0) : -1;
    db_finalize(stmt);
    cr_assert_eq(err, OK, "%s", sql);
    return value;
}

int64_t askf(struct fixture *f, const char *format, ...)
{
    char sql[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(sql, sizeof sql, format, args);
    va_end(args);
    return ask(f, sql);
}

void exec_sql(struct fixture *f, const char *sql)
{
    sqlite3 *handle;
    char *why = NULL;
    cr_assert_eq(sqlite3_open(f->url, &handle), SQLITE_OK);
    sqlite3_busy_timeout(handle, 10000);
    int code = sqlite3_exec(handle, sql, NULL, NULL, &why);
    cr_assert_eq(code, SQLITE_OK, "%s: %s", sql, why);
    sqlite3_close(handle);
}

struct submission plain(const struct fixture *f)
{
    return (struct submission){.task = f->task, .priority = 1, .retention_ms = 86400000, .args = SPAN("{}")};
}

void submit_all(struct fixture *f, struct submission *items, int count)
{
    struct op_submit op;
    op_submit_init(&op, items, count);
    IS_OK(store_do(f->store, &op.op));
}

int64_t submit(struct fixture *f)
{
    struct submission s = plain(f);
    submit_all(f, &s, 1);
    IS_OK(s.err);
    return s.id;
}

static void claimed(struct op *op)
{
    struct waited *w = op->owner;
    w->claim_err = op->err;
    sem_post(&w->claimed);
}

static void finished(struct op *op)
{
    struct waited *w = op->owner;
    w->finish_err = op->err;
    sem_post(&w->finished);
}

void waited_init(struct waited *w, struct fixture *f, int64_t id, int attempt)
{
    memset(w, 0, sizeof *w);
    w->turn = (struct turn){.id = id, .lease = lease_new(), .task = f->task, .attempt = attempt};
    op_claim_init(&w->claim, &w->turn);
    op_finish_init(&w->finish, &w->turn);
    w->claim.turn.op.owner = w->finish.turn.op.owner = w;
    w->claim.turn.op.done = claimed;
    w->finish.turn.op.done = finished;
    sem_init(&w->claimed, 0, 0);
    sem_init(&w->finished, 0, 0);
    w->claim.worker = SPAN("slot-1");
    w->claim.started_at = clock_now_ms();
    w->finish.retention_ms = 86400000;
    w->finish.finished_at = w->claim.started_at + 5;
    w->finish.status = STATUS_SUCCEEDED;
}

void waited_task(struct waited *w, int task)
{
    w->turn.task = w->claim.turn.turn.task = w->finish.turn.turn.task = task;
}

struct op_progress progress_of(const struct waited *w, double value, struct span note)
{
    struct op_progress op;
    op_progress_init(&op, &w->turn);
    op.value = value;
    op.note = note;
    return op;
}

struct op_log log_of(const struct waited *w, int64_t from, const struct log_chunk *chunks, int count)
{
    struct op_log op;
    op_log_init(&op, &w->turn);
    op.from = from;
    op.chunks = chunks;
    op.count = count;
    return op;
}

void queue_claim(struct waited *w, struct fixture *f)
{
    store_queue(f->store, &w->claim.turn.op);
}

void queue_finish(struct waited *w, struct fixture *f)
{
    store_queue(f->store, &w->finish.turn.op);
}

void together(struct fixture *f, struct op *first, struct op *second)
{
    first->next = second;
    store_queue_list(f->store, first, second, 2);
}

enum err wait_claimed(struct waited *w)
{
    sem_wait(&w->claimed);
    return w->claim_err;
}

enum err wait_finished(struct waited *w)
{
    sem_wait(&w->finished);
    return w->finish_err;
}

void started(struct waited *w, struct fixture *f, int64_t id, int attempt)
{
    waited_init(w, f, id, attempt);
    w->claim.failures = row_of(f, id).failures;
    w->claim.flags = (unsigned)askf(f, "SELECT flags FROM invocations WHERE id = %lld", (long long)id);
    queue_claim(w, f);
    IS_OK(wait_claimed(w));
}

enum err end(struct waited *w, struct fixture *f, enum finish_next next, enum status status)
{
    w->finish.next = next;
    w->finish.status = status;
    if (status == STATUS_FAILED && !w->finish.error.p)
        set_error(w, "{\"type\":\"boom\",\"message\":\"it broke\"}", "boom");
    queue_finish(w, f);
    return wait_finished(w);
}

void set_error(struct waited *w, const char *json, const char *type)
{
    w->finish.error = span_of(json);
    w->finish.error_type = span_of(type);
}

static void unpark(struct op *op)
{
    struct parked *parked = op->owner;
    sem_post(&parked->done);
}

void park(struct op *op, struct parked *parked)
{
    sem_init(&parked->done, 0, 0);
    op->owner = parked;
    op->done = unpark;
}

void wait_parked(struct parked *parked)
{
    sem_wait(&parked->done);
}

enum err alter(struct fixture *f, enum alter what, int64_t id)
{
    struct op_alter op;
    op_alter_init(&op, what, &id, 1);
    return store_do(f->store, &op.op);
}

struct op_upkeep upkeep(struct fixture *f, enum upkeep what)
{
    struct op_upkeep op;
    op_upkeep_init(&op, what);
    IS_OK(store_do(f->store, &op.op));
    return op;
}

struct invocation row_of(struct fixture *f, int64_t id)
{
    struct invocation row;
    IS_OK(reader_get(f->reader, id, VIEW_FULL, &row));
    return row;
}

enum status status_of(struct fixture *f, int64_t id)
{
    return row_of(f, id).status;
}

int64_t succeed(struct fixture *f, int64_t id)
{
    struct waited w;
    started(&w, f, id, 1);
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
    return id;
}

int64_t fail_for_good(struct fixture *f, int64_t id)
{
    struct waited w;
    started(&w, f, id, 1);
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_FAILED));
    return id;
}

int64_t count_of(struct fixture *f, int task, enum status status)
{
    bool paused;
    int64_t counts[STATUS_SLOTS];
    cr_assert(store_task_counts(f->store, task, &paused, counts));
    return counts[status];
}

void check_counters(struct fixture *f)
{
    int count;
    struct store_task *tasks = store_tasks(f->store, &count);
    for (int i = 0; i < count; i++)
        for (int s = 1; s < STATUS_SLOTS; s++) {
            int64_t real =
                askf(f, "SELECT COUNT(*) FROM invocations WHERE task = %d AND status = %d", tasks[i].id, s);
            int64_t disk = askf(f, "SELECT COALESCE(SUM(n), 0) FROM counters WHERE task = %d AND status = %d",
                                tasks[i].id, s);
            cr_assert_eq(tasks[i].counts[s], real, "%s in memory: %lld, real %lld of status %d", tasks[i].name,
                         (long long)tasks[i].counts[s], (long long)real, s);
            cr_assert_eq(disk, real, "%s on disk: %lld, real %lld of status %d", tasks[i].name, (long long)disk,
                         (long long)real, s);
        }
    store_tasks_free(tasks, count);
    static const char *const satellites[] = {"payloads",  "labels",     "errors",   "details",    "inboxes",
                                             "callbacks", "iterations", "uniques",  "cache_keys", "cached_from",
                                             "history",   "arguments",  "deadlines"};
    for (size_t i = 0; i < sizeof satellites / sizeof *satellites; i++)
        cr_assert_eq(askf(f,
                          "SELECT COUNT(*) FROM %s WHERE id NOT IN (SELECT id FROM invocations) "
                          "AND id NOT IN (SELECT id FROM loops)",
                          satellites[i]),
                     0, "orphans in %s", satellites[i]);
    static const char *const followed[] = {"attempts", "logs", "steps", "messages", "further_keys"};
    for (size_t i = 0; i < sizeof followed / sizeof *followed; i++)
        cr_assert_eq(askf(f,
                          "SELECT COUNT(*) FROM %s WHERE id NOT IN (SELECT id FROM invocations) "
                          "AND id NOT IN (SELECT id FROM follow_ups) AND id NOT IN (SELECT id FROM loops)",
                          followed[i]),
                     0, "orphans in %s", followed[i]);
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM deliveries WHERE owner NOT IN (SELECT id FROM invocations) "
                        "AND owner NOT IN (SELECT id FROM follow_ups)"),
                 0, "orphans in deliveries");
    cr_assert_eq(
        ask(f, "SELECT COUNT(*) FROM errors WHERE id NOT IN (SELECT id FROM invocations WHERE status = 6)"), 0,
        "errors of what did not fail");
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM invocations WHERE grp IS NULL AND (status IN (5, 6, 7)) <> "
                        "(prune_at IS NOT NULL)"),
                 0, "prune_at is for final ones, and all of them");
}

void check_integrity(const char *path)
{
    struct db *db;
    struct db_stmt *stmt;
    bool row;
    IS_OK(db_open(path, DB_READER, &db, NULL));
    IS_OK(db_prepare(db, "PRAGMA integrity_check", &stmt));
    IS_OK(db_step(stmt, &row));
    cr_assert(row && span_is(db_span(stmt, 0), "ok"));
    db_finalize(stmt);
    db_close(db);
}

uint32_t dice(uint64_t *state, uint32_t sides)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (uint32_t)((*state >> 20) % sides);
}

/* --- what an end does, alone --- */

static enum err apply_read(struct tx *tx, struct op *base)
{
    struct op_messages_read *op = (struct op_messages_read *)base;
    const struct turn *turn = &op->turn.turn;
    enum err err = messages_mark_read(tx, turn, op->up_to_seq);
    if (err == OK && db_changes(tx->db) == 0) /* read before, or lost? */
        return turn_under_way(tx, turn);
    if (err == OK)
        tx_change(tx, turn->id, turn->task, STATUS_RUNNING, STATUS_RUNNING);
    return err;
}

void op_messages_read_init(struct op_messages_read *op, const struct turn *turn)
{
    static const struct op_class class = {.name = "messages_read", .apply = apply_read, .turn = TURN_GOES_ON};
    *op = (struct op_messages_read){.turn.turn = *turn};
    op_init(&op->turn.op, &class);
}
