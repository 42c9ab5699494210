/* A database as store/ makes it: the schema's own text, the same pragmas. For
 * the programs here that write one without Errand. */
#pragma once

#include <glob.h>
#include <inttypes.h>
#include <stdbool.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static inline void execute(sqlite3 *db, const char *sql)
{
    char *why;
    if (sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK) {
        fprintf(stderr, "%s: %s\n", sql, why);
        exit(1);
    }
}

static inline sqlite3_stmt *prepare(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *stmt;
    if (sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt, NULL) != SQLITE_OK) {
        fprintf(stderr, "%s: %s\n", sql, sqlite3_errmsg(db));
        exit(1);
    }
    return stmt;
}

static inline void run(sqlite3_stmt *stmt)
{
    if (sqlite3_step(stmt) != SQLITE_DONE) {
        fprintf(stderr, "%s\n", sqlite3_errmsg(sqlite3_db_handle(stmt)));
        exit(1);
    }
    sqlite3_reset(stmt);
}

static inline bool read_text(const char *path, char *text, size_t size)
{
    FILE *file = fopen(path, "r");
    size_t n = file ? fread(text, 1, size - 1, file) : 0;
    text[n] = '\0';
    if (file)
        fclose(file);
    return n > 0;
}

/* The migrations in their order, each as it is applied: NNN_*.sql of `folder`. */
static inline void migrate(sqlite3 *db, const char *folder)
{
    static char text[1 << 20];
    int version = 0;
    for (;; version++) {
        char pattern[1024];
        glob_t found;
        snprintf(pattern, sizeof pattern, "%s/%03d_*.sql", folder, version + 1);
        if (glob(pattern, 0, NULL, &found) != 0)
            break;
        if (!read_text(found.gl_pathv[0], text, sizeof text)) {
            fprintf(stderr, "%s cannot be read\n", found.gl_pathv[0]);
            exit(1);
        }
        execute(db, text);
        globfree(&found);
    }
    if (!version) {
        fprintf(stderr, "%s has no migrations\n", folder);
        exit(1);
    }
    snprintf(text, sizeof text, "INSERT INTO schema_version VALUES (%d)", version);
    execute(db, text);
}

/* The file must not be there yet; `schema` is the folder of the migrations. `settings` come after those that a new database needs first. */
static inline sqlite3 *create(const char *path, const char *schema, const char *settings)
{
    sqlite3 *db;
    sqlite3_config(SQLITE_CONFIG_MULTITHREAD);
    sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL) !=
        SQLITE_OK) {
        fprintf(stderr, "%s: %s\n", path, sqlite3_errmsg(db));
        exit(1);
    }
    execute(db, "PRAGMA auto_vacuum=INCREMENTAL; PRAGMA secure_delete=OFF; PRAGMA temp_store=MEMORY");
    execute(db, settings);
    execute(db, "CREATE TABLE schema_version (version INTEGER NOT NULL)");
    migrate(db, schema);
    return db;
}

static inline int64_t now_ms(void)
{
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    return (int64_t)at.tv_sec * 1000 + at.tv_nsec / 1000000;
}

/* An id as base/id.h makes them: milliseconds since 2020, node 0, a sequence. */
static inline int64_t make_id(int64_t at_ms, int sequence)
{
    return (at_ms - INT64_C(1577836800000)) << 22 | sequence;
}
