/* Makes a large database at once, as if Errand had been at work for long.
 *
 *     fill DATABASE FOLDER ROWS QUEUED TASK OLD...
 *
 * The newest QUEUED of ROWS wait and are TASK's; before them come finished ones
 * of the tasks OLD, one in 100 of them failed, a millisecond apart. */
#include "database.h"

#define RETENTION_MS INT64_C(604800000)
#define ARGS "{\"user_id\":12345,\"path\":\"/images/2024/cat-picture.png\",\"width\":640,\"height\":480,\"q\":80}"
#define ERROR "{\"type\":\"exit:1\",\"message\":\"it ended with exit status 1\"}"

enum { QUEUED = 2, SUCCEEDED = 5, FAILED = 6, STATUSES = 8, TASKS_MAX = 16, FAILED_ONE_IN = 100 };

static int64_t counts[TASKS_MAX][STATUSES];

static void insert(sqlite3_stmt *stmt, int64_t at_ms, int task, int status)
{
    sqlite3_bind_int64(stmt, 1, make_id(at_ms, 0));
    sqlite3_bind_int(stmt, 2, task);
    sqlite3_bind_int(stmt, 3, status);
    sqlite3_bind_text(stmt, 5, ARGS, -1, SQLITE_STATIC);
    if (status == QUEUED) {
        sqlite3_bind_int(stmt, 4, 0);
        for (int i = 6; i <= 13; i++)
            sqlite3_bind_null(stmt, i);
    } else {
        sqlite3_bind_int(stmt, 4, 1);
        sqlite3_bind_int64(stmt, 6, at_ms + 1);
        sqlite3_bind_int64(stmt, 7, at_ms + 2);
        sqlite3_bind_int64(stmt, 8, at_ms + 2 + RETENTION_MS);
        sqlite3_bind_text(stmt, 9, "slot-1", -1, SQLITE_STATIC);
        sqlite3_bind_text(stmt, 10, status == SUCCEEDED ? "{\"ok\":true}" : NULL, -1, SQLITE_STATIC);
        sqlite3_bind_int64(stmt, 12, at_ms * INT64_C(0x5DEECE66D)); /* as large as a random one */
        sqlite3_bind_int(stmt, 13, 0);
        sqlite3_bind_text(stmt, 11, status == FAILED ? ERROR : NULL, -1, SQLITE_STATIC);
    }
    run(stmt);
    counts[task][status]++;
}

static void write_tasks(sqlite3 *db, char **names, int count)
{
    sqlite3_stmt *task = prepare(db, "INSERT INTO tasks (id, name) VALUES (?1, ?2)");
    sqlite3_stmt *counter = prepare(db, "INSERT INTO counters (task, status, n) VALUES (?1, ?2, ?3)");
    for (int id = 1; id <= count; id++) {
        sqlite3_bind_int(task, 1, id);
        sqlite3_bind_text(task, 2, names[id - 1], -1, SQLITE_STATIC);
        run(task);
        for (int status = 1; status < STATUSES; status++) {
            sqlite3_bind_int(counter, 1, id);
            sqlite3_bind_int(counter, 2, status);
            sqlite3_bind_int64(counter, 3, counts[id][status]);
            if (counts[id][status])
                run(counter);
        }
    }
    sqlite3_finalize(task);
    sqlite3_finalize(counter);
}

int main(int argc, char **argv)
{
    int tasks = argc - 5;
    if (tasks < 2 || tasks >= TASKS_MAX)
        return 2;
    long rows = atol(argv[3]), queued = atol(argv[4]);
    sqlite3 *db =
        create(argv[1], argv[2], "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-400000");
    sqlite3_stmt *stmt = prepare(
        db, "INSERT INTO invocations (id, task, status, priority, attempt, max_retries, retention_ms, flags, "
            "args, started_at, finished_at, prune_at, worker, result, error, lease, holder) "
            "VALUES (?1, ?2, ?3, 1, ?4, 0, 604800000, 0, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)");
    sqlite3_stmt *error = prepare(db, "INSERT INTO errors (type, id) VALUES ('exit:1', ?1)");
    int64_t from_ms = now_ms() - rows - 1000;
    execute(db, "BEGIN");
    for (long i = 0; i < rows; i++) {
        bool waits = i >= rows - queued, failed = !waits && i % FAILED_ONE_IN == 0;
        insert(stmt, from_ms + i, waits ? 1 : 2 + (int)(i % (tasks - 1)),
               waits    ? QUEUED
               : failed ? FAILED
                        : SUCCEEDED);
        if (failed) {
            sqlite3_bind_int64(error, 1, make_id(from_ms + i, 0));
            run(error);
        }
    }
    write_tasks(db, argv + 5, tasks);
    execute(db, "COMMIT");
    sqlite3_finalize(stmt);
    sqlite3_finalize(error);
    execute(db, "PRAGMA journal_mode=WAL");
    return sqlite3_close(db) == SQLITE_OK ? 0 : 1;
}
