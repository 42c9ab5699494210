/* The file of the turn journal: how it is laid out, and what of it is left to
 * read after a crash. Inside the journal; nothing else includes it.
 *
 * Pages of the machine that wrote it: a header, then records, 64 bytes each,
 * and among them a page of its own for each record whose turns have logged.
 * Native byte order and layout: it is read on that machine, or it is foreign
 * and counts as empty.
 *
 * Threads: any; none of this locks. */
#pragma once

#include "workers/cgroup.h"
#include "workers/journal.h"
#include "workers/survivors.h"

enum {
    JOURNAL_FILE_VERSION = 2,
    JOURNAL_FILE_BYTES_MAX = 64 * 1024 * 1024, /* a million records, if none logs */
};

struct journal_file_header {
    char magic[8];
    int32_t version;
    int32_t page_bytes;
    char boot_id[BOOT_ID_BYTES];
    char unused[64 - 16 - BOOT_ID_BYTES];
};

/* The first page. A server that knows of no cgroups leaves zeros there and never
 * looks: it reads this version, and is read. */
struct journal_file_start {
    struct journal_file_header header;
    char cgroup[CGROUP_PATH_BYTES]; /* the server's own; empty: none. Written before anything is run */
};

enum {
    JOURNAL_FILE_ALONE = 1,   /* servers of before said so of a suspect */
    JOURNAL_FILE_REFUSED = 2, /* its claim was refused: it is nobody's turn */
};

struct journal_file_record {
    volatile int64_t id; /* 0: free. Written last, cleared first */
    volatile int64_t lease;
    volatile int64_t started_at;
    volatile int64_t marked; /* the lease of the turn that the death was the doing of */
    volatile int32_t signal; /* by this one. Written before the mark */
    volatile int32_t attempt;
    volatile int32_t flags;
    volatile int32_t group;          /* 0: no child */
    volatile int64_t group_since_ms; /* of the boot clock */
    volatile int64_t log;            /* the number of its page; 0: none */
};

enum { JOURNAL_FILE_LOG = -1 /* what no record begins with */ };

struct journal_file_log {
    int64_t kind;           /* JOURNAL_FILE_LOG */
    volatile int64_t total; /* bytes that were logged: the last of them are here, in a ring. Written last */
    char bytes[];           /* to the end of the page */
};

_Static_assert(sizeof(struct journal_file_header) == 64 && sizeof(struct journal_file_record) == 64 &&
                   sizeof(struct journal_file_start) <= 4096,
               "the layout of the file");

/* Says whose the file is; the boot id is empty if the kernel says none. */
void journal_file_begin(struct journal_file_start *start, size_t page_bytes);

/* Reads what the last process left, of version 1 too (a header, then a record
 * a slot), kills the survivors of its children, and removes its cgroup. A file
 * that is damaged or foreign is logged and counts as empty, and so does a record. */
void journal_file_read(int fd, const char *path, struct journal_left *left);
