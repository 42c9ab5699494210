#include "store/transition.h"

#include "store/deadline.h"
#include "store/followers.h"

#include "store/history.h"
#include "store/internal.h"
#include "store/suspensions.h"
#include "store/unique.h"

enum err insert_payload(struct tx *tx, int64_t id, int kind, struct span data)
{
    return DB_EXECUTE(tx->db,
                      "INSERT INTO payloads (id, kind, data) VALUES ($1, $2, $3) "
                      "ON CONFLICT (id, kind) DO UPDATE SET data = excluded.data",
                      v_int(id), v_int(kind), v_text(data));
}

enum err transition_flag(struct tx *tx, int64_t id, int flag)
{
    return DB_EXECUTE(tx->db, "UPDATE invocations SET flags = flags | $2 WHERE id = $1 AND flags & $2 = 0",
                      v_int(id), v_int(flag));
}

/* --- what it takes to start one ---------------------------------------------------- */

enum { SUSPECT_AFTER_DEATHS = 2 };

void ready_read(struct db_stmt *stmt, struct ready *out)
{
    int64_t flags = db_int(stmt, 9);
    struct span args = db_span(stmt, 10);
    *out = (struct ready){
        .id = db_int(stmt, 0),
        .task = (int)db_int(stmt, 1),
        .priority = (int)db_int(stmt, 2),
        .attempt = (int)db_int(stmt, 3),
        .failures = (int)db_int(stmt, 4),
        .max_retries = (int)db_int(stmt, 5),
        .timeout_ms = db_int(stmt, 6),
        .retention_ms = db_int(stmt, 7),
        .expires_at = db_int(stmt, 8),
        .run_at = db_int(stmt, 11),
        .lease = db_int(stmt, 12),
        .rank = db_int(stmt, 13),
        .flags = (unsigned)flags,
        .has_deadline = flags & FLAG_PARTICULAR,
        .suspect = db_int(stmt, 14) >= SUSPECT_AFTER_DEATHS,
        .group = db_int(stmt, 15),
        .resumes = flags & FLAG_SUSPENDED,
        .args = flags & (FLAG_ARGS_OUTSIDE | FLAG_COMPOSED) ? (struct span){NULL, 0}
                : args.p                                    ? args
                                                            : SPAN(""),
    };
}

enum err transition_changed(struct tx *tx, struct db_stmt *stmt, struct ready *out)
{
    if (!stmt)
        return ERR_DB;
    bool row;
    enum err err = db_step(stmt, &row);
    if (err == OK && row) {
        ready_read(stmt, out);
        out->args = tx_copy(tx, out->args);
    } else if (err == OK) {
        err = ERR_CONFLICT;
    }
    db_reset(stmt);
    return err;
}

/* --- start ------------------------------------------------------------------------- */

/* What stands in the row of a turn. */
struct row {
    enum status status;
    int64_t lease;
    unsigned follow;
    int recoveries;
};

static enum err read_row(struct tx *tx, int64_t id, struct row *out)
{
    struct db_stmt *stmt =
        DB_QUERY(tx->db, "SELECT status, lease, follow, recoveries FROM invocations WHERE id = $1", v_int(id));
    if (!stmt)
        return ERR_DB;
    bool row;
    enum err err = db_step(stmt, &row);
    if (err == OK && row)
        *out = (struct row){(enum status)db_int(stmt, 0), db_int(stmt, 1), (unsigned)db_int(stmt, 2),
                            (int)db_int(stmt, 3)};
    else if (err == OK)
        err = ERR_CONFLICT;
    db_reset(stmt);
    return err;
}

/* The row is queued, but otherwise than the claim believed: whoever hears of
 * changes gets it as it is. */
static enum err report_ready(struct tx *tx, int64_t id)
{
    struct ready ready;
    enum err err = transition_changed(
        tx, DB_QUERY(tx->db, "SELECT " READY_COLUMNS " FROM invocations WHERE id = $1", v_int(id)), &ready);
    if (err == OK)
        tx_change(tx, id, ready.task, STATUS_QUEUED, STATUS_QUEUED)->ready = ready;
    return err;
}

