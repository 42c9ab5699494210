/* Reading loops: one, and pages of many. */
#include "store/loop_row.h"

#include "base/clock.h"
#include "store/reader.h"
#include "store/transition.h"

enum { CLOCK_EVERY_ROWS = 64 };

static const char *const names[LOOP_SHOWN_COUNT] = {
    [LOOP_SHOWN_QUEUED] = "queued",     [LOOP_SHOWN_RUNNING] = "running",     [LOOP_SHOWN_PAUSED] = "paused",
    [LOOP_SHOWN_STOPPING] = "stopping", [LOOP_SHOWN_STOPPED] = "stopped",     [LOOP_SHOWN_SUCCEEDED] = "succeeded",
    [LOOP_SHOWN_FAILED] = "failed",     [LOOP_SHOWN_CANCELLED] = "cancelled",
};

const char *loop_shown_name(enum loop_shown shown)
{
    return names[shown];
}

bool loop_shown_parse(struct span text, enum loop_shown *shown)
{
    for (int i = 0; i < LOOP_SHOWN_COUNT; i++)
        if (span_is(text, names[i])) {
            *shown = (enum loop_shown)i;
            return true;
        }
    return false;
}

/* --- a row ----------------------------------------------------------------------------- */

#define VIEW_COLUMNS                                                                                          \
    "l.id, l.name, l.status, l.task, l.next, l.continues, l.priority, l.max_retries, l.retention_ms, "        \
    "l.delay_ms, l.timeout_ms, l.max_iterations, l.iteration, l.invocation, l.slot, l.slot_since, l.due_at, " \
    "l.finished_at, l.labels, l.error, (SELECT s.name FROM sets s WHERE s.id = l.set_id), l.flags, "          \
    "(SELECT i.status FROM invocations i WHERE i.id = l.invocation), l.args, l.result"
enum { COLUMN_FLAGS = 21, COLUMN_STATUS, COLUMN_ARGS, COLUMN_RESULT };

/* An active one is queued while it, or its iteration, waits for a slot; between two
 * iterations it rests, and runs. */
static enum loop_shown shown_of(enum loop_status status, bool rests, enum status iteration)
{
    static const enum loop_shown others[] = {
        [LOOP_PAUSED] = LOOP_SHOWN_PAUSED,   [LOOP_STOPPING] = LOOP_SHOWN_STOPPING,
        [LOOP_STOPPED] = LOOP_SHOWN_STOPPED, [LOOP_SUCCEEDED] = LOOP_SHOWN_SUCCEEDED,
        [LOOP_FAILED] = LOOP_SHOWN_FAILED,   [LOOP_CANCELLED] = LOOP_SHOWN_CANCELLED,
    };
    if (status != LOOP_ACTIVE)
        return others[status];
    bool waits = !iteration ? !rests : iteration == STATUS_QUEUED || iteration == STATUS_HELD;
    return waits ? LOOP_SHOWN_QUEUED : LOOP_SHOWN_RUNNING;
}

static void read_view(struct db_stmt *stmt, struct loop_view *out)
{
    *out = (struct loop_view){
        .id = db_int(stmt, 0),
        .name = db_span(stmt, 1),
        .task = (int)db_int(stmt, 3),
        .next = (enum loop_next)db_int(stmt, 4),
        .continues = db_int(stmt, 5),
        .priority = (int)db_int(stmt, 6),
        .max_retries = (int)db_int(stmt, 7),
        .retention_ms = db_int(stmt, 8),
        .delay_ms = db_int(stmt, 9),
        .timeout_ms = db_int(stmt, 10),
        .max_iterations = db_int(stmt, 11),
        .iteration = db_int(stmt, 12),
        .invocation = db_int(stmt, 13),
        .slot = db_is_null(stmt, 14) ? -1 : db_int(stmt, 14),
        .slot_since = db_int(stmt, 15),
        .due_at = db_int(stmt, 16),
        .finished_at = db_int(stmt, 17),
        .labels = db_span(stmt, 18),
        .error = db_span(stmt, 19),
        .set = db_span(stmt, 20),
        .args = db_span(stmt, COLUMN_ARGS),
        .result = db_span(stmt, COLUMN_RESULT),
    };
    out->shown =
        shown_of((enum loop_status)db_int(stmt, 2), out->due_at, (enum status)db_int(stmt, COLUMN_STATUS));
}

