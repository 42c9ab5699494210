#include "server/http/topics.h"

#include "server/http/request.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

#define uthash_malloc(size) xmalloc(size)
#include <uthash.h>
#include <utlist.h>

/* A topic as it is hashed: without padding. */
struct topic_key {
    int64_t kind, id;
};

/* All who listen to one topic; gone when the last one is. */
struct hearing {
    struct topic_key key;
    struct listener *listeners;
    UT_hash_handle hh;
};

struct topics {
    atomic_int count;     /* of listeners: nobody waits, nothing is locked */
    pthread_mutex_t lock; /* guards what follows, and is held while they are woken */
    struct hearing *hearings;
};

struct topics *topics_new(void)
{
    struct topics *topics = xcalloc(1, sizeof *topics);
    pthread_mutex_init(&topics->lock, NULL);
    return topics;
}

void topics_free(struct topics *topics)
{
    if (!topics)
        return;
    assert(!topics->hearings);
    pthread_mutex_destroy(&topics->lock);
    free(topics);
}

static struct topic_key key_of(struct topic topic)
{
    return (struct topic_key){topic.kind, topic.id};
}

static struct hearing *find_locked(struct topics *topics, struct topic_key key)
{
    struct hearing *hearing;
    HASH_FIND(hh, topics->hearings, &key, sizeof key, hearing);
    return hearing;
}

static struct hearing *find_or_add_locked(struct topics *topics, struct topic_key key)
{
    struct hearing *hearing = find_locked(topics, key);
    if (hearing)
        return hearing;
    hearing = xcalloc(1, sizeof *hearing);
    hearing->key = key;
    HASH_ADD(hh, topics->hearings, key, sizeof hearing->key, hearing);
    return hearing;
}

void topics_listen(struct topics *topics, struct listener *listener, struct request *rq, struct topic topic)
{
    assert(!listener->topics);
    pthread_mutex_lock(&topics->lock);
    listener->topics = topics;
    listener->rq = rq;
    listener->hearing = find_or_add_locked(topics, key_of(topic));
    DL_PREPEND(listener->hearing->listeners, listener);
    /* Before the caller reads the row. A commit that the read does not see
     * looks at the count after it: sequentially consistent on both sides. */
    atomic_fetch_add(&topics->count, 1);
    pthread_mutex_unlock(&topics->lock);
}

static void take_off_locked(struct topics *topics, struct listener *listener)
{
    struct hearing *hearing = listener->hearing;
    DL_DELETE(hearing->listeners, listener);
    listener->hearing = NULL;
    atomic_fetch_sub(&topics->count, 1);
    if (hearing->listeners)
        return;
    HASH_DEL(topics->hearings, hearing);
    free(hearing);
}

bool topics_leave(struct listener *listener)
{
    struct topics *topics = listener->topics;
    if (!topics)
        return false;
    pthread_mutex_lock(&topics->lock);
    bool listened = listener->hearing != NULL;
    if (listened)
        take_off_locked(topics, listener);
    pthread_mutex_unlock(&topics->lock);
    listener->topics = NULL;
    return listened;
}

bool topics_listens(struct listener *listener)
{
    pthread_mutex_lock(&listener->topics->lock);
    bool listens = listener->hearing != NULL;
    pthread_mutex_unlock(&listener->topics->lock);
    return listens;
}

bool topics_awaited(struct topics *topics)
{
    return atomic_load(&topics->count) != 0; /* as cheap as a relaxed load on x86-64 */
}

static void announce_locked(struct topics *topics, struct topic topic)
{
    struct hearing *hearing = find_locked(topics, key_of(topic));
    struct listener *listener, *next;
    if (!hearing)
        return;
    for (listener = hearing->listeners; listener; listener = next) {
        struct request *rq = listener->rq;
        next = listener->next;
        take_off_locked(topics, listener); /* the last one takes the hearing with it */
        request_wake_later(rq);
    }
}

void topics_announce(struct topics *topics, const struct topic *list, int count)
{
    pthread_mutex_lock(&topics->lock);
    for (int i = 0; i < count && topics->hearings; i++)
        announce_locked(topics, list[i]);
    pthread_mutex_unlock(&topics->lock);
}