/* The claim changed nothing: it was written before, or the row is not as believed. */
static enum err start_refused(struct tx *tx, const struct op_claim *claim)
{
    const struct turn *turn = &claim->turn.turn;
    struct row row;
    enum err err = read_row(tx, turn->id, &row);
    if (err != OK)
        return err;
    if (row.lease == turn->lease)
        return OK;
    if (row.status == STATUS_QUEUED)
        err = report_ready(tx, turn->id);
    return err == OK ? ERR_CONFLICT : err;
}

/* A lease that lives as long as this server touches no index but those of the status. */
static enum err start_row(struct tx *tx, const struct op_claim *claim)
{
    const struct turn *turn = &claim->turn.turn;
#define START                                                                                       \
    "UPDATE invocations SET status = " SQL_RUNNING ", attempt = $3, started_at = $4, worker = $5, " \
    "lease = $2, holder = $6"
#define STARTS_FROM                                                                      \
    " WHERE id = $1 AND status = " SQL_QUEUED " AND attempt = $3 - 1 AND failures = $7 " \
    "AND flags & " SQL_FLAG_VERSION " = $8"
    return claim->lease_until
               ? DB_EXECUTE(tx->db,
                            START
                            ", lease_until = $9, lease_ms = $10, follow = follow | " SQL_FOLLOW_LEASE STARTS_FROM,
                            v_int(turn->id), v_int(turn->lease), v_int(turn->attempt), v_int(claim->started_at),
                            v_text(claim->worker), v_int(tx->store->options.node), v_int(claim->failures),
                            v_int(claim->flags & FLAG_VERSION), v_int(claim->lease_until), v_int(claim->lease_ms))
               : DB_EXECUTE(tx->db, START STARTS_FROM, v_int(turn->id), v_int(turn->lease), v_int(turn->attempt),
                            v_int(claim->started_at), v_text(claim->worker), v_int(tx->store->options.node),
                            v_int(claim->failures), v_int(claim->flags & FLAG_VERSION));
}

enum err transition_start(struct tx *tx, const struct op_claim *claim)
{
    const struct turn *turn = &claim->turn.turn;
    enum err err = start_row(tx, claim);
    if (err != OK)
        return err;
    if (db_changes(tx->db) == 0)
        return start_refused(tx, claim);
    if (claim->resumes && claim->lease_until)
        err = suspension_given(tx, turn->id);
    if (err == OK && claim->flags & FLAG_PARTICULAR)
        err = unique_started(tx, turn->id);
    if (err != OK)
        return err;
    struct transition t = {
        .id = turn->id, .task = turn->task, .group = turn->group, .from = STATUS_QUEUED, .to = STATUS_RUNNING};
    return followers_after(tx, &t);
}

/* --- end ----------------------------------------------------------------------------- */

static bool result_is_outside(const struct op_finish *finish)
{
    return finish->status == STATUS_SUCCEEDED && finish->result.len > INLINE_MAX;
}

/* A member goes with its group. */
#define PRUNE_AT(finished_at) "CASE WHEN grp IS NULL THEN " finished_at " + retention_ms END"

/* What of the end stands in the row. */
static struct db_value row_result(const struct op_finish *finish)
{
    bool inside = finish->status == STATUS_SUCCEEDED && !result_is_outside(finish);
    return inside ? v_text(finish->result) : (struct db_value){DB_NULL, {0}};
}

static struct db_value row_error(const struct op_finish *finish)
{
    return finish->status == STATUS_FAILED ? v_text(finish->error) : (struct db_value){DB_NULL, {0}};
}

static enum err ended(struct tx *tx, const struct op_finish *finish, enum status from, unsigned follow)
{
    const struct turn *turn = &finish->turn.turn;
    struct transition t = {
        .id = turn->id,
        .task = turn->task,
        .group = turn->group,
        .from = from,
        .to = finish->status,
        .follow = follow,
    };
    if (!turn->group)
        t.note.prune_at = finish->finished_at + finish->retention_ms;
    t.at = finish->finished_at;
    t.result = finish->result;
    t.error = finish->error;
    if (finish->status == STATUS_FAILED)
        t.error_type = finish->error_type;
    return followers_after(tx, &t);
}

bool transition_end_is_simple(const struct op_finish *finish)
{
    return finish->next == FINISH_FINAL && finish->status != STATUS_FAILED && !result_is_outside(finish) &&
           !finish->log_count && !finish->drop_stdout && !finish->inbox_read;
}

