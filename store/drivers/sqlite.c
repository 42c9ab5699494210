/* The SQLite driver. The home of sqlite3.h.
 *
 * One file in WAL mode, one writer (the committer's connection), any number of
 * readers. Durability: synchronous=FULL, so that a commit is an fsync of the
 * WAL before it returns. One server owns a file: the owner holds a flock on
 * FILE-lock (not on the database itself: closing any descriptor of that would
 * drop SQLite's own POSIX locks).
 *
 * ":memory:" is a WAL file in a private temporary folder with synchronous=OFF,
 * removed at close: SQLite's own memory databases cannot be shared between
 * connections without locking each other. The writer is opened first and makes
 * the folder; readers of the same process find it. */
#include "store/db.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct sqlite_db {
    struct db db;
    sqlite3 *handle;
    int lock_fd;  /* -1 if this connection is not the owner */
    char *folder; /* the private folder of ":memory:", NULL otherwise */
    char *path;
};

struct sqlite_stmt {
    struct db_stmt stmt;
    sqlite3_stmt *handle;
};

/* Pages given back a step, and what must be free before it is worth it. */
enum { RECLAIM_STEP_PAGES = 512, RECLAIM_MIN_PAGES = 256, AUTO_VACUUM_INCREMENTAL = 2 };

static pthread_mutex_t memory_lock = PTHREAD_MUTEX_INITIALIZER; /* guards memory_path */
static char *memory_path; /* of the open ":memory:" database of this process */

static sqlite3 *handle_of(struct db *db)
{
    return ((struct sqlite_db *)db)->handle;
}

static sqlite3_stmt *stmt_of(struct db_stmt *stmt)
{
    return ((struct sqlite_stmt *)stmt)->handle;
}

static enum err err_of(int code)
{
    switch (code & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE: return OK;
    case SQLITE_FULL:
    case SQLITE_IOERR:
    case SQLITE_BUSY:
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN: return ERR_UNAVAILABLE;
    default: return ERR_DB;
    }
}

/* Faults are logged here, at their origin. */
static enum err report(sqlite3 *handle, int code, const char *doing)
{
    enum err err = err_of(code);
    if (err != OK)
        log_error("database error", LOG_STR("doing", doing), LOG_INT("code", sqlite3_extended_errcode(handle)),
                  LOG_STR("error", sqlite3_errmsg(handle)));
    return err;
}

static enum err sqlite_exec(struct db *db, const char *sql)
{
    return report(handle_of(db), sqlite3_exec(handle_of(db), sql, NULL, NULL, NULL), "exec");
}

/* `$1` becomes `?1`: SQLite numbers `$` names by their first appearance. Text
 * in quotes is left alone. */
static char *rewrite_parameters(const char *sql)
{
    char *out = xstrdup(sql);
    bool quoted = false;
    for (char *p = out; *p; p++) {
        if (*p == '\'')
            quoted = !quoted;
        else if (*p == '$' && !quoted)
            *p = '?';
    }
    return out;
}

static enum err sqlite_prepare(struct db *db, const char *sql, struct db_stmt **out)
{
    char *text = rewrite_parameters(sql);
    sqlite3_stmt *handle;
    int code = sqlite3_prepare_v3(handle_of(db), text, -1, SQLITE_PREPARE_PERSISTENT, &handle, NULL);
    free(text);
    if (code != SQLITE_OK)
        return report(handle_of(db), code, sql);
    struct sqlite_stmt *stmt = xcalloc(1, sizeof *stmt);
    stmt->handle = handle;
    *out = &stmt->stmt;
    return OK;
}

static void sqlite_finalize(struct db_stmt *stmt)
{
    sqlite3_finalize(stmt_of(stmt));
    free(stmt);
}

static void sqlite_bind(struct db_stmt *stmt, const struct db_value *values, int count)
{
    sqlite3_stmt *handle = stmt_of(stmt);
    for (int n = 1; n <= count; n++) {
        const struct db_value *v = &values[n - 1];
        switch (v->type) {
        case DB_NULL: sqlite3_bind_null(handle, n); break;
        case DB_INT: sqlite3_bind_int64(handle, n, v->integer); break;
        case DB_REAL: sqlite3_bind_double(handle, n, v->real); break;
        case DB_TEXT: sqlite3_bind_text64(handle, n, v->bytes.p, v->bytes.len, SQLITE_STATIC, SQLITE_UTF8); break;
        case DB_BLOB: sqlite3_bind_blob64(handle, n, v->bytes.p, v->bytes.len, SQLITE_STATIC); break;
        }
    }
}

