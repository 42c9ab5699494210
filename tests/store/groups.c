#include "tests/store/groups.h"

#include <stdlib.h>

struct test_group *group_of(struct fixture *f, enum group_mode mode, int count)
{
    static struct test_group *all;
    struct test_group *g = calloc(1, sizeof *g);
    g->next = all;
    all = g;
    g->group = (struct group_submission){.mode = mode, .retention_ms = 86400000, .ids = g->ids, .total = count};
    for (int i = 0; i < count; i++)
        g->items[i] = plain(f);
    return g;
}

enum err make_group(struct fixture *f, struct test_group *g, int part)
{
    int total = g->group.total;
    if (!part)
        part = total ? total : 1;
    for (int from = 0; from == 0 || from < total; from += part) {
        struct op_group op;
        int count = total - from < part ? total - from : part;
        op_group_init(&op, &g->group, g->items + from, count);
        op.from = from;
        op.first = from == 0;
        op.last = from + part >= total;
        enum err err = store_do(f->store, &op.op);
        if (err != OK)
            return err;
    }
    return OK;
}

enum err change_group(struct fixture *f, enum group_change what, int64_t id)
{
    struct op_group_change op;
    op_group_change_init(&op, what, id);
    return store_do(f->store, &op.op);
}

struct group_row group_row(struct fixture *f, int64_t id)
{
    struct group_row row = {0};
    IS_OK(reader_group(f->reader, id, &row));
    return row;
}

void follow_all(struct fixture *f)
{
    while (upkeep(f, UPKEEP_FOLLOW_UP).more || ask(f, "SELECT COUNT(*) FROM follow_ups"))
        ;
}

void check_groups(struct fixture *f)
{
    static const char *const columns[STATUS_SLOTS] = {
        [STATUS_HELD] = "held",       [STATUS_SCHEDULED] = "scheduled", [STATUS_QUEUED] = "queued",
        [STATUS_RUNNING] = "running", [STATUS_WAITING] = "waiting",     [STATUS_SUCCEEDED] = "succeeded",
        [STATUS_FAILED] = "failed",   [STATUS_CANCELLED] = "cancelled",
    };
    for (int s = 1; s < STATUS_SLOTS; s++)
        cr_assert_eq(askf(f,
                          "SELECT COUNT(*) FROM groups g WHERE state & 128 = 0 AND %s <> "
                          "(SELECT COUNT(*) FROM members m JOIN invocations i ON i.id = m.id "
                          "WHERE m.grp = g.id AND i.status = %d)",
                          columns[s], s),
                     0, "counts of %s", columns[s]);
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM groups WHERE state & 128 = 0 AND state & 16 = 0 AND total <> "
                        "(SELECT COUNT(*) FROM members m WHERE m.grp = groups.id)"),
                 0, "members");
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM groups WHERE state & 128 = 0 AND (state & 32 <> 0) <> "
                        "(held + scheduled + queued + running + waiting = 0 AND state & 19 = 0)"),
                 0, "ended, and not, or the other way round");
    cr_assert_eq(ask(f,
                     "SELECT COUNT(*) FROM invocations i WHERE grp IS NOT NULL AND status IN (5, 6, 7) AND "
                     "(SELECT COUNT(*) FROM completions c WHERE c.id = i.id AND c.failed = COALESCE(i.failed, 0)) "
                     "<> 1"),
                 0, "each end once");
    cr_assert_eq(ask(f, "SELECT COUNT(*) FROM holds h JOIN invocations i ON i.id = h.id WHERE i.status = 8 AND "
                        "(h.unmet <> (SELECT COUNT(*) FROM dependencies d WHERE d.id = h.id AND d.state = 0) "
                        "OR h.reasons = 0)"),
                 0, "what holds");
}
