/* Steps in memory: what a body has recorded by name, where no disk is asked for it.
 *
 * Threads: its owner's. All zeros at first. */
#pragma once

#include "base/buf.h"

struct listed_step {
    struct buf name, value; /* a text; JSON */
};

struct step_list {
    struct listed_step *items;
    int count;
};

/* NULL: there is none of that name. Good until the next one is added. */
const struct listed_step *step_list_find(const struct step_list *list, struct span name);

/* Both are copied; the name is not there yet. */
const struct listed_step *step_list_add(struct step_list *list, struct span name, struct span value);
void step_list_release(struct step_list *list);
