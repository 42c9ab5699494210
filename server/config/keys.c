#include "server/config/keys.h"
#include "workers/schedule_definition.h"

#include <stdlib.h>
#include <unistd.h>

enum { SLOTS_MAX = 1024, HOSTS_MAX = 100, URL_MAX = 1000 };

#define KIB INT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define SECOND_MS INT64_C(1000)
#define HOUR_MS INT64_C(3600000)

/* registry_parse() reads these. */
static void read_later(const struct keys_input *in, const cJSON *item, const char *pointer, void *target)
{
    (void)in, (void)item, (void)pointer, (void)target;
}

static const struct key cors_keys[] = {
    {.name = "origins",
     .type = KEY_LIST,
     .default_text = "[]",
     .max = HOSTS_MAX,
     .check = config_check_origin,
     .offset = offsetof(struct config, cors_origins),
     .help = "pages of these origins may call, or \"*\""},
    {0},
};

static const struct key tls_keys[] = {
    {.name = "certificate",
     .type = KEY_PATH,
     .path = PATH_FILE,
     .required = true,
     .example = "tls/certificate.pem",
     .offset = offsetof(struct config, tls_certificate),
     .help = "PEM, with the chain"},
    {.name = "key",
     .type = KEY_PATH,
     .path = PATH_FILE,
     .required = true,
     .example = "tls/key.pem",
     .offset = offsetof(struct config, tls_key),
     .help = "PEM"},
    {0},
};

#define LIMIT(field) .offset = offsetof(struct config, limits.field)

static const struct key limit_keys[] = {
    {.name = "body",
     .type = KEY_SIZE,
     .default_text = "1MiB",
     .min = KIB,
     .max = 256 * MIB,
     LIMIT(body_bytes),
     .help = "of a request"},
    {.name = "bulk_body",
     .type = KEY_SIZE,
     .default_text = "64MiB",
     .min = KIB,
     .max = 16 * GIB,
     LIMIT(bulk_body_bytes),
     .help = "of a request with many submissions"},
    {.name = "bulk_lines",
     .type = KEY_COUNT,
     .default_text = "100000",
     .min = 1,
     .max = 10000000,
     LIMIT(bulk_lines),
     .help = "submissions in one request"},
    {.name = "result",
     .type = KEY_SIZE,
     .default_text = "8MiB",
     .min = KIB,
     .max = 256 * MIB,
     LIMIT(result_bytes),
     .help = "of an invocation"},
    {.name = "log",
     .type = KEY_SIZE,
     .default_text = "10MiB",
     .min = KIB,
     .max = 256 * MIB,
     LIMIT(log_bytes),
     .help = "of an attempt; what is more is cut"},
    {.name = "answers",
     .type = KEY_SIZE,
     .default_text = "64MiB",
     .min = MIB,
     .max = 16 * GIB,
     LIMIT(answers_bytes),
     .help = "large answers on their way out, all together"},
    {.name = "connections",
     .type = KEY_COUNT,
     .default_text = "2000",
     .min = 1,
     .max = 1000000,
     LIMIT(connections),
     .help = "open at once; above it an idle one of the address that has most is closed"},
    {.name = "connections_per_address",
     .type = KEY_COUNT,
     .default_text = "none",
     .none = true,
     .min = 1,
     .max = 1000000,
     LIMIT(connections_per_address),
     .help = "open at once, from one address"},
    {.name = "streams",
     .type = KEY_COUNT,
     .default_text = "1000",
     .min = 1,
     .max = 1000000,
     LIMIT(streams),
     .help = "requests that wait or follow, at once"},
    {.name = "header",
     .type = KEY_SIZE,
     .default_text = "8KiB",
     .min = 4 * KIB,
     .max = MIB,
     LIMIT(header_bytes),
     .help = "of a request"},
    {.name = "request_timeout",
     .type = KEY_DURATION,
     .default_text = "30s",
     .min = SECOND_MS,
     .max = HOUR_MS,
     LIMIT(request_timeout_ms),
     .help = "a request must have been sent by then"},
    {.name = "idle_timeout",
     .type = KEY_DURATION,
     .default_text = "1m",
     .min = SECOND_MS,
     .max = HOUR_MS,
     LIMIT(idle_timeout_ms),
     .help = "a silent connection is closed"},
    {0},
};