static enum err sqlite_step(struct db_stmt *stmt, bool *row)
{
    int code = sqlite3_step(stmt_of(stmt));
    if (row)
        *row = code == SQLITE_ROW;
    if (code == SQLITE_ROW || code == SQLITE_DONE)
        return OK;
    return report(handle_of(stmt->db), code, sqlite3_sql(stmt_of(stmt)));
}

static void sqlite_reset(struct db_stmt *stmt)
{
    sqlite3_reset(stmt_of(stmt));
}

static bool sqlite_is_null(struct db_stmt *stmt, int column)
{
    return sqlite3_column_type(stmt_of(stmt), column) == SQLITE_NULL;
}

static int64_t sqlite_column_int(struct db_stmt *stmt, int column)
{
    return sqlite3_column_int64(stmt_of(stmt), column);
}

static double sqlite_column_double(struct db_stmt *stmt, int column)
{
    return sqlite3_column_double(stmt_of(stmt), column);
}

static struct span sqlite_column_span(struct db_stmt *stmt, int column)
{
    sqlite3_stmt *handle = stmt_of(stmt);
    switch (sqlite3_column_type(handle, column)) {
    case SQLITE_NULL: return (struct span){NULL, 0};
    case SQLITE_BLOB: {
        const char *bytes = sqlite3_column_blob(handle, column);
        return (struct span){bytes ? bytes : "", (size_t)sqlite3_column_bytes(handle, column)};
    }
    default: {
        const char *text = (const char *)sqlite3_column_text(handle, column);
        return (struct span){text ? text : "", (size_t)sqlite3_column_bytes(handle, column)};
    }
    }
}

static int64_t sqlite_changes(struct db *db)
{
    return sqlite3_changes64(handle_of(db));
}

static bool sqlite_in_transaction(struct db *db)
{
    return !sqlite3_get_autocommit(handle_of(db));
}

static enum err sqlite_reclaim(struct db *db, int64_t *left)
{
    int64_t unused, all;
    *left = 0;
    enum err err = DB_NUMBER(db, &unused, 0, "PRAGMA freelist_count");
    if (err == OK)
        err = DB_NUMBER(db, &all, 0, "PRAGMA page_count");
    /* What is about to be used again is not worth moving pages for. */
    if (err != OK || unused < RECLAIM_MIN_PAGES || unused * 10 < all)
        return err;
    int64_t mode;
    err = DB_NUMBER(db, &mode, 0, "PRAGMA auto_vacuum");
    if (err != OK || mode != AUTO_VACUUM_INCREMENTAL) /* a file made otherwise (from a dump) gives nothing back */
        return err;
    char sql[64];
    snprintf(sql, sizeof sql, "PRAGMA incremental_vacuum(%d)", RECLAIM_STEP_PAGES);
    err = sqlite_exec(db, sql);
    if (err == OK)
        *left = unused / RECLAIM_STEP_PAGES;
    return err;
}

/* Makes the folder and the path of the ":memory:" database, or finds it. */
static enum err memory_database(struct sqlite_db *db, enum db_mode mode, struct reason *why)
{
    enum err err = ERR_IO;
    pthread_mutex_lock(&memory_lock);
    if (mode == DB_READER) {
        if (memory_path)
            db->path = xstrdup(memory_path);
        else
            reason_set(why, ":memory: is not open");
    } else if (memory_path) {
        reason_set(why, ":memory: is open already; one process has one");
        err = ERR_BUSY;
    } else {
        const char *tmp = getenv("TMPDIR");
        char folder[PATH_MAX];
        snprintf(folder, sizeof folder, "%s/errand-XXXXXX", tmp && *tmp ? tmp : "/tmp");
        if (mkdtemp(folder)) {
            char file[PATH_MAX + 16];
            snprintf(file, sizeof file, "%s/errand.db", folder);
            db->folder = xstrdup(folder);
            memory_path = xstrdup(file);
            db->path = xstrdup(file);
        } else {
            reason_set(why, "%s: %s", folder, strerror(errno));
        }
    }
    pthread_mutex_unlock(&memory_lock);
    return db->path ? OK : err;
}

static void forget_memory_database(struct sqlite_db *db)
{
    static const char *const suffixes[] = {"", "-wal", "-shm", "-lock"};
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        char file[PATH_MAX + 16];
        snprintf(file, sizeof file, "%s%s", db->path, suffixes[i]);
        unlink(file);
    }
    rmdir(db->folder);
    free(db->folder);
    pthread_mutex_lock(&memory_lock);
    free(memory_path);
    memory_path = NULL;
    pthread_mutex_unlock(&memory_lock);
}

