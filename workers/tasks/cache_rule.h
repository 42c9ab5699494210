/* The option `cache_results`: that a success answers the next submissions of its key.
 *
 * Pure. Threads: no shared state. */
#pragma once

#include "workers/tasks/args_key.h"

/* All zeros: none does. */
struct cache_rule {
    int64_t for_ms; /* 0: there is no rule */
    struct args_key per;
};

extern const struct key cache_rule_keys[];

/* Reads a duration, {for, per}, or `none`. A fault for everything that is wrong. */
void cache_rule_read(const struct keys_input *in, const cJSON *item, const char *pointer, struct cache_rule *rule);
void cache_rule_copy(struct cache_rule *to, const struct cache_rule *from);
void cache_rule_release(struct cache_rule *rule);

/* Appends it as the configuration would say it. */
void cache_rule_add_json(struct buf *out, const struct cache_rule *rule);
