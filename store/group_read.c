#include "store/groups.h"

#include "store/reader.h"
#include "store/transition.h"

/* --- names ------------------------------------------------------------------------ */

const char *group_status_name(enum group_status status)
{
    static const char *const names[] = {
        [GROUP_HELD] = "held",     [GROUP_RUNNING] = "running",     [GROUP_SUCCEEDED] = "succeeded",
        [GROUP_FAILED] = "failed", [GROUP_CANCELLED] = "cancelled",
    };
    return names[status];
}

const char *group_mode_name(enum group_mode mode)
{
    static const char *const names[] = {
        [GROUP_PARALLEL] = "parallel", [GROUP_CHAIN] = "chain", [GROUP_GRAPH] = "graph"};
    return names[mode];
}

/* --- the row ----------------------------------------------------------------------- */

static enum group_status status_of(int64_t state, const struct group_row *row)
{
    if (!(state & GROUP_HAS_ENDED))
        return state & (GROUP_IS_HELD | GROUP_IS_MAKING) ? GROUP_HELD : GROUP_RUNNING;
    if (row->counts[STATUS_FAILED])
        return GROUP_FAILED;
    bool emptied = !row->total && state & GROUP_IS_STOPPED;
    return row->counts[STATUS_CANCELLED] || emptied ? GROUP_CANCELLED : GROUP_SUCCEEDED;
}

#define GROUP_COLUMNS                                                                                    \
    "g.id, g.mode, g.state, g.total, g.held, g.scheduled, g.queued, g.running, g.waiting, g.succeeded, " \
    "g.failed, g.cancelled, g.finished_at, g.release_by, g.labels, c.parent, c.step"

static void group_row_read(struct reader *reader, struct db_stmt *stmt, struct group_row *out)
{
    int64_t state = db_int(stmt, 2);
    *out = (struct group_row){
        .id = db_int(stmt, 0),
        .mode = (enum group_mode)db_int(stmt, 1),
        .open = state & GROUP_IS_OPEN,
        .held = state & GROUP_IS_HELD,
        .fail_fast = state & GROUP_FAILS_FAST,
        .making = state & GROUP_IS_MAKING,
        .total = (int)db_int(stmt, 3),
        .counts = {[STATUS_HELD] = db_int(stmt, 4),
                   [STATUS_SCHEDULED] = db_int(stmt, 5),
                   [STATUS_QUEUED] = db_int(stmt, 6),
                   [STATUS_RUNNING] = db_int(stmt, 7),
                   [STATUS_WAITING] = db_int(stmt, 8),
                   [STATUS_SUCCEEDED] = db_int(stmt, 9),
                   [STATUS_FAILED] = db_int(stmt, 10),
                   [STATUS_CANCELLED] = db_int(stmt, 11)},
        .finished_at = db_int(stmt, 12),
        .release_by = db_int(stmt, 13),
        .labels = reader_copied(&reader->note, db_span(stmt, 14)),
        .parent = db_int(stmt, 15),
        .step = reader_copied(&reader->step, db_span(stmt, 16)),
    };
    out->status = status_of(state, out);
}

enum err reader_group(struct reader *reader, int64_t id, struct group_row *out)
{
    struct db_stmt *stmt = DB_QUERY(reader->db,
                                    "SELECT " GROUP_COLUMNS " FROM groups g LEFT JOIN children c ON c.id = g.id "
                                    "WHERE g.id = $1 AND g.state & " SQL_GROUP_GONE " = 0",
                                    v_int(id));
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    if (err == OK)
        group_row_read(reader, stmt, out);
    db_reset(stmt);
    return err;
}

enum err reader_get_awaited(struct reader *reader, int64_t id, enum view view, struct invocation *out)
{
    static const enum status statuses[] = {
        [GROUP_HELD] = STATUS_HELD,     [GROUP_RUNNING] = STATUS_RUNNING,     [GROUP_SUCCEEDED] = STATUS_SUCCEEDED,
        [GROUP_FAILED] = STATUS_FAILED, [GROUP_CANCELLED] = STATUS_CANCELLED,
    };
    struct group_row group;
    enum err err = reader_get(reader, id, view, out);
    if (err != ERR_NOT_FOUND)
        return err;
    err = reader_group(reader, id, &group);
    if (err == OK)
        *out = (struct invocation){.id = id,
                                   .status = statuses[group.status],
                                   .finished_at = group.finished_at,
                                   .parent = group.parent,
                                   .step = group.step};
    return err;
}

