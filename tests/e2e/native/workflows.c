/* Native tasks for ../../crash/workflows.py: a workflow of steps of every kind, and a leaf, which is a
 * child of one. What a body does it notes in a file, a line each; the other side of
 * this is ../../crash/workflow_worker.py, which does the same elsewhere. */
#include "errand_task.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

errand_task_fn flow, leaf;

enum { LIST_MAX = 200, UNTIL_VALUE = 7 };

struct list {
    int64_t items[LIST_MAX];
    int count;
};

enum by { BY_NOTHING, BY_IDS, BY_INBOX, BY_UNTIL };

struct flow {
    struct errand_call *call;
    const char *plan;
    int64_t number, microseconds, chance;
    int64_t run;                     /* of this turn */
    struct list values, chain, seen; /* of the steps; of all suspensions so far; messages */
    enum by by;                      /* what woke it; of the first step alone */
    int64_t answer;                  /* of the child that did */
};

static int64_t now(clockid_t clock)
{
    struct timespec at;
    clock_gettime(clock, &at);
    return (int64_t)at.tv_sec * 1000000000 + at.tv_nsec;
}

/* No two are alike. */
static int64_t stamp(void)
{
    return now(CLOCK_REALTIME);
}

static bool dice(int64_t in_hundred)
{
    return now(CLOCK_MONOTONIC) / 128 % 100 < in_hundred;
}

/* A line that is there whole even if the process is killed the moment after. */
static void note(const struct flow *flow, const char *what, const char *format, ...)
{
    char line[4000];
    int n = snprintf(line, sizeof line, "%s %s %" PRId64 " ", what, errand_id(flow->call), flow->run);
    va_list args;
    va_start(args, format);
    n += vsnprintf(line + n, sizeof line - (size_t)n - 1, format, args);
    va_end(args);
    line[n++] = '\n';
    int fd = open("ledger", O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd < 0 || write(fd, line, (size_t)n) != n)
        abort();
    close(fd);
}

/* False: the body is to return. */
static bool refused(struct flow *flow, const char *what)
{
    if (!errand_cancelled(flow->call)) {
        note(flow, "fault", "%s: %s", what, errand_why(flow->call));
        errand_fail_for_good(flow->call, what, errand_why(flow->call));
    }
    return false;
}

/* --- lists, as JSON --------------------------------------------------------------- */

static void list_add(struct list *list, int64_t item)
{
    if (list->count == LIST_MAX)
        abort();
    list->items[list->count++] = item;
}

static char *list_put(char *end, const char *name, const struct list *list)
{
    end += sprintf(end, "\"%s\":[", name);
    for (int i = 0; i < list->count; i++)
        end += sprintf(end, "%s%" PRId64, i ? "," : "", list->items[i]);
    return end + sprintf(end, "]");
}

/* "name":[1,2] of a text that was written by list_put(). */
static void list_read(struct list *list, const char *json, const char *name)
{
    char label[40];
    sprintf(label, "\"%s\":[", name);
    const char *at = strstr(json, label);
    if (!at)
        return;
    at += strlen(label);
    while (*at && *at != ']') {
        char *end;
        list_add(list, strtoll(at, &end, 10));
        at = *end == ',' ? end + 1 : end;
    }
}

static size_t lists_put(char *text, const struct flow *flow)
{
    char *end = list_put(text, "values", &flow->values);
    *end++ = ',';
    end = list_put(end, "chain", &flow->chain);
    *end++ = ',';
    return (size_t)(list_put(end, "seen", &flow->seen) - text);
}

/* --- what it starts with ------------------------------------------------------------ */

static bool has_seen(const struct flow *flow, int64_t message)
{
    for (int i = 0; i < flow->seen.count; i++)
        if (flow->seen.items[i] == message)
            return true;
    return false;
}

static void take_message(struct flow *flow, const char *body)
{
    int64_t message = strtoll(body, NULL, 10);
    if (has_seen(flow, message))
        note(flow, "fault", "%" PRId64 " was given to two turns that ended well", message);
    list_add(&flow->seen, message);
}

