#include "tests/sim/compare.h"

#include "base/clock.h"
#include "base/log.h"
#include "store/db.h"
#include "tests/sim/world.h"

#include <inttypes.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { CHANGES_MAX = 4096, ROWS_MAX = 60 };

/* The store's wall clock is the world's. */
static _Atomic int64_t wall_ms;
int64_t __wrap_clock_now_ms(void); /* NOLINT: the linker's name */
int64_t __wrap_clock_now_ms(void)
{
    return wall_ms;
}

struct comparison {
    struct world world; /* for what happens next; its server does nothing */
    struct store *store;
    struct db *raw;
    char folder[64], url[96];
    struct change heard[CHANGES_MAX]; /* of the batch; written by the committer's thread before done() */
    int heard_count;
    sem_t done;
    long agreed;
};

/* --- the store --------------------------------------------------------------------- */

static void on_committed(void *context, const struct change *changes, int count)
{
    struct comparison *c = context;
    for (int i = 0; i < count && c->heard_count < CHANGES_MAX; i++)
        c->heard[c->heard_count++] = changes[i];
}

static void must(enum err err, const char *what)
{
    if (err != OK)
        fault("%s: %s", what, err_name(err));
}

static void open_store(struct comparison *c)
{
    struct reason why = {""};
    must(store_open(&(struct store_options){.url = c->url, .node = 1}, &c->store, &why), why.text);
    store_listen(c->store, &(struct store_listener){.committed = on_committed, .context = c});
    for (int i = 1; i <= TASKS_MAX; i++) {
        char name[8];
        int id;
        snprintf(name, sizeof name, "t%d", i);
        must(store_task_id(c->store, span_of(name), &id), "a task");
        if (id != i)
            fault("task %d has the number %d", i, id);
    }
}

static void start_store(struct comparison *c)
{
    must(store_start(c->store, NULL), "start");
    must(db_open(c->url, DB_READER, &c->raw, NULL), "a reader");
}

static void close_store(struct comparison *c)
{
    store_stop(c->store);
    db_close(c->raw);
    store_close(c->store);
}

/* --- one operation for both ---------------------------------------------------------- */

/* Both sides have their own, which must not point into the other. */
static void point(struct deed *deed)
{
    switch (deed->kind) {
    case DEED_SUBMIT:
        deed->submit.items = &deed->submission;
        deed->submission.after = deed->ids;
        break;
    case DEED_GROUP:
        deed->group.group = &deed->made;
        deed->group.items = deed->items;
        deed->made.ids = deed->ids;
        for (int i = 0; i < MEMBERS_MAX; i++)
            deed->items[i].after_members = &deed->before[i];
        break;
    case DEED_ALTER: deed->alter.ids = deed->ids; break;
    case DEED_WAIT: deed->wait.ids = deed->ids; break;
    case DEED_SUSPEND: deed->suspend.on.ids = deed->ids; break;
    default: break;
    }
}

static void committed(struct op *op)
{
    struct comparison *c = op->owner;
    sem_post(&c->done);
}

/* Ids that the store gave, in the order of the operations. */
static int given_ids(struct deed *const *deeds, int count, int64_t *ids)
{
    int n = 0;
    for (int i = 0; i < count; i++) {
        const struct deed *deed = deeds[i];
        if (deed->kind == DEED_SUBMIT && deed->submission.err == OK)
            ids[n++] = deed->submission.id;
        if (deed->kind != DEED_GROUP || deed->op.err != OK)
            continue;
        ids[n++] = deed->made.id;
        for (int k = 0; k < deed->made.total; k++)
            ids[n++] = deed->ids[k];
    }
    return n;
}

static enum err outcome(const struct deed *deed)
{
    return deed->kind == DEED_SUBMIT ? deed->submission.err : deed->op.err;
}

/* --- do they agree? -------------------------------------------------------------------- */

static const char *const kinds[DEED_KINDS] = {
    "submit", "group", "group change", "claim", "finish",  "suspend", "wait",
    "resume", "renew", "lose",         "alter", "release", "upkeep",  "refill",
};

