/* Who asks for what is run elsewhere. */
#include "base/clock.h"
#include "workers/leases_internal.h"

#include <stdlib.h>
#include <utlist.h>

enum { ROSTER_MAX = 10000, FORGET_AFTER_S = 3600, SWEEP_US = 60 * 1000000, SWEEP_MANY_US = 1000000 };

struct roster_entry *roster_find_locked(struct runner *runner, const char *name)
{
    struct roster_entry *entry;
    HASH_FIND_STR(runner->roster, name, entry);
    return entry;
}

void roster_seen_locked(struct roster_entry *entry)
{
    entry->last_seen_us = clock_mono_us();
    entry->last_seen_at = clock_now_ms();
}

static void free_entry(struct roster_entry *entry)
{
    free(entry->name);
    free(entry->host);
    free(entry->version);
    free(entry);
}

static bool waits_locked(const struct runner *runner, const char *name)
{
    const struct lease_ask *ask;
    DL_FOREACH (runner->asks, ask)
        if (strcmp(ask->worker, name) == 0)
            return true;
    return false;
}

/* Those that were not seen for long and hold nothing; when there are too many,
 * whoever holds nothing. */
static void forget_locked(struct runner *runner)
{
    struct roster_entry *entry, *next;
    int64_t now_us = clock_mono_us();
    bool many = HASH_COUNT(runner->roster) >= ROSTER_MAX;
    if (now_us < runner->roster_swept_us + (many ? SWEEP_MANY_US : SWEEP_US))
        return;
    runner->roster_swept_us = now_us;
    HASH_ITER (hh, runner->roster, entry, next) {
        bool old = many || (now_us - entry->last_seen_us) / 1000000 > FORGET_AFTER_S;
        if (!old || entry->held || (many && entry->state != WORKER_ACTIVE) || waits_locked(runner, entry->name))
            continue;
        HASH_DELETE(hh, runner->roster, entry);
        free_entry(entry);
    }
}

struct roster_entry *roster_entry_locked(struct runner *runner, const char *name)
{
    struct roster_entry *entry = roster_find_locked(runner, name);
    if (!entry) {
        forget_locked(runner);
        entry = xcalloc(1, sizeof *entry);
        entry->name = xstrdup(name);
        entry->started_at = clock_now_ms();
        HASH_ADD_KEYPTR(hh, runner->roster, entry->name, strlen(entry->name), entry);
    }
    roster_seen_locked(entry);
    return entry;
}

void roster_release(struct runner *runner)
{
    struct roster_entry *entry, *next;
    HASH_ITER (hh, runner->roster, entry, next) {
        HASH_DELETE(hh, runner->roster, entry);
        free_entry(entry);
    }
}

/* --- what is told of them ---------------------------------------------------------- */

static void set_text(char **text, struct span value)
{
    if (!value.p)
        return;
    free(*text);
    *text = span_dup(value);
}

void workers_seen(struct runner *runner, const char *name, struct span host, struct span version, int64_t pid)
{
    pthread_mutex_lock(&runner->lock);
    struct roster_entry *entry = roster_entry_locked(runner, name);
    set_text(&entry->host, host);
    set_text(&entry->version, version);
    entry->pid = pid ? pid : entry->pid;
    pthread_mutex_unlock(&runner->lock);
}

enum worker_state workers_state(struct runner *runner, const char *name)
{
    pthread_mutex_lock(&runner->lock);
    const struct roster_entry *entry = roster_find_locked(runner, name);
    enum worker_state state = entry ? entry->state : WORKER_ACTIVE;
    pthread_mutex_unlock(&runner->lock);
    return state;
}

bool workers_set_state(struct runner *runner, const char *name, enum worker_state state)
{
    pthread_mutex_lock(&runner->lock);
    struct roster_entry *entry = roster_find_locked(runner, name);
    if (entry) {
        entry->news |= entry->state != state;
        entry->state = state;
    }
    pthread_mutex_unlock(&runner->lock);
    if (entry)
        leases_end_asks(runner, false);
    return entry;
}

/* --- looking in ---------------------------------------------------------------------- */

static struct worker_view view_locked(struct roster_entry *entry)
{
    return (struct worker_view){
        .name = xstrdup(entry->name),
        .host = entry->host ? xstrdup(entry->host) : NULL,
        .version = entry->version ? xstrdup(entry->version) : NULL,
        .pid = entry->pid,
        .state = entry->state,
        .started_at = entry->started_at,
        .last_seen_at = entry->last_seen_at,
        .capacity = entry->asked + entry->held,
        .running = xcalloc((size_t)entry->held + 1, sizeof(int64_t)),
    };
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct worker_view *)a)->name, ((const struct worker_view *)b)->name);
}

struct worker_view *workers_list(struct runner *runner, int *count)
{
    struct roster_entry *entry, *next;
    struct lease *lease, *next_lease;
    *count = 0;
    pthread_mutex_lock(&runner->lock);
    struct worker_view *views = xcalloc(HASH_COUNT(runner->roster) + 1, sizeof *views);
    HASH_ITER (hh, runner->roster, entry, next) {
        entry->view = *count;
        views[(*count)++] = view_locked(entry);
    }
    HASH_ITER (hh, runner->leases, lease, next_lease) {
        struct worker_view *view = &views[lease->holder->view];
        view->running[view->running_count++] = lease->turn.id;
    }
    pthread_mutex_unlock(&runner->lock);
    qsort(views, (size_t)*count, sizeof *views, by_name);
    return views;
}

void workers_free(struct worker_view *views, int count)
{
    for (int i = 0; i < count; i++) {
        free(views[i].name);
        free(views[i].host);
        free(views[i].version);
        free(views[i].running);
    }
    free(views);
}
