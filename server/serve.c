/* Opens everything in order, runs the loop, closes everything in the reverse
 * order.
 *
 * Closing. A policy (join, cancel, kill) comes from POST /shutdown or a signal:
 * the first SIGTERM or SIGINT is `cancel`, and `kill` after shutdown_timeout; a
 * second is `kill`. One thread, the closer, waits for the runner and then stops
 * the loop; it is made before anything runs, as there may be no room for one when
 * it is needed. Bodies that do not return from `kill` are left behind: their
 * invocations stay `running` on disk and are queued again by the next start. */
#include "server/server.h"

#include "base/clock.h"
#include "base/log.h"
#include "server/address.h"
#include "server/resources/await.h"
#include "server/resources/callback_body.h"
#include "server/resources/context.h"
#include "server/resources/statistics.h"
#include "workers/journal.h"
#include "workers/kinds/kinds.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { KILL_EXTRA_MS = 2000 };

struct server {
    struct context context; /* first: close_with() finds the rest by it */
    struct config *config;
    struct http *http;
    const struct config_flags *flags;
    int signals;
    int signal_count;

    struct { /* a reload is read in the background; what it changes, on the HTTP thread */
        struct http_job job;
        struct config *config;  /* what was read; NULL: it has faults */
        bool under_way, wanted; /* wanted: once more after this one */
    } reload;

    pthread_t closer;
    bool closer_started;
    pthread_mutex_t lock;   /* guards what follows */
    pthread_cond_t decided; /* for the closer: closing, or ended */
    bool closing;
    bool ended; /* it never opened: there is nothing to close */
    enum close_policy policy;
    int64_t policy_since_us;
    int64_t timeout_us, grace_us; /* as configured when closing began */
    bool left_behind;             /* bodies did not return */
};

/* --- closing ----------------------------------------------------------------------- */

/* The policy that is followed now; since when comes back in *lasts_us. */
static enum close_policy current_policy(struct server *s, int64_t *lasts_us)
{
    pthread_mutex_lock(&s->lock);
    enum close_policy policy = s->policy;
    *lasts_us = clock_mono_us() - s->policy_since_us;
    pthread_mutex_unlock(&s->lock);
    return policy;
}

static void close_with(struct context *context, enum close_policy policy);

/* False: there is nothing to close. */
static bool wait_for_closing(struct server *s)
{
    pthread_mutex_lock(&s->lock);
    while (!s->closing && !s->ended)
        pthread_cond_wait(&s->decided, &s->lock);
    bool closing = s->closing;
    pthread_mutex_unlock(&s->lock);
    return closing;
}

static void *closer_thread(void *arg)
{
    struct server *s = arg;
    static const int64_t step_ms = 100;
    int64_t lasts_us;
    if (!wait_for_closing(s))
        return NULL;
    while (!runner_wait(s->context.runner, step_ms)) {
        enum close_policy policy = current_policy(s, &lasts_us);
        if (policy == CLOSE_CANCEL && lasts_us > s->timeout_us) {
            log_warn("what runs takes longer than shutdown_timeout; it is stopped and left to be run again");
            close_with(&s->context, CLOSE_KILL);
        }
        if (policy == CLOSE_KILL && lasts_us > s->grace_us) {
            log_warn("bodies that do not return are left behind");
            s->left_behind = true;
            break;
        }
    }
    http_stop(s->http);
    return NULL;
}

static enum err closer_start(struct server *s, struct reason *why)
{
    int code = pthread_create(&s->closer, NULL, closer_thread, s);
    if (code != 0) {
        reason_set(why, "no thread for closing: %s", strerror(code));
        return ERR_IO;
    }
    pthread_setname_np(s->closer, "closer");
    s->closer_started = true;
    return OK;
}

/* Returns when the server has closed, or at once if it never opened. */
static void closer_end(struct server *s)
{
    if (!s->closer_started)
        return;
    pthread_mutex_lock(&s->lock);
    s->ended = true;
    pthread_cond_signal(&s->decided);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->closer, NULL);
}

static const char *policy_name(enum close_policy policy)
{
    return policy == CLOSE_JOIN ? "join" : policy == CLOSE_CANCEL ? "cancel" : "kill";
}