enum err transition_start_and_end(struct tx *tx, const struct op_claim *claim, const struct op_finish *finish)
{
    const struct turn *turn = &claim->turn.turn;
    enum err err = DB_EXECUTE(
        tx->db,
        "UPDATE invocations SET status = $3, attempt = $4, started_at = $5, worker = $6, lease = $2, holder = $7, "
        "finished_at = $8, prune_at = " PRUNE_AT("$8") ", result = $9, error = NULL "
                                                       "WHERE id = $1 AND status = " SQL_QUEUED
                                                       " AND attempt = $4 - 1 AND failures = $10 AND follow = 0",
        v_int(turn->id), v_int(turn->lease), v_int(finish->status), v_int(turn->attempt), v_int(claim->started_at),
        v_text(claim->worker), v_int(tx->store->options.node), v_int(finish->finished_at), row_result(finish),
        v_int(claim->failures));
    if (err == OK && db_changes(tx->db) == 0)
        return ERR_CONFLICT;
    return err == OK ? ended(tx, finish, STATUS_QUEUED, 0) : err;
}

static enum err end_finally(struct tx *tx, const struct op_finish *finish, enum status from,
                            unsigned follow_believed)
{
    const struct turn *turn = &finish->turn.turn;
    bool outside = result_is_outside(finish);
#define END                                                                       \
    "UPDATE invocations SET status = $3, finished_at = $4, prune_at = " PRUNE_AT( \
        "$4") ", "                                                                \
              "result = $5, error = $6, flags = flags | $7"
#define ENDS_FROM " WHERE id = $1 AND status = $9 AND lease = $2 AND follow = $8"
    enum err err = DB_EXECUTE(
        tx->db,
        follow_believed || from == STATUS_WAITING ? END
            ", lease_until = NULL, waits_left = NULL, rank = NULL, follow = follow & " SQL_FOLLOW_STAYS ENDS_FROM
                                                  : END ENDS_FROM,
        v_int(turn->id), v_int(turn->lease), v_int(finish->status), v_int(finish->finished_at), row_result(finish),
        row_error(finish), v_int(outside ? FLAG_RESULT_OUTSIDE : 0), v_int(follow_believed), v_int(from));
    if (err == OK && db_changes(tx->db) == 0)
        return ERR_CONFLICT;
    if (err == OK && outside)
        err = insert_payload(tx, turn->id, PAYLOAD_RESULT, finish->result);
    return err == OK ? ended(tx, finish, from, follow_believed) : err;
}

/* What only a turn had, and what it left to look at. */
#define CLEARED                                                                                    \
    "worker = NULL, lease_until = NULL, waits_left = NULL, follow = follow & ~(" SQL_FOLLOW_CANCEL \
    " | " SQL_FOLLOW_LEASE " | " SQL_FOLLOW_DEADLINE ")"                                           \
    ", flags = flags & ~" SQL_FLAG_DETAILS ", progress = NULL, "                                   \
    "progress_note = NULL "

/* It is to run again. If it has started it cannot expire any more: expires_in
 * says by when it must start. What never began was no attempt. */
