#include "store/followers.h"

#include "store/callback.h"
#include "store/children.h"
#include "store/holds.h"
#include "store/schedule_rows.h"
#include "store/loop_turn.h"
#include "store/cached.h"
#include "store/deadline.h"
#include "store/history.h"
#include "store/suspensions.h"
#include "store/transition.h"
#include "store/unique.h"

static enum err record_attempt(struct tx *tx, struct transition *t)
{
    return DB_EXECUTE(tx->db,
                      "INSERT INTO attempts (id, attempt, status, started_at, finished_at, worker, error) "
                      "SELECT id, COALESCE($3, attempt), COALESCE($4, status), "
                      "CASE WHEN status <> " SQL_QUEUED " THEN started_at ELSE $7 END, "
                      "COALESCE($5, finished_at), worker, CASE WHEN $4 IS NULL THEN error ELSE $6 END "
                      "FROM invocations WHERE id = $1 AND status = $2 AND COALESCE($3, attempt) > 0 "
                      "ON CONFLICT (id, attempt) DO NOTHING",
                      v_int(t->id), v_int(t->from), v_time(t->attempt), v_time(t->ended_as), v_time(t->ended_at),
                      v_text(t->ended_error), v_time(t->started_at));
}

/* A turn that was lost with its server may never have been written as started. */
static enum err record_unwritten(struct tx *tx, struct transition *t)
{
    return t->attempt ? record_attempt(tx, t) : OK;
}

static enum err record_error(struct tx *tx, struct transition *t)
{
    if (!t->error_type.p)
        return OK;
    return DB_EXECUTE(tx->db, "INSERT INTO errors (type, id) VALUES ($1, $2) ON CONFLICT (type, id) DO NOTHING",
                      v_text(t->error_type), v_int(t->id));
}

static enum err forget_error(struct tx *tx, struct transition *t)
{
    return DB_EXECUTE(tx->db, "DELETE FROM errors WHERE id = $1", v_int(t->id));
}

static enum err forget_details(struct tx *tx, struct transition *t)
{
    return DB_EXECUTE(tx->db, "DELETE FROM details WHERE id = $1", v_int(t->id));
}

static enum err remove_satellites(struct tx *tx, struct transition *t)
{
    static const char *const texts[] = {
        "DELETE FROM payloads WHERE id = $1", "DELETE FROM labels WHERE id = $1",
        "DELETE FROM errors WHERE id = $1",   "DELETE FROM details WHERE id = $1",
        "DELETE FROM children WHERE id = $1", "DELETE FROM suspensions WHERE id = $1",
    };
    static const char *const particulars[] = {
        "DELETE FROM uniques WHERE id = $1",     "DELETE FROM cache_keys WHERE id = $1",
        "DELETE FROM cached_from WHERE id = $1", "DELETE FROM deadlines WHERE id = $1",
        "DELETE FROM arguments WHERE id = $1",
    };
    enum err err = OK;
    tx->highest_removed = t->id > tx->highest_removed ? t->id : tx->highest_removed;
    for (size_t i = 0; i < sizeof texts / sizeof *texts && err == OK; i++)
        err = DB_EXECUTE(tx->db, texts[i], v_int(t->id));
    if (err == OK && t->flags & FLAG_HOLDS)
        err = hold_forget(tx, t->id);
    if (err == OK && t->flags & FLAG_LOOP)
        err = DB_EXECUTE(tx->db, "DELETE FROM iterations WHERE id = $1", v_int(t->id));
    for (size_t i = 0; i < sizeof particulars / sizeof *particulars && err == OK && t->flags & FLAG_PARTICULAR;
         i++)
        err = DB_EXECUTE(tx->db, particulars[i], v_int(t->id));
    if (err == OK && t->flags & FLAG_HISTORY)
        err = DB_EXECUTE(tx->db, "DELETE FROM history WHERE id = $1", v_int(t->id));
    if (err == OK)
        err = follow_up_remove(tx, t->id, t->flags, t->room, &t->note.follow_up);
    if (err == OK && t->note.follow_up)
        err = follow_up_note(tx, FOLLOW_UP_REMOVE, t->id);
    if (err == OK && t->flags & FLAG_CALLBACK)
        err = callback_remove(tx, t->id);
    return err;
}

