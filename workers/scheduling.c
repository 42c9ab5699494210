/* Schedules, minded by the dispatcher: what is due is read, planned, and handed over as an op that says what it
 * believed of the row. Nothing is known here but when to look again.
 *
 * The times of a row are computed anew from the last one that was dealt with at each start, at a reload and when the
 * clock was set: a zone's rules may have changed. It is the same plan as for what is due, of all rows, a page at a
 * time. */
#include "workers/runner_internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "workers/firing.h"
#include "workers/schedule_list.h"
#include "workers/schedule_plan.h"

#include <stdlib.h>
#include <utlist.h>

enum { ROWS_AT_ONCE = 100, READ_AGAIN_MS = 600000 };

struct scheduling {
    int64_t since;         /* when the server started */
    struct reader *reader; /* the dispatcher's; opened when first needed */

    /* Guarded by the runner's lock: */
    struct schedule_list *list; /* of the configuration; NULL: it was never said */
    bool unwritten;             /* the rows are not those of the list yet */
    bool all;                   /* all rows are to be looked at, */
    int64_t after;              /* from this one on */
    int out;                    /* ops on their way */
    bool failed;                /* one of them met a fault */
};

/* --- ops and their ends -------------------------------------------------------------- */

/* Under the lock. When all are back it is looked again: there may be more. */
static void look_again_locked(struct runner *runner)
{
    struct scheduling *s = runner->scheduling;
    int64_t at = s->failed ? clock_now_ms() + FAILED_AGAIN_MS : 0;
    s->failed = false;
    timers_done(&runner->timers, UPKEEP_SCHEDULE);
    dispatcher_set_locked(runner, UPKEEP_SCHEDULE, at);
}

static void back(struct runner *runner, bool failed)
{
    pthread_mutex_lock(&runner->lock);
    struct scheduling *s = runner->scheduling;
    s->failed |= failed;
    if (--s->out == 0)
        look_again_locked(runner);
    pthread_mutex_unlock(&runner->lock);
}

static void say_cut_off(const struct firing *firing)
{
    struct buf first = {0};
    time_add(&first, firing->none_before);
    log_warn("times of a schedule were missed", LOG_STR("schedule", firing->name),
             LOG_INT("made", firing->op.made), LOG_INT("left_out", firing->op.left_out),
             LOG_STR("and_all_before", buf_cstr(&first)));
    buf_release(&first);
}

static void say(const struct firing *firing)
{
    const struct op_schedule_fire *op = &firing->op;
    if (op->problem.p)
        log_warn("a schedule cannot submit", LOG_STR("schedule", firing->name),
                 LOG_STR("problem", firing->problem.data));
    else if (firing->none_before)
        say_cut_off(firing);
    else if (op->left_out)
        log_warn("times of a schedule were missed", LOG_STR("schedule", firing->name), LOG_INT("made", op->made),
                 LOG_INT("left_out", op->left_out));
    if (op->skipped)
        log_info("a schedule's last invocation is unfinished, or its queue is full",
                 LOG_STR("schedule", firing->name), LOG_INT("skipped", op->skipped), LOG_INT("waits", op->waits));
}

static void fired(struct op *base)
{
    struct firing *firing = (struct firing *)base;
    struct runner *runner = firing->owner;
    bool failed = err_is_fault(base->err);
    if (base->err == OK)
        say(firing);
    firing_free(firing);
    back(runner, failed);
}

/* --- one row ------------------------------------------------------------------------------ */

/* Its definition is good no more, or the disk is full and the task's row is missing: it is tried again. */
static bool put_off(struct firing *firing, int64_t now)
{
    struct op_schedule_fire *op = &firing->op;
    op->next_at = now + READ_AGAIN_MS;
    op->problem = buf_span(&firing->problem);
    return true;
}

/* False: nothing is to be written. */
static bool plan_row(struct firing *firing, const struct registry *registry, const struct schedule *row,
                     int64_t since, int64_t now, bool *stuck)
{
    static struct schedule_plan plan; /* the dispatcher's */
    struct op_schedule_fire *op = &firing->op;
    op->id = row->id;
    op->moves = true;
    op->version = row->version;
    op->believed_next = row->next_at;
    op->until = row->until;
    if (firing_read(firing, registry, row->definition) != OK)
        return put_off(firing, now);
    schedule_plan(&firing->definition, row->until, now, since, &plan);
    op->overlap = firing->definition.overlap;
    op->until = plan.until;
    op->next_at = plan.next_at;
    op->left_out = plan.left_out;
    firing->none_before = plan.left_before;
    if (!plan.count)
        return plan.left_out || plan.next_at != row->next_at;
    switch (firing_fill(firing, registry, plan.times, plan.count, firing->definition.jitter_ms, now)) {
    case OK: return true;
    case ERR_UNAVAILABLE: *stuck = true; return false;
    default:
        op->left_out += plan.count;
        op->problem = buf_span(&firing->problem);
        return true;
    }
}

