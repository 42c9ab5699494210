#include "store/message.h"

#include "base/clock.h"
#include "store/kin.h"
#include "store/loop_row.h"
#include "store/reader.h"
#include "store/suspensions.h"
#include "store/transition.h"

static int64_t max_of(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* --- numbers ----------------------------------------------------------------------- */

/* The mark is a row that whoever takes numbers writes: so two servers take them
 * one after the other, each until its commit, and what was removed gives none
 * back. (SQLite would use the number of the highest row again; a sequence of
 * PostgreSQL would follow the order of asking, not of commits.) */
static enum err take_seqs(struct tx *tx, int count, int64_t *first)
{
    int64_t last;
    enum err err = DB_NUMBER(
        tx->db, &last, 0,
        "INSERT INTO meta (name, value) VALUES ('last_message', CAST($1 AS TEXT)) ON CONFLICT (name) "
        "DO UPDATE SET value = CAST(CAST(meta.value AS BIGINT) + CAST(excluded.value AS BIGINT) AS TEXT) "
        "RETURNING CAST(value AS BIGINT)",
        v_int(count));
    *first = last - count + 1;
    return err;
}

/* How many of a kind the invocation has: the last one's number says it, and
 * none goes but with all of them. */
static enum err count_of(struct tx *tx, int64_t id, enum message_kind kind, int64_t *count)
{
    return DB_NUMBER(tx->db, count, 0,
                     "SELECT number FROM messages WHERE id = $1 AND kind = $2 ORDER BY seq DESC LIMIT 1",
                     v_int(id), v_int(kind));
}

static void note_messages(struct change *change, int64_t first, int64_t last)
{
    change->message = true;
    change->first_seq = first;
    change->last_seq = last;
}

/* --- out ---------------------------------------------------------------------------- */

static enum err insert_out(struct tx *tx, const struct turn *turn, int64_t seq, int64_t number, struct span body)
{
    enum err err =
        DB_EXECUTE(tx->db,
                   "INSERT INTO messages (seq, id, kind, number, at, body) "
                   "SELECT $3, $1, " SQL_MESSAGE_OUT ", $4, $5, $6 "
                   "WHERE EXISTS (SELECT 1 FROM invocations WHERE " SQL_UNDER_WAY ")",
                   v_int(turn->id), v_int(turn->lease), v_int(seq), v_int(number), v_int(tx->now), v_text(body));
    return err == OK && db_changes(tx->db) == 0 ? ERR_CONFLICT : err;
}

static enum err apply_out(struct tx *tx, struct op *base)
{
    struct op_message_out *op = (struct op_message_out *)base;
    const struct turn *turn = &op->turn.turn;
    int64_t sent;
    enum err err = turn_under_way(tx, turn);
    if (err == OK)
        err = count_of(tx, turn->id, MESSAGE_OUT, &sent);
    if (err == OK && op->count > OUTBOX_MAX - sent)
        return ERR_LIMIT;
    if (err == OK)
        err = take_seqs(tx, op->count, &op->first_seq);
    for (int i = 0; i < op->count && err == OK; i++)
        err = insert_out(tx, turn, op->first_seq + i, sent + i + 1, op->bodies[i]);
    if (err == OK && !sent)
        err = transition_flag(tx, turn->id, FLAG_MESSAGES);
    if (err == OK)
        note_messages(tx_change(tx, turn->id, turn->task, STATUS_RUNNING, STATUS_RUNNING), op->first_seq,
                      op->first_seq + op->count - 1);
    return err;
}

void op_message_out_init(struct op_message_out *op, const struct turn *turn)
{
    static const struct op_class class = {
        .name = "message_out", .apply = apply_out, .several = op_is_several, .turn = TURN_GOES_ON};
    *op = (struct op_message_out){.turn.turn = *turn};
    op_init(&op->turn.op, &class);
}

/* --- in ----------------------------------------------------------------------------- */

/* Whose inbox it is, and who reads it now. */
struct receiver {
    int64_t inbox; /* under this id */
    int64_t id;    /* of the invocation; 0: a loop has none just now */
    int task;
    enum status status;
    int64_t loop;
    enum loop_status loop_status;
    int64_t read; /* up to this one, or given to the turn under way; 0: none */
};

static enum err read_receiver(struct tx *tx, int64_t id, struct receiver *out)
{
    struct db_stmt *stmt = DB_QUERY(
        tx->db,
        "SELECT task, status, inbox_read, (SELECT given FROM inboxes g WHERE g.id = i.id "
        "AND g.lease = i.lease AND i.status " SQL_IN_TURN "), " SQL_INBOX_OF " FROM invocations i WHERE i.id = $1",
        v_int(id));
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    if (err == OK)
        *out = (struct receiver){.inbox = db_int(stmt, 4),
                                 .id = id,
                                 .task = (int)db_int(stmt, 0),
                                 .status = (enum status)db_int(stmt, 1),
                                 .read = max_of(db_int(stmt, 2), db_int(stmt, 3))};
    db_reset(stmt);
    if (err == OK && out->inbox != id)
        out->loop = out->inbox;
    return err;
}

/* A loop's current iteration, if it has one, knows how far it has read. */
static enum err read_loop(struct tx *tx, const struct op_message_in *op, struct receiver *out)
{
    struct loop loop;
    int64_t id;
    enum err err = loop_find(tx->db, op->loop, &id);
    if (err == OK)
        err = loop_read(tx, id, &loop);
    if (err != OK)
        return err;
    *out = (struct receiver){.task = loop.task, .status = STATUS_SCHEDULED};
    if (loop.invocation)
        err = read_receiver(tx, loop.invocation, out);
    out->inbox = out->loop = id;
    out->loop_status = loop.status;
    out->read = max_of(out->read, loop.inbox_read);
    return err;
}

/* It reads nothing any more. */
static bool is_over(const struct receiver *to)
{
    return to->loop_status ? loop_is_final(to->loop_status) : status_is_final(to->status);
}

/* ERR_NOT_FOUND: its key, if it has one, is new. */
static enum err replay(struct tx *tx, struct op_message_in *op, int64_t inbox)
{
    if (!op->key.p)
        return ERR_NOT_FOUND;
    struct db_stmt *stmt = DB_QUERY(
        tx->db,
        "SELECT seq, key_digest FROM messages WHERE id = $1 AND key_owner = $2 AND key = $3 AND key IS NOT NULL",
        v_int(inbox), v_text(key_owner(op->key_owner)), v_text(op->key));
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    if (err == OK) {
        struct span digest = db_span(stmt, 1);
        op->seq = db_int(stmt, 0);
        op->replayed = true;
        if (digest.len != sizeof op->key_digest || memcmp(digest.p, op->key_digest, digest.len) != 0)
            err = ERR_MISMATCH;
    }
    db_reset(stmt);
    return err;
}

/* *received counts those that were read, too. */
static enum err check_room(struct tx *tx, int64_t id, int64_t read, int64_t *received)
{
    int64_t taken = 0;
    enum err err = count_of(tx, id, MESSAGE_IN, received);
    if (err == OK && read)
        err = DB_NUMBER(tx->db, &taken, 0, "SELECT number FROM messages WHERE seq = $1", v_int(read));
    return err == OK && *received - taken >= UNREAD_MAX ? ERR_LIMIT : err;
}

#define INSERT_IN                                                                         \
    "INSERT INTO messages (seq, id, kind, number, at, body, key_owner, key, key_digest) " \
    "SELECT $2, $1, " SQL_MESSAGE_IN ", $3, $4, $5, $6, $7, $8 WHERE EXISTS (SELECT 1 FROM "
#define NOT_TWICE ") ON CONFLICT (id, key_owner, key) WHERE key IS NOT NULL DO NOTHING"

static enum err insert_in(struct tx *tx, const struct op_message_in *op, const struct receiver *to, int64_t number)
{
    static const struct span none = {NULL, 0};
    struct span digest = {(const char *)op->key_digest, sizeof op->key_digest};
    enum err err = DB_EXECUTE(
        tx->db,
        to->loop ? INSERT_IN "loops WHERE id = $1" NOT_TWICE
                 : INSERT_IN "invocations WHERE id = $1 AND status NOT IN (" SQL_FINALS ")" NOT_TWICE,
        v_int(to->inbox), v_int(op->seq), v_int(number), v_int(tx->now), v_text(op->body),
        v_text(op->key.p ? key_owner(op->key_owner) : none), v_text(op->key), v_blob(op->key.p ? digest : none));
    return err == OK && db_changes(tx->db) == 0 ? ERR_CONFLICT : err;
}

/* A loop lives for ever: of what was read its inbox keeps no more than may wait there. The
 * numbers go on. */
static enum err note_loop(struct tx *tx, int64_t loop, int64_t number)
{
    enum err err = OK;
    if (number == 1)
        err = DB_EXECUTE(tx->db, "UPDATE loops SET flags = flags | $2 WHERE id = $1", v_int(loop),
                         v_int(LOOP_INBOX));
    if (err == OK && number > 2 * UNREAD_MAX)
        err = DB_EXECUTE(
            tx->db,
            "DELETE FROM messages WHERE seq = (SELECT seq FROM messages WHERE id = $1 AND kind = " SQL_MESSAGE_IN
            " ORDER BY seq LIMIT 1) AND number <= $2",
            v_int(loop), v_int(number - 2 * UNREAD_MAX));
    return err;
}

static enum err find_receiver(struct tx *tx, struct op_message_in *op, struct receiver *to)
{
    bool of_loop = op->loop.id || op->loop.name.p;
    enum err err = of_loop ? read_loop(tx, op, to) : read_receiver(tx, op->id, to);
    op->replayed = false;
    op->status = err == OK && !of_loop ? to->status : 0;
    op->loop_status = err == OK ? to->loop_status : 0;
    return err;
}

static enum err apply_in(struct tx *tx, struct op *base)
{
    struct op_message_in *op = (struct op_message_in *)base;
    struct receiver to;
    int64_t received;
    enum err err = find_receiver(tx, op, &to);
    if (err != OK)
        return err;
    err = replay(tx, op, to.inbox);
    if (err != ERR_NOT_FOUND)
        return err;
    if (is_over(&to))
        return ERR_CONFLICT;
    err = check_room(tx, to.inbox, to.read, &received);
    if (err == OK)
        err = take_seqs(tx, 1, &op->seq);
    if (err == OK)
        err = insert_in(tx, op, &to, received + 1);
    if (err == OK && to.loop)
        err = note_loop(tx, to.loop, received + 1);
    else if (err == OK && !received)
        err = transition_flag(tx, op->id, FLAG_MESSAGES);
    if (err == OK)
        note_messages(tx_change(tx, to.id ? to.id : to.loop, to.task, to.status, to.status), op->seq, op->seq);
    if (err == OK && to.status == STATUS_WAITING)
        err = suspension_message(tx, to.id);
    return err;
}

static void message_in_init(struct op_message_in *op)
{
    static const struct op_class class = {.name = "message_in", .apply = apply_in, .several = op_is_several};
    *op = (struct op_message_in){0};
    op_init(&op->op, &class);
}

void op_message_in_init(struct op_message_in *op, int64_t id)
{
    message_in_init(op);
    op->id = id;
}

void op_message_in_init_loop(struct op_message_in *op, struct loop_ref loop)
{
    message_in_init(op);
    op->loop = loop;
}

/* --- read --------------------------------------------------------------------------- */

/* A mark in the row, which a turn's writes touch anyway, instead of one in each
 * message, which would write its body again. It stands at a message that is
 * there: what comes later is not read, whatever was said. */
enum err messages_mark_read(struct tx *tx, const struct turn *turn, int64_t up_to_seq)
{
    int64_t last;
    enum err err = DB_NUMBER(tx->db, &last, 0,
                             "SELECT seq FROM messages WHERE id = " SQL_INBOX_OF " AND kind = " SQL_MESSAGE_IN
                             " AND seq <= $2 "
                             "ORDER BY seq DESC LIMIT 1",
                             v_int(turn->id), v_int(up_to_seq));
    return err != OK ? err
                     : DB_EXECUTE(tx->db,
                                  "UPDATE invocations SET inbox_read = $3 WHERE " SQL_UNDER_WAY
                                  " AND COALESCE(inbox_read, 0) < $3",
                                  v_int(turn->id), v_int(turn->lease), v_int(last));
}

/* Beside the row: it says nothing that anybody is shown, and only a good end
 * makes something of it. */
static enum err apply_given(struct tx *tx, struct op *base)
{
    struct op_messages_given *op = (struct op_messages_given *)base;
    const struct turn *turn = &op->turn.turn;
    enum err err = DB_EXECUTE(tx->db,
                              "INSERT INTO inboxes (id, lease, given) SELECT $1, $2, $3 "
                              "WHERE EXISTS (SELECT 1 FROM invocations WHERE " SQL_UNDER_WAY ") "
                              "ON CONFLICT (id) DO UPDATE SET lease = excluded.lease, given = CASE "
                              "WHEN inboxes.lease = excluded.lease AND inboxes.given > excluded.given "
                              "THEN inboxes.given ELSE excluded.given END",
                              v_int(turn->id), v_int(turn->lease), v_int(op->up_to_seq));
    return err == OK && db_changes(tx->db) == 0 ? ERR_CONFLICT : err;
}

void op_messages_given_init(struct op_messages_given *op, const struct turn *turn)
{
    static const struct op_class class = {.name = "messages_given", .apply = apply_given, .turn = TURN_GOES_ON};
    *op = (struct op_messages_given){.turn.turn = *turn};
    op_init(&op->turn.op, &class);
}

enum err messages_take_given(struct tx *tx, const struct turn *turn)
{
    int64_t given;
    enum err err = DB_NUMBER(tx->db, &given, 0, "SELECT given FROM inboxes WHERE id = $1 AND lease = $2",
                             v_int(turn->id), v_int(turn->lease));
    if (err != OK || !given)
        return err;
    return DB_EXECUTE(tx->db,
                      "UPDATE invocations SET inbox_read = $3 WHERE id = $1 AND lease = $2 "
                      "AND COALESCE(inbox_read, 0) < $3",
                      v_int(turn->id), v_int(turn->lease), v_int(given));
}

/* --- reading ------------------------------------------------------------------------ */

static struct message message_read(struct db_stmt *stmt)
{
    return (struct message){.seq = db_int(stmt, 0),
                            .id = db_int(stmt, 1),
                            .kind = (enum message_kind)db_int(stmt, 2),
                            .at = db_int(stmt, 3),
                            .body = db_span(stmt, 4)};
}

enum { BOTH_KINDS = 1 << MESSAGE_OUT | 1 << MESSAGE_IN, CLOCK_EVERY_ROWS = 64 };

static unsigned kinds_of(unsigned kinds)
{
    return kinds ? kinds & BOTH_KINDS : BOTH_KINDS;
}

/* One row more than the page has says that there is a next one; of a tree nobody
 * knows how many are left out. Both kinds of one invocation are two ranges of the
 * index, merged. */
static struct db_stmt *choose(struct reader *reader, const struct message_query *query)
{
#define MESSAGES "SELECT seq, id, kind, at, body FROM messages WHERE seq > $1 "
#define PAGE "ORDER BY seq LIMIT $2"
    struct db_value after = v_int(query->after_seq),
                    limit = v_int(query->among ? INT64_MAX : (int64_t)query->limit + 1);
    unsigned kinds = kinds_of(query->kinds);
    int kind = kinds & 1u << MESSAGE_IN ? MESSAGE_IN : MESSAGE_OUT;
    if (kinds == BOTH_KINDS)
        return query->id ? DB_QUERY(reader->db,
                                    MESSAGES "AND id = $3 AND kind = " SQL_MESSAGE_OUT " UNION ALL " MESSAGES
                                             "AND id = $3 AND kind = " SQL_MESSAGE_IN " " PAGE,
                                    after, limit, v_int(query->id))
                         : DB_QUERY(reader->db, MESSAGES PAGE, after, limit);
    return query->id ? DB_QUERY(reader->db, MESSAGES "AND id = $3 AND kind = $4 " PAGE, after, limit,
                                v_int(query->id), v_int(kind))
                     : DB_QUERY(reader->db, MESSAGES "AND kind = $3 " PAGE, after, limit, v_int(kind));
}

static enum err is_wanted(struct reader *reader, const struct message_query *query, struct db_stmt *stmt,
                          bool *wanted)
{
    *wanted = true;
    return query->among ? reader_is_kin(reader, query->among, db_int(stmt, 1), wanted) : OK;
}

static bool is_late(const struct message_query *query, int scanned)
{
    return query->scan_until_us && scanned % CLOCK_EVERY_ROWS == 0 && clock_mono_us() > query->scan_until_us;
}

static enum err walk_messages(struct reader *reader, struct message_query *query, struct db_stmt *stmt,
                              message_fn row, void *context, bool *more)
{
    bool found, wanted;
    int given = 0, scanned = 0;
    enum err err;
    *more = false;
    while ((err = db_step(stmt, &found)) == OK && found && (err = is_wanted(reader, query, stmt, &wanted)) == OK) {
        if (wanted) {
            struct message message = message_read(stmt);
            *more = given++ == query->limit || !row(context, &message);
        }
        if (*more)
            break;
        query->after_seq = db_int(stmt, 0);
        *more = is_late(query, ++scanned);
        if (*more)
            break;
    }
    return err;
}

enum err reader_messages(struct reader *reader, struct message_query *query, message_fn row, void *context,
                         bool *more)
{
    struct db_stmt *stmt = choose(reader, query);
    if (!stmt)
        return ERR_DB;
    enum err err = walk_messages(reader, query, stmt, row, context, more);
    db_reset(stmt);
    return err;
}

enum err reader_has_message(struct reader *reader, int64_t id, unsigned kinds, int64_t after_seq, bool *there)
{
    static const enum message_kind each[] = {MESSAGE_OUT, MESSAGE_IN};
    int64_t seq = 0;
    enum err err = OK;
    for (int i = 0; i < 2 && err == OK && !seq; i++)
        if (kinds_of(kinds) & 1u << each[i])
            err = DB_NUMBER(reader->db, &seq, 0,
                            "SELECT seq FROM messages WHERE id = $1 AND kind = $2 AND seq > $3 LIMIT 1", v_int(id),
                            v_int(each[i]), v_int(after_seq));
    *there = seq != 0;
    return err;
}

enum err reader_next_sender(struct reader *reader, int64_t above, int64_t *id)
{
    return DB_NUMBER(reader->db, id, 0, "SELECT id FROM messages WHERE id > $1 ORDER BY id LIMIT 1", v_int(above));
}

enum err reader_message_time(struct reader *reader, int64_t seq, int64_t *at)
{
    return DB_NUMBER(reader->db, at, 0, "SELECT at FROM messages WHERE seq <= $1 ORDER BY seq DESC LIMIT 1",
                     v_int(seq));
}

#define SQL_UNREAD                                                             \
    "FROM messages WHERE id = " SQL_INBOX_OF " AND kind = " SQL_MESSAGE_IN " " \
    "AND seq > (SELECT CASE WHEN inbox_read > $2 THEN inbox_read ELSE $2 END FROM invocations WHERE id = $1) "

enum err messages_unread(struct tx *tx, int64_t id, int64_t after_seq, bool *found)
{
    int64_t number;
    enum err err = DB_NUMBER(tx->db, &number, 0, "SELECT 1 " SQL_UNREAD "LIMIT 1", v_int(id), v_int(after_seq));
    *found = number != 0;
    return err;
}

enum err reader_inbox_look(struct reader *reader, int64_t id, int64_t *after_seq, bool *any)
{
    int64_t read, next;
    enum err err = DB_NUMBER(reader->db, &read, 0, "SELECT inbox_read FROM invocations WHERE id = $1", v_int(id));
    *after_seq = max_of(*after_seq, read);
    if (err == OK)
        err = DB_NUMBER(reader->db, &next, 0,
                        "SELECT seq FROM messages WHERE seq > $2 AND id = " SQL_INBOX_OF
                        " AND kind = " SQL_MESSAGE_IN " ORDER BY seq LIMIT 1",
                        v_int(id), v_int(*after_seq));
    *any = err == OK && next;
    return err;
}

enum err reader_inbox_of(struct reader *reader, int64_t id, int64_t *inbox)
{
    return DB_NUMBER(reader->db, inbox, id, "SELECT loop FROM iterations WHERE id = $1", v_int(id));
}

enum err reader_inbox(struct reader *reader, int64_t id, message_fn row, void *context)
{
    return reader_inbox_after(reader, id, 0, row, context);
}

/* Rows come as they are asked for: who wants the first alone stops there. */
enum err reader_inbox_after(struct reader *reader, int64_t id, int64_t after_seq, message_fn row, void *context)
{
    struct db_stmt *stmt = DB_QUERY(reader->db, "SELECT seq, id, kind, at, body " SQL_UNREAD "ORDER BY seq",
                                    v_int(id), v_int(after_seq));
    if (!stmt)
        return ERR_DB;
    bool found, wanted = true;
    enum err err = OK;
    while (wanted && (err = db_step(stmt, &found)) == OK && found) {
        struct message message = message_read(stmt);
        wanted = row(context, &message);
    }
    db_reset(stmt);
    return err;
}