static enum err end_for_now(struct tx *tx, const struct op_finish *finish, enum status from,
                            unsigned follow_believed)
{
    const struct turn *turn = &finish->turn.turn;
    bool retry = finish->next == FINISH_RETRY, unstarted = finish->next == FINISH_UNSTARTED;
    bool lost = finish->next == FINISH_LOST;
    struct transition t = {
        .id = turn->id,
        .task = turn->task,
        .group = turn->group,
        .from = from,
        .to = retry && finish->run_at > tx->now ? STATUS_SCHEDULED : STATUS_QUEUED,
        .ended_as = retry || lost ? STATUS_FAILED : STATUS_CANCELLED,
        .ended_at = finish->finished_at,
        .ended_error = finish->error,
        .reason = retry       ? "retry"
                  : lost      ? "lost"
                  : unstarted ? NULL
                              : "interrupted",
    };
#define GOES_BACK                                                                                       \
    "UPDATE invocations SET status = $3, failures = failures + $4, failed = COALESCE(failed, 0) + $4, " \
    "run_at = $5, error = $6, recoveries = recoveries + $9, "
#define WAS_NO_ATTEMPT "attempt = attempt - 1, started_at = NULL, "
#define GOES_BACK_FROM "WHERE id = $1 AND status = $8 AND lease = $2 AND follow = $7 RETURNING "
    enum err err = unstarted ? OK : followers_before(tx, &t);
    if (err == OK && !unstarted)
        err = history_begin(tx, turn->id, from);
    if (err == OK)
        err = transition_changed(
            tx,
            DB_QUERY(tx->db,
                     unstarted ? GOES_BACK WAS_NO_ATTEMPT CLEARED GOES_BACK_FROM READY_COLUMNS
                               : GOES_BACK "expires_at = NULL, " CLEARED GOES_BACK_FROM READY_COLUMNS,
                     v_int(turn->id), v_int(turn->lease), v_int(t.to), v_int(retry), v_time(finish->run_at),
                     v_text(finish->error), v_int(follow_believed), v_int(from), v_int(lost && finish->pays)),
            &t.note.ready);
    t.note.expires_at = t.note.ready.expires_at;
    t.note.due_at = t.to == STATUS_SCHEDULED ? finish->run_at : 0;
    return err == OK ? followers_after(tx, &t) : err;
}

static enum err has_result(struct tx *tx, const struct op_finish *finish, struct span result, bool outside,
                           bool *has)
{
    int64_t found = 0;
    enum err err = OK;
    if (outside)
        err = DB_NUMBER(tx->db, &found, 0, "SELECT 1 FROM payloads WHERE id = $1 AND kind = $2 AND data = $3",
                        v_int(finish->turn.turn.id), v_int(PAYLOAD_RESULT), v_text(finish->result));
    *has = outside ? found : span_equal(result, finish->result);
    return err;
}

/* The turn has ended under this very lease: was this its end, written before, or
 * did another word come first? ERR_CONFLICT. */
static enum err ended_so(struct tx *tx, const struct op_finish *finish, enum status status)
{
    bool succeeds = finish->next == FINISH_FINAL && finish->status == STATUS_SUCCEEDED;
    bool fails = finish->next == FINISH_RETRY || finish->next == FINISH_LOST ||
                 (finish->next == FINISH_FINAL && finish->status == STATUS_FAILED);
    if (succeeds != (status == STATUS_SUCCEEDED))
        return ERR_CONFLICT;
    if (!succeeds && (!fails || status == STATUS_CANCELLED))
        return OK;
    struct db_stmt *stmt = DB_QUERY(tx->db, "SELECT result, error, flags FROM invocations WHERE id = $1",
                                    v_int(finish->turn.turn.id));
    if (!stmt)
        return ERR_DB;
    bool same = false;
    enum err err = db_step_found(stmt);
    if (err == OK && succeeds)
        err = has_result(tx, finish, db_span(stmt, 0), db_int(stmt, 2) & FLAG_RESULT_OUTSIDE, &same);
    else if (err == OK)
        same = span_equal(db_span(stmt, 1), finish->error);
    db_reset(stmt);
    return err == OK && !same ? ERR_CONFLICT : err;
}

/* What was asked of it meanwhile, a cancellation or a wait, holds for who has it now. */
static enum err hand_over(struct tx *tx, const struct op_finish *finish)
{
    const struct turn *turn = &finish->turn.turn;
    enum err err =
        DB_EXECUTE(tx->db,
                   "UPDATE invocations SET lease_until = $3, lease_ms = $4, "
                   "follow = follow | " SQL_FOLLOW_LEASE " "
                   "WHERE id = $1 AND lease = $2 AND status " SQL_IN_TURN,
                   v_int(turn->id), v_int(turn->lease), v_int(finish->lease_until), v_int(finish->lease_ms));
    return err == OK && db_changes(tx->db) == 0 ? ERR_CONFLICT : err;
}

/* A simple end has no savepoint: an iteration's, which makes the next one, has its own. */
static enum err end_as(struct tx *tx, const struct op_finish *as, const struct row *row, bool together)
{
    if (together && db_savepoint(tx->db) != OK)
        return ERR_UNAVAILABLE;
    enum err err = as->next == FINISH_FINAL ? end_finally(tx, as, row->status, row->follow)
                                            : end_for_now(tx, as, row->status, row->follow);
    if (!together || !db_in_transaction(tx->db))
        return err;
    if (err == OK)
        db_savepoint_release(tx->db);
    else
        db_savepoint_rollback(tx->db);
    return err;
}