static void compare_outcome(const struct deed *real, const struct deed *told)
{
    if (outcome(real) != outcome(told))
        fault("%s: the store says %s, the model %s", kinds[real->kind], err_name(outcome(real)),
              err_name(outcome(told)));
    if (real->kind == DEED_UPKEEP && real->upkeep.next_at != told->upkeep.next_at)
        fault("upkeep %d: the store's next is at %lld, the model's at %lld", (int)real->upkeep.what,
              (long long)real->upkeep.next_at, (long long)told->upkeep.next_at);
    if (real->kind == DEED_WAIT && real->op.err == OK && real->wait.met != told->wait.met)
        fault("a wait is%s met", real->wait.met ? "" : " not");
    if (real->kind == DEED_LOSE && real->op.err == OK && real->lose.became != told->lose.became)
        fault("a lost turn became %s, in the model %s", status_name(real->lose.became),
              status_name(told->lose.became));
    if (real->kind != DEED_REFILL)
        return;
    bool same = real->refill.count == told->refill.count;
    for (int i = 0; i < real->refill.count && same; i++)
        same = real->refill.items[i].id == told->refill.items[i].id &&
               real->refill.items[i].rank == told->refill.items[i].rank;
    if (!same)
        fault("a refill found %d, in the model %d, or others", real->refill.count, told->refill.count);
}

static bool same_ready(const struct ready *a, const struct ready *b)
{
    return a->id == b->id && a->priority == b->priority && a->rank == b->rank && a->attempt == b->attempt &&
           a->failures == b->failures && a->lease == b->lease && a->max_retries == b->max_retries &&
           a->expires_at == b->expires_at && a->run_at == b->run_at && a->suspect == b->suspect &&
           a->resumes == b->resumes && a->group == b->group;
}

static bool same_change(const struct change *a, const struct change *b)
{
    bool flags = a->cancel == b->cancel && a->woken == b->woken && a->suspended == b->suspended &&
                 a->withdrawn == b->withdrawn && a->follow_up == b->follow_up &&
                 a->group_final == b->group_final && !a->refill == !b->refill;
    bool times = a->wakes_at == b->wakes_at && a->due_at == b->due_at && a->prune_at == b->prune_at &&
                 a->release_by == b->release_by;
    bool stood = !a->withdrawn || (a->old_priority == b->old_priority && a->old_rank == b->old_rank);
    return a->id == b->id && a->task == b->task && a->from == b->from && a->to == b->to && a->group == b->group &&
           flags && times && stood && (a->to != STATUS_QUEUED || same_ready(&a->ready, &b->ready));
}

static void print_change(const char *who, const struct change *c)
{
    printf("  %s: %lld of %d, %s to %s%s%s%s%s%s, group %lld, due %lld, prune %lld, wakes %lld\n", who,
           (long long)c->id, c->task, c->from ? status_name(c->from) : "-", c->to ? status_name(c->to) : "-",
           c->cancel ? ", cancel" : "", c->woken ? ", woken" : "", c->suspended ? ", suspended" : "",
           c->withdrawn ? ", withdrawn" : "", c->follow_up ? ", follow-up" : "", (long long)c->group,
           (long long)c->due_at, (long long)c->prune_at, (long long)c->wakes_at);
}

static void compare_changes(const struct comparison *c)
{
    const struct model *model = &c->world.disk;
    for (int i = 0; i < c->heard_count || i < model->change_count; i++) {
        const struct change *real = i < c->heard_count ? &c->heard[i] : NULL;
        const struct change *told = i < model->change_count ? &model->changes[i] : NULL;
        if (real && told && same_change(real, told))
            continue;
        if (real)
            print_change("store", real);
        if (told)
            print_change("model", told);
        fault("change %d is another", i);
    }
}

#define ROWS                                                                                                    \
    "SELECT i.id, task, status, priority, attempt, failures, COALESCE(failed, 0), recoveries, deaths, "         \
    "COALESCE(rank, i.id), COALESCE(run_at, 0), COALESCE(expires_at, 0), COALESCE(finished_at, 0), "            \
    "COALESCE(prune_at, 0), COALESCE(cancel_requested_at, 0), COALESCE(i.lease, 0), COALESCE(lease_until, 0), " \
    "COALESCE(waits_left, 0), follow, COALESCE(grp, 0), COALESCE(h.reasons, 0), COALESCE(h.unmet, 0), "         \
    "COALESCE(h.bad, 0), COALESCE(h.release_by, 0), COALESCE(h.cancelled_by, -1), COALESCE(s.turns, 0), "       \
    "COALESCE(s.wakes_at, 0), (SELECT COUNT(*) FROM waits WHERE waiter = i.id), "                               \
    "(SELECT COUNT(*) FROM waits WHERE waiter = i.id AND ended = 1), "                                          \
    "(SELECT COALESCE(SUM(state), 0) FROM dependencies WHERE id = i.id), "                                      \
    "(SELECT COUNT(*) FROM results_kept WHERE waiter = i.id) FROM invocations i "                               \
    "LEFT JOIN holds h ON h.id = i.id LEFT JOIN suspensions s ON s.id = i.id ORDER BY i.id"

