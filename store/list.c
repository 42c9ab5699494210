/* Lists: keyset pages over merged streams.
 *
 * A query is driven by one stream of rows in id order, or by several that are
 * merged: each an index range, never a sort, never an OFFSET. What the driving
 * index does not decide is decided row by row, here, so that a scan that finds
 * little can stop in time and still knows where it stood. */
#include "store/reader.h"

#include "base/clock.h"
#include "base/json.h"
#include "store/arguments.h"
#include "store/kin.h"
#include "store/transition.h"

#include <stdlib.h>

enum { STREAMS_MAX = 64, CLOCK_EVERY_ROWS = 256 };

struct stream {
    struct db_stmt *stmt;
    struct query *query; /* NULL: the statement is the stream's own */
    bool live;           /* it stands on a row */
    int64_t id;
};

struct scan {
    struct reader *reader;
    const struct list_query *query;
    struct stream streams[STREAMS_MAX];
    int count;
    int64_t low, high; /* exclusive bounds of the ids */
};

#define OF_STATUS(name) \
    "invocations i WHERE i.status = " SQL_##name " AND i.status <> " SQL_QUEUED " AND i.status <> " SQL_SUCCEEDED
enum {
    INDEXED_STATUSES = 1u << STATUS_HELD | 1u << STATUS_SCHEDULED | 1u << STATUS_RUNNING | 1u << STATUS_WAITING |
                       1u << STATUS_FAILED | 1u << STATUS_CANCELLED,
};

static const struct db_value nothing = {DB_NULL, {0}};

/* --- streams ---------------------------------------------------------------------- */

static enum err statement_for(struct reader *reader, const char *sql, struct stream *stream)
{
    for (int i = 0; i < reader->query_count; i++) {
        struct query *query = &reader->queries[i];
        if (!query->busy && strcmp(query->sql, sql) == 0) {
            query->busy = true;
            stream->query = query;
            stream->stmt = query->stmt;
            return OK;
        }
    }
    enum err err = db_prepare(reader->db, sql, &stream->stmt);
    stream->query = NULL;
    if (err == OK && reader->query_count < QUERIES_KEPT) {
        struct query *query = &reader->queries[reader->query_count++];
        *query = (struct query){xstrdup(sql), stream->stmt, true};
        stream->query = query;
    }
    return err;
}

static enum err advance(struct stream *stream)
{
    enum err err = db_step(stream->stmt, &stream->live);
    if (err == OK && stream->live)
        stream->id = db_int(stream->stmt, 0);
    return err;
}

/* Opens a stream over `from`, which names invocations as i, in the order of
 * `id`: a column of the index that drives (SQLite would sort by the joined
 * one). Further conditions use $3 and $4. */
static enum err add_stream(struct scan *scan, const char *id, const char *from, struct db_value third,
                           struct db_value fourth)
{
    if (scan->count == STREAMS_MAX)
        return ERR_LIMIT;
    struct stream *stream = &scan->streams[scan->count];
    struct buf sql = {0};
    bool full = scan->query->view == VIEW_FULL;
    buf_addf(&sql, "SELECT %s FROM %s AND %s > $1 AND %s < $2 ORDER BY %s %s",
             full ? ROW_COLUMNS_FULL : ROW_COLUMNS, from, id, id, id, scan->query->oldest_first ? "ASC" : "DESC");
    enum err err = statement_for(scan->reader, buf_cstr(&sql), stream);
    buf_release(&sql);
    if (err != OK)
        return err;
    scan->count++;
    struct db_value values[] = {v_int(scan->low), v_int(scan->high), third, fourth};
    int count = fourth.type ? 4 : third.type ? 3 : 2;
    db_bind(stream->stmt, values, count);
    return advance(stream);
}

static void close_streams(struct scan *scan)
{
    for (int i = 0; i < scan->count; i++) {
        db_reset(scan->streams[i].stmt);
        if (scan->streams[i].query)
            scan->streams[i].query->busy = false;
        else
            db_finalize(scan->streams[i].stmt);
    }
    scan->count = 0;
}

/* The stream whose row comes next in the order, NULL at the end. */
static struct stream *next_stream(struct scan *scan)
{
    struct stream *best = NULL;
    for (int i = 0; i < scan->count; i++) {
        struct stream *s = &scan->streams[i];
        if (s->live && (!best || (scan->query->oldest_first ? s->id < best->id : s->id > best->id)))
            best = s;
    }
    return best;
}

/* --- choosing what drives ------------------------------------------------------------ */

/* Queued rows have no index by id; they have one by (task, priority, id): a
 * stream for each pair that is there. */
