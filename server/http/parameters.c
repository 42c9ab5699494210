#include "server/http/parameters.h"

#include "base/json.h"
#include "base/nearest.h"
#include "server/http/answer.h"
#include "server/http/query.h"

#include <inttypes.h>
#include <stdlib.h>

struct span parameters_get(const struct request *rq, const char *name)
{
    for (int i = 0; i < rq->query_count; i++)
        if (span_is(rq->query[i].name, name))
            return rq->query[i].value;
    return (struct span){NULL, 0};
}

static bool is_one_of(struct span name, const char *const *names)
{
    for (; names && *names; names++) {
        size_t n = strlen(*names);
        bool prefix = (*names)[n - 1] == '.';
        if (prefix ? name.len > n && memcmp(name.p, *names, n) == 0 : span_is(name, *names))
            return true;
    }
    return false;
}

static bool came_before(const struct request *rq, int index)
{
    struct span name = rq->query[index].name;
    for (int i = 0; i < index; i++)
        if (rq->query[i].name.len == name.len && memcmp(rq->query[i].name.p, name.p, name.len) == 0)
            return true;
    return false;
}

/* Of labels.order the part with the dot is compared, with those that end in one. */
static void refuse_unknown(struct span name, const char *pointer, const char *const *known, struct faults *faults)
{
    const char *dot = memchr(name.p, '.', name.len);
    size_t head = dot ? (size_t)(dot + 1 - name.p) : name.len;
    struct nearest near = nearest_to((struct span){name.p, head});
    for (; *known; known++)
        if (!dot || (*known)[strlen(*known) - 1] == '.')
            nearest_try(&near, *known);
    if (dot && near.name)
        faults_add(faults, 0, pointer, "unknown parameter; did you mean `%s%.*s`?", near.name,
                   (int)(name.len - head), dot + 1);
    else
        faults_add(faults, 0, pointer, "unknown parameter" NEAREST_FORMAT, NEAREST_ARGS(near));
}

void parameters_check(const struct request *rq, const char *const *known, const char *const *repeatable,
                      struct faults *faults)
{
    for (int i = 0; i < rq->query_count; i++) {
        struct span name = rq->query[i].name;
        char *pointer = span_dup(name);
        if (!is_one_of(name, known)) {
            refuse_unknown(name, pointer, known, faults);
        } else if (!is_one_of(name, repeatable) && came_before(rq, i)) {
            faults_add(faults, 0, pointer, "is given more than once");
        }
        free(pointer);
    }
}

bool parameters_are_none(struct request *rq)
{
    static const char *const none[] = {NULL};
    struct faults faults = {0};
    parameters_check(rq, none, NULL, &faults);
    if (!faults.total)
        return true;
    answer_bad_query(rq, &faults);
    return false;
}

int parameters_word(const struct request *rq, const char *name, const char *const *words, int absent,
                    struct faults *faults)
{
    struct span value = parameters_get(rq, name);
    struct buf list = {0};
    if (!value.p)
        return absent;
    for (int i = 0; words[i]; i++)
        if (span_is(value, words[i]))
            return i;
    for (int i = 0; words[i]; i++)
        buf_addf(&list, "%s%s", !i ? "" : words[i + 1] ? ", " : " or ", words[i]);
    faults_add(faults, 0, name, "must be %s", buf_cstr(&list));
    buf_release(&list);
    return absent;
}

int64_t parameters_int(const struct request *rq, const char *name, int64_t min, int64_t max, int64_t absent,
                       struct faults *faults)
{
    struct span value = parameters_get(rq, name);
    int64_t number;
    if (!value.p)
        return absent;
    if (json_int64(value, &number) && number >= min && number <= max)
        return number;
    faults_add(faults, 0, name, "must be a whole number from %" PRId64 " to %" PRId64, min, max);
    return absent;
}

int64_t parameters_wait(const struct request *rq, struct faults *faults)
{
    struct span value = parameters_get(rq, "wait");
    int64_t ms;
    if (!value.p)
        return 0;
    if (wait_parse(value, &ms))
        return ms;
    faults_add(faults, 0, "wait", "must be seconds (30) or a duration (30s)");
    return 0;
}
