#include "store/deliveries.h"

#include "store/callback.h"
#include "store/internal.h"
#include "store/reader.h"

#include <stdlib.h>

#define COLUMNS                                                                                            \
    "owner, n, kind, event, attempt, at, url, place, status, attempts, next_at, last_status, last_error, " \
    "created_at, delivered_at"

static struct delivery row_of(struct db_stmt *stmt)
{
    return (struct delivery){
        .owner = db_int(stmt, 0),
        .n = (int)db_int(stmt, 1),
        .kind = (enum callback_kind)db_int(stmt, 2),
        .event = (int)db_int(stmt, 3),
        .attempt = (int)db_int(stmt, 4),
        .at = db_int(stmt, 5),
        .url = db_span(stmt, 6),
        .place = db_span(stmt, 7),
        .status = (enum delivery_status)db_int(stmt, 8),
        .attempts = (int)db_int(stmt, 9),
        .next_at = db_int(stmt, 10),
        .last_status = (int)db_int(stmt, 11),
        .last_error = db_span(stmt, 12),
        .created_at = db_int(stmt, 13),
        .delivered_at = db_int(stmt, 14),
    };
}

/* --- lines ------------------------------------------------------------------------------ */

struct line {
    struct span place;
    int64_t next_at, rest_until;
    int silences;
};
#define LINE_COLUMNS "place, next_at, silences, rest_until"

static struct line line_of(struct tx *tx, struct db_stmt *stmt)
{
    return (struct line){tx_copy(tx, db_span(stmt, 0)), db_int(stmt, 1), db_int(stmt, 3), (int)db_int(stmt, 2)};
}

static enum err first_of(struct tx *tx, struct span place, int64_t *first)
{
    return DB_NUMBER(tx->db, first, 0,
                     "SELECT next_at FROM deliveries WHERE place = $1 AND status = " SQL_DELIVERY_PENDING
                     " ORDER BY next_at LIMIT 1",
                     v_text(place));
}

/* It stands where its first is due, or its rest is over; or not at all. */
static enum err settle_line(struct tx *tx, const struct line *line)
{
    int64_t first;
    enum err err = first_of(tx, line->place, &first);
    if (err != OK)
        return err;
    if (!first)
        return DB_EXECUTE(tx->db, "DELETE FROM callback_places WHERE place = $1", v_text(line->place));
    return DB_EXECUTE(tx->db,
                      "UPDATE callback_places SET next_at = $2, silences = $3, rest_until = $4 WHERE place = $1",
                      v_text(line->place), v_int(first > line->rest_until ? first : line->rest_until),
                      v_int(line->silences), v_int(line->rest_until));
}

static enum err find_line(struct tx *tx, struct span place, struct line *out)
{
    struct db_stmt *stmt =
        DB_QUERY(tx->db, "SELECT " LINE_COLUMNS " FROM callback_places WHERE place = $1", v_text(place));
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    if (err == OK)
        *out = line_of(tx, stmt);
    db_reset(stmt);
    return err;
}

enum { REST_MS = 1000, SILENCES_MAX = 30 };

static void hear(struct tx *tx, const struct op_delivered *op, struct line *line)
{
    if (op->answered)
        line->silences = 0;
    if (op->answered)
        line->rest_until = 0;
    if (!op->silent)
        return;
    line->silences += line->silences < SILENCES_MAX;
    int64_t rest_ms = (int64_t)REST_MS << (line->silences - 1);
    line->rest_until = tx->now + (rest_ms < op->rest_max_ms ? rest_ms : op->rest_max_ms);
}

/* --- due -------------------------------------------------------------------------------- */

static bool is_busy(const struct op_due *op, int64_t owner, int n)
{
    for (int i = 0; i < op->busy_count; i++)
        if (op->busy[i].owner == owner && op->busy[i].n == n)
            return true;
    return false;
}