/* What stands outside the row. */
static enum err read_payloads(struct reader *reader, unsigned flags, struct loop_view *out)
{
    enum err err = OK;
    reader->args.len = reader->result.len = 0;
    if (flags & LOOP_ARGS_OUTSIDE) {
        err = reader_payload(reader, out->id, PAYLOAD_ARGS, &reader->args);
        out->args = buf_span(&reader->args);
    }
    if (err == OK && flags & LOOP_RESULT_OUTSIDE) {
        err = reader_payload(reader, out->id, PAYLOAD_RESULT, &reader->result);
        out->result = buf_span(&reader->result);
    }
    return err == ERR_NOT_FOUND ? OK : err; /* it has moved on between the two reads */
}

/* Into `bytes`, so that the statement can be reset. */
static void keep_view(struct loop_view *view, struct buf *bytes)
{
    struct span *const spans[] = {&view->name, &view->labels, &view->error,
                                  &view->set,  &view->args,   &view->result};
    size_t total = 1;
    for (size_t i = 0; i < sizeof spans / sizeof *spans; i++)
        total += spans[i]->len;
    bytes->len = 0;
    buf_reserve(bytes, total);
    for (size_t i = 0; i < sizeof spans / sizeof *spans; i++) {
        size_t start = bytes->len;
        if (!spans[i]->p)
            continue;
        buf_add_span(bytes, *spans[i]);
        spans[i]->p = bytes->data + start;
    }
}

enum err reader_loop_id(struct reader *reader, struct loop_ref ref, int64_t *id)
{
    return loop_find(reader->db, ref, id);
}

enum err reader_loop(struct reader *reader, struct loop_ref ref, enum view view, struct loop_view *out,
                     struct buf *bytes)
{
    int64_t id;
    enum err err = reader_loop_id(reader, ref, &id);
    if (err != OK)
        return err;
    struct db_stmt *stmt = DB_QUERY(reader->db, "SELECT " VIEW_COLUMNS " FROM loops l WHERE l.id = $1", v_int(id));
    if (!stmt)
        return ERR_DB;
    err = db_step_found(stmt);
    if (err == OK) {
        read_view(stmt, out);
        if (view == VIEW_FULL)
            err = read_payloads(reader, (unsigned)db_int(stmt, COLUMN_FLAGS), out);
    }
    if (err == OK)
        keep_view(out, bytes);
    db_reset(stmt);
    return err;
}

enum err reader_iteration(struct reader *reader, int64_t id, int64_t *loop, int64_t *number)
{
    struct db_stmt *stmt = DB_QUERY(reader->db, "SELECT loop, number FROM iterations WHERE id = $1", v_int(id));
    if (!stmt)
        return ERR_DB;
    bool row;
    enum err err = db_step(stmt, &row);
    *loop = err == OK && row ? db_int(stmt, 0) : 0;
    *number = err == OK && row ? db_int(stmt, 1) : 0;
    db_reset(stmt);
    return err;
}

/* --- pages -------------------------------------------------------------------------------- */

