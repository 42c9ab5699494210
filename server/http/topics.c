#include "server/http/topics.h"

#include "server/http/http.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define uthash_malloc(size) xmalloc(size)
#include <uthash.h>

struct waiter {
    struct waiter *next;
    struct request *rq;
    bool any_change;
};

/* All who wait for one invocation; gone when the last one is. */
struct awaited {
    int64_t id;
    struct waiter *waiters;
    UT_hash_handle hh;
};

struct waits {
    atomic_int count;     /* of waiters: nobody waits, nothing is locked */
    pthread_mutex_t lock; /* guards what follows, and is held while they are woken */
    struct awaited *by_id;
};

struct waits *waits_new(void)
{
    struct waits *waits = xcalloc(1, sizeof *waits);
    pthread_mutex_init(&waits->lock, NULL);
    return waits;
}

void waits_free(struct waits *waits)
{
    if (!waits)
        return;
    assert(!waits->by_id);
    pthread_mutex_destroy(&waits->lock);
    free(waits);
}

static struct awaited *find_locked(struct waits *waits, int64_t id)
{
    struct awaited *awaited;
    HASH_FIND(hh, waits->by_id, &id, sizeof id, awaited);
    return awaited;
}

static void drop_if_empty_locked(struct waits *waits, struct awaited *awaited)
{
    if (awaited->waiters)
        return;
    HASH_DEL(waits->by_id, awaited);
    free(awaited);
}

void waits_add(struct waits *waits, struct request *rq, int64_t id, bool any_change)
{
    struct waiter *waiter = xmalloc(sizeof *waiter);
    pthread_mutex_lock(&waits->lock);
    struct awaited *awaited = find_locked(waits, id);
    if (!awaited) {
        awaited = xcalloc(1, sizeof *awaited);
        awaited->id = id;
        HASH_ADD(hh, waits->by_id, id, sizeof awaited->id, awaited);
    }
    *waiter = (struct waiter){awaited->waiters, rq, any_change};
    awaited->waiters = waiter;
    /* Before the caller reads the row. A commit that the read does not see
     * looks at the count after it: sequentially consistent on both sides. */
    atomic_fetch_add(&waits->count, 1);
    pthread_mutex_unlock(&waits->lock);
}

static void take_off_locked(struct waits *waits, struct waiter **at)
{
    struct waiter *waiter = *at;
    *at = waiter->next;
    free(waiter);
    atomic_fetch_sub(&waits->count, 1);
}

bool waits_remove(struct waits *waits, struct request *rq, int64_t id)
{
    bool found = false;
    pthread_mutex_lock(&waits->lock);
    struct awaited *awaited = find_locked(waits, id);
    if (awaited) {
        struct waiter **at = &awaited->waiters;
        while (*at && (*at)->rq != rq)
            at = &(*at)->next;
        found = *at != NULL;
        if (found)
            take_off_locked(waits, at);
        drop_if_empty_locked(waits, awaited);
    }
    pthread_mutex_unlock(&waits->lock);
    return found;
}

/* Under the lock, so that a request that was taken off by its own thread is
 * certainly not woken any more and may be freed. */
static void wake_locked(struct waits *waits, struct awaited *awaited, bool is_final)
{
    for (struct waiter **at = &awaited->waiters; *at;) {
        if (!is_final && !(*at)->any_change) {
            at = &(*at)->next;
            continue;
        }
        struct request *rq = (*at)->rq;
        take_off_locked(waits, at);
        request_wake_later(rq);
    }
    drop_if_empty_locked(waits, awaited);
}

void waits_changed(struct waits *waits, const struct change *changes, int count)
{
    if (atomic_load(&waits->count) == 0) /* as cheap as a relaxed load on x86-64 */
        return;
    pthread_mutex_lock(&waits->lock);
    for (int i = 0; i < count && waits->by_id; i++) {
        bool is_final = changes[i].to == 0 || status_is_final(changes[i].to);
        struct awaited *awaited = find_locked(waits, changes[i].id);
        if (awaited)
            wake_locked(waits, awaited, is_final);
    }
    pthread_mutex_unlock(&waits->lock);
}
