/* What a turn waits for when it suspends, as JSON: `{"on": {"ids": [...], "mode":
 * "all" | "any", "inbox": true, "until": a time or a duration}, "state": any}`.
 * Pure. */
#pragma once

#include "base/keys.h"
#include "store/suspend.h"

struct suspension_read {
    struct suspension on; /* its ids are owned; the state points into the body */
    int64_t now_ms;       /* durations count from here; the caller's to set */
};

/* A key's reader (keys.h): the target is a struct suspension_read. */
void suspension_read(const struct keys_json *in, const struct keys_place *at, struct span value, void *target);
void suspension_release(struct suspension_read *read);
