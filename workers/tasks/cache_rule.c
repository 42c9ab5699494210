#include "workers/tasks/cache_rule.h"

#include "base/clock.h"

#define MAX_MS (INT64_C(3650) * 86400000)

static void read_per(const struct keys_input *in, const cJSON *item, const char *pointer, void *target)
{
    args_key_read(in, item, pointer, &((struct cache_rule *)target)->per);
}

const struct key cache_rule_keys[] = {
    {.name = "for",
     .type = KEY_DURATION,
     .min = 1,
     .max = MAX_MS,
     .required = true,
     .offset = offsetof(struct cache_rule, for_ms),
     .example = "10m",
     .help = "how long, from the success; `cache_results: 10m` says only this"},
    {.name = "per",
     .type = KEY_OTHER,
     .read = read_per,
     .example = "args",
     .help = "those of the task, of the same args, or of the same of these: [city]; args"},
    {0},
};

static void read_duration(const struct keys_input *in, const cJSON *item, const char *pointer,
                          struct cache_rule *rule)
{
    struct reason why = {""};
    struct span text = keys_text(item);
    if (!text.p || !keys_set_text(cache_rule_keys, text, in->folder, rule, &why))
        faults_add(in->faults, yaml_line(in->doc, item), pointer, "%s",
                   *why.text ? why.text : "must be none, a duration, or a mapping such as {for: 10m, per: args}");
}

void cache_rule_read(const struct keys_input *in, const cJSON *item, const char *pointer, struct cache_rule *rule)
{
    struct key_section section = {.keys = cache_rule_keys, .target = rule};
    cache_rule_release(rule);
    if (cJSON_IsString(item) && strcmp(item->valuestring, "none") == 0)
        return;
    rule->per.by = ARGS_KEY_ARGS;
    if (cJSON_IsObject(item))
        keys_read(in, item, pointer, &section, 1);
    else
        read_duration(in, item, pointer, rule);
}

void cache_rule_copy(struct cache_rule *to, const struct cache_rule *from)
{
    *to = *from;
    args_key_copy(&to->per, &from->per);
}

void cache_rule_release(struct cache_rule *rule)
{
    args_key_release(&rule->per);
    *rule = (struct cache_rule){0};
}

void cache_rule_add_json(struct buf *out, const struct cache_rule *rule)
{
    buf_addl(out, "{\"for\":\"");
    duration_add(out, rule->for_ms);
    buf_addl(out, "\",\"per\":");
    args_key_add_json(out, &rule->per);
    buf_addc(out, '}');
}
