/* Inside the store: a reader's connection and how rows are read. */
#pragma once

#include "store/internal.h"

enum { QUERIES_KEPT = 32 };

/* A prepared list query, by its text. */
struct query {
    char *sql;
    struct db_stmt *stmt;
    bool busy;
};

struct reader {
    struct store *store;
    struct db *db;
    struct buf args, result, note, step; /* what stood outside the row */
    struct buf targets;                  /* of a suspended one */
    struct buf term;                     /* of an argument that is looked for */
    int64_t waiting_for[WAITING_FOR_MAX];
    int64_t after[AFTER_MAX];
    struct query queries[QUERIES_KEPT];
    int query_count;
    bool brief;
    struct buf row; /* the bytes of the last reader_get() */
};

/* Fills a row from ROW_COLUMNS or ROW_COLUMNS_FULL; what stands outside the
 * row is fetched into the reader's buffers. */
MUST_USE enum err row_read(struct reader *reader, struct db_stmt *stmt, enum view view, struct invocation *out);

/* A payload in that buffer, which is emptied first; empty if it is gone by now. */
MUST_USE enum err reader_outside(struct reader *reader, int64_t id, int kind, struct buf *kept, struct span *out);

/* Copies text of a statement that must not stay open; absent stays absent. */
struct span reader_copied(struct buf *kept, struct span text);
