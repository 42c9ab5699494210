/* What a request asks, for handlers: parameters and the path's variable. */
#include "server/http/http.h"

#include "base/id.h"
#include "base/nearest.h"

#include <stdlib.h>

struct span request_query(const struct request *rq, const char *name)
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

void request_check_query(const struct request *rq, const char *const *known, const char *const *repeatable,
                         struct faults *faults)
{
    for (int i = 0; i < rq->query_count; i++) {
        struct span name = rq->query[i].name;
        char *pointer = span_dup(name);
        if (!is_one_of(name, known)) {
            struct nearest near = nearest_to(name);
            for (const char *const *other = known; *other; other++)
                nearest_try(&near, *other);
            faults_add(faults, 0, pointer, "unknown parameter" NEAREST_FORMAT, NEAREST_ARGS(near));
        } else if (!is_one_of(name, repeatable) && came_before(rq, i)) {
            faults_add(faults, 0, pointer, "is given more than once");
        }
        free(pointer);
    }
}

bool request_id(struct request *rq, int64_t *id)
{
    if (id_parse(rq->segment, id))
        return true;
    answer_not_found(rq, "there is no such invocation");
    return false;
}
