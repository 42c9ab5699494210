/* Schedules made, replaced, paused, removed, and read. */
#include "store/internal.h"
#include "store/reader.h"
#include "store/schedule.h"
#include "store/schedule_rows.h"

/* --- making ----------------------------------------------------------------------- */

static enum err check_room(struct tx *tx)
{
    int64_t last;
    enum err err =
        DB_NUMBER(tx->db, &last, 0, "SELECT id FROM schedules WHERE id > 0 ORDER BY id LIMIT 1 OFFSET $1",
                  v_int(SCHEDULES_MAX - 1));
    return err == OK && last ? ERR_LIMIT : err;
}

static enum err insert(struct tx *tx, const struct schedule_put *put, enum schedule_source source, int64_t now)
{
    enum err err = check_room(tx);
    if (err != OK)
        return err;
    return DB_EXECUTE(
        tx->db,
        "INSERT INTO schedules (id, name, source, definition, version, paused, until, next_at, skipped) "
        "VALUES ($1, $2, $3, $4, 1, 0, $5, $6, 0)",
        v_int(id_next(&tx->store->ids, tx->id_now)), v_text(put->name), v_int(source), v_text(put->definition),
        v_int(now), v_time(put->next_at));
}

/* A paused one stays paused. */
static enum err replace(struct tx *tx, const struct schedule_put *put, enum schedule_source source, int64_t now)
{
    return DB_EXECUTE(tx->db,
                      "UPDATE schedules SET source = $2, definition = $3, version = version + 1, until = $4, "
                      "next_at = CASE WHEN paused <> 0 THEN NULL ELSE $5 END, problem = NULL "
                      "WHERE name = $1 AND (definition <> $3 OR source <> $2)",
                      v_text(put->name), v_int(source), v_text(put->definition), v_int(now), v_time(put->next_at));
}

static enum err put_one(struct tx *tx, const struct schedule_put *put, enum schedule_source source, int64_t now,
                        bool *created)
{
    int64_t there;
    enum err err = DB_NUMBER(tx->db, &there, 0, "SELECT source FROM schedules WHERE name = $1", v_text(put->name));
    if (err != OK)
        return err;
    if (there == SCHEDULE_OF_FILE && source != SCHEDULE_OF_FILE)
        return ERR_CONFLICT;
    *created = !there;
    return there ? replace(tx, put, source, now) : insert(tx, put, source, now);
}

static enum err apply_put(struct tx *tx, struct op *base)
{
    struct op_schedule_put *op = (struct op_schedule_put *)base;
    return put_one(tx, &op->put, SCHEDULE_OF_CLIENT, op->now, &op->created);
}

void op_schedule_put_init(struct op_schedule_put *op)
{
    static const struct op_class class = {
        .name = "schedule_put", .apply = apply_put, .committed = schedule_committed, .several = op_is_several};
    *op = (struct op_schedule_put){0};
    op_init(&op->op, &class);
}

/* --- removing ----------------------------------------------------------------------- */

static enum err remove_row(struct tx *tx, int64_t id)
{
    enum err err = DB_EXECUTE(tx->db, "DELETE FROM schedule_waiting WHERE schedule = $1", v_int(id));
    return err == OK ? DB_EXECUTE(tx->db, "DELETE FROM schedules WHERE id = $1", v_int(id)) : err;
}

static enum err apply_remove(struct tx *tx, struct op *base)
{
    struct op_schedule_remove *op = (struct op_schedule_remove *)base;
    struct db_stmt *stmt = DB_QUERY(tx->db, "SELECT id, source FROM schedules WHERE name = $1", v_text(op->name));
    if (!stmt)
        return ERR_DB;
    int64_t id = 0, source = 0;
    enum err err = db_step_found(stmt);
    if (err == OK) {
        id = db_int(stmt, 0);
        source = db_int(stmt, 1);
    }
    db_reset(stmt);
    if (err == OK && source == SCHEDULE_OF_FILE)
        return ERR_CONFLICT;
    return err == OK ? remove_row(tx, id) : err;
}

void op_schedule_remove_init(struct op_schedule_remove *op, struct span name)
{
    static const struct op_class class = {.name = "schedule_remove",
                                          .apply = apply_remove,
                                          .committed = schedule_committed,
                                          .several = op_is_several};
    *op = (struct op_schedule_remove){.name = name};
    op_init(&op->op, &class);
}

/* --- those of the file ------------------------------------------------------------------ */

static bool is_listed(const struct op_schedule_sync *op, struct span name)
{
    for (int i = 0; i < op->count; i++)
        if (span_equal(op->items[i].name, name))
            return true;
    return false;
}

/* The first of the file after that id; *id is 0 if there is none. */
static enum err next_of_file(struct tx *tx, const struct op_schedule_sync *op, int64_t after, int64_t *id,
                             bool *listed)
{
    struct db_stmt *stmt =
        DB_QUERY(tx->db, "SELECT id, name FROM schedules WHERE source = $1 AND id > $2 ORDER BY id LIMIT 1",
                 v_int(SCHEDULE_OF_FILE), v_int(after));
    if (!stmt)
        return ERR_DB;
    bool row;
    enum err err = db_step(stmt, &row);
    *id = err == OK && row ? db_int(stmt, 0) : 0;
    *listed = *id && is_listed(op, db_span(stmt, 1));
    db_reset(stmt);
    return err;
}

