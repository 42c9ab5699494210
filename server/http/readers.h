/* Reader threads: what may take long is done there, not on the loop's thread.
 *
 * Threads: readers_give() may be called from any; a job's run() is called on a
 * reader thread with that thread's own reader. */
#pragma once

#include "store/store.h"

struct job {
    /* The reader is NULL if none could be opened, or there is no store. */
    void (*run)(struct job *job, struct reader *reader);
    struct job *next, *prev;
};

struct readers;

/* So many threads, READERS_MAX at most. `store` is NULL for jobs that read
 * nothing of it. */
enum { READERS_MAX = 2 };
MUST_USE enum err readers_open(struct store *store, int threads, struct readers **out, struct reason *why);

/* Jobs are begun in the order in which they were given. */
void readers_give(struct readers *readers, struct job *job);

/* Ends the threads after all that was given has run. Takes NULL. */
void readers_close(struct readers *readers);
