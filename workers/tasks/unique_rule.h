/* The option `unique`: that only one invocation of a key is there at a time.
 *
 * Pure. Threads: no shared state. */
#pragma once

#include "workers/tasks/args_key.h"

enum unique_while { WHILE_NOTHING, WHILE_QUEUED, WHILE_UNFINISHED, WHILE_TIMED };
enum unique_on_conflict { ON_CONFLICT_RETURN, ON_CONFLICT_REJECT, ON_CONFLICT_REPLACE };

/* All zeros: any number may be there. */
struct unique_rule {
    enum unique_while lasts; /* WHILE_NOTHING: there is no rule */
    struct args_key per;
    int64_t for_ms;                   /* of WHILE_TIMED */
    int on_conflict;                  /* enum unique_on_conflict */
    int64_t debounce_ms, max_wait_ms; /* 0: none */
};

/* Its keys, for the description of the option. */
extern const struct key unique_rule_keys[];

/* Reads the mapping, or `none`. A fault for everything that is wrong. */
void unique_rule_read(const struct keys_input *in, const cJSON *item, const char *pointer,
                      struct unique_rule *rule);
void unique_rule_copy(struct unique_rule *to, const struct unique_rule *from);
void unique_rule_release(struct unique_rule *rule);

/* Appends it as the configuration would say it. */
void unique_rule_add_json(struct buf *out, const struct unique_rule *rule);
