#include "server/resources/message_scope.h"

#include "base/id.h"
#include "server/http/answer.h"
#include "server/http/parameters.h"
#include "server/http/query.h"

enum { LIMIT_DEFAULT = 50, LIMIT_MAX = 1000 };

/* `after` is a number that was heard, the cursor where a page ended: what was
 * listed or left out before either of them does not come again. */
static void read_start(const struct request *rq, struct message_scope *scope, struct faults *faults)
{
    struct span text = parameters_get(rq, "cursor");
    int64_t cursor = 0;
    scope->after = parameters_int(rq, "after", 0, INT64_MAX, 0, faults);
    if (text.len && !cursor_parse(text, &cursor))
        faults_add(faults, 0, "cursor", "must be the `next` of the page before, as it was given");
    if (cursor > scope->after)
        scope->after = cursor;
}

static void read_root(const struct request *rq, struct message_scope *scope, struct faults *faults)
{
    struct span text = parameters_get(rq, "root");
    if (text.p && !id_parse(text, &scope->root))
        faults_add(faults, 0, "root", "must be the id of an invocation");
    else if (text.p && !scope->root)
        scope->root = NOBODY;
}

/* Its iterations descend from it. */
static void read_loop(const struct request *rq, struct message_scope *scope, struct faults *faults)
{
    struct loop_ref ref = {.name = parameters_get(rq, "loop")};
    if (!ref.name.p)
        return;
    if (scope->root)
        faults_add(faults, 0, "loop", "loop and root exclude each other");
    if (!id_parse(ref.name, &ref.id))
        ref.id = 0;
    if (reader_loop_id(rq->reader, ref, &scope->root) != OK)
        scope->root = NOBODY;
}

bool message_scope_read(struct request *rq, int64_t id, struct message_scope *scope, int *limit)
{
    static const char *const of_all[] = {"after", "cursor", "limit", "kind", "root", "loop", NULL};
    static const char *const of_one[] = {"after", "cursor", "limit", "kind", NULL};
    static const char *const words[] = {"out", "in", "all", NULL};
    static const unsigned bits[] = {1u << MESSAGE_OUT, 1u << MESSAGE_IN, 1u << MESSAGE_OUT | 1u << MESSAGE_IN};
    struct faults faults = {0};
    *scope = (struct message_scope){.id = id};
    parameters_check(rq, id ? of_one : of_all, NULL, &faults);
    scope->kinds = bits[parameters_word(rq, "kind", words, 0, &faults)];
    *limit = (int)parameters_int(rq, "limit", 1, LIMIT_MAX, LIMIT_DEFAULT, &faults);
    read_start(rq, scope, &faults);
    if (!id)
        read_root(rq, scope, &faults);
    if (!id)
        read_loop(rq, scope, &faults);
    if (!faults.total)
        return true;
    answer_bad_query(rq, &faults);
    return false;
}

struct message_query message_scope_query(const struct message_scope *scope, struct kin *kin)
{
    kin->root = scope->root;
    return (struct message_query){
        .id = scope->id, .among = scope->root ? kin : NULL, .kinds = scope->kinds, .after_seq = scope->after};
}