static enum err take_ownership(struct sqlite_db *db, struct reason *why)
{
    char file[PATH_MAX + 16], real[PATH_MAX];
    /* A symbolic link must not lead past the lock. */
    snprintf(file, sizeof file, "%s-lock", realpath(db->path, real) ? real : db->path);
    db->lock_fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (db->lock_fd < 0) {
        reason_set(why, "%s: %s", file, strerror(errno));
        return ERR_IO;
    }
    if (flock(db->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        reason_set(why, "%s is in use by another server; one file has one owner", db->path);
        return ERR_BUSY;
    }
    return OK;
}

/* Arguments and results are nobody else's: a new file is its owner's alone,
 * and what SQLite puts beside it has the same mode. An existing one is left as
 * its owner made it. */
static enum err make_private(const struct sqlite_db *db, struct reason *why)
{
    struct stat st;
    int fd = open(db->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || fstat(fd, &st) != 0) {
        reason_set(why, "%s: %s", db->path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return ERR_IO;
    }
    if (st.st_mode & 077)
        log_warn("others than its owner may read the database: chmod 600 ends that", LOG_STR("file", db->path),
                 LOG_INT("others_mode", st.st_mode & 077));
    close(fd);
    return OK;
}

static void sqlite_close(struct db *base)
{
    struct sqlite_db *db = (struct sqlite_db *)base;
    sqlite3_close_v2(db->handle);
    if (db->folder)
        forget_memory_database(db);
    if (db->lock_fd >= 0)
        close(db->lock_fd);
    free(db->path);
    free(db);
}

static enum err configure(struct sqlite_db *db, enum db_mode mode, bool durable)
{
    sqlite3_busy_timeout(db->handle, 10000);
    if (mode == DB_READER)
        return sqlite_exec(&db->db, "PRAGMA query_only=ON; PRAGMA cache_size=-2000; PRAGMA temp_store=MEMORY");
    /* auto_vacuum must come before the first table and before WAL. Where it is set
     * already, setting it would be a write, for which there may be no room. */
    int64_t vacuum;
    enum err err = DB_NUMBER(&db->db, &vacuum, 0, "PRAGMA auto_vacuum");
    if (err == OK && vacuum != AUTO_VACUUM_INCREMENTAL)
        err = sqlite_exec(&db->db, "PRAGMA auto_vacuum=INCREMENTAL");
    if (err == OK)
        err = sqlite_exec(&db->db, "PRAGMA journal_mode=WAL;"
                                   "PRAGMA wal_autocheckpoint=1000;"
                                   "PRAGMA journal_size_limit=16777216;"
                                   "PRAGMA secure_delete=OFF;"
                                   "PRAGMA temp_store=MEMORY;"
                                   "PRAGMA cache_size=-16000");
    if (err == OK)
        err = sqlite_exec(&db->db, durable ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=OFF");
    return err;
}

static void configure_library(void)
{
    sqlite3_config(SQLITE_CONFIG_MULTITHREAD); /* a connection belongs to one thread at a time */
    sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
}

static enum err sqlite_open(const char *url, enum db_mode mode, struct db **out, struct reason *why)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, configure_library);
    struct sqlite_db *db = xcalloc(1, sizeof *db);
    db->db.driver = &db_sqlite;
    db->lock_fd = -1;
    bool memory = strcmp(url, ":memory:") == 0;
    enum err err = OK;
    if (memory)
        err = memory_database(db, mode, why);
    else
        db->path = xstrdup(url);
    if (err != OK)
        goto out;
    if (mode == DB_WRITER && (err = take_ownership(db, why)) != OK)
        goto out;
    if (mode == DB_WRITER && (err = make_private(db, why)) != OK)
        goto out;
    int flags = mode == DB_WRITER ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READWRITE;
    int code = sqlite3_open_v2(db->path, &db->handle, flags | SQLITE_OPEN_NOMUTEX, NULL);
    if (code != SQLITE_OK) {
        reason_set(why, "%s: %s", db->path, db->handle ? sqlite3_errmsg(db->handle) : sqlite3_errstr(code));
        err = ERR_IO;
        goto out;
    }
    sqlite3_extended_result_codes(db->handle, 1);
    err = configure(db, mode, !memory);
    if (err != OK)
        reason_set(why, "%s: %s", db->path, sqlite3_errmsg(db->handle));
out:
    if (err == OK)
        *out = &db->db;
    else
        db_close(&db->db);
    return err;
}

/* --- backup ----------------------------------------------------------------------- */

/* A copy on its way: FILE.part. Whoever makes it holds a lock on it, so that no
 * other takes it away, and what one that was killed left behind is used anew. */
struct part {
    char path[PATH_MAX], journal[PATH_MAX + 16];
    int fd;
};

/* The lock may have been waited for, or taken, on a file that has its final name
 * by now, or none. */
static bool is_still_there(const struct part *part)
{
    struct stat held, named;
    return fstat(part->fd, &held) == 0 && stat(part->path, &named) == 0 && held.st_dev == named.st_dev &&
           held.st_ino == named.st_ino;
}

static enum err part_open(struct part *part, const char *file, struct reason *why)
{
    if (snprintf(part->path, sizeof part->path, "%s.part", file) >= (int)sizeof part->path) {
        reason_set(why, "%s: the name is too long", file);
        return ERR_INVALID;
    }
    snprintf(part->journal, sizeof part->journal, "%s-journal", part->path);
    part->fd = open(part->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (part->fd < 0) {
        reason_set(why, "%s: %s", part->path, strerror(errno));
        return ERR_IO;
    }
    if (flock(part->fd, LOCK_EX | LOCK_NB) != 0 || !is_still_there(part)) {
        reason_set(why, "%s is being written by another backup", part->path);
        close(part->fd);
        return ERR_BUSY;
    }
    unlink(part->journal); /* of one that was killed: it would be played back into the copy */
    if (ftruncate(part->fd, 0) == 0)
        return OK;
    reason_set(why, "%s: %s", part->path, strerror(errno));
    close(part->fd);
    return ERR_IO;
}

static void part_close(struct part *part, bool named)
{
    if (!named)
        unlink(part->path);
    unlink(part->journal);
    close(part->fd);
}

/* VACUUM INTO reads one snapshot, so writers go on and never restart it. */
static enum err copy_into(const char *url, const char *path, struct reason *why)
{
    sqlite3 *handle = NULL;
    sqlite3_stmt *stmt = NULL;
    int code = sqlite3_open_v2(url, &handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (code == SQLITE_OK) {
        sqlite3_busy_timeout(handle, 10000);
        code = sqlite3_prepare_v2(handle, "VACUUM INTO ?1", -1, &stmt, NULL);
    }
    if (code == SQLITE_OK) {
        sqlite3_bind_text(stmt, 1, path, -1, SQLITE_STATIC);
        code = sqlite3_step(stmt);
    }
    if (code != SQLITE_DONE)
        reason_set(why, "%s: %s", url, handle ? sqlite3_errmsg(handle) : sqlite3_errstr(code));
    sqlite3_finalize(stmt);
    sqlite3_close_v2(handle);
    return code == SQLITE_DONE ? OK : ERR_IO;
}

/* Never over a file that is there. Some file systems have no hard links, others
 * cannot rename without replacing. */
static bool take_name(const char *part, const char *file)
{
    if (link(part, file) == 0) {
        unlink(part);
        return true;
    }
    return errno != EEXIST && renameat2(AT_FDCWD, part, AT_FDCWD, file, RENAME_NOREPLACE) == 0;
}

/* A name is on disk when its folder is. */
static bool sync_folder_of(const char *file)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s", file);
    int fd = open(dirname(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool synced = fd >= 0 && fsync(fd) == 0;
    int error = errno;
    if (fd >= 0)
        close(fd);
    errno = error;
    return synced;
}

/* The copy gets its name only once it is whole and on disk. */
static enum err sqlite_backup(const char *url, const char *file, struct reason *why)
{
    struct part part;
    bool named = false;
    if (access(file, F_OK) == 0) {
        reason_set(why, "%s is there already", file);
        return ERR_CONFLICT;
    }
    if (access(url, R_OK) != 0) {
        reason_set(why, "%s: %s", url, strerror(errno));
        return ERR_NOT_FOUND;
    }
    enum err err = part_open(&part, file, why);
    if (err != OK)
        return err;
    err = copy_into(url, part.path, why);
    if (err == OK) {
        named = fsync(part.fd) == 0 && take_name(part.path, file);
        err = named && sync_folder_of(file) ? OK : ERR_IO;
        if (err != OK)
            reason_set(why, "%s: %s", file, strerror(errno));
    }
    part_close(&part, named);
    return err;
}

const struct db_driver db_sqlite = {
    .name = "sqlite",
    .open = sqlite_open,
    .close = sqlite_close,
    .exec = sqlite_exec,
    .begin = "BEGIN IMMEDIATE", /* one that reads first could not write after another's commit */
    .prepare = sqlite_prepare,
    .finalize = sqlite_finalize,
    .bind = sqlite_bind,
    .step = sqlite_step,
    .reset = sqlite_reset,
    .is_null = sqlite_is_null,
    .column_int = sqlite_column_int,
    .column_double = sqlite_column_double,
    .column_span = sqlite_column_span,
    .changes = sqlite_changes,
    .in_transaction = sqlite_in_transaction,
    .reclaim = sqlite_reclaim,
    .backup = sqlite_backup,
    .version = sqlite3_libversion,
};