/* The stored status, if there is one alone that is meant; else 0. */
static enum loop_status only_status(unsigned shown)
{
    switch (shown) {
    case 1u << LOOP_SHOWN_QUEUED | 1u << LOOP_SHOWN_RUNNING:
    case 1u << LOOP_SHOWN_QUEUED:
    case 1u << LOOP_SHOWN_RUNNING: return LOOP_ACTIVE;
    case 1u << LOOP_SHOWN_PAUSED: return LOOP_PAUSED;
    case 1u << LOOP_SHOWN_STOPPING: return LOOP_STOPPING;
    case 1u << LOOP_SHOWN_STOPPED: return LOOP_STOPPED;
    case 1u << LOOP_SHOWN_SUCCEEDED: return LOOP_SUCCEEDED;
    case 1u << LOOP_SHOWN_FAILED: return LOOP_FAILED;
    case 1u << LOOP_SHOWN_CANCELLED: return LOOP_CANCELLED;
    }
    return 0;
}

#define LOOPS "SELECT " VIEW_COLUMNS " FROM loops l WHERE l.id > $1 AND l.id < $2 "
#define NEWEST "ORDER BY l.id DESC"
#define OLDEST "ORDER BY l.id"

static struct db_stmt *choose(struct reader *reader, const struct loop_query *query, int64_t set)
{
    struct db_value low = v_int(query->oldest_first ? query->cursor : 0);
    struct db_value high = v_int(!query->oldest_first && query->cursor ? query->cursor : INT64_MAX);
    enum loop_status status = only_status(query->shown);
    bool oldest = query->oldest_first;
    if (set)
        return oldest ? DB_QUERY(reader->db, LOOPS "AND l.set_id = $3 " OLDEST, low, high, v_int(set))
                      : DB_QUERY(reader->db, LOOPS "AND l.set_id = $3 " NEWEST, low, high, v_int(set));
    if (status)
        return oldest ? DB_QUERY(reader->db, LOOPS "AND l.status = $3 " OLDEST, low, high, v_int(status))
                      : DB_QUERY(reader->db, LOOPS "AND l.status = $3 " NEWEST, low, high, v_int(status));
    return oldest ? DB_QUERY(reader->db, LOOPS OLDEST, low, high) : DB_QUERY(reader->db, LOOPS NEWEST, low, high);
}

static bool is_wanted(const struct loop_query *query, const struct loop_view *view)
{
    return (!query->task || view->task == query->task) && (!query->shown || query->shown & 1u << view->shown);
}

static bool is_late(const struct loop_query *query, int scanned)
{
    return query->scan_until_us && scanned % CLOCK_EVERY_ROWS == 0 && clock_mono_us() > query->scan_until_us;
}

static enum err walk(struct reader *reader, const struct loop_query *query, struct db_stmt *stmt,
                     bool (*row)(void *context, const struct loop_view *row), void *context, int64_t *next)
{
    int given = 0, scanned = 0;
    bool found;
    enum err err;
    while ((err = db_step(stmt, &found)) == OK && found) {
        struct loop_view view;
        read_view(stmt, &view);
        bool wanted = is_wanted(query, &view), fits = given < query->limit;
        if (wanted && fits && query->view == VIEW_FULL)
            err = read_payloads(reader, (unsigned)db_int(stmt, COLUMN_FLAGS), &view);
        if (err != OK)
            return err;
        if (wanted && (!fits || !row(context, &view))) {
            *next = query->oldest_first ? view.id - 1 : view.id + 1;
            return OK;
        }
        given += wanted;
        if (is_late(query, ++scanned)) {
            *next = view.id;
            return OK;
        }
    }
    return err;
}

enum err reader_loops(struct reader *reader, const struct loop_query *query,
                      bool (*row)(void *context, const struct loop_view *row), void *context, int64_t *next)
{
    int64_t set = 0;
    *next = 0;
    if (query->task < 0)
        return OK;
    enum err err = query->set.p
                       ? DB_NUMBER(reader->db, &set, 0, "SELECT id FROM sets WHERE name = $1", v_text(query->set))
                       : OK;
    if (err != OK || (query->set.p && !set))
        return err;
    struct db_stmt *stmt = choose(reader, query, set);
    if (!stmt)
        return ERR_DB;
    err = walk(reader, query, stmt, row, context, next);
    db_reset(stmt);
    return err;
}