/* What was asked of the turn while it ran decides how it ends, unless it succeeds. */
static void heed(struct op_finish *as, unsigned follow)
{
    bool final = as->next == FINISH_FINAL;
    if (follow & FOLLOW_DEADLINE && !(final && as->status == STATUS_SUCCEEDED)) {
        as->next = FINISH_FINAL;
        as->status = STATUS_FAILED;
        as->error = SPAN(DEADLINE_ERROR);
        as->error_type = SPAN("deadline");
    } else if (follow & FOLLOW_CANCEL && (!final || as->status == STATUS_FAILED)) {
        as->next = FINISH_FINAL;
        as->status = STATUS_CANCELLED;
    }
}

/* Nobody has cancelled what was stopped at its deadline. */
static enum err forget_stop(struct tx *tx, int64_t id, unsigned follow)
{
    return follow & FOLLOW_DEADLINE
               ? DB_EXECUTE(tx->db, "UPDATE invocations SET cancel_requested_at = NULL WHERE id = $1", v_int(id))
               : OK;
}

enum err transition_end(struct tx *tx, const struct op_finish *finish)
{
    if (finish->next == FINISH_HAND_OVER)
        return hand_over(tx, finish);
    bool final = finish->next == FINISH_FINAL;
    enum err err = final ? end_finally(tx, finish, STATUS_RUNNING, 0) : ERR_CONFLICT;
    if (err != ERR_CONFLICT)
        return err;
    struct row row;
    int64_t turn_id = finish->turn.turn.id;
    err = read_row(tx, turn_id, &row);
    if (err != OK)
        return err;
    if (row.lease != finish->turn.turn.lease)
        return ERR_CONFLICT;
    if (!status_in_turn(row.status))
        return ended_so(tx, finish, row.status);
    struct op_finish as = *finish;
    if (as.next == FINISH_LOST && as.pays && row.recoveries >= as.max_recoveries)
        as.next = FINISH_FINAL;
    heed(&as, row.follow);
    err = end_as(tx, &as, &row, row.follow & FOLLOW_LOOP && transition_end_is_simple(finish));
    return err == OK ? forget_stop(tx, turn_id, row.follow) : err;
}

/* --- a turn that waits, and goes on -------------------------------------------------------- */

enum err transition_move_wait(struct tx *tx, const struct move_wait *move)
{
    const struct turn *turn = move->turn;
    enum err err =
        DB_EXECUTE(tx->db,
                   "UPDATE invocations SET status = $4, waits_left = $5 "
                   "WHERE id = $1 AND lease = $2 AND status = $3",
                   v_int(turn->id), v_int(turn->lease), v_int(move->from), v_int(move->to), v_time(move->left));
    if (err == OK && db_changes(tx->db) == 0)
        return ERR_CONFLICT;
    struct transition t = {
        .id = turn->id, .task = turn->task, .group = turn->group, .from = move->from, .to = move->to};
    t.reason = move->to == STATUS_WAITING ? "waits" : "goes_on";
    return err == OK ? followers_after(tx, &t) : err;
}

/* --- a turn that suspends, and is woken ----------------------------------------------------- */

enum err transition_move_suspend(struct tx *tx, const struct move_suspend *move)
{
    const struct turn *turn = move->turn;
    enum err err = history_begin(tx, turn->id, move->from);
    if (err == OK)
        err = history_note_start(tx, turn->id);
    if (err != OK)
        return err;
    err = DB_EXECUTE(tx->db,
                     "UPDATE invocations SET status = " SQL_WAITING
                     ", lease = NULL, holder = NULL, lease_until = NULL, "
                     "lease_ms = NULL, worker = NULL, waits_left = $4, failures = 0, recoveries = 0, deaths = 0, "
                     "error = NULL, expires_at = NULL, run_at = NULL, flags = flags | " SQL_FLAG_SUSPENDED ", "
                     "rank = CASE WHEN follow & " SQL_FOLLOW_WAITED " <> 0 THEN -id END, "
                     "follow = follow & ~(" SQL_FOLLOW_CANCEL " | " SQL_FOLLOW_LEASE " | " SQL_FOLLOW_RESUMED
                     " | " SQL_FOLLOW_DEADLINE ") "
                     "WHERE id = $1 AND lease = $2 AND status = $3",
                     v_int(turn->id), v_int(turn->lease), v_int(move->from), v_time(move->left));
    if (err == OK && db_changes(tx->db) == 0)
        return ERR_CONFLICT;
    struct transition t = {
        .id = turn->id, .task = turn->task, .group = turn->group, .from = move->from, .to = STATUS_WAITING};
    t.note.suspended = true;
    t.reason = "suspended";
    t.note.wakes_at = move->wakes_at;
    return err == OK ? followers_after(tx, &t) : err;
}

