/* One that waits to start gets what another submission of its place says. */
#include "store/transition.h"

#include "store/arguments.h"
#include "store/cached.h"
#include "store/deadline.h"
#include "store/followers.h"
#include "store/history.h"
#include "store/internal.h"

/* A claim that is on its way believes in the arguments that there were: the row's version says
 * that it is another. */
static enum err write_row(struct tx *tx, const struct move_replace *move, struct ready *out)
{
    const struct submission *s = move->submission;
    bool outside = s->args.len > INLINE_MAX;
    unsigned old_flags = move->flags | FLAG_HISTORY; /* history_begin() says so */
    unsigned version = (old_flags + FLAG_VERSION_ONE) & FLAG_VERSION;
    unsigned flags =
        (old_flags & ~(unsigned)(FLAG_VERSION | FLAG_ARGS_OUTSIDE)) | version | (outside ? FLAG_ARGS_OUTSIDE : 0);
    return transition_changed(
        tx,
        DB_QUERY(tx->db,
                 "UPDATE invocations SET status = $3, run_at = $4, expires_at = $5, args = $6, flags = $7 "
                 "WHERE id = $1 AND status = $2 AND attempt = 0 AND flags = $8 RETURNING " READY_COLUMNS,
                 v_int(s->id), v_int(move->from), v_int(s->status), v_time(s->run_at), v_time(s->expires_at),
                 v_text(outside ? (struct span){NULL, 0} : s->args), v_int(flags), v_int(old_flags)),
        out);
}

/* What stood outside the row, or is to. */
static enum err write_payload(struct tx *tx, const struct move_replace *move)
{
    const struct submission *s = move->submission;
    if (s->args.len > INLINE_MAX)
        return insert_payload(tx, s->id, PAYLOAD_ARGS, s->args);
    return move->flags & FLAG_ARGS_OUTSIDE ? DB_EXECUTE(tx->db, "DELETE FROM payloads WHERE id = $1 AND kind = $2",
                                                        v_int(s->id), v_int(PAYLOAD_ARGS))
                                           : OK;
}

enum err transition_replace(struct tx *tx, const struct move_replace *move)
{
    const struct submission *s = move->submission;
    struct transition t = {.id = s->id, .task = s->task, .from = move->from, .to = s->status};
    enum err err = history_begin(tx, s->id, move->from);
    if (err == OK)
        err = write_row(tx, move, &t.note.ready);
    if (err == OK)
        err = write_payload(tx, move);
    if (err != OK)
        return err;
    if (s->particulars->cached.for_ms)
        err = cached_note(tx, s);
    if (err == OK)
        err = deadline_note(tx, s);
    if (err == OK)
        err = arguments_note_anew(tx, s);
    if (err != OK)
        return err;
    t.note.expires_at = s->expires_at;
    t.note.deadline_at = s->particulars->deadline_at;
    t.note.due_at = s->status == STATUS_SCHEDULED ? s->run_at : 0;
    t.note.withdrawn = move->from == STATUS_QUEUED;
    t.note.old_priority = move->old_priority;
    t.note.old_rank = move->old_rank;
    t.reason = "replaced";
    tx->who = s->key_owner;
    err = followers_after(tx, &t);
    tx->who = (struct span){NULL, 0};
    return err;
}
