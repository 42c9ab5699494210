/* The minder: one thread that waits for all children of all pools, and for what is
 * due. It looks at every body only when somebody says that something is different,
 * or when the first of them is due. */
#include "workers/kinds/pool/internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <utlist.h>

enum { EVENTS = 64 };

static struct {
    pthread_mutex_t lock; /* guards the post: what follows, and what is shown of pools */
    struct body *bodies;
    struct asking *answers; /* the last first */
    struct pool *pools;     /* that are new to the minder */
    struct pool *minded;    /* which reads it without the lock, as nobody else changes it */
    bool runs, ends;

    pthread_mutex_t host_lock; /* held while the host is called; guards it */
    struct kind_host host;     /* room NULL: there is none */
} post = {.lock = PTHREAD_MUTEX_INITIALIZER, .host_lock = PTHREAD_MUTEX_INITIALIZER};

static atomic_int wake_fd = -1; /* never closed: whoever wakes may come late */
static atomic_bool look_wanted;

static struct {
    pthread_t thread;
    int epoll_fd, null_fd;
    struct watch wake;
    int64_t look_us;
    bool ends;
    struct child *graves;
} minder = {.epoll_fd = -1, .null_fd = -1};

void post_lock(void)
{
    pthread_mutex_lock(&post.lock);
}

void post_unlock(void)
{
    pthread_mutex_unlock(&post.lock);
}

/* --- from elsewhere ------------------------------------------------------------------ */

static void ring(void)
{
    uint64_t one = 1;
    int fd = atomic_load(&wake_fd);
    if (fd >= 0 && write(fd, &one, sizeof one) < 0)
        return; /* it is readable already */
}

void minder_wake(void)
{
    if (!atomic_exchange(&look_wanted, true))
        ring();
}

void minder_start_body(struct body *body)
{
    post_lock();
    DL_APPEND(post.bodies, body);
    post_unlock();
    ring();
}

void minder_answer(struct asking *asking)
{
    post_lock();
    bool first = !post.answers;
    asking->posted = post.answers;
    post.answers = asking;
    post_unlock();
    if (first)
        ring();
}

void minder_add_pool(struct pool *pool)
{
    DL_APPEND(post.pools, pool);
    minder_wake();
}

void minder_release_pool(struct pool *pool)
{
    post_lock();
    pool->released = true;
    bool rests = pool->rests;
    post_unlock();
    if (rests)
        pool_free(pool);
    else
        minder_wake();
}

void pool_host(const struct kind_host *host)
{
    pthread_mutex_lock(&post.host_lock);
    post.host = host ? *host : (struct kind_host){0};
    pthread_mutex_unlock(&post.host_lock);
}

/* --- for the others here --------------------------------------------------------------- */

bool minder_watch(struct watch *watch, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = watch};
    if (epoll_ctl(minder.epoll_fd, EPOLL_CTL_ADD, watch->fd, &event) == 0)
        return true;
    return errno == EEXIST && epoll_ctl(minder.epoll_fd, EPOLL_CTL_MOD, watch->fd, &event) == 0;
}

