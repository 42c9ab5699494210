/* What the members of a group share: does it fit their tasks, and may each of them have the results
 * that it names? It is walked once; members ask what was found. */
#include "workers/compose.h"
#include "workers/group_reading.h"

#include <stdlib.h>

struct group_shared {
    struct reference references[COMPOSE_COMMON_REFERENCES_MAX]; /* their texts are its own */
    int count;
    struct faults faults; /* in them; nobody's, if no member may refer to anything */
    const struct task **fitting;
    int fitting_count;
};

/* Whoever may not have the result would have to give that argument itself. */
static const char *place_of(struct span name)
{
    struct buf pointer = {0};
    buf_adds(&pointer, "/args");
    pointer_add(&pointer, name);
    buf_cstr(&pointer);
    return buf_take(&pointer);
}

static bool note(void *of, const struct reference *reference)
{
    struct group_shared *shared = of;
    struct reference *noted = &shared->references[shared->count++];
    *noted = *reference;
    noted->text = noted->path = (struct span){NULL, 0};
    noted->name.p = span_dup(reference->name);
    noted->whose.p = span_dup(reference->whose);
    noted->pointer = place_of(reference->name);
    return shared->count < COMPOSE_COMMON_REFERENCES_MAX;
}

void group_shared_read(struct group_reading *reading, struct span common)
{
    reading->shared = xcalloc(1, sizeof *reading->shared);
    compose_find(common, "/common_args", note, reading->shared, &reading->shared->faults);
}

void group_shared_check_task(struct group_reading *reading, const struct task *task)
{
    struct group_shared *shared = reading->shared;
    for (int i = 0; shared && i < shared->fitting_count; i++)
        if (shared->fitting[i] == task)
            return;
    if (!shared)
        return;
    if (!shared->fitting)
        shared->fitting = xcalloc((size_t)registry_count(reading->context.registry), sizeof *shared->fitting);
    shared->fitting[shared->fitting_count++] = task;
    if (compose_check(task, reading->read->group.common_args, COMPOSE_ANY, true, &reading->scratch,
                      &reading->read->faults) != OK)
        return; /* that was said */
}

static const struct params *params_of(const struct group_reading *reading, int index)
{
    const struct registry *registry = reading->context.registry;
    if (reading->task)
        return reading->task->params;
    for (int i = 0; i < registry_count(registry); i++)
        if (registry_at(registry, i)->id == reading->read->items[index].task)
            return registry_at(registry, i)->params;
    return NULL;
}

void group_shared_check_references(struct group_reading *reading, int index, group_shared_each *each, void *of)
{
    struct group_shared *shared = reading->shared;
    struct faults *faults = &reading->read->faults;
    if (!shared)
        return;
    for (int i = 0; i < shared->faults.count; i++)
        faults_add(faults, 0, shared->faults.items[i].pointer, "%s", shared->faults.items[i].detail);
    faults_release(&shared->faults);
    for (int i = 0; i < shared->count; i++)
        if (!compose_covers(params_of(reading, index), reading->read->items[index].args,
                            shared->references[i].name))
            each(of, &shared->references[i]);
}

void group_shared_release(struct group_reading *reading)
{
    struct group_shared *shared = reading->shared;
    if (!shared)
        return;
    for (int i = 0; i < shared->count; i++) {
        free((char *)shared->references[i].name.p);
        free((char *)shared->references[i].whose.p);
        free((char *)shared->references[i].pointer);
    }
    faults_release(&shared->faults);
    free(shared->fitting);
    free(shared);
    reading->shared = NULL;
}
