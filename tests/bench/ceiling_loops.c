/* The ceiling of loops: one thread that writes what an iteration leaves into the same schema with
 * the same pragmas, so many a transaction, and does nothing else: its end, the next one, and the loop.
 *
 *     ceiling_loops DATABASE FOLDER ITERATIONS AT_ONCE     prints iterations a second */
#include "database.h"

static double seconds(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec * 1e-9;
}

int main(int argc, char **argv)
{
    if (argc != 5)
        return 2;
    long rows = atol(argv[3]), at_once = atol(argv[4]);
    sqlite3 *db = create(argv[1], argv[2],
                         "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=1000;"
                         "PRAGMA journal_size_limit=16777216; PRAGMA cache_size=-16000");
    sqlite3_stmt *begin = prepare(db, "BEGIN IMMEDIATE"), *commit = prepare(db, "COMMIT");
    sqlite3_stmt *insert = prepare(
        db,
        "INSERT INTO invocations (id, task, status, priority, attempt, max_retries, retention_ms, flags, args, "
        "follow) VALUES (?1, 1, 2, 1, 0, 0, 604800000, 1024, '{\"n\":1}', 32)");
    sqlite3_stmt *iteration = prepare(db, "INSERT INTO iterations (id, loop, number) VALUES (?1, ?2, ?3)");
    sqlite3_stmt *end = prepare(
        db,
        "UPDATE invocations SET status = 5, attempt = 1, started_at = ?2, finished_at = ?2, "
        "prune_at = ?2 + 604800000, lease = 5, holder = 0, worker = 'slot-1', result = '{\"n\":1}', follow = 0 "
        "WHERE id = ?1");
    sqlite3_stmt *loop = prepare(db, "UPDATE loops SET iteration = ?2, invocation = ?3 WHERE id = ?1");
    sqlite3_stmt *make = prepare(
        db, "INSERT INTO loops (id, digest, status, task, next, continues, priority, max_retries, retention_ms, "
            "delay_ms) VALUES (?1, 'd', 1, 1, 1, 0, 1, 0, 1, 0)");
    for (long k = 0; k < at_once; k++) {
        sqlite3_bind_int64(make, 1, k + 1);
        run(make);
    }
    double began = seconds();
    for (long i = 0; i < rows; i++) {
        long id = at_once + i + 1, of = i % at_once + 1;
        if (i % at_once == 0)
            run(begin);
        if (i >= at_once) {
            sqlite3_bind_int64(end, 1, id - at_once);
            sqlite3_bind_int64(end, 2, now_ms());
            run(end);
        }
        sqlite3_bind_int64(insert, 1, id);
        run(insert);
        sqlite3_bind_int64(iteration, 1, id);
        sqlite3_bind_int64(iteration, 2, of);
        sqlite3_bind_int64(iteration, 3, i / at_once + 1);
        run(iteration);
        sqlite3_bind_int64(loop, 1, of);
        sqlite3_bind_int64(loop, 2, i / at_once);
        sqlite3_bind_int64(loop, 3, id);
        run(loop);
        if (i % at_once == at_once - 1 || i == rows - 1)
            run(commit);
    }
    printf("%.1f\n", (double)rows / (seconds() - began));
    return 0;
}