/* Whoever waited for it may have all that it waited for. The ends of a batch share the
 * room: a thousand may be cancelled at once, and a thousand wait for each. */
static enum err wake_waiters(struct tx *tx, struct transition *t)
{
    struct follow_up_room room = {.rows = FOLLOW_UP_ROWS - tx->wakes, .bytes = FOLLOW_UP_BYTES};
    bool left = false;
    if (!(t->follow & FOLLOW_WAITED))
        return OK;
    enum err err = wait_wake(tx, t->id, &room, &left);
    tx->wakes = room.rows > 0 ? FOLLOW_UP_ROWS - room.rows : FOLLOW_UP_ROWS;
    if (err == OK && left)
        err = follow_up_note(tx, FOLLOW_UP_WAKE, t->id);
    t->note.follow_up |= left;
    return err;
}

static enum err tell_dependents(struct tx *tx, struct transition *t)
{
    bool left = false;
    enum err err =
        t->follow & FOLLOW_DEPENDENT ? dependents_tell(tx, t->id, t->to == STATUS_SUCCEEDED, &left) : OK;
    t->note.follow_up |= left;
    return err;
}

static enum err tell(struct tx *tx, struct transition *t)
{
    return t->follow & FOLLOW_CALLBACK ? callback_due_invocation(tx, t->id, t->to) : OK;
}

/* A client's retry takes an end back. */
static enum err take_end_back(struct tx *tx, struct transition *t)
{
    bool left = false;
    enum err err = deadline_renew(tx, t->id, &t->note.deadline_at);
    if (err == OK)
        err = wait_again(tx, t->id);
    if (err == OK)
        err = dependents_again(tx, t->id, &left);
    t->note.follow_up |= left;
    if (err == OK)
        err = children_follow_again(tx, t->id);
    return err == OK ? children_leave(tx, t->id) : err;
}

static enum err keep_no_more(struct tx *tx, struct transition *t)
{
    return t->follow & FOLLOW_RESUMED ? suspension_keeps_no_more(tx, t->id) : OK;
}

/* The next one of its schedule has waited for this. */
static enum err go_on_schedule(struct tx *tx, struct transition *t)
{
    return t->follow & FOLLOW_SCHEDULE ? schedule_go_on(tx, t->id) : OK;
}

/* The next iteration, if the loop goes on. */
static enum err renew_loop(struct tx *tx, struct transition *t)
{
    return t->follow & FOLLOW_LOOP
               ? loop_iteration_ended(tx, &(struct iteration_end){t->id, t->to, t->at, t->result, t->error})
               : OK;
}

static enum err leave_place(struct tx *tx, struct transition *t)
{
    return t->follow & FOLLOW_UNIQUE ? unique_ended(tx, t->id) : OK;
}

static enum err keep_result(struct tx *tx, struct transition *t)
{
    return t->follow & FOLLOW_CACHED ? cached_keep(tx, t->id, &t->note.cached_until) : OK;
}

static enum err retake_place(struct tx *tx, struct transition *t)
{
    return unique_retake(tx, t->id);
}

/* A start looks for these; what has suspended needs nobody to look for it. */
static enum err note_in_place(struct tx *tx, struct transition *t)
{
    return t->note.suspended
               ? OK
               : DB_EXECUTE(tx->db, "INSERT INTO waiting_in_place (id) VALUES ($1) ON CONFLICT (id) DO NOTHING",
                            v_int(t->id));
}

static enum err forget_waits(struct tx *tx, struct transition *t)
{
    enum err err = DB_EXECUTE(tx->db, "DELETE FROM waits WHERE waiter = $1", v_int(t->id));
    return err == OK ? DB_EXECUTE(tx->db, "DELETE FROM waiting_in_place WHERE id = $1", v_int(t->id)) : err;
}

