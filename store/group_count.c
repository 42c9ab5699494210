/* What groups are made of, by status: one delta a batch for each of them, before the
 * commit. Whatever the batch did, and however often a member changed in it, the group's
 * row says afterwards what its members are: so its end is seen once. */
#include "store/groups.h"

#include "store/callback.h"
#include "store/internal.h"

#include <stdlib.h>

struct counted {
    int64_t group;
    int change; /* which of the batch */
};

/* What the changes of one group come to. */
struct delta {
    int64_t group;
    int64_t by[STATUS_SLOTS];
    int64_t ends; /* changes to a final status */
};

struct now {
    int64_t state, unfinished, failed, ends, retention_ms, cancelled;
};

void group_touch(struct tx *tx, int64_t id)
{
    tx_change(tx, id, 0, 0, 0)->group = id;
}

static int compare(const void *a, const void *b)
{
    const struct counted *x = a, *y = b;
    if (x->group != y->group)
        return x->group < y->group ? -1 : 1;
    return x->change - y->change;
}

static struct counted *collect(const struct tx *tx, int from, int *count)
{
    struct counted *list = NULL;
    int cap = 0;
    *count = 0;
    for (int i = from; i < tx->count; i++) {
        if (!tx->changes[i].group)
            continue;
        if (*count == cap) {
            cap = cap ? cap * 2 : 64;
            list = xrealloc(list, (size_t)cap * sizeof *list);
        }
        list[(*count)++] = (struct counted){tx->changes[i].group, i};
    }
    if (*count > 1)
        qsort(list, (size_t)*count, sizeof *list, compare);
    return list;
}

static void add(struct delta *delta, const struct change *change)
{
    if (change->from == change->to)
        return;
    if (change->from)
        delta->by[change->from]--;
    if (change->to)
        delta->by[change->to]++;
    delta->ends += change->to && status_is_final(change->to);
}

/* ERR_NOT_FOUND: there is no such group, or it is being removed. */
static enum err write_delta(struct tx *tx, const struct delta *d, struct now *now)
{
    struct db_stmt *stmt = DB_QUERY(
        tx->db,
        "UPDATE groups SET held = held + $2, scheduled = scheduled + $3, queued = queued + $4, "
        "running = running + $5, waiting = waiting + $6, succeeded = succeeded + $7, failed = failed + $8, "
        "cancelled = cancelled + $9, ends = ends + $10 WHERE id = $1 AND state & " SQL_GROUP_GONE " = 0 "
        "RETURNING state, held + scheduled + queued + running + waiting, failed, ends, retention_ms, "
        "cancelled",
        v_int(d->group), v_int(d->by[STATUS_HELD]), v_int(d->by[STATUS_SCHEDULED]), v_int(d->by[STATUS_QUEUED]),
        v_int(d->by[STATUS_RUNNING]), v_int(d->by[STATUS_WAITING]), v_int(d->by[STATUS_SUCCEEDED]),
        v_int(d->by[STATUS_FAILED]), v_int(d->by[STATUS_CANCELLED]), v_int(d->ends));
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    if (err == OK)
        *now = (struct now){db_int(stmt, 0), db_int(stmt, 1), db_int(stmt, 2),
                            db_int(stmt, 3), db_int(stmt, 4), db_int(stmt, 5)};
    db_reset(stmt);
    return err;
}

static enum err note_end(struct tx *tx, int64_t group, int64_t number, int64_t id)
{
    return DB_EXECUTE(tx->db,
                      "INSERT INTO completions (grp, number, id, failed) "
                      "SELECT $1, $2, id, COALESCE(failed, 0) FROM invocations WHERE id = $3",
                      v_int(group), v_int(number), v_int(id));
}

static enum err note_ends(struct tx *tx, const struct counted *list, int count, int64_t number)
{
    enum err err = OK;
    for (int i = 0; i < count && err == OK; i++) {
        const struct change *change = &tx->changes[list[i].change];
        if (change->from != change->to && change->to && status_is_final(change->to))
            err = note_end(tx, change->group, number++, change->id);
    }
    return err;
}

