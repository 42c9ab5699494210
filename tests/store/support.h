/* A fresh store for each test, once for every driver.
 *
 *     STORE_TEST(a_submission_is_queued) { ... f->store ... }
 *
 * is a Criterion test whose body runs with an open and started store in a
 * temporary folder, for each row of the drivers' table. */
#pragma once

#include "store/db.h"
#include "store/store.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <semaphore.h>

enum { CHANGES_KEPT = 4096 };

struct fixture {
    const char *driver;
    char folder[64];
    char url[160];
    struct store *store;
    struct reader *reader;
    struct db *raw; /* a reader's connection, for plain SQL */
    int task, other;
    int64_t retain_max;
    pthread_mutex_t lock; /* guards what the listener hears */
    pthread_cond_t heard;
    struct change changes[CHANGES_KEPT];
    int change_count;
    int unhealthy, healthy_again;
    struct fixture_watch { /* called on the committer's thread with each batch */
        void (*call)(struct fixture *f, const struct change *changes, int count);
    } watch;
};

typedef void (*fixture_test)(struct fixture *f);
void each_driver(fixture_test test, bool start);

#define STORE_TEST_(name, start, ...)         \
    static void on_##name(struct fixture *f); \
    Test(store, name, __VA_ARGS__)            \
    {                                         \
        each_driver(on_##name, start);        \
    }                                         \
    static void on_##name(struct fixture *f)
#define STORE_TEST(name) STORE_TEST_(name, true, .timeout = 120)
/* The committer does not run yet: what is queued comes in one batch. */
#define STOPPED_TEST(name) STORE_TEST_(name, false, .timeout = 120)

#define IS_OK(expression) cr_assert_eq((expression), OK, "%s", #expression)
#define IS_SPAN(span, text) \
    cr_assert(span_is((span), (text)), "%s is \"%.*s\"", #span, (int)(span).len, (span).p ? (span).p : "")

void fixture_open(struct fixture *f);  /* opens and listens; does not start */
void fixture_start(struct fixture *f); /* and opens the readers */
void fixture_shut(struct fixture *f);  /* stops and closes */
void fixture_again(struct fixture *f); /* shut, open, start */

/* One number (the first column of the first row) from plain SQL; -1: no row. */
int64_t ask(struct fixture *f, const char *sql);
int64_t askf(struct fixture *f, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Runs SQL as somebody else would, on a connection of its own that may write. */
void exec_sql(struct fixture *f, const char *sql);

/* A submission of f->task with a day's retention. */
struct submission plain(const struct fixture *f);
void submit_all(struct fixture *f, struct submission *items, int count);
int64_t submit(struct fixture *f);

/* An attempt whose claim and finish can be waited for. */
struct waited {
    struct turn turn;
    struct op_claim claim;
    struct op_finish finish;
    sem_t claimed, finished;
    enum err claim_err, finish_err;
};
void waited_init(struct waited *w, struct fixture *f, int64_t id, int attempt);
void waited_task(struct waited *w, int task); /* another than f->task */
struct op_progress progress_of(const struct waited *w, double value, struct span note);
struct op_log log_of(const struct waited *w, int64_t from, const struct log_chunk *chunks, int count);
void queue_claim(struct waited *w, struct fixture *f);
void queue_finish(struct waited *w, struct fixture *f);
void together(struct fixture *f, struct op *first, struct op *second); /* in one batch */
enum err wait_claimed(struct waited *w);
enum err wait_finished(struct waited *w);
void started(struct waited *w, struct fixture *f, int64_t id, int attempt); /* claims, asserts OK */
enum err end(struct waited *w, struct fixture *f, enum finish_next next, enum status status);
void set_error(struct waited *w, const char *type_json, const char *type);

/* An op whose done() can be waited for. */
struct parked {
    sem_t done;
};
void park(struct op *op, struct parked *parked);
void wait_parked(struct parked *parked);

enum err alter(struct fixture *f, enum alter what, int64_t id);
struct op_upkeep upkeep(struct fixture *f, enum upkeep what);
struct invocation row_of(struct fixture *f, int64_t id); /* VIEW_FULL */
enum status status_of(struct fixture *f, int64_t id);
int64_t succeed(struct fixture *f, int64_t id); /* runs the first attempt of it */
int64_t fail_for_good(struct fixture *f, int64_t id);
int64_t count_of(struct fixture *f, int task, enum status status);

/* Are the counters what counting the rows says, and no satellite an orphan? */
void check_counters(struct fixture *f);
/* Is the database whole? */
void check_integrity(const char *path);

/* A small generator, so that a failure can be repeated. */
uint32_t dice(uint64_t *state, uint32_t sides);

/* A turn that has read of its inbox up to that one and goes on: as its end says it
 * (op_finish.inbox_read), without the end. ERR_CONFLICT: the lease was lost, or the turn has ended. */
struct op_messages_read {
    struct turn_op turn;
    int64_t up_to_seq;
};
void op_messages_read_init(struct op_messages_read *op, const struct turn *turn);
