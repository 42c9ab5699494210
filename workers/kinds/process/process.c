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

static int in_flight(const struct task *task)
{
    return pool_in_flight(process_task(task)->of);
}

static const void *room_of(const struct task *task)
{
    return process_task(task)->of;
}

static int descriptors(const struct task *task)
{
    return pool_descriptors(process_task(task)->of);
}

static void serve(struct task *task, bool serves)
{
    pool_serve(process_task(task)->of, serves);
}

static void wanted(const struct task *task, int count)
{
    pool_wanted(process_task(task)->of, count);
}

static void start(struct attempt *attempt)
{
    pool_start(process_task(attempt->task)->of, attempt);
}

static void stop(struct attempt *attempt)
{
    (void)attempt;
    pool_stop();
}

const struct kind process_kind = {
    .name = "process",
    .in_flight = in_flight,
    .descriptors = descriptors,
    .has_room = true,
    .room_of = room_of,
    .keys = process_keys,
    .definition_bytes = sizeof(struct process_task),
    .check = process_check,
    .share = process_share,
    .host = pool_host,
    .serve = serve,
    .wanted = wanted,
    .start = start,
    .stop = stop,
    .workers = pool_show_workers,
    .failing = pool_show_failing,
    .end = pool_end,
    .release = process_release,
};
