/* The ceiling of recording steps: one thread that inserts them into the same schema
 * with the same pragmas, so many a transaction, and does nothing else.
 *
 *     ceiling_steps DATABASE FOLDER ROWS AT_ONCE     prints rows a second */
#include "database.h"

enum { OF_ONE = 500 /* of one invocation */ };

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
    sqlite3_stmt *insert =
        prepare(db, "INSERT INTO steps (id, name, number, value, at) VALUES (?1, ?2, ?3, '1', ?4)");
    char name[32];
    double began = seconds();
    for (long i = 0; i < rows; i++) {
        if (i % at_once == 0)
            run(begin);
        long number = i / at_once % OF_ONE + 1;
        int length = snprintf(name, sizeof name, "step %ld", number);
        sqlite3_bind_int64(insert, 1, i / at_once / OF_ONE * at_once + i % at_once + 1);
        sqlite3_bind_text(insert, 2, name, length, SQLITE_STATIC);
        sqlite3_bind_int64(insert, 3, number);
        sqlite3_bind_int64(insert, 4, now_ms());
        run(insert);
        if (i % at_once == at_once - 1 || i == rows - 1)
            run(commit);
    }
    printf("%.1f\n", (double)rows / (seconds() - began));
    return 0;
}
