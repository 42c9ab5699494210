#include "workers/submission_after.h"

#include "base/id.h"
#include "base/json.h"
#include "base/nearest.h"
#include "store/hold.h"

#include <stdio.h>
#include <stdlib.h>

enum { POINTER_BYTES = 32 };

struct place {
    int64_t id;
    int index;
};

static int by_id(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    if (x->id != y->id)
        return x->id < y->id ? -1 : 1;
    return x->index - y->index;
}

int submission_after_twice(const int64_t *ids, int count)
{
    int twice = -1;
    struct place *places = xcalloc((size_t)count + 1, sizeof *places);
    for (int i = 0; i < count; i++)
        places[i] = (struct place){ids[i], i};
    qsort(places, (size_t)count, sizeof *places, by_id);
    for (int i = 1; i < count && twice < 0; i++)
        if (places[i].id == places[i - 1].id)
            twice = places[i].index;
    free(places);
    return twice;
}

static void fault_at(struct faults *faults, int index, const char *detail)
{
    char pointer[POINTER_BYTES];
    snprintf(pointer, sizeof pointer, "/after/%d", index);
    faults_add(faults, 0, pointer, "%s", detail);
}

static int count_elements(struct span array)
{
    struct json_iter it = json_iter(array);
    struct span item;
    int count = 0;
    while (json_element(&it, &item))
        count++;
    return count;
}

void submission_after_read(struct span value, struct submission *out, struct faults *faults)
{
    struct span item;
    int count = 0, total = 0;
    if (!value.p)
        return;
    if (json_type(value) == JSON_ARRAY)
        count = count_elements(value);
    if (json_type(value) != JSON_ARRAY)
        faults_add(faults, 0, "/after", "must be an array of ids");
    else if (!count)
        faults_add(faults, 0, "/after", "names nothing to come after; leave it out if none is meant");
    if (count > AFTER_MAX) {
        faults_add(faults, 0, "/after", "has %d ids, the limit is %d", count, AFTER_MAX);
        count = 0;
    }
    if (!count)
        return;
    int64_t *ids = xcalloc((size_t)count, sizeof *ids);
    struct json_iter it = json_iter(value);
    for (int i = 0; json_element(&it, &item); i++) {
        struct span text = {item.p + 1, item.len - 2};
        if (json_type(item) == JSON_STRING && id_parse(text, &ids[total]))
            total++;
        else
            fault_at(faults, i, "is not the id of an invocation");
    }
    int twice = submission_after_twice(ids, total);
    if (twice >= 0)
        fault_at(faults, twice, "is there twice");
    out->after = ids;
    out->after_count = total;
}

int submission_after_policy(struct span value, struct faults *faults)
{
    static const char *const words[] = {
        [AFTER_SUCCESS] = "success", [AFTER_ANY] = "any", [AFTER_FAILURE] = "failure"};
    struct span text = {NULL, 0};
    if (!value.p)
        return 0;
    if (json_type(value) == JSON_STRING)
        text = (struct span){value.p + 1, value.len - 2};
    for (int policy = AFTER_SUCCESS; text.p && policy <= AFTER_FAILURE; policy++)
        if (span_is(text, words[policy]))
            return policy;
    struct nearest near = nearest_to(text.p ? text : SPAN(""));
    for (int policy = AFTER_SUCCESS; policy <= AFTER_FAILURE; policy++)
        nearest_try(&near, words[policy]);
    faults_add(faults, 0, "/after_policy", "must be success, any or failure" NEAREST_FORMAT, NEAREST_ARGS(near));
    return 0;
}

void submission_after_fault(const struct reference *reference, const char *detail, struct faults *faults)
{
    struct buf pointer = {0};
    buf_adds(&pointer, reference->pointer);
    buf_addl(&pointer, "/$result");
    faults_add(faults, 0, buf_cstr(&pointer), "%s", detail);
    buf_release(&pointer);
}

static bool has(const struct submission *s, int64_t id)
{
    for (int i = 0; i < s->after_count; i++)
        if (s->after[i] == id)
            return true;
    return false;
}

void submission_after_refer(const struct submission *s, const struct reference *reference, struct faults *faults)
{
    int64_t id;
    if (!reference->whose.p && s->after_count != 1)
        submission_after_fault(
            reference, "`true` is the one that it comes after, and there is more than one: name it", faults);
    else if (reference->whose.p && !(id_parse(reference->whose, &id) && has(s, id)))
        submission_after_fault(reference, "is none of those that it comes after", faults);
}
