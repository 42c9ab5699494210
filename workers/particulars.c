#include "workers/particulars.h"

#include "base/digest.h"
#include "base/json.h"
#include "workers/differences.h"
#include "workers/tasks/argument.h"

static void digest_key(const struct args_key *per, struct span bound, uint8_t out[PARTICULAR_KEY_BYTES])
{
    struct buf text = {0};
    args_key_add(&text, per, bound);
    sha256(text.len ? buf_span(&text) : SPAN(""), out);
    buf_release(&text);
}

static struct unique_place place_of(const struct unique_rule *rule, struct span bound)
{
    static const enum unique_scope scopes[] = {[WHILE_NOTHING] = UNIQUE_NONE,
                                               [WHILE_QUEUED] = UNIQUE_QUEUED,
                                               [WHILE_UNFINISHED] = UNIQUE_UNFINISHED,
                                               [WHILE_TIMED] = UNIQUE_TIMED};
    static const enum unique_conflict conflicts[] = {[ON_CONFLICT_RETURN] = UNIQUE_RETURN,
                                                     [ON_CONFLICT_REJECT] = UNIQUE_REJECT,
                                                     [ON_CONFLICT_REPLACE] = UNIQUE_REPLACE};
    struct unique_place place = {.scope = scopes[rule->lasts],
                                 .for_ms = rule->for_ms,
                                 .on_conflict = conflicts[rule->on_conflict],
                                 .debounce_ms = rule->debounce_ms,
                                 .max_wait_ms = rule->max_wait_ms};
    digest_key(&rule->per, bound, place.key);
    return place;
}

/* By name, with what was left out; as they are if that is not to be had. */
static void add_bound(struct buf *out, const struct registry *registry, int number, struct span args)
{
    struct faults faults = {0};
    const struct task *task = NULL;
    for (int i = 0; i < registry_count(registry) && !task; i++)
        if (registry_at(registry, i)->id == number)
            task = registry_at(registry, i);
    bool is_bound = task && task->params && params_bind(task->params, args, "", out, &faults) == OK;
    faults_release(&faults);
    if (is_bound)
        return;
    out->len = 0;
    buf_add_span(out, args.p && args.len ? args : SPAN("null"));
}

static void add_argument(struct particulars *particulars, const char *path, struct span bound)
{
    struct buf *text = &particulars->argument_text;
    struct argument argument = {.path = text->len, .path_len = strlen(path)};
    if (particulars->argument_count == ARGUMENTS_MAX)
        return;
    buf_adds(text, path);
    argument.value = text->len;
    if (!argument_text(bound, path, text)) {
        text->len = argument.path;
        return;
    }
    argument.value_len = text->len - argument.value;
    particulars->arguments[particulars->argument_count++] = argument;
}

bool particulars_match(const struct registry *registry, const struct filter *filter, int task, struct span args)
{
    struct buf bound = {0}, text = {0}, path = {0};
    bool all = true;
    add_bound(&bound, registry, task, args);
    for (int i = 0; i < filter->arg_count && all; i++) {
        text.len = path.len = 0;
        buf_add_span(&path, filter->arg_paths[i]);
        all = i + 1 == filter->arg_indexed ||
              (argument_text(buf_span(&bound), buf_cstr(&path), &text) &&
               span_equal(text.len ? buf_span(&text) : SPAN(""), filter->arg_values[i]));
    }
    buf_release(&bound);
    buf_release(&text);
    buf_release(&path);
    return all;
}

struct particulars *particulars_of(const struct task *task, struct span bound)
{
    const struct task_options *options = &task->options;
    if (!options->unique.lasts && !options->cache.for_ms && !(options->index && *options->index))
        return NULL;
    struct particulars *particulars = particulars_new();
    if (options->unique.lasts)
        particulars->unique = place_of(&options->unique, bound);
    particulars->cached.for_ms = options->cache.for_ms;
    if (options->cache.for_ms)
        digest_key(&options->cache.per, bound, particulars->cached.key);
    for (char **path = options->index; path && *path; path++)
        add_argument(particulars, *path, bound);
    return particulars;
}

/* --- who was there first ------------------------------------------------------------- */

bool submission_met_first(const struct submission *s)
{
    return s->particulars && (s->particulars->first.returned || s->particulars->first.replaced);
}

static void add_args(struct differences *d, const struct registry *registry, const struct submission *s)
{
    struct buf own = {0}, theirs = {0};
    if (!s->particulars->first.args_are_known) {
        differences_add(d, SPAN("/args"));
        return;
    }
    add_bound(&own, registry, s->task, s->args);
    add_bound(&theirs, registry, s->task, s->particulars->first.args);
    differences_between(d, "/args", buf_span(&own), buf_span(&theirs));
    buf_release(&own);
    buf_release(&theirs);
}

static void add_options(struct differences *d, const struct submission *s)
{
    const struct unique_first *first = &s->particulars->first;
    const struct {
        const char *pointer;
        bool differs;
    } options[] = {
        {"/priority", s->priority != first->priority},
        {"/max_retries", s->max_retries != first->max_retries},
        {"/timeout", s->timeout_ms != first->timeout_ms},
        {"/retention", s->retention_ms != first->retention_ms},
        {"/run_at", s->particulars->times_given && s->run_at != first->run_at},
    };
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (options[i].differs)
            differences_add(d, span_of(options[i].pointer));
    differences_between(d, "/labels", s->labels.p ? s->labels : SPAN("{}"),
                        first->labels.p ? first->labels : SPAN("{}"));
}

void submission_add_unique(struct buf *out, const struct registry *registry, const struct submission *s)
{
    const struct unique_first *first = &s->particulars->first;
    struct differences d = {.out = out};
    buf_adds(out, first->replaced ? "{\"returned\":false,\"replaced\":true,\"differs\":["
                                  : "{\"returned\":true,\"replaced\":false,\"differs\":[");
    if (!first->replaced)
        add_args(&d, registry, s);
    add_options(&d, s);
    buf_addl(out, "]}");
}