static enum err add_queued_of(struct scan *scan, int task)
{
    enum err err = OK;
    for (int64_t priority = -1; err == OK;) {
        err = DB_NUMBER(scan->reader->db, &priority, -1,
                        "SELECT MIN(priority) FROM invocations WHERE status = " SQL_QUEUED " "
                        "AND task = $1 AND priority > $2",
                        v_int(task), v_int(priority));
        if (err != OK || priority < 0)
            break;
        err = add_stream(scan, "i.id",
                         "invocations i WHERE i.status = " SQL_QUEUED " AND i.task = $3 AND i.priority = $4",
                         v_int(task), v_int(priority));
    }
    return err;
}

static enum err add_queued(struct scan *scan)
{
    if (scan->query->filter.task)
        return add_queued_of(scan, scan->query->filter.task);
    int count;
    enum err err = OK;
    struct store_task *tasks = store_tasks(scan->reader->store, &count);
    for (int i = 0; i < count && err == OK; i++)
        if (tasks[i].counts[STATUS_QUEUED] > 0)
            err = add_queued_of(scan, tasks[i].id);
    store_tasks_free(tasks, count);
    return err;
}

static enum err add_statuses(struct scan *scan, unsigned statuses)
{
    static const char *const from[STATUS_SLOTS] = {
        [STATUS_SCHEDULED] = OF_STATUS(SCHEDULED), [STATUS_RUNNING] = OF_STATUS(RUNNING),
        [STATUS_WAITING] = OF_STATUS(WAITING),     [STATUS_FAILED] = OF_STATUS(FAILED),
        [STATUS_CANCELLED] = OF_STATUS(CANCELLED), [STATUS_HELD] = OF_STATUS(HELD),
    };
    enum err err = OK;
    for (int s = 0; s < STATUS_SLOTS && err == OK; s++)
        if ((statuses & 1u << s) && from[s])
            err = add_stream(scan, "i.id", from[s], nothing, nothing);
    if (err == OK && (statuses & 1u << STATUS_QUEUED))
        err = add_queued(scan);
    return err;
}

/* Fewer rows of those statuses than of that task? */
static bool statuses_are_rarer(struct store *store, unsigned statuses, int wanted)
{
    int count;
    int64_t of_statuses = 0, of_task = 0;
    struct store_task *tasks = store_tasks(store, &count);
    for (int i = 0; i < count; i++)
        for (int s = 0; s < STATUS_SLOTS; s++) {
            of_statuses += statuses & 1u << s ? tasks[i].counts[s] : 0;
            of_task += tasks[i].id == wanted ? tasks[i].counts[s] : 0;
        }
    store_tasks_free(tasks, count);
    return of_statuses < of_task;
}

static bool has_prefix_only(struct span error)
{
    return error.len > 0 && error.p[error.len - 1] == '*';
}

/* Its own, or one that was answered with it. */
static enum err add_key(struct scan *scan, struct db_value owner, struct db_value key)
{
    enum err err = add_stream(
        scan, "i.id", "invocations i WHERE i.key IS NOT NULL AND i.key_owner = $3 AND i.key = $4", owner, key);
    return err == OK ? add_stream(scan, "k.id",
                                  "further_keys k CROSS JOIN invocations i WHERE i.id = k.id AND k.key_owner = $3 "
                                  "AND k.key = $4",
                                  owner, key)
                     : err;
}

static enum err add_argument(struct scan *scan)
{
    const struct filter *f = &scan->query->filter;
    struct buf *term = &scan->reader->term;
    term->len = 0;
    argument_add_term(term, f->arg_paths[f->arg_indexed - 1], f->arg_values[f->arg_indexed - 1]);
    return add_stream(scan, "a.id",
                      "arguments a CROSS JOIN invocations i WHERE i.id = a.id AND a.task = $3 AND a.term = $4",
                      v_int(f->task), v_text(buf_span(term)));
}

