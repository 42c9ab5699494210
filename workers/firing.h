/* One schedule's plan on its way to disk: what it submits, and all that this points to. */
#pragma once

#include "workers/schedule_definition.h"

struct firing {
    struct op_schedule_fire op; /* first: a done() finds the rest by it */
    void *owner;
    char *name;
    struct schedule_definition definition;
    struct submission *items;
    int64_t *due;
    struct buf labels; /* of all items, one after the other */
    struct buf problem;
    int64_t none_before; /* further times were missed, too long ago to be counted; 0: none were */
    struct firing *next;
};

struct firing *firing_new(struct span name);
void firing_free(struct firing *firing); /* takes NULL */

/* Reads the definition that stands on disk. ERR_INVALID with the first fault as its problem. */
MUST_USE enum err firing_read(struct firing *firing, const struct registry *registry, struct span definition);

/* Makes `count` submissions, due at those times: `jitter` later at most, at random. ERR_INVALID: none can be made,
 * and `problem` says why; ERR_UNAVAILABLE: the task's own row is not on disk yet. */
MUST_USE enum err firing_fill(struct firing *firing, const struct registry *registry, const int64_t *times,
                              int count, int64_t jitter_ms, int64_t now_ms);
