/* The store against bare SQLite: the same rows into the same schema, on the
 * same disk in the same run.
 *
 *     store_bench [ROWS]     rows a second, and the ratio (TMPDIR=/dev/shm: without the disk)
 *     store_bench stress [S] all operations from several threads for S seconds,
 *                            for ThreadSanitizer; checks the counters at the end */
#include "base/clock.h"
#include "store/internal.h"
#include "store/store.h"

#include <assert.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { ROWS = 100000, THREADS = 3 };

static char folder[200];
static char url[256];

static struct store *open_store(const char *name, int *task)
{
    struct store *store;
    struct reason why = {""};
    snprintf(url, sizeof url, "%s/%s", folder, name);
    enum err err = store_open(&(struct store_options){.url = url, .node = 1}, &store, &why);
    if (err == OK)
        err = store_task_id(store, SPAN("bench"), task);
    if (err == OK)
        err = store_start(store, &why);
    if (err != OK) {
        fprintf(stderr, "%s: %s\n", url, why.text);
        exit(1);
    }
    return store;
}

static void close_store(struct store *store)
{
    store_stop(store);
    store_close(store);
}

static struct submission sample(int task)
{
    return (struct submission){.task = task,
                               .priority = 1,
                               .retention_ms = 86400000,
                               .args = SPAN("{\"x\": 1, \"name\": \"a short one\"}")};
}

static double rate(int rows, int64_t began_us)
{
    return rows * 1e6 / (double)(clock_mono_us() - began_us);
}

/* --- submits: each its own op, as from that many clients at once ----------------- */

static sem_t batch_done;
static int batch_left;

static void one_done(struct op *op)
{
    assert(op->err == OK);
    if (--batch_left == 0)
        sem_post(&batch_done);
}

static double bench_submits(int rows, int batch)
{
    int task;
    struct store *store = open_store("submits.db", &task);
    struct op_submit *ops = xcalloc((size_t)batch, sizeof *ops);
    struct submission *s = xcalloc((size_t)batch, sizeof *s);
    int64_t began = clock_mono_us();
    for (int at = 0; at < rows; at += batch) {
        batch_left = batch;
        for (int i = 0; i < batch; i++) {
            s[i] = sample(task);
            op_submit_init(&ops[i], &s[i], 1);
            ops[i].op.done = one_done;
            ops[i].op.next = i + 1 < batch ? &ops[i + 1].op : NULL;
        }
        store_queue_list(store, &ops[0].op, &ops[batch - 1].op, batch);
        sem_wait(&batch_done);
    }
    double result = rate(rows, began);
    close_store(store);
    unlink(url);
    free(ops);
    free(s);
    return result;
}

static double bare_submits(int rows, int batch)
{
    int task;
    close_store(open_store("bare.db", &task)); /* makes the schema */
    struct db *db;
    if (db_open(url, DB_WRITER, &db, NULL) != OK)
        exit(1);
    struct id_source ids = {1, 0};
    int64_t began = clock_mono_us();
    bool ok = true;
    for (int at = 0; at < rows && ok; at += batch) {
        ok = db_begin(db) == OK;
        for (int i = 0; i < batch && ok; i++) {
            struct submission s = sample(task);
            ok = DB_EXECUTE(db,
                            "INSERT INTO invocations (id, task, status, priority, attempt, max_retries, "
                            "retention_ms, flags, args) VALUES ($1, $2, 2, $3, 0, 0, $4, 0, $5)",
                            v_int(id_next(&ids, clock_now_ms())), v_int(task), v_int(s.priority),
                            v_int(s.retention_ms), v_text(s.args)) == OK;
        }
        ok = ok && db_commit(db) == OK;
    }
    assert(ok);
    double result = rate(rows, began);
    db_close(db);
    unlink(url);
    return result;
}

/* --- claims and finishes that meet ------------------------------------------------------- */

