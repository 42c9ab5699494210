/* Who comes after whom in a group: names become the members' numbers, and other ids
 * stay what they are. Nothing here recurses: a group has up to a hundred thousand members. */
#include "base/id.h"
#include "base/json.h"
#include "workers/compose.h"
#include "workers/group_reading.h"
#include "workers/submission_after.h"

#include <stdio.h>
#include <stdlib.h>

#define uthash_malloc(size) xmalloc(size)
#include <uthash.h>

enum { EDGES_MAX = 1000000 /* of all members of a group together */, POINTER_BYTES = 64, CIRCLE_SHOWN = 10 };

struct group_name {
    struct span text; /* the key */
    int index;
    UT_hash_handle hh;
};

void group_graph_release(struct group_reading *reading)
{
    group_shared_release(reading);
    HASH_CLEAR(hh, reading->by_name);
    free(reading->name_pool);
    free(reading->member_pool);
    free(reading->id_pool);
    free(reading->mark);
}

static int find(const struct group_reading *reading, struct span text)
{
    struct group_name *name;
    HASH_FIND(hh, reading->by_name, text.p, text.len, name);
    return name ? name->index : -1;
}

/* --- names -------------------------------------------------------------------------- */

static void add_name(struct group_reading *reading, int index)
{
    struct span raw = reading->members[index].name;
    struct buf *names = &reading->names;
    size_t start = names->len;
    if (json_type(raw) != JSON_STRING) {
        group_reading_fault(reading, index, "/name", "must be a string");
        return;
    }
    json_unescape(raw, names);
    struct span text = {names->data + start, names->len - start};
    if (!step_name_is_good(text)) {
        group_reading_fault(reading, index, "/name", "a name has 1 to %d characters, and no NUL", STEP_NAME_MAX);
        return;
    }
    if (find(reading, text) >= 0) {
        group_reading_fault(reading, index, "/name", "is the name of member %d already", find(reading, text));
        return;
    }
    struct group_name *name = &reading->name_pool[index];
    *name = (struct group_name){.text = text, .index = index};
    HASH_ADD_KEYPTR(hh, reading->by_name, name->text.p, name->text.len, name);
    reading->read->items[index].name = text;
    reading->has_graph = true;
}

static void add_names(struct group_reading *reading)
{
    size_t bytes = 1;
    int total = reading->read->group.total;
    for (int i = 0; i < total; i++)
        bytes += reading->members[i].name.p ? reading->members[i].name.len : 0;
    buf_reserve(&reading->names, bytes); /* unescaped they are no longer: nothing moves */
    reading->name_pool = xcalloc((size_t)total + 1, sizeof *reading->name_pool);
    for (int i = 0; i < total; i++)
        if (reading->members[i].name.p)
            add_name(reading, i);
}

/* --- edges ---------------------------------------------------------------------------- */

/* How many there are, where they can be read at all. */
static int count_edges(struct group_reading *reading, int index)
{
    struct span after = reading->members[index].after, item;
    int count = 0;
    if (!after.p)
        return 0;
    if (json_type(after) != JSON_ARRAY) {
        group_reading_fault(reading, index, "/after", "must be an array of names and ids");
        return 0;
    }
    struct json_iter it = json_iter(after);
    while (json_element(&it, &item))
        count++;
    if (!count)
        group_reading_fault(reading, index, "/after",
                            "names nothing to come after; leave it out if none is meant");
    if (count > AFTER_MAX)
        group_reading_fault(reading, index, "/after", "has %d names, the limit is %d", count, (int)AFTER_MAX);
    return count;
}

static void fault_at(struct group_reading *reading, int index, int at, const char *detail)
{
    char pointer[POINTER_BYTES];
    snprintf(pointer, sizeof pointer, "/after/%d", at);
    group_reading_fault(reading, index, pointer, "%s", detail);
}

/* A member of that name, else an id. */
static void add_edge(struct group_reading *reading, int index, int at, struct span raw, int *members, int64_t *ids)
{
    struct submission *item = &reading->read->items[index];
    struct buf *text = &reading->scratch;
    int64_t id;
    text->len = 0;
    if (json_type(raw) != JSON_STRING) {
        fault_at(reading, index, at, "must be the name of a member, or an id");
        return;
    }
    json_unescape(raw, text);
    int member = find(reading, buf_span(text));
    if (member >= 0 && reading->mark[member] == index + 1)
        fault_at(reading, index, at, "is there twice");
    else if (member >= 0)
        members[item->after_member_count++] = member, reading->mark[member] = index + 1;
    else if (id_parse(buf_span(text), &id))
        ids[item->after_count++] = id;
    else
        fault_at(reading, index, at, "there is no member of that name, and it is no id");
}

static void add_edges(struct group_reading *reading, int index, int *members, int64_t *ids)
{
    struct submission *item = &reading->read->items[index];
    struct span raw;
    struct json_iter it = json_iter(reading->members[index].after);
    item->after = ids;
    item->after_members = members;
    for (int at = 0; json_element(&it, &raw); at++)
        add_edge(reading, index, at, raw, members, ids);
    reading->has_graph |= item->after_member_count > 0;
    if (submission_after_twice(ids, item->after_count) >= 0)
        group_reading_fault(reading, index, "/after", "an id is there twice");
    if (!item->after_count)
        item->after = NULL;
    if (!item->after_member_count)
        item->after_members = NULL;
}