static enum err choose(struct scan *scan)
{
    static const unsigned by_index = INDEXED_STATUSES | 1u << STATUS_QUEUED;
    const struct filter *f = &scan->query->filter;
    if (f->key.p)
        return add_key(scan, v_text(key_owner(f->key_owner)), v_text(f->key));
    if (f->parent)
        return add_stream(scan, "c.id", "children c CROSS JOIN invocations i WHERE i.id = c.id AND c.parent = $3",
                          v_int(f->parent), nothing);
    if (f->group)
        return add_stream(scan, "m.id", "members m CROSS JOIN invocations i WHERE i.id = m.id AND m.grp = $3",
                          v_int(f->group), nothing);
    if (f->loop.id)
        return add_stream(scan, "n.id", "iterations n CROSS JOIN invocations i WHERE i.id = n.id AND n.loop = $3",
                          v_int(f->loop.id), nothing);
    if (f->arg_indexed)
        return add_argument(scan);
    if (f->label_count)
        return add_stream(scan, "l.id",
                          "labels l CROSS JOIN invocations i WHERE i.id = l.id AND l.name = $3 AND l.value = $4",
                          v_text(f->label_names[0]), v_text(f->label_values[0]));
    if (f->error.p && !has_prefix_only(f->error))
        return add_stream(scan, "e.id", "errors e CROSS JOIN invocations i WHERE i.id = e.id AND e.type = $3",
                          v_text(f->error), nothing);
    unsigned statuses = f->error.p ? 1u << STATUS_FAILED : f->statuses;
    bool few = statuses && !(statuses & ~by_index);
    if (few && (!f->task || statuses == 1u << STATUS_QUEUED ||
                statuses_are_rarer(scan->reader->store, statuses, f->task))) {
        enum err err = add_statuses(scan, statuses);
        if (err != ERR_LIMIT) /* more streams than are worth merging: scan instead */
            return err;
        close_streams(scan);
    }
    if (f->task)
        return add_stream(scan, "i.id", "invocations i WHERE i.task = $3", v_int(f->task), nothing);
    return add_stream(scan, "i.id", "invocations i WHERE 1 = 1", nothing, nothing);
}

bool filter_is_indexed(const struct filter *f)
{
    static const unsigned by_index = INDEXED_STATUSES | 1u << STATUS_QUEUED;
    if (f->key.p || f->task < 0)
        return true;
    if (f->arg_count)
        return f->arg_indexed && f->arg_count == 1 && !f->statuses && !f->parent && !f->group && !f->loop.id &&
               !f->loop.name.p && !f->label_count && !f->error.p && !f->worker.p;
    int others = (f->parent != 0) + (f->group != 0) + (f->loop.id || f->loop.name.p) + (f->label_count > 0) +
                 (f->error.p != NULL) + (f->task != 0) + (f->statuses != 0);
    if (f->worker.p || f->label_count > 1 || has_prefix_only(f->error))
        return false;
    if (f->task && f->statuses == 1u << STATUS_QUEUED)
        return others == 2;
    return others == 0 || (others == 1 && !(f->statuses & ~by_index));
}

/* --- deciding rows --------------------------------------------------------------------- */

static bool error_matches(struct span pattern, struct span error)
{
    if (!error.p)
        return false;
    struct span type = json_get(error, "type");
    if (!type.p)
        return false;
    struct buf text = {0};
    json_unescape(type, &text);
    bool prefix = has_prefix_only(pattern);
    size_t n = prefix ? pattern.len - 1 : pattern.len;
    bool same = (prefix ? text.len >= n : text.len == n) && (n == 0 || memcmp(text.data, pattern.p, n) == 0);
    buf_release(&text);
    return same;
}

static bool labels_match(const struct filter *f, struct span labels)
{
    struct buf text = {0};
    bool all = true;
    for (int i = 0; i < f->label_count && all; i++) {
        struct json_iter it = json_iter(labels.p ? labels : SPAN("{}"));
        struct span key, value;
        bool found = false;
        while (!found && json_member(&it, &key, &value)) {
            text.len = 0;
            json_unescape(key, &text);
            if (text.len != f->label_names[i].len ||
                (text.len && memcmp(text.data, f->label_names[i].p, text.len) != 0))
                continue;
            text.len = 0;
            json_unescape(value, &text);
            found = text.len == f->label_values[i].len &&
                    (text.len == 0 || memcmp(text.data, f->label_values[i].p, text.len) == 0);
        }
        all = found;
    }
    buf_release(&text);
    return all;
}

/* Of one that was found by its key. */
static enum err has_parent(struct reader *reader, int64_t id, int64_t wanted, bool *is)
{
    int64_t parent;
    enum err err = reader_parent(reader, id, &parent);
    *is = err == OK && parent == wanted;
    return err;
}

/* Of one that was found by its key, or its parent. */
static enum err has_loop(struct reader *reader, int64_t id, int64_t wanted, bool *is)
{
    int64_t loop, number;
    enum err err = reader_iteration(reader, id, &loop, &number);
    *is = err == OK && loop == wanted;
    return err;
}

