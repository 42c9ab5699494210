/* Recovery: what the last process left is read from the journal, and queued
 * again before anything starts; before that, tasks that are new get their rows. On
 * a full disk the server starts with readers, and the committer does both before
 * the first batch that it can commit. */
#include "workers/runner_internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdlib.h>
#include <sys/statvfs.h>

static int recoveries_of(void *context, int task)
{
    const struct registry *registry = context;
    for (int i = 0; i < registry_count(registry); i++)
        if (registry_at(registry, i)->id == task)
            return registry_at(registry, i)->options.max_recoveries;
    return 3; /* a task that left the configuration */
}

static bool any_marked(const struct journal_left *left)
{
    for (int i = 0; i < left->count; i++)
        if (left->entries[i].marked)
            return true;
    return false;
}

/* `marked`: the death was somebody's doing. */
static struct casualty casualty_of(const struct journal_entry *entry, bool marked)
{
    return (struct casualty){
        .id = entry->id,
        .lease = entry->lease,
        .attempt = entry->attempt,
        .started_at = entry->started_at,
        .pays = entry->marked,
        .bystander = marked && !entry->marked,
        .refused = entry->refused,
        .marked = entry->marked,
        .signal = entry->signal,
        .log = buf_span(&entry->log),
    };
}

/* The tasks' numbers and the casualties, until it is OK: at the start, or when the disk takes writes
 * again. It must not be done twice. */
static enum err recover(void *context)
{
    struct runner *runner = context;
    pthread_mutex_lock(&runner->lock);
    struct registry *registry = registry_ref(runner->registry);
    pthread_mutex_unlock(&runner->lock);
    enum err err = runner_number_tasks(runner, registry);
    if (err == OK)
        err = store_recover(runner->store, runner->casualties, runner->casualty_count, recoveries_of, registry);
    registry_unref(registry);
    return err;
}

/* Without room for the journal's file there is none: after a crash nobody pays. */
static enum err open_journal(struct runner *runner, const struct runner_options *options, struct reason *why)
{
    const char *path = options->journal_path;
    struct statvfs disk;
    enum err err = journal_open(path, options->slots, &runner->journal, &runner->left, why);
    if (err != ERR_IO || statvfs(options->store_path, &disk) != 0 || disk.f_bavail > 0)
        return err;
    log_error("the disk is full; it will not be known what ran when the server died",
              LOG_STR("reason", why->text));
    return journal_open(NULL, options->slots, &runner->journal, &runner->left, why);
}

/* For the next start: only the journal on disk says where to look. */
static void enter_cgroup(struct runner *runner, const struct runner_options *options)
{
    runner->cgroup = options->journal_path ? cgroup_enter() : NULL;
    if (runner->cgroup)
        journal_set_cgroup(runner->journal, cgroup_path(runner->cgroup));
}

static void take_casualties(struct runner *runner)
{
    const struct journal_left *left = &runner->left;
    bool marked = any_marked(left);
    runner->casualty_count = left->count;
    runner->casualties = xcalloc((size_t)left->count + 1, sizeof *runner->casualties);
    for (int i = 0; i < left->count; i++)
        runner->casualties[i] = casualty_of(&left->entries[i], marked);
}

enum err recovery_begin(struct runner *runner, const struct runner_options *options, struct reason *why)
{
    enum err err = open_journal(runner, options, why);
    if (err != OK)
        return err;
    enter_cgroup(runner, options);
    take_casualties(runner);
    err = recover(runner);
    if (err == ERR_UNAVAILABLE) {
        runner->healthy = false;
        runner_gate_locked(runner);
        store_recover_first(runner->store, recover, runner);
        return OK;
    }
    if (err != OK)
        reason_set(why, "the tasks, or what was running, could not be written to the database (see the log)");
    return err;
}

void recovery_release(struct runner *runner)
{
    cgroup_leave(runner->cgroup);
    free(runner->casualties);
    journal_left_release(&runner->left);
}