enum { COLUMNS = 31 };
static const char *const columns[COLUMNS] = {
    "id",           "task",       "status",   "priority",   "attempt",     "failures",     "failed", "recoveries",
    "deaths",       "rank",       "run_at",   "expires_at", "finished_at", "prune_at",     "cancel", "lease",
    "lease_until",  "waits_left", "follow",   "group",      "reasons",     "unmet",        "bad",    "release_by",
    "cancelled_by", "turns",      "wakes_at", "waits",      "ended waits", "dependencies", "kept",
};

static void told_row(const struct row *row, int64_t out[COLUMNS])
{
    int64_t ended = 0, after = 0;
    for (int i = 0; i < row->wait_count; i++)
        ended += row->waits[i].state;
    for (int i = 0; i < row->after_count; i++)
        after += row->after[i].state;
    const int64_t values[COLUMNS] = {row->id,
                                     row->task,
                                     row->status,
                                     row->priority,
                                     row->attempt,
                                     row->failures,
                                     row->failed,
                                     row->recoveries,
                                     row->deaths,
                                     row_rank(row),
                                     row->run_at,
                                     row->expires_at,
                                     row->finished_at,
                                     row->prune_at,
                                     row->cancel_at,
                                     row->lease,
                                     row->lease_until,
                                     row->waits_left,
                                     row->follow,
                                     row->group,
                                     row->held.reasons,
                                     row->held.unmet,
                                     row->held.bad,
                                     row->held.release_by,
                                     row->held.was_cancelled ? row->held.cancelled_by : -1,
                                     row->suspension.turns,
                                     row->suspension.wakes_at,
                                     row->wait_count,
                                     ended,
                                     after,
                                     row->kept_count};
    memcpy(out, values, sizeof values);
}

/* Each row of the statement against the next of the model; `told` fills its values. */
static void compare_rows(const struct comparison *c)
{
    struct db_stmt *stmt;
    bool more;
    int at = 0;
    must(db_prepare(c->raw, ROWS, &stmt), "rows");
    for (; db_step(stmt, &more) == OK && more; at++) {
        int64_t values[COLUMNS];
        if (at >= c->world.disk.count)
            fault("the store has %lld, and the model no more", (long long)db_int(stmt, 0));
        told_row(c->world.disk.rows[at], values);
        for (int k = 0; k < COLUMNS; k++)
            if (db_int(stmt, k) != values[k])
                fault("%lld (%s): %s is %lld, in the model %lld", (long long)values[0],
                      status_name((enum status)values[2]), columns[k], (long long)db_int(stmt, k),
                      (long long)values[k]);
    }
    db_finalize(stmt);
    if (at != c->world.disk.count)
        fault("the store has %d rows, the model %d", at, c->world.disk.count);
}

static void compare_groups(const struct comparison *c)
{
    struct db_stmt *stmt;
    bool more;
    int at = 0;
    must(db_prepare(
             c->raw,
             "SELECT id, state, total, scheduled, queued, running, waiting, succeeded, failed, cancelled, held, "
             "ends, COALESCE(release_by, 0), COALESCE(prune_at, 0) FROM groups ORDER BY id",
             &stmt),
         "groups");
    for (; db_step(stmt, &more) == OK && more; at++) {
        const struct group *g = at < c->world.disk.group_count ? c->world.disk.groups[at] : NULL;
        if (!g || g->id != db_int(stmt, 0))
            fault("the store has the group %lld", (long long)db_int(stmt, 0));
        bool same = (int64_t)g->state == db_int(stmt, 1) && g->total == db_int(stmt, 2) &&
                    g->ends == db_int(stmt, 11) && g->release_by == db_int(stmt, 12) &&
                    g->prune_at == db_int(stmt, 13);
        for (int s = 1; s < STATUS_SLOTS; s++)
            same &= g->counts[s] == db_int(stmt, 2 + s);
        if (!same)
            fault("the group %lld differs: its state is %lld, in the model %u", (long long)g->id,
                  (long long)db_int(stmt, 1), g->state);
    }
    db_finalize(stmt);
    if (at != c->world.disk.group_count)
        fault("the store has %d groups, the model %d", at, c->world.disk.group_count);
}

