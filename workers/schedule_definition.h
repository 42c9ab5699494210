/* A schedule as JSON: from a client, from the configuration, or as it stands on disk; read and checked.
 *
 * Threads: a definition belongs to one at a time. */
#pragma once

#include "base/keys.h"
#include "store/schedule.h"
#include "workers/registry.h"
#include "workers/tasks/cron.h"

enum {
    DEFINITION_BYTES_MAX = 64 << 10,
    SCHEDULE_LABELS = 2, /* that an invocation has of its schedule */
};
#define LABEL_SCHEDULE "schedule"
#define LABEL_DUE "scheduled_for"

enum catch_up { CATCH_UP_ONE, CATCH_UP_NONE, CATCH_UP_ALL };

struct schedule_definition {
    struct cron cron;
    struct zone *zone;
    struct cron_dst dst;
    enum catch_up catch_up;
    enum schedule_overlap overlap;
    int64_t jitter_ms;
    struct buf text;       /* all of it as JSON, what was not said as it is by default: as it stands on disk */
    struct buf submission; /* what is submitted each time, without labels */
    struct buf labels;     /* those it has, an object without braces; may be empty */
};

/* The keys that it may have, for the table of the configuration's. */
extern const struct key schedule_keys[];

/* A name that a schedule may have: as a task's, and not `preview`, which is a route. */
bool schedule_name_is_good(struct span name);

/* Reads checked JSON; opens the file of its time zone. ERR_INVALID with every fault added; whatever comes back,
 * the caller releases it. */
MUST_USE enum err schedule_read(const struct registry *registry, struct span body, struct schedule_definition *out,
                                struct faults *faults);

/* Of a query: a cron line and a zone (absent: UTC) alone; faults name the parameters. Released as the other. */
MUST_USE enum err schedule_read_times(struct span cron, struct span timezone, struct cron_dst dst,
                                      struct schedule_definition *out, struct faults *faults);

/* The words of enum cron_gap and enum cron_fold, NULL-terminated. */
extern const char *const schedule_gap_words[], *const schedule_fold_words[];
void schedule_release(struct schedule_definition *definition);

static inline struct cron_clock schedule_clock(const struct schedule_definition *definition)
{
    return (struct cron_clock){&definition->cron, definition->zone, definition->dst};
}

/* What it submits now: spans point into the definition, which outlives them. Faults: the task is gone, or takes
 * these arguments no more. */
MUST_USE enum err schedule_submission(const struct schedule_definition *definition,
                                      const struct registry *registry, int64_t now_ms, struct submission *out,
                                      struct faults *faults);

/* Appends the labels of one that was due then. */
void schedule_add_labels(const struct schedule_definition *definition, struct span name, int64_t due_ms,
                         struct buf *out);
