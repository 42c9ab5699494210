#include "workers/loop_body.h"

#include "base/digest.h"
#include "base/id.h"
#include "base/json.h"
#include "base/keys.h"

static const char *const nexts[] = {"input", "output", "chosen", NULL}; /* LOOP_NEXT_INPUT is the first */
static const char *const failures[] = {"stop", "continue", NULL};
static const char *const modes[] = {"loop", "turn", NULL};

const char *loop_next_name(enum loop_next next)
{
    return nexts[next - LOOP_NEXT_INPUT];
}

/* --- what it consists of --------------------------------------------------------------- */

/* What an iteration is, in the words of a submission. */
enum { PARTS = 7 };
static const char *const part_names[PARTS] = {"task",        "args",      "priority", "timeout",
                                              "max_retries", "retention", "labels"};

struct loop_body {
    struct span parts[PARTS];
    int next, on_failure;
    int64_t delay_ms, max_iterations;
    struct set_spec set;
};

static void read_set(const struct keys_json *in, const struct keys_place *at, struct span value, void *target);

enum { MAX_ITERATIONS_SHIFT = 53 };

static const struct key body_keys[] = {
    {.name = "task", .type = KEY_VALUE, .offset = offsetof(struct loop_body, parts[0])},
    {.name = "args", .type = KEY_VALUE, .offset = offsetof(struct loop_body, parts[1])},
    {.name = "priority", .type = KEY_VALUE, .offset = offsetof(struct loop_body, parts[2])},
    {.name = "timeout", .type = KEY_VALUE, .offset = offsetof(struct loop_body, parts[3])},
    {.name = "max_retries", .type = KEY_VALUE, .offset = offsetof(struct loop_body, parts[4])},
    {.name = "retention", .type = KEY_VALUE, .offset = offsetof(struct loop_body, parts[5])},
    {.name = "labels", .type = KEY_VALUE, .offset = offsetof(struct loop_body, parts[6])},
    {.name = "next",
     .type = KEY_WORD,
     .words = nexts,
     .nullable = true,
     .offset = offsetof(struct loop_body, next)},
    {.name = "on_failure",
     .type = KEY_WORD,
     .words = failures,
     .nullable = true,
     .offset = offsetof(struct loop_body, on_failure)},
    {.name = "delay", .type = KEY_DURATION, .nullable = true, .offset = offsetof(struct loop_body, delay_ms)},
    {.name = "max_iterations",
     .type = KEY_COUNT,
     .nullable = true,
     .min = 1,
     .max = INT64_C(1) << MAX_ITERATIONS_SHIFT,
     .offset = offsetof(struct loop_body, max_iterations)},
    {.name = "set", .type = KEY_OTHER, .nullable = true, .read_json = read_set},
    {0},
};

/* --- its set ------------------------------------------------------------------------------ */

struct set_body {
    struct span name;
    int slots, slot;
    bool fail_fast;
};

#define SET_VALUES                                                                                              \
    {.name = "slots",                                                                                           \
     .type = KEY_INT,                                                                                           \
     .min = 1,                                                                                                  \
     .max = SET_SLOTS_MAX,                                                                                      \
     .nullable = true,                                                                                          \
     .offset = offsetof(struct set_body, slots)},                                                               \
        {.name = "slot",                                                                                        \
         .type = KEY_WORD,                                                                                      \
         .words = modes,                                                                                        \
         .nullable = true,                                                                                      \
         .offset = offsetof(struct set_body, slot)},                                                            \
    {                                                                                                           \
        .name = "fail_fast", .type = KEY_BOOL, .nullable = true, .offset = offsetof(struct set_body, fail_fast) \
    }
static const struct key set_values[] = {SET_VALUES, {0}};
static const struct key set_keys[] = {
    SET_VALUES,
    {.name = "name",
     .type = KEY_SPAN,
     .min = 1,
     .max = SET_NAME_MAX,
     .required = true,
     .offset = offsetof(struct set_body, name)},
    {0},
};
enum { SAYS_SLOTS = 1 << 0, SAYS_SLOT = 1 << 1, SAYS_FAIL_FAST = 1 << 2 };

static void read_set(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    struct set_spec *set = &((struct loop_body *)target)->set;
    struct set_body body = {.slot = -1};
    if (json_type(value) == JSON_STRING) {
        keys_json_text(in, at, value, 1, SET_NAME_MAX, &set->name);
        return;
    }
    uint64_t given = keys_read_json(in, at, value, set_keys, &body);
    *set = (struct set_spec){.name = body.name,
                             .slots = body.slots,
                             .by_turn = body.slot == 1,
                             .says_slot = body.slot >= 0,
                             .fail_fast = body.fail_fast,
                             .says_fail_fast = given & SAYS_FAIL_FAST};
}

enum err loop_set_patch_read(struct span body, struct op_set_alter *out, struct faults *faults)
{
    struct buf arena = {0};
    struct set_body read = {.slot = -1};
    uint64_t given = keys_read_json(&(struct keys_json){faults, &arena}, NULL, body, set_values, &read);
    if (!given && !faults->total)
        faults_add(faults, 0, "", "names nothing to change: slots, slot or fail_fast");
    buf_release(&arena);
    out->patch.slots = read.slots;
    out->patch.by_turn = read.slot == 1;
    out->patch.says_slot = read.slot >= 0;
    out->patch.fail_fast = read.fail_fast;
    out->patch.says_fail_fast = given & SAYS_FAIL_FAST;
    return faults->total ? ERR_INVALID : OK;
}

/* --- the whole -------------------------------------------------------------------------------- */