enum err reader_group_args(struct reader *reader, int64_t id, struct buf *out)
{
    enum err err = reader_payload(reader, id, PAYLOAD_COMMON_ARGS, out);
    return err == ERR_NOT_FOUND ? OK : err;
}

/* --- members ------------------------------------------------------------------------- */

enum err reader_group_ids(struct reader *reader, int64_t id, int64_t after, int limit,
                          void (*member)(void *context, int64_t id), void *context)
{
    struct db_stmt *stmt =
        DB_QUERY(reader->db, "SELECT id FROM members WHERE grp = $1 AND id > $2 ORDER BY id LIMIT $3", v_int(id),
                 v_int(after), v_int(limit));
    if (!stmt)
        return ERR_DB;
    bool row;
    enum err err;
    while ((err = db_step(stmt, &row)) == OK && row)
        member(context, db_int(stmt, 0));
    db_reset(stmt);
    return err;
}

enum err reader_group_named(struct reader *reader, int64_t id, struct span name, int64_t *member)
{
    enum err err = DB_NUMBER(reader->db, member, 0, "SELECT id FROM member_names WHERE grp = $1 AND name = $2",
                             v_int(id), v_text(name));
    return err == OK && !*member ? ERR_NOT_FOUND : err;
}

/* --- results ---------------------------------------------------------------------------- */

#define RESULT_COLUMNS                                       \
    "i.id, i.member, i.status, i.flags, i.result, i.error, " \
    "CASE WHEN i.flags & " SQL_FLAG_NAMED " <> 0 THEN (SELECT n.name FROM member_names n WHERE n.id = i.id) END"

static struct db_stmt *query_results(struct reader *reader, int64_t id, bool by_completion, int64_t position,
                                     int limit)
{
    if (!by_completion)
        return DB_QUERY(reader->db,
                        "SELECT " RESULT_COLUMNS ", m.id FROM members m CROSS JOIN invocations i "
                        "WHERE i.id = m.id AND m.grp = $1 AND m.id > $2 ORDER BY m.id LIMIT $3",
                        v_int(id), v_int(position), v_int(limit));
    /* An end that was taken back since is none. */
    return DB_QUERY(reader->db,
                    "SELECT " RESULT_COLUMNS ", e.number FROM completions e CROSS JOIN invocations i "
                    "WHERE i.id = e.id AND COALESCE(i.failed, 0) = e.failed AND i.status IN (" SQL_FINALS ") "
                    "AND e.grp = $1 AND e.number > $2 ORDER BY e.number LIMIT $3",
                    v_int(id), v_int(position), v_int(limit));
}

static enum err read_result(struct reader *reader, struct db_stmt *stmt, struct group_result *out)
{
    *out = (struct group_result){
        .id = db_int(stmt, 0),
        .index = (int)db_int(stmt, 1),
        .status = (enum status)db_int(stmt, 2),
        .result = db_span(stmt, 4),
        .error = db_span(stmt, 5),
        .name = db_span(stmt, 6),
        .position = db_int(stmt, 7),
    };
    if (!(db_int(stmt, 3) & FLAG_RESULT_OUTSIDE) || out->status != STATUS_SUCCEEDED)
        return OK;
    out->result_outside = reader_is_brief(reader);
    return out->result_outside ? OK
                               : reader_outside(reader, out->id, PAYLOAD_RESULT, &reader->result, &out->result);
}

enum err reader_group_results(struct reader *reader, int64_t id, bool by_completion, int64_t position, int limit,
                              bool (*row)(void *context, const struct group_result *row), void *context)
{
    struct db_stmt *stmt = query_results(reader, id, by_completion, position, limit);
    if (!stmt)
        return ERR_DB;
    bool more;
    enum err err;
    while ((err = db_step(stmt, &more)) == OK && more) {
        struct group_result result;
        err = read_result(reader, stmt, &result);
        if (err != OK || !row(context, &result))
            break;
    }
    db_reset(stmt);
    return err;
}
