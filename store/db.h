/* The driver interface: a connection, prepared statements, transactions.
 *
 * SQL is written once, in the dialect that SQLite and PostgreSQL share: `$1`
 * parameters, RETURNING, ON CONFLICT. What only one of them can say is a
 * function here and stays in its driver. Nothing outside a driver knows which
 * one it is.
 *
 * Threads: a connection and its statements belong to one thread at a time.
 * Errors: ERR_CONFLICT for a violated constraint, ERR_UNAVAILABLE when the
 * disk or the server took the whole transaction away (full, I/O, connection),
 * ERR_DB for anything else. The last two are logged where they arise. */
#pragma once

#include "base/buf.h"
#include "base/err.h"

struct db;
struct db_stmt;

enum db_mode {
    DB_WRITER, /* the one that writes; makes the database if it is missing */
    DB_READER, /* reads only, sees what is committed */
};

/* One side of the interface. db_sqlite.c and, later, others fill it. */
struct db_driver {
    const char *name;
    enum err (*open)(const char *url, enum db_mode mode, struct db **out, struct reason *why);
    void (*close)(struct db *db);
    enum err (*exec)(struct db *db, const char *sql);
    enum err (*prepare)(struct db *db, const char *sql, struct db_stmt **out);
    void (*finalize)(struct db_stmt *stmt);
    void (*bind_null)(struct db_stmt *stmt, int n);
    void (*bind_int)(struct db_stmt *stmt, int n, int64_t value);
    void (*bind_double)(struct db_stmt *stmt, int n, double value);
    void (*bind_text)(struct db_stmt *stmt, int n, struct span text);
    void (*bind_blob)(struct db_stmt *stmt, int n, struct span bytes);
    enum err (*step)(struct db_stmt *stmt, bool *row);
    void (*reset)(struct db_stmt *stmt);
    bool (*is_null)(struct db_stmt *stmt, int column);
    int64_t (*column_int)(struct db_stmt *stmt, int column);
    double (*column_double)(struct db_stmt *stmt, int column);
    struct span (*column_span)(struct db_stmt *stmt, int column);
    int64_t (*changes)(struct db *db);
    bool (*in_transaction)(struct db *db);
    enum err (*reclaim)(struct db *db, int64_t *left);
    enum err (*backup)(const char *url, const char *file, struct reason *why);
    const char *(*version)(void);
};

extern const struct db_driver db_sqlite;

/* Every connection starts with its driver and its cache of statements. */
struct db {
    const struct db_driver *driver;
    struct db_cached *cache; /* statements by the address of their text */
    int cache_size, cache_used;
    int64_t steps; /* calls of db_step() */
};

struct db_stmt {
    const struct db_driver *driver;
    struct db *db;
};

/* Opens a connection to "PATH" (SQLite). ERR_BUSY: another server owns it. */
MUST_USE enum err db_open(const char *url, enum db_mode mode, struct db **out, struct reason *why);
void db_close(struct db *db); /* takes NULL; finalizes the cached statements */

/* Runs one or more statements without parameters. */
MUST_USE enum err db_exec(struct db *db, const char *sql);

/* The statement for this text, prepared once a connection and then kept. The
 * text must be a static string: its address is the key. It comes back reset.
 * NULL on a fault (logged). */
struct db_stmt *db_cached(struct db *db, const char *sql);

/* A statement of its own, for when the cached one is in use or the text is not
 * static. The caller finalizes. */
MUST_USE enum err db_prepare(struct db *db, const char *sql, struct db_stmt **out);
void db_finalize(struct db_stmt *stmt); /* takes NULL */

/* Parameters count from 1. Text and bytes are borrowed until db_reset; an
 * absent span (p NULL) binds NULL. */
static inline void db_bind_null(struct db_stmt *s, int n)
{
    s->driver->bind_null(s, n);
}
static inline void db_bind_int(struct db_stmt *s, int n, int64_t v)
{
    s->driver->bind_int(s, n, v);
}
static inline void db_bind_double(struct db_stmt *s, int n, double v)
{
    s->driver->bind_double(s, n, v);
}
static inline void db_bind_text(struct db_stmt *s, int n, struct span v)
{
    s->driver->bind_text(s, n, v);
}
static inline void db_bind_blob(struct db_stmt *s, int n, struct span v)
{
    s->driver->bind_blob(s, n, v);
}

/* 0 stands for absent in times and durations: binds NULL for it. */
static inline void db_bind_time(struct db_stmt *s, int n, int64_t ms)
{
    if (ms)
        s->driver->bind_int(s, n, ms);
    else
        s->driver->bind_null(s, n);
}

/* Steps; *row says whether there is one (NULL: none is expected). After a row
 * the columns (from 0) can be read; spans live until the next step or reset. */
static inline MUST_USE enum err db_step(struct db_stmt *s, bool *row)
{
    s->db->steps++;
    return s->driver->step(s, row);
}
static inline bool db_is_null(struct db_stmt *s, int c)
{
    return s->driver->is_null(s, c);
}
static inline int64_t db_int(struct db_stmt *s, int c)
{
    return s->driver->column_int(s, c);
}
static inline double db_double(struct db_stmt *s, int c)
{
    return s->driver->column_double(s, c);
}
static inline struct span db_span(struct db_stmt *s, int c)
{
    return s->driver->column_span(s, c);
}
static inline void db_reset(struct db_stmt *s)
{
    s->driver->reset(s);
}

/* Steps a statement that gives no rows, and resets it. */
MUST_USE enum err db_run(struct db_stmt *stmt);

/* Rows that the last statement changed. */
static inline int64_t db_changes(struct db *db)
{
    return db->driver->changes(db);
}

MUST_USE enum err db_begin(struct db *db);
MUST_USE enum err db_commit(struct db *db);
void db_rollback(struct db *db); /* without a transaction: does nothing */
static inline bool db_in_transaction(struct db *db)
{
    return db->driver->in_transaction(db);
}

/* One savepoint at a time, inside a transaction. */
MUST_USE enum err db_savepoint(struct db *db);
void db_savepoint_release(struct db *db);
void db_savepoint_rollback(struct db *db);

/* Gives a bounded number of unused pages back to the file system; *left says
 * how many steps' worth remain (0: nothing that is worth it). */
static inline MUST_USE enum err db_reclaim(struct db *db, int64_t *left)
{
    return db->driver->reclaim(db, left);
}

/* Writes a consistent copy of the database at `url` to `file` (which must not
 * exist) while it is in use. */
MUST_USE enum err db_backup(const char *url, const char *file, struct reason *why);

/* The database library's version, for GET /version. */
const char *db_version(void);
