#include "workers/tasks/unique_rule.h"

#include "base/clock.h"

#define DAY_MS INT64_C(86400000)

enum { CONFLICT_UNSAID = -1 };

static const char *const conflicts[] = {
    [ON_CONFLICT_RETURN] = "return", [ON_CONFLICT_REJECT] = "reject", [ON_CONFLICT_REPLACE] = "replace", NULL};

static bool parse_while(struct span text, const char *folder, void *target, struct reason *why)
{
    struct unique_rule *rule = target;
    (void)folder;
    if (span_is(text, "queued")) {
        rule->lasts = WHILE_QUEUED;
    } else if (span_is(text, "unfinished")) {
        rule->lasts = WHILE_UNFINISHED;
    } else if (duration_read(text, &rule->for_ms) == OK && rule->for_ms > 0 && rule->for_ms <= 3650 * DAY_MS) {
        rule->lasts = WHILE_TIMED;
    } else {
        reason_set(why, "must be queued, unfinished, or a duration such as 1h, of 3650d at most");
        return false;
    }
    return true;
}

static void read_per(const struct keys_input *in, const cJSON *item, const char *pointer, void *target)
{
    args_key_read(in, item, pointer, &((struct unique_rule *)target)->per);
}

const struct key unique_rule_keys[] = {
    {.name = "per",
     .type = KEY_OTHER,
     .read = read_per,
     .example = "args",
     .help = "one of the task, of the same args, or of the same of these: [user, order.id]; args"},
    {.name = "while",
     .type = KEY_PARSED,
     .parse = parse_while,
     .example = "unfinished",
     .help = "queued, unfinished, or for so long from its submission; unfinished"},
    {.name = "on_conflict",
     .type = KEY_WORD,
     .words = conflicts,
     .offset = offsetof(struct unique_rule, on_conflict),
     .example = "return",
     .help = "return the first, reject the second (409), or replace the arguments of the first; return"},
    {.name = "debounce",
     .type = KEY_DURATION,
     .min = 1,
     .max = 365 * DAY_MS,
     .offset = offsetof(struct unique_rule, debounce_ms),
     .example = "5s",
     .help = "starts so long after the last submission, with its arguments; means replace"},
    {.name = "max_wait",
     .type = KEY_DURATION,
     .min = 1,
     .max = 365 * DAY_MS,
     .offset = offsetof(struct unique_rule, max_wait_ms),
     .example = "1m",
     .help = "but at most so long after the first"},
    {0},
};

static void settle(const struct keys_input *in, const cJSON *item, const char *pointer, struct unique_rule *rule)
{
    int line = yaml_line(in->doc, item);
    bool replaces = rule->on_conflict == ON_CONFLICT_REPLACE || rule->on_conflict == CONFLICT_UNSAID;
    if (rule->debounce_ms && !replaces)
        faults_add_member(in->faults, line, pointer, SPAN("debounce"), "needs `on_conflict: replace`");
    if (rule->max_wait_ms && !rule->debounce_ms)
        faults_add_member(in->faults, line, pointer, SPAN("max_wait"), "means nothing without `debounce`");
    if (rule->max_wait_ms && rule->max_wait_ms < rule->debounce_ms)
        faults_add_member(in->faults, line, pointer, SPAN("max_wait"), "is shorter than `debounce`");
    if (rule->on_conflict == CONFLICT_UNSAID)
        rule->on_conflict = rule->debounce_ms ? ON_CONFLICT_REPLACE : ON_CONFLICT_RETURN;
}

void unique_rule_read(const struct keys_input *in, const cJSON *item, const char *pointer,
                      struct unique_rule *rule)
{
    struct key_section section = {.keys = unique_rule_keys, .target = rule};
    unique_rule_release(rule);
    if (cJSON_IsString(item) && strcmp(item->valuestring, "none") == 0)
        return;
    if (!cJSON_IsObject(item)) {
        faults_add(in->faults, yaml_line(in->doc, item), pointer,
                   "must be none, or a mapping such as {per: args, while: unfinished}");
        return;
    }
    *rule =
        (struct unique_rule){.lasts = WHILE_UNFINISHED, .per.by = ARGS_KEY_ARGS, .on_conflict = CONFLICT_UNSAID};
    keys_read(in, item, pointer, &section, 1);
    settle(in, item, pointer, rule);
}

void unique_rule_copy(struct unique_rule *to, const struct unique_rule *from)
{
    *to = *from;
    args_key_copy(&to->per, &from->per);
}

void unique_rule_release(struct unique_rule *rule)
{
    args_key_release(&rule->per);
    *rule = (struct unique_rule){0};
}

static void add_duration(struct buf *out, const char *name, int64_t ms)
{
    if (!ms)
        return;
    buf_addf(out, ",\"%s\":\"", name);
    duration_add(out, ms);
    buf_addc(out, '"');
}

void unique_rule_add_json(struct buf *out, const struct unique_rule *rule)
{
    buf_addl(out, "{\"per\":");
    args_key_add_json(out, &rule->per);
    if (rule->lasts == WHILE_TIMED)
        add_duration(out, "while", rule->for_ms);
    else
        buf_adds(out, rule->lasts == WHILE_QUEUED ? ",\"while\":\"queued\"" : ",\"while\":\"unfinished\"");
    buf_addf(out, ",\"on_conflict\":\"%s\"", conflicts[rule->on_conflict]);
    add_duration(out, "debounce", rule->debounce_ms);
    add_duration(out, "max_wait", rule->max_wait_ms);
    buf_addc(out, '}');
}
