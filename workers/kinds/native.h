/* Inside the native kind: for native.c and the tests of it.
 *
 * Threads: as kind.h says. */
#pragma once

#include "workers/kinds/kind.h"

struct native_task {
    char *module;   /* absolute path of the shared object */
    char *function; /* the symbol */
    void *entry;    /* errand_task_fn, found by load() */
};

extern const struct kind native_kind;
