/* What of an invocation's arguments tells it from others: the key by which limits, fairness, what is
 * unique and what is kept are told apart.
 *
 *     per: task          all are one
 *     per: args          those with the same arguments
 *     per: [a, user.id]  those with the same of these
 *
 * Keys compare bound arguments in canonical form (base/json.h): neither the order of members nor a
 * default that was left out makes another key. What is missing is null.
 *
 * Pure. Threads: no shared state. */
#pragma once

#include "base/keys.h"

enum { ARGS_KEY_NAMES_MAX = 16, ARGS_KEY_NAME_MAX = 255 };

enum args_key_by { ARGS_KEY_TASK, ARGS_KEY_ARGS, ARGS_KEY_NAMES };

/* All zeros: per task. */
struct args_key {
    enum args_key_by by;
    char **names; /* owned, NULL-terminated; of ARGS_KEY_NAMES */
};

/* Reads `task`, `args` or a list of names: key.read of a KEY_OTHER whose target is a struct args_key.
 * A fault for everything that is wrong. */
void args_key_read(const struct keys_input *in, const cJSON *item, const char *pointer, void *target);
void args_key_copy(struct args_key *to, const struct args_key *from);
void args_key_release(struct args_key *key);

/* Appends it as the configuration would say it: "task", "args" or ["a","user.id"]. */
void args_key_add_json(struct buf *out, const struct args_key *key);

/* Appends the key of such arguments, which json_check() has passed: empty per task; the canonical
 * arguments; or an array of the named ones. Absent arguments are null. */
void args_key_add(struct buf *out, const struct args_key *key, struct span bound);

/* What stands there: a member of that very name, else member by member at each dot. Absent if there
 * is none. */
struct span args_at(struct span bound, const char *path);
