/* What POST /leases says: who asks, for what, and what became of earlier turns.
 * Pure: it is read, and nothing is looked up but tasks by their names. */
#pragma once

#include "base/keys.h"
#include "server/resources/turn_end.h"
#include "workers/leases.h"
#include "workers/registry.h"
#include "workers/suspension.h"

enum { REPORTS_MAX = 100 };

/* One of `done`. */
struct lease_report {
    struct turn_end end; /* first: its readers fill it */
    struct span token;
    bool suspends; /* instead of ending the turn: */
    struct suspension_read suspension;
};

struct lease_body {
    const struct registry *registry; /* the caller's, and so is: */
    int64_t now_ms;

    char worker[WORKER_NAME_MAX + 1];
    struct span host, version; /* absent: not said */
    int pid;                   /* 0: not said */
    int *tasks;                /* numbers; owned */
    int task_count;
    bool any_task; /* instead of those */
    int max;
    int64_t wait_ms, lease_ms;
    struct lease_report *reports; /* owned */
    int report_count;
    int id_count; /* that those wait for, together */
};

/* Of checked JSON, into one of zeros but for what is the caller's. Spans point into
 * the body and into the arena. */
void lease_body_read(struct span json, struct lease_body *body, struct buf *arena, struct faults *faults);
void lease_body_release(struct lease_body *body);