static void close_with(struct context *context, enum close_policy policy)
{
    struct server *s = (struct server *)context;
    atomic_store(&context->closing, true);
    pthread_mutex_lock(&s->lock);
    bool stronger = !s->closing || policy > s->policy;
    if (stronger) {
        s->policy = policy;
        s->policy_since_us = clock_mono_us();
    }
    if (!s->closing) {
        s->timeout_us = s->config->shutdown_timeout_ms * 1000;
        s->grace_us = (s->config->kill_grace_ms + KILL_EXTRA_MS) * 1000;
    }
    s->closing = true;
    pthread_cond_signal(&s->decided);
    pthread_mutex_unlock(&s->lock);
    if (stronger) {
        log_info("closing", LOG_STR("policy", policy_name(policy)));
        runner_close_with(context->runner, policy);
    }
}

/* --- signals ----------------------------------------------------------------------- */

static struct attempt_limits limits_of(const struct config *config)
{
    return (struct attempt_limits){config->limits.result_bytes, config->limits.log_bytes, config->kill_grace_ms};
}

static void log_faults(const struct faults *faults)
{
    for (int i = 0; i < faults->count; i++)
        log_error("configuration", LOG_INT("line", faults->items[i].line), LOG_STR("at", faults->items[i].pointer),
                  LOG_STR("fault", faults->items[i].detail));
}

static bool differ(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) != 0 : a != b;
}

/* What is settled when the server starts. */
static void warn_of_restart(const struct config *old, const struct config *new)
{
    const struct {
        const char *key;
        bool changed;
    } keys[] = {
        {"listen", differ(old->listen_host, new->listen_host) || old->listen_port != new->listen_port ||
                       differ(old->listen_path, new->listen_path)},
        {"store", differ(old->store, new->store)},
        {"slots", old->slots != new->slots},
        {"tls", differ(old->tls_certificate, new->tls_certificate) || differ(old->tls_key, new->tls_key)},
        {"limits.connections", old->limits.connections != new->limits.connections},
        {"limits.connections_per_address",
         old->limits.connections_per_address != new->limits.connections_per_address},
        {"limits.header", old->limits.header_bytes < new->limits.header_bytes},
        {"limits.idle_timeout", old->limits.idle_timeout_ms != new->limits.idle_timeout_ms},
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (keys[i].changed)
            log_warn("a changed key waits for a restart", LOG_STR("key", keys[i].key));
}

static struct server *server_of(struct http_job *job)
{
    return (struct server *)((char *)job - offsetof(struct server, reload.job));
}

/* The file, the modules it names, the tasks' numbers in the database. */
static void read_anew(struct http_job *job, struct reader *reader)
{
    (void)reader;
    struct server *s = server_of(job);
    struct faults faults = {0};
    struct config *config = config_load(s->flags, &faults);
    if (config)
        registry_load(config->registry, &faults);
    struct attempt_limits limits = config ? limits_of(config) : (struct attempt_limits){0};
    s->reload.config = NULL;
    if (!config || faults.total) {
        log_faults(&faults);
        log_error("the configuration has faults; nothing was changed");
        config_free(config);
    } else if (runner_set_registry(s->context.runner, config->registry, &limits) != OK) {
        log_error("the tasks could not be written to the database; nothing was changed");
        config_free(config);
    } else {
        runner_set_schedules(s->context.runner, config->schedules);
        s->reload.config = config;
    }
    faults_release(&faults);
}

static void tell_address(struct server *s, const struct config *config)
{
    struct buf url = {0};
    address_add(&url, config, http_address(s->http));
    runner_set_url(s->context.runner, url.len ? buf_cstr(&url) : NULL);
    buf_release(&url);
}

static void adopt(struct server *s, struct config *config)
{
    struct reason why;
    if (log_open(&config->log, &why) != OK)
        log_error("the log stays as it was", LOG_STR("reason", why.text));
    store_set_retain_max(s->context.store, config->retain_max);
    runner_prune(s->context.runner);
    tell_address(s, config);
    warn_of_restart(s->config, config);
    config_unref(s->config);
    s->config = config;
    http_set_config(s->http, config);
    log_info("reloaded", LOG_INT("tasks", registry_count(config->registry)));
}

static void reload(struct server *s);

static void reloaded(struct http_job *job)
{
    struct server *s = server_of(job);
    if (s->reload.config)
        adopt(s, s->reload.config);
    s->reload.under_way = false;
    if (s->reload.wanted && !atomic_load(&s->context.closing))
        reload(s);
}

/* SIGHUP: tasks, tokens, limits and the log change; a faulty file changes nothing. */
static void reload(struct server *s)
{
    s->reload.wanted = s->reload.under_way;
    if (s->reload.under_way)
        return;
    s->reload.under_way = true;
    s->reload.job.run = read_anew;
    s->reload.job.finish = reloaded;
    http_do(s->http, &s->reload.job);
}

static void on_signal(void *context)
{
    struct server *s = context;
    struct signalfd_siginfo info;
    if (read(s->signals, &info, sizeof info) != sizeof info)
        return;
    if (info.ssi_signo == SIGHUP)
        reload(s);
    else if (info.ssi_signo == SIGUSR1 || info.ssi_signo == SIGUSR2)
        log_info("a signal that means nothing here", LOG_INT("signal", info.ssi_signo));
    else
        close_with(&s->context, s->signal_count++ ? CLOSE_KILL : CLOSE_CANCEL);
}

static const int heard[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2};

static sigset_t heard_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof heard / sizeof *heard; i++)
        sigaddset(&set, heard[i]);
    return set;
}