static bool matches(const struct filter *f, struct db_stmt *stmt)
{
    if (f->task && db_int(stmt, 1) != f->task)
        return false;
    if (f->group && db_int(stmt, ROW_GROUP) != f->group)
        return false;
    int64_t status = db_int(stmt, 2);
    if (f->statuses && !(f->statuses & 1u << status))
        return false;
    if (f->worker.p) {
        struct span worker = db_span(stmt, 19);
        if (worker.len != f->worker.len || !worker.p || memcmp(worker.p, f->worker.p, worker.len) != 0)
            return false;
    }
    if (f->error.p && (status != STATUS_FAILED || !error_matches(f->error, db_span(stmt, 20))))
        return false;
    return !f->label_count || labels_match(f, db_span(stmt, 17));
}

/* What no index has decided. */
static enum err has_arguments(struct reader *reader, const struct filter *f, int64_t id, int task, bool *has)
{
    struct db_stmt *stmt = DB_QUERY(reader->db,
                                    "SELECT COALESCE(i.args, p.data) FROM invocations i LEFT JOIN payloads p "
                                    "ON p.id = i.id AND p.kind = $2 WHERE i.id = $1",
                                    v_int(id), v_int(PAYLOAD_ARGS));
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    *has = err == OK && f->args_match(f, task, db_span(stmt, 0));
    db_reset(stmt);
    return err == ERR_NOT_FOUND ? OK : err;
}

static enum err walk(struct scan *scan, row_fn row, void *context, int64_t *next)
{
    const struct list_query *query = scan->query;
    int count = 0, scanned = 0;
    bool looks_into_args = query->filter.arg_count > (query->filter.arg_indexed ? 1 : 0);
    enum err err = OK;
    struct stream *stream;
    while (err == OK && (stream = next_stream(scan))) {
        int64_t id = stream->id, before = query->oldest_first ? id - 1 : id + 1;
        bool wanted = matches(&query->filter, stream->stmt);
        if (wanted && query->filter.parent && query->filter.key.p)
            err = has_parent(scan->reader, id, query->filter.parent, &wanted);
        if (wanted && query->filter.loop.id && (query->filter.key.p || query->filter.parent))
            err = has_loop(scan->reader, id, query->filter.loop.id, &wanted);
        if (wanted && err == OK && looks_into_args)
            err = has_arguments(scan->reader, &query->filter, id, (int)db_int(stream->stmt, 1), &wanted);
        if (wanted) {
            struct invocation out;
            if (count == query->limit) {
                *next = before;
                return OK;
            }
            err = row_read(scan->reader, stream->stmt, query->view, &out);
            if (err == OK && !row(context, &out)) {
                *next = before;
                return OK;
            }
            count++;
        }
        if ((++scanned % CLOCK_EVERY_ROWS == 0 || looks_into_args) && query->scan_until_us &&
            clock_mono_us() > query->scan_until_us) {
            *next = id;
            return err;
        }
        if (err == OK)
            err = advance(stream);
    }
    return err;
}

/* A loop may be named; its iterations stay when it is gone, under its id. */
static enum err list_of_loop(struct reader *reader, const struct list_query *query, row_fn row, void *context,
                             int64_t *next)
{
    struct list_query of_id = *query;
    enum err err = reader_loop_id(reader, query->filter.loop, &of_id.filter.loop.id);
    of_id.filter.loop.name = (struct span){NULL, 0};
    if (err == ERR_NOT_FOUND)
        of_id.filter.loop.id = query->filter.loop.id ? query->filter.loop.id : -1;
    return err == OK || err == ERR_NOT_FOUND ? reader_list(reader, &of_id, row, context, next) : err;
}

enum err reader_list(struct reader *reader, const struct list_query *query, row_fn row, void *context,
                     int64_t *next)
{
    const struct filter *f = &query->filter;
    if (f->loop.name.p)
        return list_of_loop(reader, query, row, context, next);
    struct scan scan = {.reader = reader, .query = query, .low = 0, .high = INT64_MAX};
    *next = 0;
    if (f->task < 0)
        return OK;
    if (f->created_after) /* exclusive: ids of that millisecond are not after it */
        scan.low = id_lowest_at(f->created_after + 1) - 1;
    if (f->created_before) /* exclusive */
        scan.high = id_lowest_at(f->created_before);
    if (query->cursor && query->oldest_first && query->cursor > scan.low)
        scan.low = query->cursor;
    if (query->cursor && !query->oldest_first && query->cursor < scan.high)
        scan.high = query->cursor;
    /* All streams see one moment: a row that changes its status while they are
     * opened stands in exactly one of them. */
    enum err err = db_begin(reader->db);
    if (err == OK)
        err = choose(&scan);
    if (err == OK)
        err = walk(&scan, row, context, next);
    close_streams(&scan);
    db_rollback(reader->db);
    return err;
}