static int busy_at(const struct op_due *op, struct span place)
{
    int count = 0;
    for (int i = 0; i < op->busy_count; i++)
        count += span_equal(op->busy[i].place, place);
    return count;
}

static void expect_at(struct op_due *op, int64_t at)
{
    if (!op->next_at || at < op->next_at)
        op->next_at = at;
}

/* Spans are offsets until the arena has stopped growing. */
static struct span keep(struct op_due *op, struct span text)
{
    size_t at = op->arena.len;
    buf_add_span(&op->arena, text);
    return (struct span){(const char *)(uintptr_t)at, text.len};
}

static void point_into(const struct op_due *op, struct span *text)
{
    text->p = op->arena.data + (uintptr_t)text->p;
}

static void take(struct op_due *op, const struct delivery *delivery)
{
    op->items = xrealloc(op->items, ((size_t)op->count + 1) * sizeof *op->items);
    struct delivery *item = &op->items[op->count++];
    *item = *delivery;
    item->url = keep(op, delivery->url);
    item->place = keep(op, delivery->place);
    item->last_error = (struct span){NULL, 0};
}

/* Of a line: what is due and there is room for. Those under way stand first, as a rule; *first says
 * when the first is due, them included; 0: none is pending. */
static enum err take_of_line(struct tx *tx, struct op_due *op, const struct line *line, int64_t *first)
{
    int room = (line->silences ? 1 : op->room_per_place) - busy_at(op, line->place);
    struct db_stmt *stmt = DB_QUERY(tx->db,
                                    "SELECT " COLUMNS " FROM deliveries WHERE place = $1 "
                                    "AND status = " SQL_DELIVERY_PENDING " ORDER BY next_at LIMIT $2",
                                    v_text(line->place), v_int(op->room_per_place + 1));
    if (!stmt)
        return ERR_DB;
    bool row;
    enum err err;
    *first = 0;
    while ((err = db_step(stmt, &row)) == OK && row) {
        struct delivery delivery = row_of(stmt);
        *first = *first ? *first : delivery.next_at;
        if (is_busy(op, delivery.owner, delivery.n))
            continue;
        if (delivery.next_at > op->now) {
            expect_at(op, delivery.next_at);
            break;
        }
        if (room <= 0 || op->count >= op->room)
            break;
        take(op, &delivery);
        room--;
    }
    db_reset(stmt);
    return err;
}

/* Lines that have begun, the first first. Only those of which something is under way can have nothing to
 * take, so twice as many as may be under way are enough. */
static enum err collect_lines(struct tx *tx, const struct op_due *op, struct line *lines, int limit, int *count)
{
    struct db_stmt *stmt = DB_QUERY(
        tx->db, "SELECT " LINE_COLUMNS " FROM callback_places WHERE next_at <= $1 ORDER BY next_at LIMIT $2",
        v_int(op->now), v_int(limit));
    if (!stmt)
        return ERR_DB;
    bool row;
    enum err err;
    *count = 0;
    while ((err = db_step(stmt, &row)) == OK && row)
        lines[(*count)++] = line_of(tx, stmt);
    db_reset(stmt);
    return err;
}

static enum err take_of_lines(struct tx *tx, struct op_due *op, const struct line *lines, int count)
{
    enum err err = OK;
    for (int i = 0; i < count && op->count < op->room && err == OK; i++) {
        int64_t first;
        err = take_of_line(tx, op, &lines[i], &first);
        if (err == OK && (!first || first > lines[i].next_at))
            err = settle_line(tx, &lines[i]);
    }
    return err;
}