/* Ids use 62 bits until the year 2054: a rank that is lower than any -id. The
 * start that follows counts as no attempt. */
enum err transition_move_wake(struct tx *tx, int64_t id)
{
    struct transition t = {.id = id, .from = STATUS_WAITING, .to = STATUS_QUEUED, .reason = "woken"};
    enum err err = transition_changed(
        tx,
        DB_QUERY(tx->db,
                 "UPDATE invocations SET status = " SQL_QUEUED ", attempt = attempt - 1, waits_left = NULL, "
                 "rank = $2 + id, follow = follow | " SQL_FOLLOW_RESUMED ", flags = flags & ~" SQL_FLAG_DETAILS
                 ", "
                 "progress = NULL, progress_note = NULL WHERE id = $1 AND " SQL_IS_SUSPENDED
                 " RETURNING " READY_COLUMNS,
                 v_int(id), v_int(INT64_MIN)),
        &t.note.ready);
    t.task = t.note.ready.task;
    t.group = t.note.ready.group;
    return err == OK ? followers_after(tx, &t) : err;
}

/* --- move ------------------------------------------------------------------------------ */

static struct db_stmt *due_promote(struct tx *tx, const struct move_due *move)
{
    return DB_QUERY(tx->db,
                    "UPDATE invocations SET status = $3 WHERE id = $1 AND status = $2 AND run_at <= $4 "
                    "RETURNING " READY_COLUMNS,
                    v_int(move->id), v_int(move->from), v_int(move->to), v_int(tx->now));
}

static struct db_stmt *due_set(struct tx *tx, const struct move_due *move)
{
    return DB_QUERY(tx->db,
                    "UPDATE invocations SET status = $3, priority = $5, run_at = $6 WHERE id = $1 AND status = $2 "
                    "AND priority = $4 AND run_at IS NOT DISTINCT FROM $7 RETURNING " READY_COLUMNS,
                    v_int(move->id), v_int(move->from), v_int(move->to), v_int(move->old_priority),
                    v_int(move->priority), v_time(move->run_at), v_time(move->old_run_at));
}

static struct db_stmt *due_ahead(struct tx *tx, const struct move_due *move)
{
    return DB_QUERY(tx->db,
                    "UPDATE invocations SET priority = $2, rank = -id WHERE id = $1 AND status = " SQL_QUEUED " "
                    "RETURNING " READY_COLUMNS,
                    v_int(move->id), v_int(move->priority));
}

enum err transition_move_due(struct tx *tx, const struct move_due *move)
{
    struct transition t = {.id = move->id, .from = move->from, .to = move->to};
    enum err err = move->set ? history_begin(tx, move->id, move->from) : OK;
    if (err != OK)
        return err;
    struct db_stmt *stmt = move->ahead ? due_ahead(tx, move)
                           : move->set ? due_set(tx, move)
                                       : due_promote(tx, move);
    err = transition_changed(tx, stmt, &t.note.ready);
    if (err != OK)
        return err;
    t.task = t.note.ready.task;
    t.group = t.note.ready.group;
    t.note.expires_at = t.note.ready.expires_at;
    t.note.due_at = move->to == STATUS_SCHEDULED ? t.note.ready.run_at : 0;
    t.note.withdrawn = move->from == STATUS_QUEUED;
    t.note.old_priority = move->old_priority;
    t.note.old_rank = move->old_rank;
    t.reason = move->set ? "patched" : NULL;
    return followers_after(tx, &t);
}

