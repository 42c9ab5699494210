/* The ceiling of bulk submission: one thread that inserts the rows, 1000 a
 * transaction, into the same schema with the same pragmas, and does nothing else.
 *
 *     ceiling_sqlite DATABASE FOLDER ARGS ROWS     prints rows a second */
#include "database.h"

enum { BATCH = 1000 };

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
    const char *args = argv[3];
    int length = (int)strlen(args);
    long rows = atol(argv[4]);
    sqlite3 *db = create(argv[1], argv[2],
                         "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=1000;"
                         "PRAGMA journal_size_limit=16777216; PRAGMA cache_size=-16000");
    sqlite3_stmt *begin = prepare(db, "BEGIN IMMEDIATE"), *commit = prepare(db, "COMMIT");
    sqlite3_stmt *count = prepare(db, "INSERT INTO counters (task, status, n) VALUES (1, 2, ?1) "
                                      "ON CONFLICT (task, status) DO UPDATE SET n = n + excluded.n");
    sqlite3_stmt *insert =
        prepare(db, "INSERT INTO invocations (id, task, status, priority, attempt, max_retries, "
                    "retention_ms, flags, timeout_ms, run_at, expires_at, args, labels) "
                    "VALUES (?1, 1, 2, 1, 0, 0, 604800000, 0, NULL, NULL, NULL, ?2, NULL)");
    int64_t at_ms = now_ms();
    double began = seconds();
    for (long i = 0; i < rows; i++) {
        if (i % BATCH == 0)
            run(begin);
        sqlite3_bind_int64(insert, 1, make_id(at_ms + i / 4096, (int)(i % 4096)));
        sqlite3_bind_text(insert, 2, args, length, SQLITE_STATIC);
        run(insert);
        if (i % BATCH == BATCH - 1 || i == rows - 1) {
            sqlite3_bind_int64(count, 1, i % BATCH + 1);
            run(count);
            run(commit);
        }
    }
    printf("%.1f\n", (double)rows / (seconds() - began));
    return 0;
}
