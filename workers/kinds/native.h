/* Inside the native kind: native.c, which runs bodies in the process, and native_isolated.c,
 * which has them run apart.
 *
 * Threads: as kind.h says. */
#pragma once

#include "workers/kinds/pool/pool.h"

struct native_task {
    struct pool_task in; /* first; of one that is isolated */
    char *module;        /* absolute path of the shared object */
    char *function;      /* the symbol */
    bool isolate;
    void *entry;                  /* errand_task_fn, found by load() */
    _Atomic(struct task *) apart; /* of one that is not, and was asked for; NULL: it was not */
};

extern const struct kind native_kind;
extern const struct key native_keys[];
void native_task_release(void *definition);

/* native_isolated.c: the kind of those that are isolated, who reads the key, and who makes of
 * what it says a pool. */
extern const struct kind native_isolated_kind;
void native_read_isolate(const struct keys_input *in, const cJSON *item, const char *pointer, void *target);
void native_isolate(struct task *task);

/* kind->apart(), what kind->serve() means for it, and its end. */
struct task *native_apart(const struct task *task);
void native_apart_serve(struct task *task, bool serves);
void native_apart_free(struct task *apart); /* takes NULL */

void native_add_fault(struct faults *faults, const struct task *task, const char *member, const char *what,
                      const char *detail);
