/* Processes: bodies in pools of long-lived children, whatever they are written in. */
#include "workers/kinds/process/process.h"

#include "workers/kinds/pool/keys.h"

static const struct key process_keys[] = {
    {.name = "pool",
     .type = KEY_TEXT,
     .min = 1,
     .max = TASK_NAME_MAX,
     .example = "NAME",
     .offset = offsetof(struct process_task, pool),
     .help = "process: the one of `pools` that runs it, in place of `run` and what follows"},
    POOL_PROGRAM_KEYS("process: ", false),
    POOL_TUNING_KEYS("process: "),
    {0},
};

const struct kind process_kind = {
    .name = "process",
    .in_flight = pool_in_flight,
    .descriptors = pool_descriptors,
    .has_room = true,
    .room_of = pool_room_of,
    .keys = process_keys,
    .definition_bytes = sizeof(struct process_task),
    .check = process_check,
    .share = process_share,
    .host = pool_host,
    .serve = pool_serve,
    .wanted = pool_wanted,
    .start = pool_start,
    .stop = pool_stop,
    .workers = pool_show_workers,
    .failing = pool_show_failing,
    .end = pool_end,
    .release = process_release,
};