/* The parts as a submission of their own. */
static void join_parts(const struct span parts[PARTS], struct buf *out)
{
    buf_addc(out, '{');
    for (int i = 0; i < PARTS; i++) {
        if (!parts[i].p)
            continue;
        buf_addf(out, "%s\"%s\":", out->data[out->len - 1] == '{' ? "" : ",", part_names[i]);
        buf_add_span(out, parts[i]);
    }
    buf_addc(out, '}');
}

static enum err read_parts(const struct submission_context *context, const struct span parts[PARTS],
                           struct buf *arena, struct submission *out, struct faults *faults)
{
    struct buf no_key = {0};
    struct submission_context alone = *context;
    alone.key = (struct span){NULL, 0};
    alone.parent = alone.parent_lease = 0;
    join_parts(parts, arena);
    enum err err = submission_read(&alone, buf_span(arena), out, &no_key, faults);
    buf_release(&no_key);
    return err;
}

static void digest(struct span body, uint8_t out[32])
{
    struct buf canonical = {0};
    json_add_canonical(&canonical, body, NULL);
    sha256(buf_span(&canonical), out);
    buf_release(&canonical);
}

/* Names may have escapes, and the arena moves: they go there last. */
static struct span kept(struct buf *arena, struct span text)
{
    size_t start = arena->len;
    buf_add_span(arena, text);
    return (struct span){arena->data + start, text.len};
}

enum err loop_body_read(const struct submission_context *context, struct span body, struct buf *arena,
                        struct op_loop_make *out, struct faults *faults)
{
    struct buf texts = {0};
    struct loop_body read = {0};
    struct submission s;
    keys_read_json(&(struct keys_json){faults, &texts}, NULL, body, body_keys, &read);
    buf_reserve(arena, body.len + SET_NAME_MAX * 4 + 256); /* it does not move any more */
    enum err err = json_type(json_trim(body)) == JSON_OBJECT ? read_parts(context, read.parts, arena, &s, faults)
                                                             : ERR_INVALID;
    if (err == OK && !faults->total)
        out->spec = (struct loop_spec){
            .task = s.task,
            .next = (enum loop_next)(LOOP_NEXT_INPUT + read.next),
            .continues = read.on_failure == 1,
            .priority = s.priority,
            .max_retries = s.max_retries,
            .retention_ms = s.retention_ms,
            .delay_ms = read.delay_ms,
            .timeout_ms = s.timeout_ms,
            .max_iterations = read.max_iterations,
            .args = s.args,
            .labels = s.labels,
            .set = read.set,
        };
    if (err == OK && read.set.name.p && !faults->total)
        out->spec.set.name = kept(arena, read.set.name);
    buf_release(&texts);
    digest(body, out->digest);
    return faults->total ? ERR_INVALID : err;
}

struct patch_body {
    struct span task, args;
    int64_t delay_ms;
};

static const struct key patch_keys[] = {
    {.name = "task", .type = KEY_VALUE, .offset = offsetof(struct patch_body, task)},
    {.name = "args", .type = KEY_VALUE, .offset = offsetof(struct patch_body, args)},
    {.name = "delay", .type = KEY_DURATION, .nullable = true, .offset = offsetof(struct patch_body, delay_ms)},
    {0},
};
enum { PATCH_TASK = 1 << 0, PATCH_ARGS = 1 << 1, PATCH_DELAY = 1 << 2 };

/* Another task alone: whether it takes the arguments that the loop has its iterations will tell. */
static int read_task(const struct submission_context *context, struct span value, struct faults *faults)
{
    struct buf name = {0};
    if (json_type(value) == JSON_STRING)
        json_unescape(value, &name);
    const struct task *task = registry_find(context->registry, buf_span(&name));
    buf_release(&name);
    if (!task)
        faults_add(faults, 0, "/task", "must be the name of a task");
    return task ? task->id : 0;
}

/* Arguments, for the task that comes with them or the one that the loop has; of one that has left the
 * configuration nobody knows what it takes. */
static void read_args(const struct submission_context *context, struct span task, const struct patch_body *read,
                      struct buf *arena, struct op_loop_alter *out, struct faults *faults)
{
    struct buf name = {0};
    struct submission s = {0};
    json_add_string(&name, task.p ? task : SPAN(""));
    buf_reserve(arena, name.len + read->task.len + read->args.len + 256);
    struct span parts[PARTS] = {read->task.p ? read->task : buf_span(&name), read->args};
    if (!read->task.p && !task.p)
        out->patch.args = kept(arena, read->args);
    else if (read_parts(context, parts, arena, &s, faults) == OK)
        out->patch.args = s.args;
    if (read->task.p)
        out->patch.task = s.task;
    buf_release(&name);
}

enum err loop_patch_read(const struct submission_context *context, struct span task, struct span body,
                         struct buf *arena, struct op_loop_alter *out, struct faults *faults)
{
    struct buf texts = {0};
    struct patch_body read = {0};
    uint64_t given = keys_read_json(&(struct keys_json){faults, &texts}, NULL, body, patch_keys, &read);
    if (!given && !faults->total)
        faults_add(faults, 0, "", "names nothing to change: task, args or delay");
    if (given & PATCH_ARGS)
        read_args(context, task, &read, arena, out, faults);
    else if (given & PATCH_TASK)
        out->patch.task = read_task(context, read.task, faults);
    out->patch.set_args = given & PATCH_ARGS;
    out->patch.set_delay = given & PATCH_DELAY;
    out->patch.delay_ms = read.delay_ms;
    buf_release(&texts);
    return faults->total ? ERR_INVALID : OK;
}