/* Not started, so no turn ends with it. */
static struct db_stmt *final_unstarted(struct tx *tx, const struct move_final *move)
{
    return DB_QUERY(tx->db,
                    "UPDATE invocations SET status = $3, finished_at = $4, prune_at = " PRUNE_AT(
                        "$4") ", "
                              "error = $5, cancel_requested_at = COALESCE($6, cancel_requested_at), rank = NULL, "
                              "follow = follow & " SQL_FOLLOW_STAYS " "
                              "WHERE id = $1 AND status = $2 AND ($7 IS NULL OR expires_at <= $7) RETURNING grp",
                    v_int(move->id), v_int(move->from), v_int(move->to), v_int(tx->now), v_text(move->error),
                    v_time(move->cancel_requested_at), v_time(move->expired_by));
}

static struct db_stmt *final_lost(struct tx *tx, const struct move_final *move)
{
    return DB_QUERY(
        tx->db,
        "UPDATE invocations SET status = $3, finished_at = $4, prune_at = " PRUNE_AT(
            "$4") ", "
                  "error = $5, attempt = $6, recoveries = $7, lease = NULL, lease_until = NULL, waits_left = "
                  "NULL, rank = NULL, "
                  "follow = follow & " SQL_FOLLOW_STAYS ", started_at = CASE WHEN status = " SQL_QUEUED
                  " THEN $9 ELSE started_at END "
                  "WHERE id = $1 AND status = $2 AND lease IS NOT DISTINCT FROM $8 RETURNING grp",
        v_int(move->id), v_int(move->from), v_int(move->to), v_int(tx->now), v_text(move->error),
        v_int(move->lost.attempt), v_int(move->lost.recoveries), v_time(move->lost.lease),
        v_time(move->lost.started_at));
}

enum err transition_move_release(struct tx *tx, const struct move_release *move)
{
    struct transition t = {.id = move->id, .from = STATUS_HELD, .reason = move->noted ? "released" : NULL};
    enum err err = move->noted ? history_begin(tx, move->id, STATUS_HELD) : OK;
    if (err != OK)
        return err;
    err = transition_changed(
        tx,
        DB_QUERY(tx->db,
                 "UPDATE invocations SET run_at = COALESCE($2, run_at), expires_at = COALESCE($3, expires_at), "
                 "status = CASE WHEN COALESCE($2, run_at, 0) > $4 THEN " SQL_SCHEDULED " ELSE " SQL_QUEUED " END "
                 "WHERE id = $1 AND status = " SQL_HELD " RETURNING " READY_COLUMNS,
                 v_int(move->id), v_time(move->run_at), v_time(move->expires_at), v_int(tx->now)),
        &t.note.ready);
    t.task = t.note.ready.task;
    t.group = t.note.ready.group;
    t.to = t.note.ready.run_at > tx->now ? STATUS_SCHEDULED : STATUS_QUEUED;
    t.note.expires_at = t.note.ready.expires_at;
    t.note.due_at = t.to == STATUS_SCHEDULED ? t.note.ready.run_at : 0;
    return err == OK ? followers_after(tx, &t) : err;
}

/* Steps a statement that returns the group of the row it changed. ERR_CONFLICT: it changed none. */
static enum err changed_group(struct db_stmt *stmt, int64_t *group)
{
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    *group = err == OK ? db_int(stmt, 0) : 0;
    db_reset(stmt);
    return err == ERR_NOT_FOUND ? ERR_CONFLICT : err;
}

/* A turn that was stopped at its deadline, and lost before it ended. */
static enum err heed_lost(struct tx *tx, struct move_final *move)
{
    int64_t follow;
    enum err err = DB_NUMBER(tx->db, &follow, 0, "SELECT follow FROM invocations WHERE id = $1", v_int(move->id));
    if (err != OK || !(follow & FOLLOW_DEADLINE))
        return err;
    move->to = STATUS_FAILED;
    move->error = SPAN(DEADLINE_ERROR);
    move->error_type = SPAN("deadline");
    return forget_stop(tx, move->id, FOLLOW_DEADLINE);
}