static void take_woken(struct flow *flow, const char *woken)
{
    const char *result = strstr(woken, "\"result\":"), *messages = strstr(woken, "\"messages\":[");
    flow->by = strstr(woken, "\"by\":\"ids\"") ? BY_IDS : strstr(woken, "\"by\":\"inbox\"") ? BY_INBOX : BY_UNTIL;
    flow->answer = result ? strtoll(result + strlen("\"result\":"), NULL, 10) : 0;
    while (messages && (messages = strstr(messages, "\"body\":"))) {
        messages += strlen("\"body\":");
        take_message(flow, messages);
    }
}

static void begin(struct flow *flow, struct errand_call *call)
{
    char chain[LIST_MAX * 22];
    const char *state = errand_state(call, NULL), *woken = errand_woken(call, NULL);
    *flow = (struct flow){.call = call, .run = stamp()};
    errand_arg_text(call, "plan", &flow->plan, NULL);
    errand_arg_int64(call, "number", &flow->number);
    errand_arg_int64(call, "us", &flow->microseconds);
    errand_arg_int64(call, "chance", &flow->chance);
    if (state) {
        list_read(&flow->values, state, "values");
        list_read(&flow->chain, state, "chain");
        list_read(&flow->seen, state, "seen");
    }
    *list_put(chain, "chain", &flow->chain) = '\0';
    note(flow, "start", "%" PRId64 " %" PRId64 " %s", now(CLOCK_MONOTONIC), now(CLOCK_MONOTONIC), chain);
    if (!state != !woken)
        note(flow, "fault", "it has a state and was not woken, or otherwise");
    if (woken)
        take_woken(flow, woken);
}

/* --- suspending --------------------------------------------------------------------- */

/* Nothing that it says from here on counts. */
static void say_more(struct flow *flow)
{
    if (errand_step(flow->call, "late", "1", 1, NULL, NULL) != ERRAND_REFUSED)
        note(flow, "fault", "it recorded a step after it had suspended");
    if (dice(50))
        errand_result(flow->call, "\"late\"", 6);
    else
        errand_fail_for_good(flow->call, "late", "after it had suspended");
}

static int ask(struct flow *flow, const char *on, int64_t mark)
{
    char *text = malloc(8 * LIST_MAX * 22), *end = text;
    struct flow next = *flow;
    list_add(&next.chain, mark);
    end += sprintf(end, "{\"on\":{%s},\"state\":{", on);
    end += lists_put(end, &next);
    end += sprintf(end, "}}");
    int code = errand_suspend(flow->call, text, (size_t)(end - text));
    free(text);
    return code;
}

/* Itself is what it can never wait for. */
static void ask_in_vain(struct flow *flow)
{
    char on[64];
    int64_t mark = stamp();
    snprintf(on, sizeof on, "\"ids\":[\"%s\"]", errand_id(flow->call));
    if (ask(flow, on, mark) != ERRAND_REFUSED)
        note(flow, "fault", "it waits for itself");
    else if (!errand_cancelled(flow->call))
        note(flow, "refused", "%" PRId64, mark);
}

/* False always: the body is to return. */
static bool suspend(struct flow *flow, const char *on)
{
    if (dice(10))
        ask_in_vain(flow);
    int64_t mark = stamp();
    int code = ask(flow, on, mark);
    if (code != 0)
        return refused(flow, "suspend");
    note(flow, "suspended", "%" PRId64 " %" PRId64, mark, now(CLOCK_MONOTONIC));
    if (dice(20))
        say_more(flow);
    return false;
}

/* --- steps -------------------------------------------------------------------------- */

/* The work is a line. */
static bool do_value(struct flow *flow, int k, int64_t *out)
{
    char name[8], value[32];
    const char *kept;
    sprintf(name, "%d", k);
    int code = errand_step_get(flow->call, name, &kept, NULL);
    if (code == ERRAND_NONE) {
        int n = sprintf(value, "%" PRId64, stamp());
        note(flow, "work", "%d %s", k, value);
        usleep((useconds_t)flow->microseconds);
        code = errand_step(flow->call, name, value, (size_t)n, &kept, NULL);
        if (code == 0)
            note(flow, "done", "%d %s %" PRId64, k, kept, now(CLOCK_MONOTONIC));
    }
    if (code != 0)
        return refused(flow, "step");
    *out = strtoll(kept, NULL, 10);
    return true;
}

