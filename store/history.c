#include "store/history.h"

#include "base/id.h"
#include "base/json.h"
#include "store/internal.h"
#include "store/reader.h"
#include "store/suspend.h"
#include "store/transition.h"

#include <stdlib.h>

/* --- keeping -------------------------------------------------------------------------- */

enum err history_begin(struct tx *tx, int64_t id, enum status status)
{
    enum err err = DB_EXECUTE(tx->db,
                              "INSERT INTO history (id, seq, at, status, until_at, reason) SELECT id, 0, $2, "
                              "CASE WHEN $3 = " SQL_HELD " THEN $3 WHEN run_at > $2 AND attempt <= 1 "
                              "THEN " SQL_SCHEDULED " ELSE " SQL_QUEUED " END, "
                              "CASE WHEN run_at > $2 AND attempt <= 1 THEN run_at END, 'submitted' "
                              "FROM invocations WHERE id = $1 ON CONFLICT (id, seq) DO NOTHING",
                              v_int(id), v_int(id_time_ms(id)), v_int(status));
    return err == OK && db_changes(tx->db) ? transition_flag(tx, id, FLAG_HISTORY) : err;
}

static enum err keep_newest(struct tx *tx, int64_t id, int64_t seq)
{
    return seq > HISTORY_MAX ? DB_EXECUTE(tx->db, "DELETE FROM history WHERE id = $1 AND seq > 0 AND seq <= $2",
                                          v_int(id), v_int(seq - HISTORY_MAX))
                             : OK;
}

enum err history_note(struct tx *tx, const struct history_note *note)
{
    int64_t seq;
    enum err err =
        DB_NUMBER(tx->db, &seq, 0,
                  "INSERT INTO history (id, seq, at, status, until_at, reason, who, attempt, worker) "
                  "SELECT $1, COALESCE((SELECT MAX(seq) FROM history WHERE id = $1), 0) + 1, $2, $3, $4, $5, $6, "
                  "i.attempt, i.worker FROM invocations i WHERE i.id = $1 RETURNING seq",
                  v_int(note->id), v_int(note->at), v_int(note->status), v_time(note->until_at),
                  v_text(span_of(note->reason)), v_text(tx->who.len ? tx->who : (struct span){NULL, 0}));
    if (err == OK && seq == 1)
        err = history_begin(tx, note->id, note->status);
    return err == OK ? keep_newest(tx, note->id, seq) : err;
}

enum err history_note_start(struct tx *tx, int64_t id)
{
    int64_t started_at;
    enum err err =
        DB_NUMBER(tx->db, &started_at, 0, "SELECT started_at FROM invocations WHERE id = $1", v_int(id));
    return err == OK && started_at
               ? history_note(tx,
                              &(struct history_note){
                                  .id = id, .at = started_at, .status = STATUS_RUNNING, .reason = "started"})
               : err;
}

/* It may have been kept already, with who asked for it. */
enum err history_note_end(struct tx *tx, int64_t id, enum status status)
{
    int64_t finished_at;
    enum err err =
        DB_NUMBER(tx->db, &finished_at, 0,
                  "SELECT finished_at FROM invocations i WHERE id = $1 AND NOT EXISTS "
                  "(SELECT 1 FROM history h WHERE h.id = $1 AND h.at = i.finished_at AND h.status = $2)",
                  v_int(id), v_int(status));
    struct span who = tx->who; /* asks for what comes after it */
    tx->who = (struct span){NULL, 0};
    if (err == OK && finished_at)
        err = history_note(tx, &(struct history_note){
                                   .id = id, .at = finished_at, .status = status, .reason = status_name(status)});
    tx->who = who;
    return err;
}

/* --- reading ---------------------------------------------------------------------------- */

static struct history_item *add(struct history *history)
{
    if (history->count == history->cap) {
        history->cap = history->cap ? 2 * history->cap : 32;
        history->items = xrealloc(history->items, (size_t)history->cap * sizeof *history->items);
    }
    struct history_item *item = &history->items[history->count++];
    *item = (struct history_item){0};
    return item;
}