enum err transition_move_final(struct tx *tx, const struct move_final *asked)
{
    struct move_final as = *asked, *move = &as;
    if (as.lost.attempt && as.to == STATUS_CANCELLED) {
        enum err heard = heed_lost(tx, &as);
        if (heard != OK)
            return heard;
    }
    int64_t group;
    enum err err = changed_group(move->lost.attempt ? final_lost(tx, move) : final_unstarted(tx, move), &group);
    if (err != OK)
        return err;
    struct transition t = {
        .id = move->id,
        .task = move->task,
        .group = group,
        .from = move->from,
        .to = move->to,
        .error_type = move->error_type,
    };
    t.follow = ~0u; /* nobody has looked */
    if (!group)
        t.note.prune_at = tx->now + move->retention_ms;
    t.at = tx->now;
    t.error = move->error;
    t.note.withdrawn = move->from == STATUS_QUEUED;
    t.note.old_priority = move->old_priority;
    t.note.old_rank = move->old_rank;
    t.note.is_late = move->is_late;
    t.reason = move->to == STATUS_CANCELLED && tx->who.len ? "cancelled" : NULL;
    return followers_after(tx, &t);
}

static struct db_stmt *back_after_retry(struct tx *tx, const struct move_back *move)
{
    return DB_QUERY(
        tx->db,
        "UPDATE invocations SET status = $3, failures = 0, recoveries = 0, deaths = 0, "
        "failed = COALESCE(failed, 0) + 1, "
        "run_at = NULL, rank = NULL, error = NULL, expires_at = NULL, finished_at = NULL, prune_at = NULL, "
        "cancel_requested_at = NULL, " CLEARED "WHERE id = $1 AND status = $2 RETURNING " READY_COLUMNS,
        v_int(move->id), v_int(move->from), v_int(move->to_held ? STATUS_HELD : STATUS_QUEUED));
}

static struct db_stmt *back_after_loss(struct tx *tx, const struct move_back *move)
{
    return DB_QUERY(tx->db,
                    "UPDATE invocations SET status = " SQL_QUEUED ", attempt = $3, recoveries = $4, deaths = $5, "
                    "started_at = CASE WHEN status = " SQL_QUEUED " THEN COALESCE($7, started_at) "
                    "ELSE started_at END, expires_at = NULL, lease = NULL, " CLEARED
                    "WHERE id = $1 AND status = $2 AND lease IS NOT DISTINCT FROM $6 RETURNING " READY_COLUMNS,
                    v_int(move->id), v_int(move->from), v_int(move->lost.attempt), v_int(move->lost.recoveries),
                    v_int(move->deaths), v_time(move->lost.lease), v_time(move->lost.started_at));
}

enum err transition_move_back(struct tx *tx, const struct move_back *move)
{
    struct transition t = {
        .id = move->id, .task = move->task, .from = move->from, .to = move->to_held ? STATUS_HELD : STATUS_QUEUED};
    if (move->lost.attempt) {
        t.attempt = move->lost.attempt;
        t.ended_as = STATUS_FAILED;
        t.started_at = move->lost.started_at;
        t.ended_at = tx->now;
        t.ended_error = move->lost.error;
    }
    t.reason = move->lost.attempt ? "lost" : move->to_held ? "held" : "retried";
    enum err err = followers_before(tx, &t);
    if (err == OK)
        err = history_begin(tx, move->id, move->from);
    if (err == OK && !move->lost.attempt)
        err = history_note_end(tx, move->id, move->from);
    if (err == OK)
        err = transition_changed(tx, move->lost.attempt ? back_after_loss(tx, move) : back_after_retry(tx, move),
                                 &t.note.ready);
    t.group = t.note.ready.group;
    return err == OK ? followers_after(tx, &t) : err;
}

/* --- remove ----------------------------------------------------------------------------- */

enum err transition_remove(struct tx *tx, int64_t id, int task, enum status from, struct follow_up_room *room)
{
    int64_t flags;
    enum err err =
        DB_NUMBER(tx->db, &flags, -1, "DELETE FROM invocations WHERE id = $1 AND status = $2 RETURNING flags",
                  v_int(id), v_int(from));
    if (err == OK && flags < 0)
        return ERR_CONFLICT;
    struct transition t = {.id = id, .task = task, .from = from, .flags = (unsigned)flags, .room = room};
    return err == OK ? followers_after(tx, &t) : err;
}
