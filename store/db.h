/* The driver interface: a connection, prepared statements, transactions.
 *
 * SQL is written once, in the dialect that SQLite and PostgreSQL share: `$1`
 * parameters, RETURNING, ON CONFLICT. What only one of them can say is a
 * function here and stays in its driver. Nothing outside a driver knows which
 * one it is.
 *
 * Threads: a connection and its statements belong to one thread at a time.
 * Errors: ERR_UNAVAILABLE when the disk or the server took the whole
 * transaction away (full, I/O, connection), ERR_DB for anything else, a
 * violated constraint included: what is expected to be there already is said
 * in the statement (ON CONFLICT). Both are logged where they arise. */
#pragma once

#include "base/buf.h"
#include "base/err.h"

struct db;
struct db_stmt;
struct db_value;

enum db_mode {
    DB_WRITER, /* the one that writes; makes the database if it is missing */
    DB_READER, /* reads only, sees what is committed */
};

/* One side of the interface, filled by a file in store/drivers/. */
struct db_driver {
    const char *name;
    enum err (*open)(const char *url, enum db_mode mode, struct db **out, struct reason *why);
    void (*close)(struct db *db);
    enum err (*exec)(struct db *db, const char *sql);
    const char *begin; /* how the connection that writes begins a transaction */
    enum err (*prepare)(struct db *db, const char *sql, struct db_stmt **out);
    void (*finalize)(struct db_stmt *stmt);
    void (*bind)(struct db_stmt *stmt, const struct db_value *values, int count);
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
    enum db_mode mode;
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

/* --- values: they stand beside the statement whose parameters they are ------ */

struct db_value {
    enum db_type { DB_NULL, DB_INT, DB_REAL, DB_TEXT, DB_BLOB } type;
    union {
        int64_t integer;
        double real;
        struct span bytes; /* borrowed until db_reset */
    };
};

static inline struct db_value v_int(int64_t value)
{
    return (struct db_value){.type = DB_INT, .integer = value};
}
static inline struct db_value v_real(double value)
{
    return (struct db_value){.type = DB_REAL, .real = value};
}
/* An absent span (p NULL) is NULL. */
static inline struct db_value v_text(struct span text)
{
    return (struct db_value){.type = text.p ? DB_TEXT : DB_NULL, .bytes = text};
}
static inline struct db_value v_blob(struct span bytes)
{
    return (struct db_value){.type = bytes.p ? DB_BLOB : DB_NULL, .bytes = bytes};
}
/* 0 stands for absent in times, durations and leases: NULL. */
static inline struct db_value v_time(int64_t ms)
{
    return (struct db_value){.type = ms ? DB_INT : DB_NULL, .integer = ms};
}

/* Binds values to the parameters $1, $2, ... */
void db_bind(struct db_stmt *stmt, const struct db_value *values, int count);

#define DB_VALUES(...) (const struct db_value[]){{0}, ##__VA_ARGS__} + 1
#define DB_COUNT(...) (int)(sizeof((const struct db_value[]){{0}, ##__VA_ARGS__}) / sizeof(struct db_value)) - 1

/* The cached statement with its values, ready to step; db_reset() it after the
 * last row. NULL on a fault (logged). */
struct db_stmt *db_query(struct db *db, const char *sql, const struct db_value *values, int count);
#define DB_QUERY(db, sql, ...) db_query(db, sql, DB_VALUES(__VA_ARGS__), DB_COUNT(__VA_ARGS__))

/* Runs a cached statement that gives no rows. */
MUST_USE enum err db_execute(struct db *db, const char *sql, const struct db_value *values, int count);
#define DB_EXECUTE(db, sql, ...) db_execute(db, sql, DB_VALUES(__VA_ARGS__), DB_COUNT(__VA_ARGS__))

/* The first column of the first row; `missing` if there is no row or it is NULL. */
MUST_USE enum err db_number(struct db *db, int64_t *out, int64_t missing, const char *sql,
                            const struct db_value *values, int count);
#define DB_NUMBER(db, out, missing, sql, ...) \
    db_number(db, out, missing, sql, DB_VALUES(__VA_ARGS__), DB_COUNT(__VA_ARGS__))

/* Steps; *row says whether there is one (NULL: none is expected). After a row
 * the columns (from 0) can be read; spans live until the next step or reset. */
static inline MUST_USE enum err db_step(struct db_stmt *s, bool *row)
{
    s->db->steps++;
    return s->driver->step(s, row);
}
/* The same where a row must be: ERR_NOT_FOUND when there is none. */
static inline MUST_USE enum err db_step_found(struct db_stmt *s)
{
    bool row;
    enum err err = db_step(s, &row);
    return err == OK && !row ? ERR_NOT_FOUND : err;
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
 * exist) while it is in use. ERR_BUSY: another is writing it. Once OK the copy
 * and its name are on disk; otherwise nothing of it is left. */
MUST_USE enum err db_backup(const char *url, const char *file, struct reason *why);

/* The database library's version, for GET /version. */
const char *db_version(void);