static enum err keep_history(struct tx *tx, struct transition *t)
{
    return t->reason ? history_note(tx, &(struct history_note){.id = t->id,
                                                               .at = t->ended_at ? t->ended_at : tx->now,
                                                               .status = t->to,
                                                               .until_at = t->note.due_at,
                                                               .reason = t->reason})
                     : OK;
}

/* The counters are the sum of these: written once a batch (tx.c). */
static enum err note_change(struct tx *tx, struct transition *t)
{
    struct change *change = tx_change(tx, t->id, t->task, t->from, t->to);
    if (t->note.prune_at) /* this one counts, too */
        t->note.prune_at = tx_prune_at(tx, t->note.prune_at);
    t->note.id = change->id;
    t->note.group = t->group;
    t->note.task = change->task;
    t->note.from = change->from;
    t->note.to = change->to;
    *change = t->note;
    return OK;
}

enum {
    NONE = 1 << 0, /* the row is new, or gone */
    WAITS_TO_START = 1 << STATUS_SCHEDULED | 1 << STATUS_QUEUED | 1 << STATUS_HELD,
    MAY_RUN_AGAIN = 1 << STATUS_RUNNING | 1 << STATUS_WAITING | 1 << STATUS_FAILED | 1 << STATUS_CANCELLED,
};

/* What follows a change that leaves one of `from` for one of `to`: `before`
 * sees the row as it was. */
static const struct follower {
    unsigned from, to;
    enum err (*before)(struct tx *tx, struct transition *t);
    enum err (*after)(struct tx *tx, struct transition *t);
} followers[] = {
    {MAY_RUN_AGAIN, WAITS_TO_START, record_attempt, forget_details},
    {1 << STATUS_QUEUED, 1 << STATUS_QUEUED, record_unwritten, NULL},
    {STATUS_ANY, 1 << STATUS_FAILED, NULL, record_error},
    {1 << STATUS_FAILED, WAITS_TO_START, NULL, forget_error},
    {STATUS_ANY & ~STATUS_FINALS, STATUS_FINALS, NULL, wake_waiters},
    {STATUS_ANY & ~STATUS_FINALS, STATUS_FINALS, NULL, keep_no_more},
    {STATUS_ANY & ~STATUS_FINALS, STATUS_FINALS, NULL, tell_dependents},
    {STATUS_ANY & ~STATUS_FINALS, STATUS_FINALS, NULL, tell},
    {STATUS_ANY & ~STATUS_FINALS, STATUS_FINALS, NULL, go_on_schedule},
    {STATUS_ANY & ~STATUS_FINALS, STATUS_FINALS, NULL, leave_place},
    {STATUS_ANY & ~STATUS_FINALS, 1 << STATUS_SUCCEEDED, NULL, keep_result},
    {STATUS_FINALS, WAITS_TO_START, retake_place, NULL},
    {1 << STATUS_RUNNING, 1 << STATUS_WAITING, NULL, note_in_place},
    {1 << STATUS_WAITING, STATUS_ANY, NULL, forget_waits},
    {STATUS_ANY, STATUS_FINALS, NULL, renew_loop},
    {STATUS_FINALS, WAITS_TO_START, NULL, take_end_back},
    {STATUS_ANY, NONE, NULL, remove_satellites},
    {STATUS_ANY, STATUS_ANY, NULL, keep_history},
    {STATUS_ANY, STATUS_ANY, NULL, note_change},
};
enum { FOLLOWERS = sizeof followers / sizeof *followers };

static bool concerns(const struct follower *follower, const struct transition *t)
{
    return follower->from & STATUS_BIT(t->from) && follower->to & STATUS_BIT(t->to);
}

enum err followers_before(struct tx *tx, struct transition *t)
{
    enum err err = OK;
    for (int i = 0; i < FOLLOWERS && err == OK; i++)
        if (followers[i].before && concerns(&followers[i], t))
            err = followers[i].before(tx, t);
    return err;
}

enum err followers_after(struct tx *tx, struct transition *t)
{
    enum err err = OK;
    for (int i = 0; i < FOLLOWERS && err == OK; i++)
        if (followers[i].after && concerns(&followers[i], t))
            err = followers[i].after(tx, t);
    return err;
}
