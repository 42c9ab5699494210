#include "workers/callbacks/policy.h"

#include "base/clock.h"
#include "workers/callbacks/hosts.h"
#include "workers/transfers/settings.h"

#include <stdlib.h>

enum { HOSTS_MAX = 1000, DELAYS_MAX = 50 };

static bool check_delay(char *text, struct reason *why)
{
    int64_t ms;
    if (duration_parse(span_of(text), &ms))
        return true;
    reason_set(why, "`%s` is no duration such as 30s or 1h30m", text);
    return false;
}

static void read_secret(const struct keys_input *in, const cJSON *item, const char *pointer, void *target)
{
    struct policy *policy = target;
    settings_secret(in, item, pointer, &policy->secret);
}

const struct key policy_keys[] = {
    {.name = "hosts",
     .type = KEY_LIST,
     .default_text = "[]",
     .max = HOSTS_MAX,
     .check = hosts_check,
     .offset = offsetof(struct policy, hosts),
     .help = "who may be called back: example.org, *.example.org, 10.0.0.5:8080, example.org:*; none: nobody"},
    {.name = "secret",
     .type = KEY_OTHER,
     .read = read_secret,
     .example = "{file: callbacks.secret}",
     .help = "signs them by the Standard Webhooks rules; whsec_..., {file: PATH} or {env: NAME}"},
    {.name = "timeout",
     .type = KEY_DURATION,
     .default_text = "10s",
     .min = 100,
     .max = 300 * 1000,
     .offset = offsetof(struct policy, timeout_ms),
     .help = "of a try"},
    {.name = "in_flight",
     .type = KEY_INT,
     .default_text = "16",
     .min = 1,
     .max = 256,
     .offset = offsetof(struct policy, in_flight),
     .help = "how many at once"},
    {.name = "per_host",
     .type = KEY_INT,
     .default_text = "4",
     .min = 1,
     .max = 256,
     .offset = offsetof(struct policy, per_host),
     .help = "and of them, to one host and port"},
    {.name = "rest",
     .type = KEY_DURATION,
     .default_text = "1m",
     .max = 3600 * 1000,
     .offset = offsetof(struct policy, rest_ms),
     .help = "a host that does not answer is left alone, longer each time, up to this"},
    {.name = "delays",
     .type = KEY_LIST,
     .default_text = "[5s, 1m, 5m, 15m, 30m, 1h, 2h, 4h, 6h, 10h]",
     .max = DELAYS_MAX,
     .check = check_delay,
     .offset = offsetof(struct policy, delay_texts),
     .help = "before each further try; then it has failed"},
    {.name = "result",
     .type = KEY_SIZE,
     .default_text = "256KiB",
     .max = INT64_C(16) << 20,
     .offset = offsetof(struct policy, result_bytes),
     .help = "a larger one is left out, and its address is given"},
    {.name = "ca",
     .type = KEY_PATH,
     .path = PATH_FILE,
     .example = "ca.pem",
     .offset = offsetof(struct policy, ca),
     .help = "whose certificates are trusted, as PEM; default: the system's"},
    {.name = "proxy",
     .type = KEY_TEXT,
     .min = 1,
     .max = 2000,
     .check = settings_check_proxy,
     .example = "http://proxy.example.org:3128",
     .offset = offsetof(struct policy, proxy),
     .help = "the proxy; default: none, whatever the environment says"},
    {0},
};

static void settle_delays(struct policy *policy)
{
    while (policy->delay_texts[policy->delay_count])
        policy->delay_count++;
    policy->delays_ms = xcalloc((size_t)policy->delay_count + 1, sizeof *policy->delays_ms);
    for (int i = 0; i < policy->delay_count; i++)
        if (!duration_parse(span_of(policy->delay_texts[i]), &policy->delays_ms[i]))
            policy->delays_ms[i] = 0; /* a fault was added */
}

void policy_read(const struct keys_input *in, const cJSON *item, struct policy *out)
{
    keys_set_defaults(policy_keys, out, in->folder);
    if (item && !cJSON_IsNull(item))
        keys_read(in, item, "/callbacks", &(struct key_section){.keys = policy_keys, .target = out}, 1);
    settle_delays(out);
    if (*out->hosts && !cJSON_GetObjectItemCaseSensitive(item, "secret"))
        faults_add(in->faults, yaml_line(in->doc, item), "/callbacks/secret",
                   "is missing: callbacks are signed; `echo whsec_$(openssl rand -base64 32)` prints one");
}

void policy_release(struct policy *policy)
{
    settings_secret_release(&policy->secret);
    free(policy->delays_ms);
    keys_release(policy_keys, policy);
}

bool policy_allows(const struct policy *policy, const char *url, struct buf *place, struct reason *why)
{
    struct destination destination;
    if (!*policy->hosts) {
        reason_set(why, "no host may be called back: the key `callbacks.hosts` of the configuration names none");
        return false;
    }
    if (!destination_parse(url, &destination, why))
        return false;
    bool allowed = hosts_allow(policy->hosts, &destination);
    if (!allowed)
        reason_set(
            why,
            "%.200s:%d may not be called back: the key `callbacks.hosts` of the configuration does not name it",
            destination.host, destination.port);
    else if (place)
        destination_add_place(place, &destination);
    destination_release(&destination);
    return allowed;
}