/* What comes before the loop runs waits for it. Over a limit on the size of
 * files (SIGXFSZ) a write fails with EFBIG, as on a full disk. Blocked signals
 * need no handler, and spawn.c unblocks all for a child. */
void server_block_signals(void)
{
    sigset_t set = heard_signals();
    sigaddset(&set, SIGXFSZ);
    sigaddset(&set, SIGCHLD);               /* for those who wait for it (workers/orphans.c) */
    pthread_sigmask(SIG_BLOCK, &set, NULL); /* before any thread: all inherit it */
    signal(SIGPIPE, SIG_IGN);
}

static int open_signals(void)
{
    sigset_t set = heard_signals();
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* --- what the store reports ---------------------------------------------------------- */

static void on_committed(void *context, const struct change *changes, int count)
{
    struct server *s = context;
    statistics_changed(s->context.statistics, changes, count, clock_now_ms());
    await_announce(s->context.topics, changes, count);
}

static void on_flushed(void *context)
{
    struct server *s = context;
    if (s->http)
        http_flush(s->http);
}

/* --- life ------------------------------------------------------------------------------ */

/* config_load() lets it through off loopback only with tokens or --insecure. */
static void warn_if_open(const struct config *config)
{
    if (!config_is_loopback(config) && !config->token_count)
        log_warn("INSECURE: anyone who reaches this address can run tasks here",
                 LOG_STR("address", config->listen_host));
}

static char *journal_path(const struct config *config)
{
    struct buf path = {0};
    if (strcmp(config->store, ":memory:") == 0)
        return NULL;
    buf_addf(&path, "%s-slots", config->store);
    return buf_take(&path);
}

/* Each connection is a descriptor; the default limit would be reached first. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max < 65536 ? limit.rlim_max : 65536;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* What the store and the starts need is theirs before connections get any: a
 * running command has three pipes and its process, and a start the children's
 * ends for a moment; a body's thread has an eventfd and perhaps a reader; what is in
 * flight has one, or what its kind says. */
enum { DESCRIPTORS_OF_SERVER = 64, DESCRIPTORS_OF_SLOT = 12 };

static int64_t most_in_flight(const struct registry *registry)
{
    int64_t most = 0;
    for (int i = 0; i < registry_count(registry); i++) {
        const struct task *task = registry_at(registry, i);
        if (task->kind->descriptors)
            most += task->kind->descriptors(task);
        else if (task->kind->in_flight)
            most += task->kind->in_flight(task);
    }
    const struct policy *callbacks = registry_callbacks(registry);
    return *callbacks->hosts ? most + callbacks->in_flight : most;
}

static int connections_that_fit(const struct config *config)
{
    struct rlimit limit;
    int wanted = config->limits.connections;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > INT32_MAX)
        return wanted;
    int all = (int)limit.rlim_cur;
    int64_t room = all - DESCRIPTORS_OF_SERVER - (int64_t)config->slots * DESCRIPTORS_OF_SLOT -
                   most_in_flight(config->registry);
    int fit = room > all / 4 ? (int)room : all / 4;
    if (fit >= wanted)
        return wanted;
    log_warn("fewer connections than limits.connections, for want of descriptors", LOG_INT("connections", fit),
             LOG_INT("descriptors", all));
    return fit;
}