/* --- rows -------------------------------------------------------------------------------------- */

/* What is read, and becomes ops. */
struct looking {
    struct runner *runner;
    struct registry *registry;
    int64_t now, last;
    int rows;
    bool stuck; /* one is due, and its task's row is not on disk */
    struct firing *firings;
};

static bool take_row(void *context, const struct schedule *row)
{
    struct looking *looking = context;
    struct firing *firing = firing_new(row->name);
    looking->rows++;
    looking->last = row->id;
    if (!row->paused && plan_row(firing, looking->registry, row, looking->runner->scheduling->since, looking->now,
                                 &looking->stuck))
        LL_PREPEND(looking->firings, firing);
    else
        firing_free(firing);
    return true;
}

static void queue_all(struct looking *looking)
{
    struct runner *runner = looking->runner;
    struct firing *firing, *next;
    int count = 0;
    LL_COUNT(looking->firings, firing, count);
    pthread_mutex_lock(&runner->lock);
    runner->scheduling->out = count;
    pthread_mutex_unlock(&runner->lock);
    LL_FOREACH_SAFE(looking->firings, firing, next)
    {
        firing->owner = runner;
        firing->op.op.done = fired;
        store_queue(runner->store, &firing->op.op);
    }
}

/* Nothing is on its way: until when? */
static void rest(struct runner *runner, enum err err, int64_t now)
{
    int64_t next = 0;
    if (err == OK)
        err = reader_schedules_next(runner->scheduling->reader, now, &next);
    pthread_mutex_lock(&runner->lock);
    timers_done(&runner->timers, UPKEEP_SCHEDULE);
    if (err != OK)
        dispatcher_set_locked(runner, UPKEEP_SCHEDULE, now + FAILED_AGAIN_MS);
    else if (runner->scheduling->all)
        dispatcher_set_locked(runner, UPKEEP_SCHEDULE, 0);
    else if (next)
        dispatcher_set_locked(runner, UPKEEP_SCHEDULE, next);
    pthread_mutex_unlock(&runner->lock);
}

static enum err open_reader(struct runner *runner)
{
    struct reason why;
    struct scheduling *s = runner->scheduling;
    if (s->reader)
        return OK;
    enum err err = reader_open(runner->store, &s->reader, &why);
    if (err != OK)
        log_error("no reader for schedules", LOG_STR("reason", why.text));
    return err;
}

/* A page of all rows, or those that are due. */
static enum err read_rows(struct looking *looking, bool all, int64_t after)
{
    struct reader *reader = looking->runner->scheduling->reader;
    return all ? reader_schedules(reader, after, ROWS_AT_ONCE, take_row, looking)
               : reader_schedules_due(reader, looking->now, ROWS_AT_ONCE, take_row, looking);
}

static void look(struct runner *runner)
{
    struct scheduling *s = runner->scheduling;
    struct looking looking = {.runner = runner, .now = clock_now_ms()};
    pthread_mutex_lock(&runner->lock);
    bool all = s->all;
    int64_t after = s->after;
    looking.registry = registry_ref(runner->registry);
    pthread_mutex_unlock(&runner->lock);
    enum err err = open_reader(runner);
    if (err == OK)
        err = read_rows(&looking, all, after);
    pthread_mutex_lock(&runner->lock);
    if (err == OK && all) {
        s->after = looking.last;
        s->all = looking.rows == ROWS_AT_ONCE;
    }
    pthread_mutex_unlock(&runner->lock);
    registry_unref(looking.registry);
    if (looking.firings)
        queue_all(&looking);
    else
        rest(runner, looking.stuck ? ERR_UNAVAILABLE : err, looking.now);
}

/* --- those of the file ---------------------------------------------------------------------------- */

struct writing {
    struct op_schedule_sync op; /* first */
    struct runner *runner;
    struct schedule_list *list;
    struct schedule_put *items;
};

static void writing_free(struct writing *writing)
{
    schedule_list_unref(writing->list);
    free(writing->items);
    free(writing);
}

