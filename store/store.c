/* Opening and closing, and the meta table. */
#include "store/internal.h"

#include "base/clock.h"
#include "base/digest.h"
#include "base/log.h"

#include <limits.h>
#include <stdlib.h>

enum err meta_get_int(struct db *db, struct span name, int64_t missing, int64_t *value)
{
    return DB_NUMBER(db, value, missing, "SELECT CAST(value AS BIGINT) FROM meta WHERE name = $1", v_text(name));
}

enum err meta_set_int(struct db *db, struct span name, int64_t value)
{
    struct buf text = {0};
    buf_add_int(&text, value);
    enum err err = DB_EXECUTE(db,
                              "INSERT INTO meta (name, value) VALUES ($1, $2) "
                              "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                              v_text(name), v_text(buf_span(&text)));
    buf_release(&text);
    return err;
}

/* Ids never go back: not over a restart, a clock set back, or pruned rows
 * (last_id is the highest that was removed). The node in them is this
 * server's alone, so that no two servers give the same. */
static enum err load_ids(struct store *store)
{
    int64_t removed, highest;
    enum err err = meta_get_int(store->db, SPAN("last_id"), 0, &removed);
    if (err == OK)
        err = DB_NUMBER(store->db, &highest, 0, "SELECT MAX(id) FROM invocations");
    if (err != OK)
        return err;
    store->ids = (struct id_source){store->options.node, highest > removed ? highest : removed};
    store->id_clock.last_ms = store->ids.last ? id_time_ms(store->ids.last) : 0;
    return OK;
}

enum err store_open(const struct store_options *options, struct store **out, struct reason *why)
{
    struct store *store = xcalloc(1, sizeof *store);
    store->options = *options;
    store->url = xstrdup(options->url);
    store->options.url = store->url;
    store->tail = &store->head;
    store->wake_queued = store->wake_urgent = INT_MAX;
    atomic_init(&store->healthy, true);
    atomic_init(&store->version, 2);
    atomic_init(&store->retain_max, options->retain_max);
    random_bytes(&store->boot_id, sizeof store->boot_id);
    pthread_mutex_init(&store->role, NULL);
    pthread_mutex_init(&store->lock, NULL);
    pthread_mutex_init(&store->tasks_lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&store->wake, &attr);
    pthread_condattr_destroy(&attr);

    int64_t paused = 0;
    enum err err = db_open(options->url, DB_WRITER, &store->db, why);
    if (err == OK)
        err = migrate(store->db, why);
    if (err == OK)
        err = tasks_load(store);
    if (err == OK)
        err = load_ids(store);
    if (err == OK)
        err = meta_get_int(store->db, SPAN("paused"), 0, &paused);
    if (err != OK) {
        if (why && !why->text[0])
            reason_set(why, "%s: the database could not be read (see the log)", options->url);
        store_close(store);
        return err;
    }
    atomic_init(&store->paused, paused != 0);
    store->tx.store = store;
    store->tx.db = store->db;
    *out = store;
    return OK;
}

void store_close(struct store *store)
{
    if (!store)
        return;
    db_close(store->db);
    for (int i = 0; i < store->task_count; i++)
        free(store->tasks[i].name);
    free(store->tasks);
    tx_release(&store->tx);
    free(store->last_turns);
    pthread_mutex_destroy(&store->role);
    pthread_mutex_destroy(&store->lock);
    pthread_mutex_destroy(&store->tasks_lock);
    pthread_cond_destroy(&store->wake);
    free(store->url);
    free(store);
}

void store_listen(struct store *store, const struct store_listener *listener)
{
    if (store->listener_count < LISTENERS_MAX)
        store->listeners[store->listener_count++] = *listener;
}

uint64_t store_version(const struct store *store)
{
    return atomic_load(&store->version);
}

uint64_t store_boot_id(const struct store *store)
{
    return store->boot_id;
}

bool store_healthy(const struct store *store)
{
    return atomic_load(&store->healthy);
}

bool store_paused(const struct store *store)
{
    return atomic_load(&store->paused);
}

void store_set_retain_max(struct store *store, int64_t retain_max)
{
    atomic_store(&store->retain_max, retain_max);
}