/* --- a batch ----------------------------------------------------------------------------- */

static struct deed *copy_for_store(struct comparison *c, const struct deed *told)
{
    struct deed *real = xmalloc(sizeof *real);
    *real = *told;
    point(real);
    real->op.owner = c;
    real->op.done = committed;
    return real;
}

static void free_copies(struct deed **real, int count)
{
    for (int i = 0; i < count; i++) {
        if (real[i]->kind == DEED_REFILL)
            op_refill_release(&real[i]->refill);
        free(real[i]);
    }
    free(real);
}

static void compare_all(const struct comparison *c)
{
    compare_rows(c);
    compare_groups(c);
}

static void commit_both(void *context, struct deed *first)
{
    struct comparison *c = context;
    int count = 0;
    for (const struct deed *told = first; told; told = told->next)
        count++;
    struct deed **real = xcalloc((size_t)count + 1, sizeof(struct deed *)), *told = first;
    int64_t *ids = xcalloc((size_t)(count + 1) * (MEMBERS_MAX + 1), sizeof *ids);
    for (int i = 0; i < count; i++, told = told->next) {
        real[i] = copy_for_store(c, told);
        if (i)
            real[i - 1]->op.next = &real[i]->op;
    }
    c->heard_count = 0;
    wall_ms = c->world.wall_ms;
    if (count)
        store_queue_list(c->store, &real[0]->op, &real[count - 1]->op, count);
    for (int i = 0; i < count; i++)
        sem_wait(&c->done);
    given_ids(real, count, ids);
    c->world.disk.given = ids;
    model_commit(&c->world.disk, c->world.wall_ms, first);
    told = first;
    for (int i = 0; i < count; i++, told = told->next)
        compare_outcome(real[i], told);
    compare_changes(c);
    if (count)
        compare_all(c);
    free_copies(real, count);
    free(ids);
    c->agreed += count;
}

static int max_recoveries(void *context, int task)
{
    (void)context, (void)task;
    return MAX_RECOVERIES;
}

/* The model has recovered already. */
static void recover_too(void *context, const struct casualty *casualties, int count)
{
    struct comparison *c = context;
    close_store(c);
    wall_ms = c->world.wall_ms;
    open_store(c);
    must(store_recover(c->store, casualties, count, max_recoveries, NULL), "recovery");
    start_store(c);
    compare_all(c);
}

int compare(long steps, uint64_t seed)
{
    struct comparison *c = xcalloc(1, sizeof *c);
    sem_init(&c->done, 0, 0);
    must(log_open(&(struct log_settings){.level = LOG_LEVEL_ERROR}, NULL), "the log"); /* crashes say so */
    snprintf(c->folder, sizeof c->folder, "/tmp/errand-sim-XXXXXX");
    if (!mkdtemp(c->folder))
        fault("no folder");
    snprintf(c->url, sizeof c->url, "%s/errand.db", c->folder);
    wall_ms = 1700000000000;
    snprintf(fault_repeat, sizeof fault_repeat, "sim compare %ld %" PRIu64 " repeats it", steps, seed);
    world_open(&c->world, seed);
    c->world.shape.alone = c->world.shape.ties = true;
    c->world.shape.rows_max = ROWS_MAX;
    c->world.commit = commit_both;
    c->world.recover = recover_too;
    c->world.context = c;
    open_store(c);
    start_store(c);
    while (c->agreed < steps)
        world_step(&c->world);
    world_close(&c->world);
    close_store(c);
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", c->folder);
    if (system(command) != 0)
        fault("the folder stays");
    printf("%ld operations agree, from seed %" PRIu64 "\n", c->agreed, seed);
    free(c);
    return 0;
}