/* Texts are offsets until the arena has stopped moving. */
static struct span keep(struct history *history, struct span text)
{
    if (!text.p)
        return text;
    uintptr_t at = history->arena.len;
    buf_add_span(&history->arena, text);
    return (struct span){(const char *)(at + 1), text.len};
}

static void point(struct history *history, struct span *text)
{
    if (text->p)
        text->p = buf_cstr(&history->arena) + ((uintptr_t)text->p - 1);
}

/* Where it belongs: among what happened in the same moment, after all that was before that attempt. */
static void insert_start(struct history *history, const struct history_item *start)
{
    int at = 0;
    while (at < history->count && history->items[at].at < start->at)
        at++;
    for (int i = at; i < history->count && history->items[i].at == start->at; i++) {
        const struct history_item *item = &history->items[i];
        if (item->is_start && item->attempt == start->attempt)
            return; /* it was kept */
        if (item->attempt < start->attempt)
            at = i + 1;
    }
    struct history_item kept = *start;
    add(history);
    memmove(history->items + at + 1, history->items + at,
            (size_t)(history->count - 1 - at) * sizeof *history->items);
    history->items[at] = kept;
}

static void add_start(struct history *history, int64_t at, int attempt, struct span worker)
{
    struct history_item start = {.at = at, .status = STATUS_RUNNING, .attempt = attempt, .is_start = true};
    start.reason = keep(history, SPAN("started"));
    start.worker = keep(history, worker);
    if (at)
        insert_start(history, &start);
}

/* A turn's start was kept when the turn was over. */
static enum err read_kept(struct reader *reader, int64_t id, struct history *out)
{
    struct db_stmt *stmt = DB_QUERY(reader->db,
                                    "SELECT seq, at, status, until_at, reason, attempt, worker, who FROM history "
                                    "WHERE id = $1 ORDER BY seq",
                                    v_int(id));
    if (!stmt)
        return ERR_DB;
    bool row;
    int64_t rows = 0;
    enum err err;
    for (; (err = db_step(stmt, &row)) == OK && row; rows++) {
        struct span reason = db_span(stmt, 4);
        out->cut |= rows == 1 && db_int(stmt, 0) > 1;
        struct history_item item = {.at = db_int(stmt, 1),
                                    .status = (enum status)db_int(stmt, 2),
                                    .until_at = db_int(stmt, 3),
                                    .attempt = (int)db_int(stmt, 5),
                                    .is_start = span_is(reason, "started")};
        item.reason = keep(out, reason);
        item.worker = keep(out, db_span(stmt, 6));
        item.who = keep(out, db_span(stmt, 7));
        if (item.is_start)
            insert_start(out, &item);
        else
            *add(out) = item;
    }
    db_reset(stmt);
    return err;
}

static enum err read_attempts(struct reader *reader, int64_t id, struct history *out)
{
    struct db_stmt *stmt =
        DB_QUERY(reader->db,
                 "SELECT attempt, started_at, worker FROM attempts WHERE id = $1 ORDER BY attempt DESC LIMIT $2",
                 v_int(id), v_int(HISTORY_ATTEMPTS_MAX));
    if (!stmt)
        return ERR_DB;
    bool row;
    enum err err;
    int64_t oldest = out->cut ? out->items[1].at : 0;
    while ((err = db_step(stmt, &row)) == OK && row)
        if (db_int(stmt, 1) >= oldest)
            add_start(out, db_int(stmt, 1), (int)db_int(stmt, 0), db_span(stmt, 2));
    db_reset(stmt);
    return err;
}

/* The type of a failure, else the status itself. */
static struct span reason_of(struct history *history, const struct invocation *row)
{
    struct span type = row->status == STATUS_FAILED && row->error.p ? json_get(row->error, "type") : row->error;
    struct buf text = {0};
    if (row->cached_from)
        return keep(history, SPAN("cached"));
    if (row->status != STATUS_FAILED || !type.p)
        return keep(history, span_of(status_name(row->status)));
    json_unescape(type, &text);
    struct span kept = keep(history, text.len ? buf_span(&text) : SPAN(""));
    buf_release(&text);
    return kept;
}