static enum err open_all(struct server *s, int *port, struct reason *why)
{
    struct context *context = &s->context;
    struct config *config = s->config;
    char *journal = journal_path(config);
    struct store_options store = {.url = config->store, .retain_max = config->retain_max};
    enum err err = store_open(&store, &context->store, why);
    struct runner_options runner = {
        .store = context->store,
        .registry = config->registry,
        .slots = config->slots,
        .limits = limits_of(config),
        .callbacks = {context, callback_body_add},
        .store_path = config->store,
        .journal_path = journal,
    };
    struct http_options http = {.routes = server_routes,
                                .context = context,
                                .config = config,
                                .store = context->store,
                                .connections = connections_that_fit(config)};
    if (err == OK)
        err = runner_open(&runner, &context->runner, why);
    if (err == OK)
        store_listen(context->store, &(struct store_listener){on_committed, NULL, on_flushed, s});
    if (err == OK)
        err = http_open(&http, &s->http, port, why);
    if (err == OK)
        tell_address(s, config);
    if (err == OK)
        err = store_start(context->store, why);
    if (err == OK)
        runner_set_schedules(context->runner, config->schedules);
    if (err == OK)
        err = runner_start(context->runner, why);
    free(journal);
    return err;
}

/* The committer ends first: its last callbacks wake requests that the loop
 * still holds. */
static void close_all(struct server *s)
{
    struct context *context = &s->context;
    if (s->left_behind)
        runner_abandon(context->runner);
    if (context->store)
        store_stop(context->store);
    if (s->left_behind) { /* the threads of those bodies still use what would be freed */
        log_close();
        _exit(0);
    }
    http_close(s->http);
    runner_free(context->runner);
    kinds_end();
    store_close(context->store);
    topics_free(context->topics);
    statistics_free(context->statistics);
    config_unref(s->config);
    close(s->signals);
}

static void announce(const struct config *config, const struct http *http, int port)
{
    const char *scheme = config->tls_certificate ? "https://" : "http://";
    printf("listening on %s%s\n", port ? scheme : "", http_address(http));
    fflush(stdout);
    log_info("listening", LOG_STR("address", http_address(http)), LOG_INT("port", port),
             LOG_INT("slots", config->slots), LOG_STR("store", config->store));
}

/* Whoever starts it in the wrong folder is told before the first 422. */
static void warn_if_idle(const struct config *config)
{
    if (registry_count(config->registry))
        return;
    if (config->file)
        log_warn("the configuration has no tasks; nothing can be submitted", LOG_STR("file", config->file));
    else
        log_warn("there is no errand.yaml here, and no --config FILE: without tasks nothing can be submitted");
}

static enum err serve(struct server *s, struct faults *faults, struct reason *why)
{
    int port;
    registry_load(s->config->registry, faults);
    if (faults->total)
        return ERR_INVALID;
    journal_install_handlers();
    enum err err = closer_start(s, why);
    if (err == OK)
        err = open_all(s, &port, why);
    if (err != OK)
        return err;
    http_watch(s->http, s->signals, on_signal, s);
    announce(s->config, s->http, port);
    http_run(s->http);
    log_info("stopped");
    return OK;
}

enum err server_run(struct config *config, const struct config_flags *flags, struct faults *faults,
                    struct reason *why)
{
    struct server s = {
        .context = {.topics = topics_new(),
                    .statistics = statistics_new(),
                    .started_at = clock_now_ms(),
                    .shutdown = close_with},
        .config = config,
        .flags = flags,
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .decided = PTHREAD_COND_INITIALIZER,
    };
    warn_if_open(config);
    warn_if_idle(config);
    s.signals = open_signals();
    raise_descriptor_limit();
    enum err err = serve(&s, faults, why);
    closer_end(&s);
    close_all(&s);
    return err;
}
