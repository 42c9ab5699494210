#include "store/loop_turn.h"

#include "base/json.h"
#include "store/internal.h"
#include "store/sets.h"
#include "store/transition.h"

/* --- what the end says -------------------------------------------------------------- */

static bool is_true(struct span value)
{
    return json_type(value) == JSON_TRUE;
}

struct loop_outcome loop_outcome_of(enum status status, struct span result)
{
    struct loop_outcome outcome = {.succeeded = status == STATUS_SUCCEEDED};
    struct span key, value;
    result = json_trim(result.p ? result : SPAN("null"));
    if (!outcome.succeeded || json_type(result) != JSON_OBJECT)
        return outcome;
    struct json_iter it = json_iter(result);
    while (json_member(&it, &key, &value)) {
        if (json_key_is(key, "stop"))
            outcome.stop = is_true(value);
        else if (json_key_is(key, "pause"))
            outcome.pause = is_true(value);
        else if (json_key_is(key, "next"))
            outcome.next = value;
    }
    return outcome;
}

/* After the end, which is counted. A pause keeps nothing from ending but the next one. */
enum loop_status loop_status_after(const struct loop *loop, const struct loop_outcome *outcome)
{
    bool was_last = loop->max_iterations && loop->iteration >= loop->max_iterations;
    if (loop_is_final(loop->status))
        return loop->status;
    if (!outcome->succeeded && !loop->continues)
        return LOOP_FAILED;
    if (outcome->stop || was_last)
        return LOOP_SUCCEEDED;
    if (loop->status == LOOP_STOPPING)
        return LOOP_STOPPED;
    return outcome->pause ? LOOP_PAUSED : loop->status;
}

void loop_end(struct tx *tx, struct loop *loop, enum loop_status status)
{
    loop->status = status;
    loop->finished_at = tx->now;
}

/* --- the next one ------------------------------------------------------------------------ */

enum err loop_begin(struct tx *tx, struct loop *loop, int64_t run_at)
{
    struct submission s = {
        .task = loop->task,
        .priority = loop->priority,
        .max_retries = loop->max_retries,
        .timeout_ms = loop->timeout_ms,
        .retention_ms = loop->retention_ms,
        .run_at = run_at,
        .labels = loop->labels,
    };
    enum err err = loop_args(tx, loop, &s.args);
    if (err == OK)
        err = submission_insert(tx, &s);
    if (err == OK)
        tx->changes[tx->count - 1].renews = loop->iteration > 0;
    if (err == OK)
        err = transition_mark_iteration(tx, s.id, loop->inbox_read);
    if (err == OK)
        err = DB_EXECUTE(tx->db, "INSERT INTO iterations (id, loop, number) VALUES ($1, $2, $3)", v_int(s.id),
                         v_int(loop->id), v_int(loop->iteration + 1));
    loop->invocation = s.id;
    loop->flags &= ~(unsigned)LOOP_PATCHED;
    return err;
}

enum err loop_settle(struct tx *tx, struct loop *loop, int64_t run_at)
{
    enum err err = OK;
    if (loop->set)
        err = set_settle(tx, loop, run_at);
    else if (loop->status == LOOP_ACTIVE)
        err = loop_begin(tx, loop, run_at);
    return err == OK ? loop_write_turn(tx, loop) : err;
}

/* --- an end --------------------------------------------------------------------------------- */

/* What it has read is gone if it has succeeded: all that its last turn was given, too. */
static enum err read_inbox(struct tx *tx, struct loop *loop, int64_t id, bool succeeded)
{
    if (!(loop->flags & LOOP_INBOX))
        return OK;
    struct db_stmt *stmt =
        DB_QUERY(tx->db,
                 "SELECT inbox_read, (SELECT given FROM inboxes g WHERE g.id = i.id AND g.lease = i.lease), "
                 "(SELECT given FROM suspensions s WHERE s.id = i.id) FROM invocations i WHERE i.id = $1",
                 v_int(id));
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    for (int i = 0; i < (succeeded ? 3 : 1) && err == OK; i++)
        if (db_int(stmt, i) > loop->inbox_read)
            loop->inbox_read = db_int(stmt, i);
    db_reset(stmt);
    return err == OK ? DB_EXECUTE(tx->db, "DELETE FROM inboxes WHERE id = $1", v_int(id)) : err;
}

/* After a failure the arguments are what they were. */
static enum err take_arguments(struct tx *tx, struct loop *loop, const struct loop_outcome *outcome,
                               struct span result)
{
    if (loop->flags & LOOP_PATCHED || !outcome->succeeded)
        return OK;
    if (loop->next == LOOP_NEXT_OUTPUT)
        return loop_set_args(tx, loop, result.p ? result : SPAN("null"));
    return loop->next == LOOP_NEXT_CHOSEN && outcome->next.p ? loop_set_args(tx, loop, outcome->next) : OK;
}

static struct span error_of(const struct iteration_end *end)
{
    return end->status == STATUS_CANCELLED
               ? SPAN("{\"type\":\"cancelled\",\"message\":\"its iteration was cancelled\"}")
               : end->error;
}

static enum err ended(struct tx *tx, struct loop *loop, const struct iteration_end *end)
{
    struct loop_outcome outcome = loop_outcome_of(end->status, end->result);
    loop->iteration++;
    loop->invocation = 0;
    enum err err = read_inbox(tx, loop, end->id, outcome.succeeded);
    if (err == OK && outcome.succeeded)
        err = loop_set_result(tx, loop, end->result);
    if (err == OK)
        err = take_arguments(tx, loop, &outcome, end->result);
    if (err != OK)
        return err;
    loop->flags &= ~(unsigned)LOOP_PATCHED;
    enum loop_status was = loop->status, is = loop_status_after(loop, &outcome);
    if (is != was && loop_is_final(is))
        loop_end(tx, loop, is);
    loop->status = is;
    if (is == LOOP_FAILED && was != is)
        loop->error = error_of(end);
    int64_t run_at = loop->delay_ms ? end->at + loop->delay_ms : 0;
    err = loop_settle(tx, loop, run_at);
    return err == OK && is != was ? loop_write_state(tx, loop) : err;
}

/* One that is no iteration, or not the current one, concerns nobody. */
static enum err find_loop(struct tx *tx, int64_t id, int64_t *loop)
{
    return DB_NUMBER(tx->db, loop, 0,
                     "SELECT l.id FROM iterations n JOIN loops l ON l.id = n.loop AND l.invocation = n.id "
                     "WHERE n.id = $1",
                     v_int(id));
}

enum err loop_iteration_ended(struct tx *tx, const struct iteration_end *end)
{
    struct loop loop;
    int64_t id;
    enum err err = find_loop(tx, end->id, &id);
    if (err != OK || !id)
        return err;
    err = loop_read(tx, id, &loop);
    if (err == OK)
        err = ended(tx, &loop, end);
    return err_is_fault(err) || err == OK ? err : ERR_DB; /* the end itself was no conflict */
}