/* --- what follows ------------------------------------------------------------------------ */

static enum err wake_waiters(struct tx *tx, int64_t id)
{
    struct follow_up_room room = {.rows = FOLLOW_UP_ROWS, .bytes = FOLLOW_UP_BYTES};
    bool left = false;
    enum err err = wait_wake(tx, id, &room, &left);
    if (err == OK && left)
        err = follow_up_note(tx, FOLLOW_UP_WAKE, id);
    return err;
}

/* As group_read.c has it. */
static enum status ended_as(const struct now *now)
{
    return now->failed ? STATUS_FAILED : now->cancelled ? STATUS_CANCELLED : STATUS_SUCCEEDED;
}

static enum err end(struct tx *tx, int64_t id, const struct now *now)
{
    enum err err = DB_EXECUTE(tx->db,
                              "UPDATE groups SET state = state | " SQL_GROUP_ENDED ", finished_at = $2, "
                              "prune_at = $3, release_by = NULL WHERE id = $1",
                              v_int(id), v_int(tx->now), v_int(tx->now + now->retention_ms));
    struct change *change = tx_change(tx, id, 0, 0, 0);
    change->group = id;
    change->group_final = true;
    change->prune_at = tx_prune_at(tx, tx->now + now->retention_ms);
    if (err == OK)
        err = callback_due(tx, &(struct callback_end){.owner = id, .event = (int)ended_as(now), .at = tx->now});
    return err == OK ? wake_waiters(tx, id) : err;
}

/* A member was retried. */
static enum err reopen(struct tx *tx, int64_t id)
{
    enum err err = DB_EXECUTE(tx->db,
                              "UPDATE groups SET state = state & ~$2, finished_at = NULL, prune_at = NULL "
                              "WHERE id = $1",
                              v_int(id), v_int(GROUP_HAS_ENDED | GROUP_IS_STOPPED | GROUP_HAS_FAILED));
    return err == OK ? wait_again(tx, id) : err;
}

static enum err follow(struct tx *tx, const struct delta *d, const struct now *now)
{
    bool over = !now->unfinished && !(now->state & (GROUP_IS_HELD | GROUP_IS_OPEN | GROUP_IS_MAKING));
    if (over && !(now->state & GROUP_HAS_ENDED))
        return end(tx, d->group, now);
    if (now->unfinished && now->state & GROUP_HAS_ENDED)
        return reopen(tx, d->group);
    bool fails_fast = now->state & GROUP_FAILS_FAST && !(now->state & GROUP_IS_STOPPED);
    if (fails_fast && d->by[STATUS_FAILED] > 0 && now->unfinished)
        return group_begin_stop(tx, d->group, GROUP_HAS_FAILED);
    return OK;
}

static enum err count_group(struct tx *tx, const struct counted *list, int count)
{
    struct delta delta = {.group = list->group};
    struct now now;
    for (int i = 0; i < count; i++)
        add(&delta, &tx->changes[list[i].change]);
    enum err err = write_delta(tx, &delta, &now);
    if (err == ERR_NOT_FOUND)
        return OK;
    if (err == OK && delta.ends)
        err = note_ends(tx, list, count, now.ends - delta.ends + 1);
    return err == OK ? follow(tx, &delta, &now) : err;
}

/* What follows from a count may change further rows, and they are counted then. */
enum err groups_count(struct tx *tx)
{
    enum err err = OK;
    while (tx->grouped < tx->count && err == OK) {
        int count, from = tx->grouped;
        tx->grouped = tx->count;
        struct counted *list = collect(tx, from, &count);
        for (int n, i = 0; i < count && err == OK; i += n) {
            for (n = 1; i + n < count && list[i + n].group == list[i].group;)
                n++;
            err = count_group(tx, list + i, n);
        }
        free(list);
    }
    return err;
}
