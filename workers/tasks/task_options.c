#include "workers/tasks/task_options.h"

#include "workers/tasks/argument.h"

#include <stdlib.h>

enum { TYPE_MAX = 100, RETRY_FOR_MAX = 100 };

#define SECOND_MS INT64_C(1000)
#define DAY_MS INT64_C(86400000)

static bool check_pattern(char *text, struct reason *why)
{
    const char *star = strchr(text, '*');
    if (*text == '\0' || strlen(text) > TYPE_MAX)
        reason_set(why, "must be 1 to %d bytes: an error type such as timeout, or a prefix such as http:5*",
                   TYPE_MAX);
    else if (star && star[1] != '\0')
        reason_set(why, "`%s`: a * stands only at the end", text);
    else
        return true;
    return false;
}

static void read_unique(const struct keys_input *in, const cJSON *item, const char *pointer, void *target)
{
    unique_rule_read(in, item, pointer, &((struct task_options *)target)->unique);
}

static void read_cache(const struct keys_input *in, const cJSON *item, const char *pointer, void *target)
{
    cache_rule_read(in, item, pointer, &((struct task_options *)target)->cache);
}

static bool check_path(char *text, struct reason *why)
{
    bool good = argument_path_is_good(span_of(text)) && strlen(text) <= ARGUMENT_PATH_MAX;
    if (!good)
        reason_set(why, "must be the name of an argument, 1 to %d bytes, such as order or user.id",
                   ARGUMENT_PATH_MAX);
    return good;
}

static const struct key backoff_keys[] = {
    {.name = "initial",
     .type = KEY_DURATION,
     .default_text = "1s",
     .max = 365 * DAY_MS,
     .offset = offsetof(struct task_options, retry.backoff.initial_ms),
     .help = "before the first retry"},
    {.name = "factor",
     .type = KEY_NUMBER,
     .default_text = "2",
     .min = 1,
     .max = 1000,
     .offset = offsetof(struct task_options, retry.backoff.factor),
     .help = "each further wait is longer by this factor"},
    {.name = "max",
     .type = KEY_DURATION,
     .default_text = "10m",
     .max = 365 * DAY_MS,
     .offset = offsetof(struct task_options, retry.backoff.max_ms),
     .help = "but no longer than this"},
    {.name = "jitter",
     .type = KEY_NUMBER,
     .default_text = "0.2",
     .min = 0,
     .max = 1,
     .offset = offsetof(struct task_options, retry.backoff.jitter),
     .help = "up to this share longer or shorter, at random"},
    {0},
};

const struct key task_option_keys[] = {
    {.name = "priority",
     .type = KEY_INT,
     .default_text = "1",
     .max = PRIORITY_MAX,
     .offset = offsetof(struct task_options, priority),
     .help = "0 (first) to 127 (last)"},
    {.name = "timeout",
     .type = KEY_DURATION,
     .default_text = "none",
     .none = true,
     .min = 1,
     .max = 365 * DAY_MS,
     .offset = offsetof(struct task_options, timeout_ms),
     .help = "of an attempt, from its start"},
    {.name = "expires_in",
     .type = KEY_DURATION,
     .default_text = "none",
     .none = true,
     .min = 1,
     .max = 3650 * DAY_MS,
     .offset = offsetof(struct task_options, expires_in_ms),
     .help = "fails as `expired` if it has not started by then"},
    {.name = "deadline",
     .type = KEY_DURATION,
     .default_text = "none",
     .none = true,
     .min = 1,
     .max = 3650 * DAY_MS,
     .offset = offsetof(struct task_options, deadline_ms),
     .help = "fails as `deadline` if it is not done by then, over all attempts and waits"},
    {.name = "max_retries",
     .type = KEY_INT,
     .default_text = "0",
     .max = RETRIES_MAX,
     .offset = offsetof(struct task_options, max_retries),
     .help = "after failures"},
    {.name = "max_recoveries",
     .type = KEY_INT,
     .default_text = "3",
     .max = RETRIES_MAX,
     .offset = offsetof(struct task_options, max_recoveries),
     .help = "after crashes of the server or a worker"},
    {.name = "retry_for",
     .type = KEY_LIST,
     .default_text = "[\"*\"]",
     .max = RETRY_FOR_MAX,
     .check = check_pattern,
     .offset = offsetof(struct task_options, retry.retry_for),
     .help = "error types to retry: timeout, exit:75, \"http:5*\""},
    {.name = "backoff", .type = KEY_MAP, .members = backoff_keys, .help = "how long to wait before a retry"},
    {.name = "retention",
     .type = KEY_DURATION,
     .default_text = "7d",
     .min = SECOND_MS,
     .max = 36500 * DAY_MS,
     .offset = offsetof(struct task_options, retention_ms),
     .help = "how long a final invocation is kept"},
    {.name = "max_queued",
     .type = KEY_COUNT,
     .default_text = "none",
     .none = true,
     .min = 1,
     .max = INT64_C(1000000000),
     .offset = offsetof(struct task_options, max_queued),
     .help = "submissions above so many waiting ones are refused (429)"},
    {.name = "unique",
     .type = KEY_OTHER,
     .read = read_unique,
     .members = unique_rule_keys,
     .help = "only one of a key at a time"},
    {.name = "cache_results",
     .type = KEY_OTHER,
     .read = read_cache,
     .members = cache_rule_keys,
     .help = "a success answers the next submissions of its key"},
    {.name = "index",
     .type = KEY_LIST,
     .default_text = "[]",
     .max = ARGUMENT_PATHS_MAX,
     .check = check_path,
     .offset = offsetof(struct task_options, index),
     .help = "arguments that invocations are found by: ?task=NAME&arg.user.id=7"},
    {0},
};