static void add_submission(struct history *history, const struct invocation *row)
{
    int64_t created_at = id_time_ms(row->id);
    bool later = row->run_at > created_at && row->attempt <= 1;
    struct history_item item = {.at = created_at,
                                .status = row->status == STATUS_HELD ? STATUS_HELD
                                          : later                    ? STATUS_SCHEDULED
                                                                     : STATUS_QUEUED,
                                .until_at = later ? row->run_at : 0};
    item.reason = keep(history, SPAN("submitted"));
    *add(history) = item;
}

static void add_row(struct history *history, const struct invocation *row)
{
    bool has_started = status_in_turn(row->status) || status_is_final(row->status);
    if (has_started && row->attempt)
        add_start(history, row->started_at, row->attempt, row->worker);
    const struct history_item *last = history->count ? &history->items[history->count - 1] : NULL;
    bool is_kept = last && last->status == row->status && last->at == row->finished_at;
    if (!status_is_final(row->status) || is_kept)
        return;
    struct history_item item = {.at = row->finished_at, .status = row->status, .attempt = row->attempt};
    item.reason = reason_of(history, row);
    item.worker = row->attempt ? keep(history, row->worker) : (struct span){NULL, 0};
    *add(history) = item;
}

/* A turn is over when it suspends. */
static void number_turns(struct history *history, int turns)
{
    int turn = turns + 1;
    for (int i = 0; i < history->count; i++)
        turn -= span_is(history->items[i].reason, "suspended");
    for (int i = 0; i < history->count; i++) {
        struct history_item *item = &history->items[i];
        bool in_turn = status_in_turn(item->status) || status_is_final(item->status);
        if (!in_turn) {
            item->attempt = 0;
            item->worker = (struct span){NULL, 0};
        }
        item->turn = item->attempt ? turn : 0;
        turn += span_is(item->reason, "suspended");
    }
}

enum err reader_history(struct reader *reader, int64_t id, int64_t now, struct history *out)
{
    struct invocation row = {0};
    enum err err = db_begin(reader->db); /* all of it at one moment */
    if (err == OK)
        err = read_kept(reader, id, out);
    if (err == OK)
        err = reader_get(reader, id, VIEW_BASIC, &row);
    if (err == OK && !out->count && !row.cached_from)
        add_submission(out, &row);
    if (err == OK)
        err = read_attempts(reader, id, out);
    if (err == OK)
        add_row(out, &row);
    struct suspended suspended = {0};
    enum err left = err == OK && row.has_suspended ? reader_suspended(reader, id, &suspended) : OK;
    db_rollback(reader->db);
    if (err != OK || (left != OK && left != ERR_NOT_FOUND))
        return err != OK ? err : left;
    for (int i = 0; i < out->count; i++) {
        point(out, &out->items[i].reason);
        point(out, &out->items[i].worker);
        point(out, &out->items[i].who);
    }
    number_turns(out, suspended.turns);
    history_settle(out, row.status, now);
    return OK;
}

void history_settle(struct history *history, enum status status, int64_t now)
{
    for (int i = 0; i < history->count; i++) {
        const struct history_item item = history->items[i], *next = &history->items[i + 1];
        bool last = i + 1 == history->count;
        bool is_due =
            last ? status == STATUS_QUEUED : next->at >= item.until_at && next->status != STATUS_SCHEDULED;
        if (item.status != STATUS_SCHEDULED || !item.until_at || !is_due)
            continue;
        add(history);
        memmove(history->items + i + 2, history->items + i + 1,
                (size_t)(history->count - i - 2) * sizeof *history->items);
        history->items[i + 1] =
            (struct history_item){.at = item.until_at, .status = STATUS_QUEUED, .reason = SPAN("due")};
    }
    for (int i = 0; i < history->count; i++) {
        const struct history_item *item = &history->items[i];
        int64_t end = i + 1 < history->count ? history->items[i + 1].at : now;
        if (!status_is_final(item->status) || i + 1 < history->count)
            history->spent_ms[item->status] += end > item->at ? end - item->at : 0;
    }
}

void history_release(struct history *history)
{
    free(history->items);
    buf_release(&history->arena);
    *history = (struct history){0};
}
