#include "workers/suspension.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/json.h"
#include "store/wait.h"

#include <stdlib.h>

static void read_ids(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    struct suspension *on = &((struct suspension_read *)target)->on;
    int64_t *ids = xcalloc(WAIT_IDS_MAX, sizeof *ids);
    on->ids = ids;
    on->count = keys_json_ids(in, at, value, WAIT_IDS_MAX, ids);
}

static void read_mode(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    struct suspension_read *read = target;
    struct span word;
    if (!keys_json_text(in, at, value, 1, 10, &word))
        return;
    read->on.any = span_is(word, "any");
    if (!read->on.any && !span_is(word, "all"))
        keys_fault(in, at, "must be \"all\" or \"any\"");
}

static void read_until(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    struct suspension_read *read = target;
    struct span text;
    int64_t ms;
    if (!keys_json_text(in, at, value, 1, 100, &text))
        return;
    if (duration_read(text, &ms) == OK)
        read->on.until = read->now_ms + ms;
    else if (!time_parse(text, &read->on.until) || read->on.until <= 0)
        keys_fault(in, at, "must be a time such as \"2026-01-31T12:00:00Z\" or a duration such as \"3d\"");
}

static void read_on(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    static const struct key fields[] = {
        {.name = "ids", .type = KEY_OTHER, .read_json = read_ids},
        {.name = "mode", .type = KEY_OTHER, .read_json = read_mode},
        {.name = "inbox", .type = KEY_BOOL, .offset = offsetof(struct suspension_read, on.inbox)},
        {.name = "until", .type = KEY_OTHER, .read_json = read_until},
        {0},
    };
    const struct suspension *on = &((struct suspension_read *)target)->on;
    int before = in->faults->total;
    keys_read_json(in, at, value, fields, target);
    if (in->faults->total == before && !on->count && !on->inbox && !on->until)
        keys_fault(in, at, "needs ids, inbox or until: nothing else would wake it");
}

static void read_state(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    struct suspension_read *read = target;
    if (value.len > STATE_BYTES_MAX)
        keys_fault(in, at, "has %zu bytes, the limit is %d", value.len, (int)STATE_BYTES_MAX);
    else if (json_type(value) != JSON_NULL)
        read->on.state = value;
}

void suspension_read(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    static const struct key fields[] = {
        {.name = "on", .type = KEY_OTHER, .read_json = read_on, .required = true},
        {.name = "state", .type = KEY_OTHER, .read_json = read_state},
        {0},
    };
    keys_read_json(in, at, value, fields, target);
}

void suspension_release(struct suspension_read *read)
{
    free((int64_t *)read->on.ids);
    read->on.ids = NULL;
}
