#include "workers/firing.h"

#include "base/digest.h"
#include "workers/submission.h"

#include <stdlib.h>

struct firing *firing_new(struct span name)
{
    struct firing *firing = xcalloc(1, sizeof *firing);
    op_schedule_fire_init(&firing->op);
    firing->name = span_dup(name);
    return firing;
}

void firing_free(struct firing *firing)
{
    if (!firing)
        return;
    schedule_release(&firing->definition);
    buf_release(&firing->labels);
    buf_release(&firing->problem);
    free(firing->items);
    free(firing->due);
    free(firing->name);
    free(firing);
}

/* The first of them. */
static void keep_problem(struct firing *firing, struct faults *faults)
{
    const char *pointer = faults->count ? faults->items[0].pointer : "";
    firing->problem.len = 0;
    buf_adds(&firing->problem, pointer);
    buf_adds(&firing->problem, *pointer ? ": " : "");
    buf_adds(&firing->problem, faults->count ? faults->items[0].detail : "it cannot be read");
    buf_cstr(&firing->problem);
    faults_release(faults);
}

enum err firing_read(struct firing *firing, const struct registry *registry, struct span definition)
{
    struct faults faults = {0};
    enum err err = schedule_read(registry, definition, &firing->definition, &faults);
    if (err != OK)
        keep_problem(firing, &faults);
    return err;
}

static int64_t random_up_to(int64_t ms)
{
    uint64_t bits;
    random_bytes(&bits, sizeof bits);
    return ms > 0 ? (int64_t)(bits % (uint64_t)(ms + 1)) : 0;
}

/* It expires so much later, as it starts later. */
static void delay(struct submission *s, int64_t run_at, int64_t now_ms)
{
    if (run_at <= now_ms)
        return;
    s->run_at = run_at;
    if (s->expires_at)
        s->expires_at += run_at - now_ms;
}

/* The labels' bytes move while they grow: they are pointed to when all are there. */
static void point_to_labels(struct firing *firing, int count)
{
    const char *at = firing->labels.data;
    for (int i = 0; i < count; i++) {
        firing->items[i].labels.p = at;
        at += firing->items[i].labels.len;
    }
}

enum err firing_fill(struct firing *firing, const struct registry *registry, const int64_t *times, int count,
                     int64_t jitter_ms, int64_t now_ms)
{
    struct faults faults = {0};
    struct submission one;
    if (schedule_submission(&firing->definition, registry, now_ms, &one, &faults) != OK) {
        keep_problem(firing, &faults);
        return ERR_INVALID;
    }
    if (!submission_has_task(&one))
        return ERR_UNAVAILABLE;
    firing->items = xcalloc((size_t)count + 1, sizeof *firing->items);
    firing->due = xcalloc((size_t)count + 1, sizeof *firing->due);
    for (int i = 0; i < count; i++) {
        size_t before = firing->labels.len;
        firing->items[i] = one;
        firing->due[i] = times[i];
        schedule_add_labels(&firing->definition, span_of(firing->name), times[i], &firing->labels);
        firing->items[i].labels = (struct span){NULL, firing->labels.len - before};
        delay(&firing->items[i], (times[i] < now_ms - jitter_ms ? now_ms : times[i]) + random_up_to(jitter_ms),
              now_ms);
    }
    point_to_labels(firing, count);
    firing->op.items = firing->items;
    firing->op.due = firing->due;
    firing->op.count = count;
    return OK;
}
