#include "server/http/readers.h"

#include <pthread.h>
#include <stdlib.h>
#include <utlist.h>

struct readers {
    struct store *store;
    pthread_t threads[READERS_MAX];
    int started;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t given;
    struct job *jobs;
    bool ended;
};

/* NULL: there is none left, and there will be none. */
static struct job *take(struct readers *readers)
{
    pthread_mutex_lock(&readers->lock);
    while (!readers->jobs && !readers->ended)
        pthread_cond_wait(&readers->given, &readers->lock);
    struct job *job = readers->jobs;
    if (job)
        DL_DELETE(readers->jobs, job);
    pthread_mutex_unlock(&readers->lock);
    return job;
}

static void *reader_thread(void *arg)
{
    struct readers *readers = arg;
    struct reader *reader = NULL;
    struct job *job;
    struct reason why;
    while ((job = take(readers))) {
        if (!reader && readers->store && reader_open(readers->store, &reader, &why) != OK)
            reader = NULL; /* the next job tries anew */
        job->run(job, reader);
    }
    reader_close(reader);
    return NULL;
}

enum err readers_open(struct store *store, int threads, struct readers **out, struct reason *why)
{
    struct readers *readers = xcalloc(1, sizeof *readers);
    readers->store = store;
    pthread_mutex_init(&readers->lock, NULL);
    pthread_cond_init(&readers->given, NULL);
    for (; readers->started < threads; readers->started++) {
        pthread_t *thread = &readers->threads[readers->started];
        int code = pthread_create(thread, NULL, reader_thread, readers);
        if (code != 0) {
            reason_set(why, "no thread for reading: %s", strerror(code));
            readers_close(readers);
            return ERR_IO;
        }
        pthread_setname_np(*thread, "reader");
    }
    *out = readers;
    return OK;
}

void readers_give(struct readers *readers, struct job *job)
{
    pthread_mutex_lock(&readers->lock);
    DL_APPEND(readers->jobs, job);
    pthread_cond_signal(&readers->given);
    pthread_mutex_unlock(&readers->lock);
}

void readers_close(struct readers *readers)
{
    if (!readers)
        return;
    pthread_mutex_lock(&readers->lock);
    readers->ended = true;
    pthread_cond_broadcast(&readers->given);
    pthread_mutex_unlock(&readers->lock);
    for (int i = 0; i < readers->started; i++)
        pthread_join(readers->threads[i], NULL);
    pthread_mutex_destroy(&readers->lock);
    pthread_cond_destroy(&readers->given);
    free(readers);
}
