/* Reading one invocation: its row, payloads, attempts, log. */
#include "store/loop.h"
#include "store/reader.h"
#include "store/suspend.h"
#include "store/transition.h"

#include <stdlib.h>

enum err reader_open(struct store *store, struct reader **out, struct reason *why)
{
    struct reader *reader = xcalloc(1, sizeof *reader);
    reader->store = store;
    enum err err = db_open(store->url, DB_READER, &reader->db, why);
    if (err != OK) {
        free(reader);
        return err;
    }
    *out = reader;
    return OK;
}

void reader_close(struct reader *reader)
{
    if (!reader)
        return;
    buf_release(&reader->args);
    buf_release(&reader->result);
    buf_release(&reader->note);
    buf_release(&reader->targets);
    buf_release(&reader->term);
    buf_release(&reader->step);
    buf_release(&reader->row);
    for (int i = 0; i < reader->query_count; i++) {
        free(reader->queries[i].sql);
        db_finalize(reader->queries[i].stmt);
    }
    db_close(reader->db);
    free(reader);
}

bool reader_is_brief(const struct reader *reader)
{
    return reader->brief;
}

void reader_be_brief(struct reader *reader)
{
    reader->brief = true;
}

int64_t reader_rows_seen(const struct reader *reader)
{
    return reader->db->steps;
}

enum err reader_payload(struct reader *reader, int64_t id, int kind, struct buf *out)
{
    struct db_stmt *stmt =
        DB_QUERY(reader->db, "SELECT data FROM payloads WHERE id = $1 AND kind = $2", v_int(id), v_int(kind));
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    if (err == OK)
        buf_add_span(out, db_span(stmt, 0));
    db_reset(stmt);
    return err;
}

enum err reader_outside(struct reader *reader, int64_t id, int kind, struct buf *kept, struct span *out)
{
    kept->len = 0;
    if (kept->cap > 1 << 20) /* one large payload must not stay in memory */
        buf_release(kept);
    enum err err = reader_payload(reader, id, kind, kept);
    *out = buf_span(kept);
    return err == ERR_NOT_FOUND ? OK : err; /* pruned between the two reads */
}

struct span reader_copied(struct buf *kept, struct span text)
{
    kept->len = 0;
    buf_add_span(kept, text);
    return text.p ? (struct span){buf_cstr(kept), text.len} : text;
}

/* What few rows have. */
static enum err details(struct reader *reader, struct invocation *out)
{
    struct db_stmt *stmt =
        DB_QUERY(reader->db, "SELECT progress, progress_note FROM details WHERE id = $1", v_int(out->id));
    if (!stmt)
        return ERR_DB;
    bool row;
    enum err err = db_step(stmt, &row);
    if (err == OK && row && !db_is_null(stmt, 0)) {
        out->has_progress = true;
        out->progress = db_double(stmt, 0);
        out->progress_note = reader_copied(&reader->note, db_span(stmt, 1));
    }
    db_reset(stmt);
    return err;
}

static enum err family(struct reader *reader, struct invocation *out)
{
    struct db_stmt *stmt = DB_QUERY(reader->db, "SELECT parent, step FROM children WHERE id = $1", v_int(out->id));
    if (!stmt)
        return ERR_DB;
    bool row;
    enum err err = db_step(stmt, &row);
    if (err == OK && row) {
        out->parent = db_int(stmt, 0);
        out->step = reader_copied(&reader->step, db_span(stmt, 1));
    }
    db_reset(stmt);
    return err;
}

/* What few rows have, too (particulars.h). */
static enum err particulars(struct reader *reader, struct invocation *out)
{
    enum err err = reader_deadline(reader, out->id, &out->deadline);
    return err == OK ? DB_NUMBER(reader->db, &out->cached_from, 0, "SELECT source FROM cached_from WHERE id = $1",
                                 v_int(out->id))
                     : err;
}

static enum err waiting_for(struct reader *reader, struct invocation *out)
{
    struct db_stmt *stmt =
        DB_QUERY(reader->db, "SELECT target FROM waits WHERE waiter = $1 AND ended = 0 ORDER BY target LIMIT $2",
                 v_int(out->id), v_int(WAITING_FOR_MAX));
    if (!stmt)
        return ERR_DB;
    bool row;
    enum err err;
    while ((err = db_step(stmt, &row)) == OK && row)
        reader->waiting_for[out->waiting_for_count++] = db_int(stmt, 0);
    out->waiting_for = reader->waiting_for;
    db_reset(stmt);
    return err;
}