static enum err remove_unlisted(struct tx *tx, const struct op_schedule_sync *op)
{
    int64_t id = 0;
    bool listed;
    enum err err;
    while ((err = next_of_file(tx, op, id, &id, &listed)) == OK && id)
        if (!listed && (err = remove_row(tx, id)) != OK)
            break;
    return err;
}

/* A file holds no more of them than there may be: the transaction is bounded. */
static enum err apply_sync(struct tx *tx, struct op *base)
{
    struct op_schedule_sync *op = (struct op_schedule_sync *)base;
    bool created;
    enum err err = remove_unlisted(tx, op);
    for (int i = 0; i < op->count && err == OK; i++)
        err = put_one(tx, &op->items[i], SCHEDULE_OF_FILE, op->now, &created);
    return err;
}

void op_schedule_sync_init(struct op_schedule_sync *op)
{
    static const struct op_class class = {
        .name = "schedule_sync", .apply = apply_sync, .committed = schedule_committed, .several = op_is_several};
    *op = (struct op_schedule_sync){0};
    op_init(&op->op, &class);
}

/* --- pausing ------------------------------------------------------------------------------- */

static enum err apply_pause(struct tx *tx, struct op *base)
{
    struct op_schedule_pause *op = (struct op_schedule_pause *)base;
    enum err err = DB_EXECUTE(tx->db,
                              "UPDATE schedules SET paused = $3, version = version + 1, until = $4, next_at = $5 "
                              "WHERE id = $1 AND version = $2",
                              v_int(op->id), v_int(op->version), v_int(op->paused), v_int(op->now),
                              v_time(op->paused ? 0 : op->next_at));
    return err == OK && !db_changes(tx->db) ? ERR_CONFLICT : err;
}

void op_schedule_pause_init(struct op_schedule_pause *op)
{
    static const struct op_class class = {
        .name = "schedule_pause", .apply = apply_pause, .committed = schedule_committed};
    *op = (struct op_schedule_pause){0};
    op_init(&op->op, &class);
}

/* --- reading ----------------------------------------------------------------------------------- */

#define SCHEDULE                                                                                               \
    "SELECT s.id, s.version, s.name, s.definition, s.source, s.paused, s.until, s.next_at, s.last_at, "        \
    "s.last_id, w.due_at, s.skipped, s.problem FROM schedules s LEFT JOIN schedule_waiting w ON w.schedule = " \
    "s.id "

static enum err read_rows(struct db_stmt *stmt, schedule_row *each, void *context, int *count)
{
    if (!stmt)
        return ERR_DB;
    bool row;
    enum err err;
    while ((err = db_step(stmt, &row)) == OK && row) {
        struct schedule schedule = {
            .id = db_int(stmt, 0),
            .version = db_int(stmt, 1),
            .name = db_span(stmt, 2),
            .definition = db_span(stmt, 3),
            .source = (enum schedule_source)db_int(stmt, 4),
            .paused = db_int(stmt, 5),
            .until = db_int(stmt, 6),
            .next_at = db_int(stmt, 7),
            .last_at = db_int(stmt, 8),
            .last_id = db_int(stmt, 9),
            .waiting_at = db_int(stmt, 10),
            .skipped = db_int(stmt, 11),
            .problem = db_span(stmt, 12),
        };
        (*count)++;
        if (!each(context, &schedule))
            break;
    }
    db_reset(stmt);
    return err;
}

enum err reader_schedule(struct reader *reader, struct span name, schedule_row *row, void *context)
{
    int count = 0;
    enum err err =
        read_rows(DB_QUERY(reader->db, SCHEDULE "WHERE s.name = $1", v_text(name)), row, context, &count);
    return err == OK && !count ? ERR_NOT_FOUND : err;
}

enum err reader_schedules(struct reader *reader, int64_t after, int limit, schedule_row *row, void *context)
{
    int count = 0;
    return read_rows(
        DB_QUERY(reader->db, SCHEDULE "WHERE s.id > $1 ORDER BY s.id LIMIT $2", v_int(after), v_int(limit)), row,
        context, &count);
}

enum err reader_schedules_due(struct reader *reader, int64_t now, int limit, schedule_row *row, void *context)
{
    int count = 0;
    return read_rows(DB_QUERY(reader->db,
                              SCHEDULE
                              "WHERE s.next_at IS NOT NULL AND s.next_at <= $1 ORDER BY s.next_at LIMIT $2",
                              v_int(now), v_int(limit)),
                     row, context, &count);
}

enum err reader_schedules_next(struct reader *reader, int64_t now, int64_t *next_at)
{
    return DB_NUMBER(reader->db, next_at, 0,
                     "SELECT next_at FROM schedules WHERE next_at IS NOT NULL AND next_at > $1 "
                     "ORDER BY next_at LIMIT 1",
                     v_int(now));
}