static bool submit(struct flow *flow, int k, const char *task, char id[ERRAND_ID_BYTES])
{
    char text[100];
    int n =
        sprintf(text, "{\"task\":\"%s\",\"args\":%" PRId64 ",\"step\":\"%d\"}", task, flow->number * 10 + k, k);
    return errand_submit(flow->call, text, (size_t)n, id) == 0 || refused(flow, "submit");
}

static bool do_child(struct flow *flow, int k, int64_t *out)
{
    char id[ERRAND_ID_BYTES];
    const char *const ids[] = {id};
    const char *status, *value;
    if (!submit(flow, k, "leaf", id))
        return false;
    if (errand_wait(flow->call, ids, 1, 0, -1) != 0)
        return refused(flow, "wait");
    if (errand_look(flow->call, id, &status, &value, NULL) != 0)
        return refused(flow, "look");
    if (strcmp(status, "succeeded") != 0)
        note(flow, "fault", "its child %s is %s", id, status);
    *out = strtoll(value, NULL, 10);
    return true;
}

/* `timed`: it may be woken too early, and suspends again. */
static bool do_join(struct flow *flow, int k, const char *task, bool timed, int64_t *out)
{
    char id[ERRAND_ID_BYTES], on[100];
    if (flow->by == BY_IDS) {
        *out = flow->answer;
        return true;
    }
    if (flow->by && !(timed && flow->by == BY_UNTIL))
        note(flow, "fault", "step %d was woken by %d", k, (int)flow->by);
    if (!submit(flow, k, task, id))
        return false;
    sprintf(on, timed && !flow->by ? "\"ids\":[\"%s\"],\"until\":\"3ms\"" : "\"ids\":[\"%s\"]", id);
    return suspend(flow, on);
}

static bool do_until(struct flow *flow, int k, int64_t *out)
{
    *out = UNTIL_VALUE;
    if (flow->by && flow->by != BY_UNTIL)
        note(flow, "fault", "step %d was woken by %d", k, (int)flow->by);
    return flow->by || suspend(flow, k % 2 ? "\"until\":\"1ms\"" : "\"until\":\"20ms\"");
}

/* A message for it bears its number, as the last digit. */
static bool do_messages(struct flow *flow, int k, int wanted, int64_t *out)
{
    int found = 0;
    *out = 0;
    for (int i = 0; i < flow->seen.count; i++)
        if (flow->seen.items[i] % 10 == k) {
            *out += flow->seen.items[i];
            found++;
        }
    if (flow->by && flow->by != BY_INBOX)
        note(flow, "fault", "step %d was woken by %d", k, (int)flow->by);
    return found >= wanted || suspend(flow, "\"inbox\":true");
}

static bool do_step(struct flow *flow, int k, int64_t *out)
{
    switch (flow->plan[k]) {
    case 'v': return do_value(flow, k, out);
    case 'c': return do_child(flow, k, out);
    case 'j': return do_join(flow, k, "leaf", false, out);
    case 'J': return do_join(flow, k, "chip", false, out);
    case 'a': return do_join(flow, k, "leaf", true, out);
    case 'A': return do_join(flow, k, "chip", true, out);
    case 'u': return do_until(flow, k, out);
    case 'm': return do_messages(flow, k, 1, out);
    default: return do_messages(flow, k, 2, out);
    }
}

/* A step for each letter of `plan`. With a `chance` in a hundred it fails after one. */
void flow(struct errand_call *call)
{
    struct flow it;
    char result[LIST_MAX * 70];
    begin(&it, call);
    for (int k = it.values.count; it.plan[k]; k = it.values.count) {
        int64_t value;
        if (!do_step(&it, k, &value))
            return;
        it.by = BY_NOTHING;
        list_add(&it.values, value);
        if (dice(it.chance)) {
            errand_fail(call, "chance", "as it happens");
            return;
        }
    }
    char *end = result + sprintf(result, "{\"end\":%" PRId64 ",", stamp());
    end += lists_put(end, &it);
    *end++ = '}';
    errand_result(call, result, (size_t)(end - result));
}

void leaf(struct errand_call *call)
{
    char text[32];
    int64_t number = strtoll(errand_args(call, NULL), NULL, 10);
    usleep((useconds_t)(number % 7 * 700));
    int n = sprintf(text, "%" PRId64, number * 2 + 1);
    errand_result(call, text, (size_t)n);
}