static void finish_done(struct op *op)
{
    assert(op->err == OK);
    if (--batch_left == 0)
        sem_post(&batch_done);
}

static void claim_done(struct op *op)
{
    (void)op;
}

struct started {
    struct op_claim claim;
    struct op_finish finish;
};

/* Both come in one batch: they meet. */
static double bench_runs(int rows, int batch)
{
    int task;
    struct store *store = open_store("runs.db", &task);
    struct submission *s = xcalloc((size_t)rows, sizeof *s);
    struct started *runs = xcalloc((size_t)batch, sizeof *runs);
    for (int i = 0; i < rows; i++)
        s[i] = sample(task);
    struct op_submit submit;
    op_submit_init(&submit, s, rows);
    if (store_do(store, &submit.op) != OK)
        exit(1);
    int64_t began = clock_mono_us(), now = clock_now_ms();
    for (int at = 0; at < rows; at += batch) {
        for (int i = 0; i < batch; i++) {
            struct started *run = &runs[i];
            struct turn turn = {.id = s[at + i].id, .lease = lease_new(), .task = task, .attempt = 1};
            op_claim_init(&run->claim, &turn);
            op_finish_init(&run->finish, &turn);
            run->claim.turn.op.done = claim_done;
            run->finish.turn.op.done = finish_done;
            run->finish.retention_ms = 86400000;
            run->claim.worker = SPAN("slot-1");
            run->claim.started_at = run->finish.finished_at = now;
            run->finish.status = STATUS_SUCCEEDED;
            run->finish.result = SPAN("{\"sum\": 42}");
            run->claim.turn.op.next = &run->finish.turn.op;
            run->finish.turn.op.next = i + 1 < batch ? &run[1].claim.turn.op : NULL;
        }
        batch_left = batch;
        store_queue_list(store, &runs[0].claim.turn.op, &runs[batch - 1].finish.turn.op, 2 * batch);
        sem_wait(&batch_done);
    }
    double result = rate(rows, began);
    close_store(store);
    unlink(url);
    free(s);
    free(runs);
    return result;
}

static void measure(int rows)
{
    static const int batches[] = {64, 1000};
    for (int i = 0; i < 2; i++) {
        int batch = batches[i], n = rows / batch * batch;
        double bare = bare_submits(n, batch), ours = bench_submits(n, batch), runs = bench_runs(n, batch);
        printf("batches of %4d: bare inserts %8.0f/s  submits %8.0f/s (%.2f)  claim+finish %8.0f/s\n", batch, bare,
               ours, ours / bare, runs);
    }
}

/* --- stress ----------------------------------------------------------------------------- */

static struct store *shared;
static int shared_task;
static _Atomic int64_t stop_us;
static _Atomic int64_t recent[256];

static bool running(void)
{
    return clock_mono_us() < stop_us;
}

static void *submitter(void *arg)
{
    (void)arg;
    for (unsigned n = 0; running(); n++) {
        struct submission s[4];
        for (int i = 0; i < 4; i++) {
            s[i] = sample(shared_task);
            s[i].run_at = i == 3 ? clock_now_ms() + 5 : 0;
            s[i].labels = SPAN("{\"a\":\"b\"}");
        }
        struct op_submit op;
        op_submit_init(&op, s, 4);
        if (store_do(shared, &op.op) == OK)
            recent[n % 256] = s[n % 4].id;
    }
    return NULL;
}

static sem_t run_done;

static void run_ended(struct op *op)
{
    (void)op;
    sem_post(&run_done);
}