/* --- circles --------------------------------------------------------------------------- */

struct walk {
    int member, edge;
};

int group_circle(const int *const *after, const int *counts, int count)
{
    enum { NEW, OPEN, DONE };
    struct walk *stack = xcalloc((size_t)count + 1, sizeof *stack);
    char *state = xcalloc((size_t)count + 1, 1);
    int found = -1;
    for (int i = 0; i < count && found < 0; i++) {
        int depth = 0;
        if (state[i] == NEW)
            state[i] = OPEN, stack[depth++] = (struct walk){i, 0};
        while (depth && found < 0) {
            struct walk *top = &stack[depth - 1];
            if (top->edge == counts[top->member]) {
                state[top->member] = DONE;
                depth--;
                continue;
            }
            int next = after[top->member][top->edge++];
            if (state[next] == OPEN)
                found = next;
            else if (state[next] == NEW)
                state[next] = OPEN, stack[depth++] = (struct walk){next, 0};
        }
    }
    free(stack);
    free(state);
    return found;
}

static void find_circle(struct group_reading *reading)
{
    struct group_read *read = reading->read;
    int total = read->group.total;
    const int **after = xcalloc((size_t)total + 1, sizeof *after);
    int *counts = xcalloc((size_t)total + 1, sizeof *counts);
    for (int i = 0; i < total; i++) {
        after[i] = read->items[i].after_members;
        counts[i] = read->items[i].after_member_count;
    }
    int index = group_circle(after, counts, total);
    if (index >= 0)
        group_reading_fault(reading, index, "/after", "comes after itself: there is a circle");
    free(after);
    free(counts);
}

/* --- all of it ------------------------------------------------------------------------------ */

static void settle_mode(struct group_reading *reading)
{
    struct group_submission *group = &reading->read->group;
    if (!reading->has_graph || group->mode == GROUP_GRAPH)
        return;
    if (reading->mode_given)
        faults_add(&reading->read->faults, 0, "/mode",
                   "members that have names, or come after each other, make a graph; leave the mode out");
    else if (group->open)
        faults_add(&reading->read->faults, 0, "/open", "only a parallel group can be open");
    group->mode = GROUP_GRAPH;
}

static int count_all_edges(struct group_reading *reading)
{
    int64_t edges = 0;
    for (int i = 0; i < reading->read->group.total; i++)
        edges += count_edges(reading, i);
    if (edges <= EDGES_MAX)
        return (int)edges;
    faults_add(&reading->read->faults, 0, "/invocations", "come after %lld others in all; the limit is %d",
               (long long)edges, (int)EDGES_MAX);
    return -1;
}

void group_graph_resolve(struct group_reading *reading)
{
    struct group_read *read = reading->read;
    int total = read->group.total, at = 0;
    if (!reading->members)
        return;
    add_names(reading);
    reading->mark = xcalloc((size_t)total + 1, sizeof *reading->mark);
    int edges = count_all_edges(reading);
    if (edges < 0 || read->faults.total)
        return;
    reading->member_pool = xcalloc((size_t)edges + 1, sizeof *reading->member_pool);
    reading->id_pool = xcalloc((size_t)edges + 1, sizeof *reading->id_pool);
    for (int i = 0; i < total; i++) {
        if (!reading->members[i].after.p)
            continue;
        add_edges(reading, i, reading->member_pool + at, reading->id_pool + at);
        at += read->items[i].after_member_count + read->items[i].after_count;
    }
    settle_mode(reading);
    find_circle(reading);
}

/* --- references ------------------------------------------------------------------------------- */

struct referring {
    struct group_reading *reading;
    int index;
    struct faults faults;
};

static bool check_reference(void *of, const struct reference *reference)
{
    struct referring *referring = of;
    struct group_reading *reading = referring->reading;
    const struct submission *item = &reading->read->items[referring->index];
    bool is_link = reading->read->group.mode == GROUP_CHAIN;
    int before = item->after_count + item->after_member_count + (is_link && referring->index > 0);
    if (!reference->whose.p && before != 1)
        submission_after_fault(reference,
                               before ? "`true` is the one that it comes after: name which of them"
                                      : "it comes after none whose result that could be",
                               &referring->faults);
    int member = reference->whose.p ? find(reading, reference->whose) : -1;
    if (!reference->whose.p || (member >= 0 && reading->mark && reading->mark[member] == referring->index + 1))
        return true;
    if (item->after_count)
        submission_after_refer(item, reference, &referring->faults);
    else
        submission_after_fault(reference, "is none of those that it comes after", &referring->faults);
    return true;
}

void group_graph_check_references(struct group_reading *reading, int index)
{
    const struct submission *item = &reading->read->items[index];
    struct referring referring = {.reading = reading, .index = index};
    bool refers = reading->read->group.mode == GROUP_CHAIN ||
                  (reading->members && (reading->members[index].name.p || reading->members[index].after.p));
    if (!item->composed || !refers)
        return;
    for (int i = 0; reading->mark && i < item->after_member_count; i++)
        reading->mark[item->after_members[i]] = index + 1;
    compose_find(item->args, "/args", check_reference, &referring, &referring.faults);
    group_shared_check_references(reading, index, check_reference, &referring);
    if (referring.faults.total)
        group_reading_faults(reading, index, &referring.faults);
}