static int64_t next_of(const struct registry *registry, struct span definition, int64_t now)
{
    struct faults faults = {0};
    struct schedule_definition read;
    int64_t next = 0;
    if (schedule_read(registry, definition, &read, &faults) == OK) {
        struct cron_clock clock = schedule_clock(&read);
        if (!cron_next(&clock, now, &next))
            next = 0;
    }
    schedule_release(&read);
    faults_release(&faults);
    return next;
}

static struct writing *writing_new(struct runner *runner)
{
    struct writing *writing = xcalloc(1, sizeof *writing);
    pthread_mutex_lock(&runner->lock);
    struct registry *registry = registry_ref(runner->registry);
    writing->list = schedule_list_ref(runner->scheduling->list);
    pthread_mutex_unlock(&runner->lock);
    int count = schedule_list_count(writing->list);
    int64_t now = clock_now_ms();
    op_schedule_sync_init(&writing->op);
    writing->runner = runner;
    writing->items = xcalloc((size_t)count + 1, sizeof *writing->items);
    for (int i = 0; i < count; i++) {
        const struct schedule_entry *entry = schedule_list_at(writing->list, i);
        struct span definition = buf_span(&entry->definition);
        writing->items[i] =
            (struct schedule_put){span_of(entry->name), definition, next_of(registry, definition, now)};
    }
    writing->op.items = writing->items;
    writing->op.count = count;
    writing->op.now = now;
    registry_unref(registry);
    return writing;
}

/* All rows are looked at anew. */
static void written_locked(struct writing *writing, enum err err)
{
    struct scheduling *s = writing->runner->scheduling;
    if (!err_is_fault(err) && s->list == writing->list)
        s->unwritten = false;
    if (err == ERR_LIMIT)
        log_error("the schedules of the file cannot be written: there are too many");
    s->all = true;
    s->after = 0;
}

static void written(struct op *base)
{
    struct writing *writing = (struct writing *)base;
    struct runner *runner = writing->runner;
    bool failed = base->err != OK;
    pthread_mutex_lock(&runner->lock);
    written_locked(writing, base->err);
    pthread_mutex_unlock(&runner->lock);
    writing_free(writing);
    back(runner, failed);
}

static void write_list(struct runner *runner)
{
    struct writing *writing = writing_new(runner);
    pthread_mutex_lock(&runner->lock);
    runner->scheduling->out = 1;
    pthread_mutex_unlock(&runner->lock);
    writing->op.op.done = written;
    store_queue(runner->store, &writing->op.op);
}

void runner_set_schedules(struct runner *runner, struct schedule_list *list)
{
    struct scheduling *s = runner->scheduling;
    pthread_mutex_lock(&runner->lock);
    struct schedule_list *old = s->list;
    s->list = schedule_list_ref(list);
    s->unwritten = true;
    pthread_mutex_unlock(&runner->lock);
    schedule_list_unref(old);
    struct writing *writing = writing_new(runner);
    enum err err = store_do(runner->store, &writing->op.op);
    pthread_mutex_lock(&runner->lock);
    written_locked(writing, err);
    dispatcher_set_locked(runner, UPKEEP_SCHEDULE, 0);
    pthread_mutex_unlock(&runner->lock);
    writing_free(writing);
}

/* --- life ---------------------------------------------------------------------------------------------- */

void schedules_act(struct runner *runner)
{
    struct scheduling *s = runner->scheduling;
    pthread_mutex_lock(&runner->lock);
    bool closing = runner->closing, unwritten = s->list && s->unwritten;
    if (closing) /* what is due from now on is the next start's */
        timers_done(&runner->timers, UPKEEP_SCHEDULE);
    pthread_mutex_unlock(&runner->lock);
    if (closing)
        return;
    if (unwritten)
        write_list(runner);
    else
        look(runner);
}

void runner_schedules_changed(struct runner *runner)
{
    pthread_mutex_lock(&runner->lock);
    dispatcher_set_locked(runner, UPKEEP_SCHEDULE, 0);
    pthread_mutex_unlock(&runner->lock);
}

void schedules_clock_was_set(struct runner *runner)
{
    pthread_mutex_lock(&runner->lock);
    runner->scheduling->all = true;
    runner->scheduling->after = 0;
    dispatcher_set_locked(runner, UPKEEP_SCHEDULE, 0);
    pthread_mutex_unlock(&runner->lock);
}

struct scheduling *scheduling_new(void)
{
    struct scheduling *s = xcalloc(1, sizeof *s);
    s->since = clock_now_ms();
    s->all = true;
    return s;
}

void scheduling_free(struct scheduling *s)
{
    if (!s)
        return;
    reader_close(s->reader);
    schedule_list_unref(s->list);
    free(s);
}
