/* `errand serve`: opens everything in order, runs the loop, closes everything
 * in the reverse order.
 *
 * Closing. A policy (join, cancel, kill) comes from POST /shutdown or a signal:
 * the first SIGTERM or SIGINT is `cancel`, and `kill` after shutdown_timeout; a
 * second is `kill`. One thread, the closer, waits for the runner and then stops
 * the loop. Bodies that do not return from `kill` are left behind: their
 * invocations stay `running` on disk and are queued again by the next start. */
#include "server/cli.h"
#include "server/gate.h"
#include "server/server.h"
#include "server/statistics.h"
#include "server/cache.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "workers/journal.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { KILL_EXTRA_MS = 2000 };

struct serving {
    struct server server; /* first: server_shutdown() finds the rest by it */
    const struct config_flags *flags;
    int signals;
    int signal_count;

    pthread_mutex_t lock; /* guards what follows */
    pthread_t closer;
    bool closer_started;
    bool closing;
    enum close_policy policy;
    int64_t policy_since_us;
    int64_t timeout_us, grace_us; /* as configured when closing began */
    bool left_behind;             /* bodies did not return */
};

/* --- closing ----------------------------------------------------------------------- */

/* The policy that is followed now; since when comes back in *lasts_us. */
static enum close_policy current_policy(struct serving *s, int64_t *lasts_us)
{
    pthread_mutex_lock(&s->lock);
    enum close_policy policy = s->policy;
    *lasts_us = clock_mono_us() - s->policy_since_us;
    pthread_mutex_unlock(&s->lock);
    return policy;
}

static void *closer_thread(void *arg)
{
    struct serving *s = arg;
    static const int64_t step_ms = 100;
    int64_t lasts_us;
    while (!runner_wait(s->server.runner, step_ms)) {
        enum close_policy policy = current_policy(s, &lasts_us);
        if (policy == CLOSE_CANCEL && lasts_us > s->timeout_us) {
            log_warn("what runs takes longer than shutdown_timeout; it is stopped and left to be run again");
            server_shutdown(&s->server, CLOSE_KILL);
        }
        if (policy == CLOSE_KILL && lasts_us > s->grace_us) {
            log_warn("bodies that do not return are left behind");
            s->left_behind = true;
            break;
        }
    }
    http_stop(s->server.http);
    return NULL;
}

static const char *policy_name(enum close_policy policy)
{
    return policy == CLOSE_JOIN ? "join" : policy == CLOSE_CANCEL ? "cancel" : "kill";
}