static enum err apply_due(struct tx *tx, struct op *base)
{
    struct op_due *op = (struct op_due *)base;
    int limit = 2 * (op->room + op->busy_count), count = 0;
    struct line *lines = xcalloc((size_t)limit + 1, sizeof *lines);
    op->now = tx->now;
    op->count = 0;
    op->arena.len = 0;
    op->next_at = 0;
    enum err err = collect_lines(tx, op, lines, limit, &count);
    if (err == OK)
        err = take_of_lines(tx, op, lines, count);
    free(lines);
    if (count == limit && op->count < op->room) /* lines that were left empty: there are more */
        expect_at(op, op->now);
    int64_t later = 0;
    if (err == OK)
        err = DB_NUMBER(tx->db, &later, 0,
                        "SELECT next_at FROM callback_places WHERE next_at > $1 ORDER BY next_at LIMIT 1",
                        v_int(op->now));
    if (later)
        expect_at(op, later);
    for (int i = 0; i < op->count; i++) {
        point_into(op, &op->items[i].url);
        point_into(op, &op->items[i].place);
    }
    return err;
}

void op_due_init(struct op_due *op)
{
    static const struct op_class class = {.name = "due", .apply = apply_due, .several = op_is_several};
    *op = (struct op_due){0};
    op_init(&op->op, &class);
}

void op_due_release(struct op_due *op)
{
    free(op->items);
    buf_release(&op->arena);
    op->items = NULL;
}

/* --- how a try went ---------------------------------------------------------------------- */

static enum err apply_delivered(struct tx *tx, struct op *base)
{
    struct op_delivered *op = (struct op_delivered *)base;
    bool pending = op->status == DELIVERY_PENDING;
    enum err err =
        DB_EXECUTE(tx->db,
                   "UPDATE deliveries SET status = $4, attempts = attempts + $5, next_at = $6, last_status = $7, "
                   "last_error = $8, delivered_at = COALESCE($9, delivered_at) "
                   "WHERE owner = $1 AND n = $2 AND attempts = $3 AND status = " SQL_DELIVERY_PENDING,
                   v_int(op->owner), v_int(op->n), v_int(op->attempts), v_int(op->status), v_int(op->counts),
                   v_time(pending ? op->next_at : 0), v_time(op->last_status), v_text(op->last_error),
                   v_time(op->status == DELIVERY_DELIVERED ? tx->now : 0));
    if (err == OK && db_changes(tx->db) == 0)
        return ERR_CONFLICT;
    struct line line;
    if (err == OK)
        err = find_line(tx, op->place, &line);
    if (err == OK) {
        hear(tx, op, &line);
        err = settle_line(tx, &line);
    } else if (err == ERR_NOT_FOUND) {
        err = OK;
    }
    if (err == OK)
        tx_change(tx, op->owner, 0, 0, 0)->callback = true;
    return err;
}

void op_delivered_init(struct op_delivered *op, const struct delivery *delivery)
{
    static const struct op_class class = {
        .name = "delivered", .apply = apply_delivered, .several = op_is_several, .keep = true};
    *op = (struct op_delivered){.owner = delivery->owner,
                                .n = delivery->n,
                                .attempts = delivery->attempts,
                                .counts = true,
                                .place = delivery->place};
    op_init(&op->op, &class);
}

/* --- reading -------------------------------------------------------------------------------- */

enum err reader_callback(struct reader *reader, int64_t owner, struct buf *url)
{
    struct db_stmt *stmt = DB_QUERY(reader->db, "SELECT url FROM callbacks WHERE id = $1", v_int(owner));
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    if (err == OK)
        buf_add_span(url, db_span(stmt, 0));
    db_reset(stmt);
    return err;
}

enum err reader_deliveries(struct reader *reader, int64_t owner,
                           void (*each)(void *context, const struct delivery *delivery), void *context)
{
    struct db_stmt *stmt =
        DB_QUERY(reader->db, "SELECT " COLUMNS " FROM deliveries WHERE owner = $1 ORDER BY n", v_int(owner));
    if (!stmt)
        return ERR_DB;
    bool row;
    enum err err;
    while ((err = db_step(stmt, &row)) == OK && row) {
        struct delivery delivery = row_of(stmt);
        each(context, &delivery);
    }
    db_reset(stmt);
    return err;
}
