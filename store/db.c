#include "store/db.h"

#include "base/log.h"

#include <stdlib.h>

struct db_cached {
    const char *sql;
    struct db_stmt *stmt;
};

static const struct db_driver *driver_for(const char *url)
{
    (void)url; /* one driver so far; a URL's scheme will choose */
    return &db_sqlite;
}

enum err db_open(const char *url, enum db_mode mode, struct db **out, struct reason *why)
{
    const struct db_driver *driver = driver_for(url);
    enum err err = driver->open(url, mode, out, why);
    if (err == OK) {
        (*out)->driver = driver;
        (*out)->mode = mode;
    }
    return err;
}

void db_close(struct db *db)
{
    if (!db)
        return;
    for (int i = 0; i < db->cache_size; i++)
        db_finalize(db->cache[i].stmt);
    free(db->cache);
    db->driver->close(db);
}

enum err db_exec(struct db *db, const char *sql)
{
    return db->driver->exec(db, sql);
}

enum err db_prepare(struct db *db, const char *sql, struct db_stmt **out)
{
    enum err err = db->driver->prepare(db, sql, out);
    if (err == OK) {
        (*out)->driver = db->driver;
        (*out)->db = db;
    }
    return err;
}

void db_finalize(struct db_stmt *stmt)
{
    if (stmt)
        stmt->driver->finalize(stmt);
}

static int cache_slot(const struct db *db, const char *sql)
{
    uint64_t hash = ((uint64_t)(uintptr_t)sql >> 3) * UINT64_C(0x9E3779B97F4A7C15);
    int mask = db->cache_size - 1, slot = (int)(hash >> 40) & mask;
    while (db->cache[slot].sql && db->cache[slot].sql != sql)
        slot = (slot + 1) & mask;
    return slot;
}

static void cache_grow(struct db *db)
{
    struct db_cached *old = db->cache;
    int old_size = db->cache_size;
    db->cache_size = old_size ? old_size * 2 : 64;
    db->cache = xcalloc((size_t)db->cache_size, sizeof *db->cache);
    for (int i = 0; i < old_size; i++)
        if (old[i].sql)
            db->cache[cache_slot(db, old[i].sql)] = old[i];
    free(old);
}

struct db_stmt *db_cached(struct db *db, const char *sql)
{
    if (db->cache_used * 2 >= db->cache_size)
        cache_grow(db);
    struct db_cached *c = &db->cache[cache_slot(db, sql)];
    if (c->sql)
        return c->stmt;
    struct db_stmt *stmt;
    if (db_prepare(db, sql, &stmt) != OK)
        return NULL;
    *c = (struct db_cached){sql, stmt};
    db->cache_used++;
    return stmt;
}

enum err db_run(struct db_stmt *stmt)
{
    if (!stmt)
        return ERR_DB;
    enum err err = db_step(stmt, NULL);
    db_reset(stmt);
    return err;
}

void db_bind(struct db_stmt *stmt, const struct db_value *values, int count)
{
    stmt->driver->bind(stmt, values, count);
}

struct db_stmt *db_query(struct db *db, const char *sql, const struct db_value *values, int count)
{
    struct db_stmt *stmt = db_cached(db, sql);
    if (stmt)
        db_bind(stmt, values, count);
    return stmt;
}

enum err db_execute(struct db *db, const char *sql, const struct db_value *values, int count)
{
    return db_run(db_query(db, sql, values, count));
}

enum err db_number(struct db *db, int64_t *out, int64_t missing, const char *sql, const struct db_value *values,
                   int count)
{
    struct db_stmt *stmt = db_query(db, sql, values, count);
    if (!stmt)
        return ERR_DB;
    bool row;
    enum err err = db_step(stmt, &row);
    *out = err == OK && row && !db_is_null(stmt, 0) ? db_int(stmt, 0) : missing;
    db_reset(stmt);
    return err;
}

enum err db_begin(struct db *db)
{
    return db_run(db_cached(db, db->mode == DB_WRITER ? db->driver->begin : "BEGIN"));
}

enum err db_commit(struct db *db)
{
    return db_run(db_cached(db, "COMMIT"));
}

void db_rollback(struct db *db)
{
    if (db_in_transaction(db) && db_run(db_cached(db, "ROLLBACK")) != OK)
        log_error("rollback failed");
}

enum err db_savepoint(struct db *db)
{
    return db_run(db_cached(db, "SAVEPOINT op"));
}

void db_savepoint_release(struct db *db)
{
    if (db_run(db_cached(db, "RELEASE SAVEPOINT op")) != OK)
        log_error("savepoint release failed");
}

void db_savepoint_rollback(struct db *db)
{
    if (!db_in_transaction(db))
        return; /* the whole transaction went, and the savepoint with it */
    if (db_run(db_cached(db, "ROLLBACK TO SAVEPOINT op")) != OK)
        log_error("savepoint rollback failed");
    else
        db_savepoint_release(db);
}

enum err db_backup(const char *url, const char *file, struct reason *why)
{
    return driver_for(url)->backup(url, file, why);
}

const char *db_version(void)
{
    return db_sqlite.version();
}