static enum err suspension(struct reader *reader, struct invocation *out)
{
    struct suspended s;
    enum err err = reader_suspended(reader, out->id, &s);
    if (err == OK) {
        out->turns = s.turns;
        out->wakes_at = out->status == STATUS_WAITING ? s.wakes_at : 0;
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

enum err row_read(struct reader *reader, struct db_stmt *stmt, enum view view, struct invocation *out)
{
    *out = (struct invocation){
        .id = db_int(stmt, 0),
        .task = (int)db_int(stmt, 1),
        .status = (enum status)db_int(stmt, 2),
        .priority = (int)db_int(stmt, 3),
        .attempt = (int)db_int(stmt, 4),
        .max_retries = (int)db_int(stmt, 5),
        .failures = (int)db_int(stmt, 6),
        .recoveries = (int)db_int(stmt, 7),
        .timeout_ms = db_int(stmt, 8),
        .retention_ms = db_int(stmt, 9),
        .run_at = db_int(stmt, 10),
        .started_at = db_int(stmt, 11),
        .finished_at = db_int(stmt, 12),
        .expires_at = db_int(stmt, 13),
        .cancel_requested_at = db_int(stmt, 14),
        .has_progress = !db_is_null(stmt, 15),
        .progress = db_double(stmt, 15),
        .progress_note = db_span(stmt, 16),
        .labels = db_span(stmt, 17),
        .key = db_span(stmt, 18),
        .worker = db_span(stmt, 19),
        .error = db_span(stmt, 20),
    };
    out->group = db_int(stmt, ROW_GROUP);
    out->index = (int)db_int(stmt, ROW_MEMBER);
    int64_t flags = db_int(stmt, ROW_FLAGS);
    out->composed = flags & FLAG_COMPOSED;
    out->has_steps = flags & FLAG_STEPS;
    out->has_suspended = flags & FLAG_SUSPENDED;
    enum err err = flags & FLAG_DETAILS ? details(reader, out) : OK;
    if (err == OK && (flags & FLAG_CHILD))
        err = family(reader, out);
    if (err == OK && (flags & FLAG_LOOP))
        err = reader_iteration(reader, out->id, &out->loop, &out->iteration);
    if (err == OK && (flags & FLAG_PARTICULAR))
        err = particulars(reader, out);
    if (err == OK && out->status == STATUS_WAITING && view == VIEW_FULL)
        err = waiting_for(reader, out);
    if (err == OK && out->has_suspended && view == VIEW_FULL)
        err = suspension(reader, out);
    if (err == OK && out->status == STATUS_HELD)
        err = reader_holds(reader, out->id, &out->holds);
    if (err == OK && flags & FLAG_HOLDS && view == VIEW_FULL) {
        out->after = reader->after;
        err = reader_after(reader, out->id, reader->after, &out->after_count);
    }
    if (view == VIEW_BASIC || err != OK)
        return err;
    out->args = db_span(stmt, ROW_ARGS);
    out->result = db_span(stmt, ROW_RESULT);
    if (reader->brief && (flags & (FLAG_ARGS_OUTSIDE | FLAG_RESULT_OUTSIDE)))
        return ERR_LIMIT;
    if (flags & FLAG_ARGS_OUTSIDE)
        err = reader_outside(reader, out->id, PAYLOAD_ARGS, &reader->args, &out->args);
    if (err == OK && (flags & FLAG_RESULT_OUTSIDE) && out->status == STATUS_SUCCEEDED)
        err = reader_outside(reader, out->id, PAYLOAD_RESULT, &reader->result, &out->result);
    return err;
}

static void keep_span(struct span *span, char **at)
{
    if (!span->p)
        return;
    memcpy(*at, span->p, span->len);
    span->p = *at;
    *at += span->len;
}

/* Copies the row's bytes out of the statement, so that it can be reset: an
 * open statement is an open read transaction. */
static void keep_row(struct reader *reader, struct invocation *row)
{
    struct span *const spans[] = {&row->progress_note, &row->labels, &row->key,    &row->worker,
                                  &row->error,         &row->args,   &row->result, &row->step};
    size_t total = 1;
    for (size_t i = 0; i < sizeof spans / sizeof *spans; i++)
        total += spans[i]->len;
    struct buf kept = {0};
    buf_reserve(&kept, total);
    char *at = kept.data;
    for (size_t i = 0; i < sizeof spans / sizeof *spans; i++)
        keep_span(spans[i], &at);
    buf_release(&reader->row);
    reader->row = kept;
}

enum err reader_get(struct reader *reader, int64_t id, enum view view, struct invocation *out)
{
    struct db_stmt *stmt =
        DB_QUERY(reader->db,
                 view == VIEW_FULL ? "SELECT " ROW_COLUMNS_FULL " FROM invocations i WHERE i.id = $1"
                                   : "SELECT " ROW_COLUMNS " FROM invocations i WHERE i.id = $1",
                 v_int(id));
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    if (err == OK)
        err = row_read(reader, stmt, view, out);
    if (err == OK)
        keep_row(reader, out);
    db_reset(stmt);
    return err;
}

enum err reader_find_key(struct reader *reader, struct span owner, struct span key, int64_t *id,
                         uint8_t digest[32])
{
    struct db_stmt *stmt = DB_QUERY(reader->db,
                                    "SELECT id, key_digest FROM invocations "
                                    "WHERE key_owner = $1 AND key = $2 AND key IS NOT NULL UNION ALL "
                                    "SELECT k.id, k.key_digest FROM further_keys k JOIN invocations i "
                                    "ON i.id = k.id WHERE k.key_owner = $1 AND k.key = $2",
                                    v_text(key_owner(owner)), v_text(key));
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    if (err == OK) {
        struct span bytes = db_span(stmt, 1);
        *id = db_int(stmt, 0);
        memset(digest, 0, 32);
        memcpy(digest, bytes.p, bytes.len < 32 ? bytes.len : 32);
    }
    db_reset(stmt);
    return err;
}

/* --- attempts ----------------------------------------------------------------- */

static enum err all_attempts(struct reader *reader, const struct invocation *last,
                             void (*each)(void *, const struct attempt_row *), void *context)
{
    enum err err;
    struct db_stmt *stmt = DB_QUERY(reader->db,
                                    "SELECT attempt, status, started_at, finished_at, worker, error "
                                    "FROM attempts WHERE id = $1 ORDER BY attempt",
                                    v_int(last->id));
    if (!stmt)
        return ERR_DB;
    bool row;
    int highest = 0;
    while ((err = db_step(stmt, &row)) == OK && row) {
        highest = (int)db_int(stmt, 0);
        each(context, &(struct attempt_row){highest, (enum status)db_int(stmt, 1), db_int(stmt, 2),
                                            db_int(stmt, 3), db_span(stmt, 4), db_span(stmt, 5)});
    }
    db_reset(stmt);
    bool current = status_in_turn(last->status) || status_is_final(last->status);
    if (err == OK && current && last->attempt > highest)
        each(context,
             &(struct attempt_row){last->attempt, last->status, last->started_at, last->finished_at, last->worker,
                                   last->status == STATUS_FAILED ? last->error : (struct span){NULL, 0}});
    return err;
}

enum err reader_attempts(struct reader *reader, int64_t id, void (*each)(void *, const struct attempt_row *),
                         void *context)
{
    struct invocation last;
    enum err err = db_begin(reader->db); /* both reads see the same moment */
    if (err == OK)
        err = reader_get(reader, id, VIEW_BASIC, &last);
    if (err == OK)
        err = all_attempts(reader, &last, each, context);
    db_rollback(reader->db);
    return err;
}

/* --- the log -------------------------------------------------------------------- */

enum err reader_log(struct reader *reader, int64_t id, int attempt, int64_t offset, int64_t limit, struct buf *out,
                    int64_t *total)
{
    struct db_stmt *sizes = DB_QUERY(reader->db,
                                     "SELECT seq, LENGTH(data) FROM logs WHERE id = $1 "
                                     "AND ($2 = 0 OR attempt = $2) ORDER BY seq",
                                     v_int(id), v_int(attempt));
    struct db_stmt *piece = db_cached(reader->db, "SELECT data FROM logs WHERE id = $1 AND seq = $2");
    if (!sizes || !piece)
        return ERR_DB;
    bool row, found;
    enum err err;
    int64_t at = 0, end = limit < 0 || offset > INT64_MAX - limit ? INT64_MAX : offset + limit;
    while ((err = db_step(sizes, &row)) == OK && row) {
        int64_t length = db_int(sizes, 1);
        int64_t from = offset > at ? offset - at : 0, to = end - at < length ? end - at : length;
        at += length;
        if (from >= to)
            continue;
        db_bind(piece, (struct db_value[]){v_int(id), v_int(db_int(sizes, 0))}, 2);
        err = db_step(piece, &found);
        if (err == OK && found)
            buf_add(out, db_span(piece, 0).p + from, (size_t)(to - from));
        db_reset(piece);
        if (err != OK)
            break;
    }
    db_reset(sizes);
    *total = at;
    return err;
}

enum err reader_log_pieces(struct reader *reader, int64_t id, int attempt, int64_t *count)
{
    int64_t first = (int64_t)attempt << 32;
    return DB_NUMBER(reader->db, count, 0,
                     "SELECT MAX(seq) + 1 - $2 FROM logs WHERE id = $1 AND seq BETWEEN $2 AND $3", v_int(id),
                     v_int(first), v_int(first | UINT32_MAX));
}

enum err reader_log_after(struct reader *reader, int64_t id, int attempt, int64_t *seq, int64_t limit,
                          struct buf *out)
{
    struct db_stmt *stmt = DB_QUERY(reader->db,
                                    "SELECT seq, data FROM logs WHERE id = $1 AND seq > $2 "
                                    "AND ($3 = 0 OR attempt = $3) ORDER BY seq",
                                    v_int(id), v_int(*seq), v_int(attempt));
    if (!stmt)
        return ERR_DB;
    bool row;
    enum err err = OK;
    size_t start = out->len;
    while ((int64_t)(out->len - start) < limit && (err = db_step(stmt, &row)) == OK && row) {
        *seq = db_int(stmt, 0);
        buf_add_span(out, db_span(stmt, 1));
    }
    db_reset(stmt);
    return err;
}
