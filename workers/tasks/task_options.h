/* The options of a task, which `defaults` may set for all of them: when it
 * starts, how often it is tried again, how long it is kept.
 *
 * Threads: no shared state. */
#pragma once

#include "base/keys.h"
#include "workers/tasks/cache_rule.h"
#include "workers/tasks/retry.h"
#include "workers/tasks/unique_rule.h"

enum { PRIORITY_MAX = 127, RETRIES_MAX = 1000 };

struct task_options {
    int priority;          /* 0 (first) .. PRIORITY_MAX; 1 */
    int64_t timeout_ms;    /* of an attempt, from its start; 0 is none */
    int64_t expires_in_ms; /* must start by then; 0 is never */
    int64_t deadline_ms;   /* must be final by then, from its submission; 0 is never */
    int64_t retention_ms;  /* of a final invocation */
    int max_retries;       /* after failures; 0 */
    int max_recoveries;    /* after crashes; 3 */
    int64_t max_queued;    /* submissions above are refused; 0 is no limit */
    struct retry_policy retry;
    struct unique_rule unique;
    char **index; /* paths of arguments that invocations are found by; NULL: none */
    struct cache_rule cache;
};

/* Their keys, of a task and of `defaults`; they fill a struct task_options. */
extern const struct key task_option_keys[];

/* Sets the options to their defaults. */
void task_options_init(struct task_options *options);
void task_options_copy(struct task_options *to, const struct task_options *from);
void task_options_release(struct task_options *options);

/* Appends them as JSON members, without braces. */
void task_options_add_json(struct buf *out, const struct task_options *options);

/* Reads `defaults:` over options that are set. */
void task_options_read(const struct keys_input *in, const cJSON *mapping, const char *pointer,
                       struct task_options *options);

/* What no single option can see; `mapping` is where the options were. */
void task_options_settle(const struct keys_input *in, const cJSON *mapping, const char *pointer,
                         struct task_options *options);