/* `"*"` among the patterns is every type, which is NULL. */
static void settle_retry_for(struct task_options *options)
{
    char ***list = &options->retry.retry_for;
    for (char **pattern = *list; pattern && *pattern; pattern++)
        if (strcmp(*pattern, "*") == 0) {
            for (char **text = *list; *text; text++)
                free(*text);
            free(*list);
            *list = NULL;
            return;
        }
}

void task_options_init(struct task_options *options)
{
    *options = (struct task_options){0};
    keys_set_defaults(task_option_keys, options, "/");
    settle_retry_for(options);
}

static char **copy_list(char **list)
{
    size_t count = 0;
    if (!list)
        return NULL;
    while (list[count])
        count++;
    char **copy = xcalloc(count + 1, sizeof(*copy));
    for (size_t i = 0; i < count; i++)
        copy[i] = xstrdup(list[i]);
    return copy;
}

void task_options_copy(struct task_options *to, const struct task_options *from)
{
    *to = *from;
    unique_rule_copy(&to->unique, &from->unique);
    cache_rule_copy(&to->cache, &from->cache);
    to->retry.retry_for = copy_list(from->retry.retry_for);
    to->index = copy_list(from->index);
}

void task_options_release(struct task_options *options)
{
    keys_release(task_option_keys, options);
    unique_rule_release(&options->unique);
    cache_rule_release(&options->cache);
}

void task_options_add_json(struct buf *out, const struct task_options *options)
{
    keys_add_json(out, task_option_keys, options);
    if (options->unique.lasts) {
        buf_addl(out, ",\"unique\":");
        unique_rule_add_json(out, &options->unique);
    }
    if (options->cache.for_ms) {
        buf_addl(out, ",\"cache_results\":");
        cache_rule_add_json(out, &options->cache);
    }
}

void task_options_settle(const struct keys_input *in, const cJSON *mapping, const char *pointer,
                         struct task_options *options)
{
    settle_retry_for(options);
    const cJSON *backoff = cJSON_GetObjectItemCaseSensitive(mapping, "backoff");
    if (backoff && options->retry.backoff.initial_ms > options->retry.backoff.max_ms)
        faults_add_member(in->faults, yaml_line(in->doc, backoff), pointer, SPAN("backoff"),
                          "`initial` is longer than `max`");
}

void task_options_read(const struct keys_input *in, const cJSON *mapping, const char *pointer,
                       struct task_options *options)
{
    struct key_section section = {.keys = task_option_keys, .target = options};
    keys_read(in, mapping, pointer, &section, 1);
    task_options_settle(in, mapping, pointer, options);
}