const struct key config_keys[] = {
    {.name = "listen",
     .type = KEY_PARSED,
     .parse = config_parse_listen,
     .default_text = "127.0.0.1:8080",
     .help = "ADDRESS:PORT, or unix:PATH; \"[::1]:8080\" is quoted; port 0 picks one"},
    {.name = "url",
     .type = KEY_TEXT,
     .min = 1,
     .max = URL_MAX,
     .check = config_check_url,
     .example = "https://errand.example.org",
     .offset = offsetof(struct config, url),
     .help = "what ERRAND_LEASE_URL of a command begins with; default: where it listens"},
    {.name = "store",
     .type = KEY_PARSED,
     .parse = config_parse_store,
     .default_text = "errand.db",
     .help = "the database file, or \":memory:\""},
    {.name = "slots",
     .type = KEY_INT,
     .min = 1,
     .max = SLOTS_MAX,
     .example = "8",
     .offset = offsetof(struct config, slots),
     .help = "what runs at once; default: twice the processors"},
    {.name = "log", .type = KEY_MAP, .members = config_log_keys, .help = "the server's own log"},
    {.name = "tokens",
     .type = KEY_OTHER,
     .read = config_read_tokens,
     .default_text = "[]",
     .members = config_token_keys,
     .each = "-",
     .help = "who may call; none: everyone, on loopback only"},
    {.name = "hosts",
     .type = KEY_LIST,
     .default_text = "[]",
     .max = HOSTS_MAX,
     .check = config_check_host,
     .offset = offsetof(struct config, hosts),
     .help = "names in `Host` that are accepted besides loopback's"},
    {.name = "cors", .type = KEY_MAP, .members = cors_keys, .help = "pages of other origins"},
    {.name = "tls", .type = KEY_MAP, .members = tls_keys, .help = "both or none"},
    {.name = "shutdown_timeout",
     .type = KEY_DURATION,
     .default_text = "30s",
     .max = 24 * HOUR_MS,
     .offset = offsetof(struct config, shutdown_timeout_ms),
     .help = "what still runs then is stopped, and runs again later"},
    {.name = "kill_grace",
     .type = KEY_DURATION,
     .default_text = "5s",
     .max = HOUR_MS,
     .offset = offsetof(struct config, kill_grace_ms),
     .help = "between SIGTERM and SIGKILL"},
    {.name = "retain_max",
     .type = KEY_COUNT,
     .default_text = "none",
     .none = true,
     .min = 1,
     .max = INT64_C(1000000000000),
     .offset = offsetof(struct config, retain_max),
     .help = "final invocations kept at most"},
    {.name = "limits", .type = KEY_MAP, .members = limit_keys, .help = "sizes: bytes, or 64KiB, 1MiB, 1GiB"},
    {.name = "defaults",
     .type = KEY_OTHER,
     .read = read_later,
     .members = task_option_keys,
     .help = "options of every task that does not set its own"},
    {.name = "callbacks",
     .type = KEY_OTHER,
     .read = read_later,
     .members = policy_keys,
     .help = "requests that tell of an end (docs/callbacks.md)"},
    {.name = "pools",
     .type = KEY_OTHER,
     .read = read_later,
     .default_text = "{}",
     .members = pool_keys,
     .each = "NAME:",
     .help = "of processes, for all tasks that name one (`pool`)"},
    {.name = "schedules",
     .type = KEY_OTHER,
     .read = read_later,
     .default_text = "{}",
     .members = schedule_keys,
     .each = "NAME:",
     .help = "what submits by the clock, by name"},
    {.name = "tasks",
     .type = KEY_OTHER,
     .read = read_later,
     .default_text = "{}",
     .each = "NAME:",
     .help = "what can be submitted, by name"},
    {0},
};

static int twice_the_processors(void)
{
    long slots = 2 * sysconf(_SC_NPROCESSORS_ONLN);
    return slots < 2 ? 2 : slots > SLOTS_MAX ? SLOTS_MAX : (int)slots;
}

void config_set_defaults(struct config *config)
{
    keys_set_defaults(config_keys, config, config->folder);
    config->slots = twice_the_processors();
}

void config_add_defaults(struct buf *out)
{
    keys_add_yaml(out, config_keys, 0, false);
    registry_add_keys(out, kinds, 4);
    buf_addl(out, "#     and any key of `defaults`\n");
}

void config_release_keys(struct config *config)
{
    for (int i = 0; i < config->token_count; i++)
        keys_release(config_token_keys, &config->tokens[i]);
    free(config->tokens);
    free(config->listen_host);
    free(config->listen_path);
    free(config->store);
    keys_release(config_keys, config);
}