void minder_mute(struct watch *watch)
{
    epoll_ctl(minder.epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
}

void minder_unwatch(struct watch *watch)
{
    if (watch->fd < 0)
        return;
    epoll_ctl(minder.epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
    close(watch->fd);
    watch->fd = -1;
}

void minder_look_at(int64_t at_us)
{
    if (at_us < minder.look_us)
        minder.look_us = at_us;
}

int minder_null(void)
{
    if (minder.null_fd < 0)
        minder.null_fd = spawn_move_up(open("/dev/null", O_RDWR | O_CLOEXEC), 3);
    return minder.null_fd;
}

void minder_bury(struct child *child)
{
    child->gone = true;
    DL_APPEND(minder.graves, child);
}

int minder_tell_room(struct pool *pool, int room)
{
    post_lock();
    bool released = pool->released;
    post_unlock();
    pthread_mutex_lock(&post.host_lock);
    int waiting = post.host.room && !released ? post.host.room(post.host.context, pool->of, room) : 0;
    pthread_mutex_unlock(&post.host_lock);
    return waiting;
}

bool minder_has_host(void)
{
    pthread_mutex_lock(&post.host_lock);
    bool has = post.host.room;
    pthread_mutex_unlock(&post.host_lock);
    return has;
}

bool minder_has_child(const char *name, int number)
{
    const struct pool *pool;
    const struct child *child;
    DL_FOREACH (post.minded, pool) {
        DL_SEARCH_SCALAR(pool->children, child, number, number);
        if (child && strcmp(pool->name, name) == 0)
            return true;
    }
    return false;
}

/* --- the post ------------------------------------------------------------------------------- */

static void take_bodies(struct body *bodies)
{
    struct body *body, *next;
    DL_FOREACH_SAFE (bodies, body, next) {
        DL_DELETE(bodies, body);
        body->alone = suspects_take(body->id);
        DL_APPEND(body->pool->pending, body);
    }
}

static void take_answers(struct asking *last)
{
    struct asking *first = NULL;
    while (last) { /* they came in the other order */
        struct asking *before = last->posted;
        last->posted = first;
        first = last;
        last = before;
    }
    while (first) {
        struct asking *asking = first;
        first = asking->posted;
        body_answered(asking);
    }
}

static void take_post(void)
{
    struct pool *pool, *next;
    post_lock();
    struct body *bodies = post.bodies;
    struct asking *answers = post.answers;
    post.bodies = NULL;
    post.answers = NULL;
    DL_FOREACH_SAFE (post.pools, pool, next) {
        DL_DELETE(post.pools, pool);
        DL_APPEND(post.minded, pool);
    }
    minder.ends = post.ends;
    post_unlock();
    if (bodies)
        minder.look_us = 0;
    take_bodies(bodies);
    take_answers(answers);
}

/* --- looking ---------------------------------------------------------------------------------- */

static void look_at_pool(struct pool *pool, int64_t now_us)
{
    struct child *child;
    struct body *body, *next;
    post_lock();
    bool closes = (pool->released || minder.ends) && !pool->ends;
    post_unlock();
    if (closes)
        pool_close(pool);
    DL_FOREACH (pool->children, child) {
        DL_FOREACH_SAFE (child->bodies, body, next)
            body_look(body, now_us);
        child_look(child, now_us);
    }
    DL_FOREACH_SAFE (pool->pending, body, next)
        body_leave_pending(body);
    pool_settle(pool, now_us);
}

static void look(int64_t now_us)
{
    struct pool *pool, *next;
    atomic_store(&look_wanted, false);
    minder.look_us = INT64_MAX;
    DL_FOREACH_SAFE (post.minded, pool, next) {
        look_at_pool(pool, now_us);
        if (!pool_is_over(pool))
            continue;
        post_lock();
        DL_DELETE(post.minded, pool);
        bool released = pool->released;
        pool->rests = !released;
        post_unlock();
        if (released)
            pool_free(pool);
    }
}

static void bury(void)
{
    struct child *child, *next;
    DL_FOREACH_SAFE (minder.graves, child, next) {
        DL_DELETE(minder.graves, child);
        child_free(child);
    }
}

/* --- shown -------------------------------------------------------------------------------------- */

static const char *const states[] = {[CHILD_STARTING] = "starting",
                                     [CHILD_READY] = "active",
                                     [CHILD_RETIRING] = "quiet",
                                     [CHILD_CLOSING] = "stop",
                                     [CHILD_DYING] = "stop"};

static void show_child_locked(const struct child *child,
                              void (*each)(void *context, const struct kind_worker *worker), void *context)
{
    const struct body *body;
    int64_t *running = xcalloc((size_t)child->body_count + 1, sizeof *running);
    struct kind_worker view = {.name = child->name,
                               .state = states[child->state],
                               .pid = child->pid,
                               .capacity = child->pool->is->capacity,
                               .started_at = child->started_at,
                               .running = running};
    DL_FOREACH (child->bodies, body)
        running[view.running_count++] = body->id;
    each(context, &view);
    free(running);
}

void pool_show_workers(void (*each)(void *context, const struct kind_worker *worker), void *context)
{
    const struct pool *pool;
    const struct child *child;
    post_lock();
    DL_FOREACH (post.minded, pool) {
        if (atomic_load(&pool->failing) && !pool->released)
            each(context, &(struct kind_worker){.name = pool->name, .state = "failing", .error = pool->why.text});
        DL_FOREACH (pool->children, child)
            show_child_locked(child, each, context);
    }
    post_unlock();
}

void pool_show_failing(void (*each)(void *context, const char *name), void *context)
{
    const struct pool *pool;
    post_lock();
    DL_FOREACH (post.minded, pool)
        if (atomic_load(&pool->failing) && !pool->released)
            each(context, pool->name);
    post_unlock();
}

/* --- the thread --------------------------------------------------------------------------------- */

static int timeout_ms(int64_t now_us)
{
    if (atomic_load(&look_wanted) || minder.look_us <= now_us)
        return 0;
    if (minder.look_us == INT64_MAX)
        return -1;
    int64_t ms = (minder.look_us - now_us + 999) / 1000;
    return ms > INT32_MAX ? INT32_MAX : (int)ms;
}

static void take_event(const struct epoll_event *event)
{
    struct watch *watch = event->data.ptr;
    uint64_t count;
    if (watch->what == WATCH_WAKE) {
        if (read(watch->fd, &count, sizeof count) < 0)
            return; /* somebody else's ring was read */
    } else if (!watch->child->gone && watch->fd >= 0) {
        child_event(watch->child, watch->what, event->events);
    }
}

static bool is_over(void)
{
    return minder.ends && !post.minded;
}

static void *minder_main(void *arg)
{
    struct epoll_event events[EVENTS];
    (void)arg;
    pthread_setname_np(pthread_self(), "pools");
    while (!is_over()) {
        int n = epoll_wait(minder.epoll_fd, events, EVENTS, timeout_ms(clock_mono_us()));
        if (n < 0 && errno != EINTR)
            log_error("epoll_wait", LOG_STR("error", strerror(errno)));
        for (int i = 0; i < n; i++)
            take_event(&events[i]);
        bury();
        take_post();
        int64_t now_us = clock_mono_us();
        if (atomic_load(&look_wanted) || minder.look_us <= now_us)
            look(now_us);
        bury();
    }
    return NULL;
}

static bool open_descriptors(void)
{
    int fd = atomic_load(&wake_fd);
    if (fd < 0)
        fd = spawn_move_up(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), 3);
    atomic_store(&wake_fd, fd);
    if (minder.epoll_fd < 0)
        minder.epoll_fd = spawn_move_up(epoll_create1(EPOLL_CLOEXEC), 3);
    minder.wake = (struct watch){WATCH_WAKE, NULL, fd};
    return fd >= 0 && minder.epoll_fd >= 0 && minder_watch(&minder.wake, EPOLLIN);
}

bool minder_run(void)
{
    if (post.runs)
        return true;
    post.ends = minder.ends = false;
    minder.look_us = 0;
    int error = open_descriptors() ? pthread_create(&minder.thread, NULL, minder_main, NULL) : errno;
    post.runs = error == 0;
    errno = error;
    return post.runs;
}

void pool_end(void)
{
    post_lock();
    bool runs = post.runs;
    post.ends = true;
    post.runs = false;
    post_unlock();
    if (!runs)
        return;
    minder_wake();
    ring();
    pthread_join(minder.thread, NULL);
    close(minder.epoll_fd);
    if (minder.null_fd >= 0)
        close(minder.null_fd);
    minder.epoll_fd = minder.null_fd = -1;
    suspects_forget();
}