static void *runner(void *arg)
{
    (void)arg;
    for (unsigned n = 0; running(); n++) {
        struct turn turn = {.id = recent[n % 256], .lease = lease_new(), .task = shared_task, .attempt = 1};
        struct op_claim claim;
        struct op_finish finish;
        op_claim_init(&claim, &turn);
        op_finish_init(&finish, &turn);
        claim.turn.op.done = claim_done;
        finish.turn.op.done = run_ended;
        claim.started_at = finish.finished_at = clock_now_ms();
        claim.worker = SPAN("w");
        finish.status = n % 5 ? STATUS_SUCCEEDED : STATUS_FAILED;
        finish.next = n % 7 ? FINISH_FINAL : FINISH_RETRY;
        finish.error = SPAN("{\"type\":\"boom\"}");
        finish.error_type = SPAN("boom");
        store_queue(shared, &claim.turn.op);
        store_queue(shared, &finish.turn.op);
        sem_wait(&run_done);
    }
    return NULL;
}

static sem_t alone_done;

static void woke(struct op *op)
{
    (void)op;
    sem_post(&alone_done);
}

static bool look(void *context, const struct invocation *row)
{
    (void)context;
    return row->id > 0;
}

/* As the HTTP thread: single ops, lists, counts. */
static void *client(void *arg)
{
    (void)arg;
    struct reader *reader;
    if (reader_open(shared, &reader, NULL) != OK)
        exit(1);
    for (unsigned n = 0; running(); n++) {
        int64_t id = recent[n * 7 % 256], next, counts[STATUS_SLOTS];
        struct op_alter alter;
        op_alter_init(&alter, (enum alter)(n % 3), &id, 1);
        alter.op.done = woke;
        store_queue_alone(shared, &alter.op);
        sem_wait(&alone_done);
        struct op_upkeep upkeep;
        op_upkeep_init(&upkeep, (enum upkeep)(n % UPKEEPS));
        if (store_do(shared, &upkeep.op) != OK)
            exit(1);
        struct list_query query = {.limit = 50, .filter.statuses = n % 2 ? 1u << STATUS_QUEUED : 0};
        if (reader_list(reader, &query, look, NULL, &next) != OK)
            exit(1);
        bool paused;
        int count, other;
        char name[16];
        store_task_counts(shared, shared_task, &paused, counts);
        snprintf(name, sizeof name, "t%u", n % 500);
        if (store_task_id(shared, span_of(name), &other) != OK)
            exit(1);
        store_tasks_free(store_tasks(shared, &count), count);
        store_version(shared);
    }
    reader_close(reader);
    return NULL;
}

static void stress(int seconds)
{
    static void *(*const bodies[THREADS])(void *) = {submitter, runner, client};
    pthread_t threads[THREADS];
    sem_init(&run_done, 0, 0);
    sem_init(&alone_done, 0, 0);
    shared = open_store("stress.db", &shared_task);
    stop_us = clock_mono_us() + seconds * INT64_C(1000000);
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, bodies[i], NULL) != 0)
            exit(1);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    bool paused, wrong = false;
    int64_t counts[STATUS_SLOTS];
    struct db *db;
    store_stop(shared);
    store_task_counts(shared, shared_task, &paused, counts);
    if (db_open(url, DB_READER, &db, NULL) != OK)
        exit(1);
    for (int s = 1; s < STATUS_SLOTS; s++) {
        int64_t counted;
        if (DB_NUMBER(db, &counted, -1, "SELECT COUNT(*) FROM invocations WHERE status = $1 AND task = $2",
                      v_int(s), v_int(shared_task)) != OK ||
            counted != counts[s])
            wrong = true;
        printf("status %d: %lld\n", s, (long long)counts[s]);
    }
    db_close(db);
    store_close(shared);
    unlink(url);
    if (wrong) {
        fprintf(stderr, "the counters are wrong\n");
        exit(1);
    }
}

int main(int argc, char **argv)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/errand-bench-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(folder))
        return 1;
    sem_init(&batch_done, 0, 0);
    if (argc > 1 && strcmp(argv[1], "stress") == 0)
        stress(argc > 2 ? atoi(argv[2]) : 10);
    else
        measure(argc > 1 ? atoi(argv[1]) : ROWS);
    char command[256];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) != 0;
}