void server_shutdown(struct server *server, enum close_policy policy)
{
    struct serving *s = (struct serving *)server;
    atomic_store(&server->closing, true);
    pthread_mutex_lock(&s->lock);
    bool stronger = !s->closing || policy > s->policy;
    bool start = !s->closing;
    if (stronger) {
        s->policy = policy;
        s->policy_since_us = clock_mono_us();
    }
    if (start) {
        s->timeout_us = server->config->shutdown_timeout_ms * 1000;
        s->grace_us = (server->config->kill_grace_ms + KILL_EXTRA_MS) * 1000;
    }
    s->closing = true;
    pthread_mutex_unlock(&s->lock);
    if (stronger) {
        log_info("closing", LOG_STR("policy", policy_name(policy)));
        runner_close_with(server->runner, policy);
    }
    if (!start)
        return;
    s->closer_started = pthread_create(&s->closer, NULL, closer_thread, s) == 0;
    if (!s->closer_started) {
        log_error("no thread to close with; stopping at once");
        http_stop(server->http);
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
        {"listen", differ(old->listen_host, new->listen_host) || old->listen_port != new->listen_port},
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

/* SIGHUP: tasks, tokens, limits and the log change; a faulty file changes nothing. */
static void reload(struct serving *s)
{
    struct server *server = &s->server;
    struct faults faults = {0};
    struct reason why;
    struct config *config = config_load(s->flags, &faults);
    if (config)
        registry_load(config->registry, &faults);
    struct attempt_limits limits = config ? limits_of(config) : (struct attempt_limits){0};
    if (!config || faults.total) {
        log_faults(&faults);
        log_error("the configuration has faults; nothing was changed");
        config_free(config);
    } else if (runner_set_registry(server->runner, config->registry, &limits) != OK) {
        log_error("the tasks could not be written to the database; nothing was changed");
        config_free(config);
    } else {
        if (log_open(config->log_level, config->log_format, config->log_directory, &why) != OK)
            log_error("the log stays as it was", LOG_STR("reason", why.text));
        store_set_retain_max(server->store, config->retain_max);
        runner_prune(server->runner);
        warn_of_restart(server->config, config);
        config_unref(server->config);
        server->config = config;
        log_info("reloaded", LOG_INT("tasks", registry_count(config->registry)));
    }
    faults_release(&faults);
}

static void on_signal(void *context)
{
    struct serving *s = context;
    struct signalfd_siginfo info;
    if (read(s->signals, &info, sizeof info) != sizeof info)
        return;
    if (info.ssi_signo == SIGHUP)
        reload(s);
    else
        server_shutdown(&s->server, s->signal_count++ ? CLOSE_KILL : CLOSE_CANCEL);
}

static int block_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL); /* before any thread: all inherit it */
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* --- what the store reports ---------------------------------------------------------- */

static void on_committed(void *context, const struct change *changes, int count)
{
    struct server *server = context;
    statistics_changed(server->statistics, changes, count, clock_now_ms());
    waits_changed(server->waits, changes, count);
}

static void on_flushed(void *context)
{
    struct server *server = context;
    if (server->http)
        http_flush(server->http);
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

static enum err open_all(struct serving *s, int *port, struct reason *why)
{
    struct server *server = &s->server;
    struct config *config = server->config;
    char *journal = journal_path(config);
    struct store_options store = {.url = config->store, .retain_max = config->retain_max};
    enum err err = store_open(&store, &server->store, why);
    struct runner_options runner = {
        .store = server->store,
        .registry = config->registry,
        .slots = config->slots,
        .limits = limits_of(config),
        .journal_path = journal,
    };
    if (err == OK)
        err = runner_open(&runner, &server->runner, why);
    if (err == OK)
        store_listen(server->store, &(struct store_listener){on_committed, NULL, on_flushed, server});
    if (err == OK)
        err = reader_open(server->store, &server->reader, why);
    if (err == OK)
        err = http_open(server, &server->http, port, why);
    if (err == OK)
        err = store_start(server->store, why);
    if (err == OK)
        err = runner_start(server->runner, why);
    free(journal);
    return err;
}

/* The committer ends first: its last callbacks wake requests that the loop
 * still holds. */
static void close_all(struct serving *s)
{
    struct server *server = &s->server;
    if (s->left_behind)
        runner_abandon(server->runner);
    if (server->store)
        store_stop(server->store);
    if (s->left_behind) { /* the threads of those bodies still use what would be freed */
        log_close();
        _exit(0);
    }
    http_close(server->http);
    runner_free(server->runner);
    reader_close(server->reader);
    store_close(server->store);
    waits_free(server->waits);
    statistics_free(server->statistics);
    cache_free(server->cache);
    config_unref(server->config);
}

static void announce(const struct config *config, int port)
{
    bool six = strchr(config->listen_host, ':') != NULL;
    printf("listening on %s://%s%s%s:%d\n", config->tls_certificate ? "https" : "http", six ? "[" : "",
           config->listen_host, six ? "]" : "", port);
    fflush(stdout);
    log_info("listening", LOG_STR("address", config->listen_host), LOG_INT("port", port),
             LOG_INT("slots", config->slots), LOG_STR("store", config->store));
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

static int serve(struct serving *s)
{
    struct reason why = {""};
    struct faults faults = {0};
    struct server *server = &s->server;
    int port, status = 1;
    registry_load(server->config->registry, &faults);
    if (faults.total) {
        cli_print_faults(server->config->file, &faults);
        goto out;
    }
    journal_install_handlers();
    server->waits = waits_new();
    server->statistics = statistics_new();
    server->cache = cache_new();
    server->started_at = clock_now_ms();
    if (open_all(s, &port, &why) != OK) {
        fprintf(stderr, "errand: %s\n", why.text);
        goto out;
    }
    http_watch(server->http, s->signals, on_signal, s);
    announce(server->config, port);
    http_run(server->http);
    if (s->closer_started)
        pthread_join(s->closer, NULL);
    status = 0;
    log_info("stopped");
out:
    faults_release(&faults);
    close_all(s);
    return status;
}

int cli_serve(int argc, char **argv)
{
    static const char *const allowed[] = {"--config",        "--listen",    "--store",
                                          "--slots",         "--log-level", "--log-format",
                                          "--log-directory", "--insecure",  NULL};
    struct options options;
    struct reason why;
    if (!cli_options(argc, argv, allowed, &options))
        return 2;
    if (options.help)
        return cli_help(argc, argv);
    if (options.argument_count) {
        fprintf(stderr, "errand serve: unexpected argument %s; see errand help\n", options.arguments[0]);
        return 2;
    }
    struct serving s = {.flags = &options.flags, .lock = PTHREAD_MUTEX_INITIALIZER};
    s.server.config = cli_config(&options.flags);
    if (!s.server.config)
        return 2;
    if (log_open(s.server.config->log_level, s.server.config->log_format, s.server.config->log_directory, &why) !=
        OK) {
        fprintf(stderr, "errand: %s\n", why.text);
        config_free(s.server.config);
        return 1;
    }
    warn_if_open(s.server.config);
    s.signals = block_signals();
    raise_descriptor_limit();
    int status = serve(&s);
    close(s.signals);
    log_close();
    return status;
}
