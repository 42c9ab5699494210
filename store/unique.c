#include "store/unique.h"

#include "store/internal.h"
#include "store/transition.h"

enum { FIRST_BYTES = 4 << 20 /* of those that one commit shows to who asked */ };

/* Who has the place. */
struct found {
    int64_t id, rank, first_at;
    enum status status;
    int attempt;
    unsigned flags;
};

static struct span place_key(const struct unique_place *place)
{
    return (struct span){(const char *)place->key, sizeof place->key};
}

/* --- as it stands ------------------------------------------------------------------ */

#define FIRST_COLUMNS                                                                                       \
    "i.id, i.status, i.attempt, i.priority, COALESCE(i.rank, i.id), i.flags, i.max_retries, i.timeout_ms, " \
    "i.retention_ms, i.run_at, i.labels, i.args "
enum { FIRST_AT = 12 };

/* Arguments that stand outside the row. */
static enum err add_payload(struct tx *tx, int64_t id, struct buf *out)
{
    struct db_stmt *stmt =
        DB_QUERY(tx->db, "SELECT data FROM payloads WHERE id = $1 AND kind = $2", v_int(id), v_int(PAYLOAD_ARGS));
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    struct span data = err == OK ? db_span(stmt, 0) : (struct span){NULL, 0};
    if (err == OK && tx->first_bytes + (int64_t)data.len <= FIRST_BYTES)
        buf_add_span(out, data);
    db_reset(stmt);
    return err == ERR_NOT_FOUND ? OK : err;
}

static struct span part(const struct buf *text, size_t from, size_t to, bool is_there)
{
    return is_there ? (struct span){text->data + from, to - from} : (struct span){NULL, 0};
}

/* What the answer compares, copied. */
static enum err keep_first(struct tx *tx, struct db_stmt *stmt, unsigned flags, struct unique_first *out)
{
    struct span labels = db_span(stmt, 10), args = db_span(stmt, 11);
    struct buf text = {0};
    enum err err = OK;
    buf_release(&out->text);
    buf_add_span(&text, labels);
    if (flags & FLAG_ARGS_OUTSIDE)
        err = add_payload(tx, db_int(stmt, 0), &text);
    else if (tx->first_bytes + (int64_t)args.len <= FIRST_BYTES)
        buf_add_span(&text, args);
    bool has_args = text.len > labels.len;
    buf_addc(&text, '\0'); /* there are bytes to point to */
    tx->first_bytes += (int64_t)text.len;
    *out = (struct unique_first){
        .args_are_known = has_args || (!args.p && !(flags & FLAG_ARGS_OUTSIDE)),
        .priority = (int)db_int(stmt, 3),
        .max_retries = (int)db_int(stmt, 6),
        .timeout_ms = db_int(stmt, 7),
        .retention_ms = db_int(stmt, 8),
        .run_at = db_int(stmt, 9),
        .labels = part(&text, 0, labels.len, labels.p),
        .args = part(&text, labels.len, text.len - 1, has_args),
        .text = text,
    };
    return err;
}

static enum err read_first(struct tx *tx, struct db_stmt *stmt, struct found *found, struct unique_first *out)
{
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    if (err == OK) {
        *found = (struct found){.id = db_int(stmt, 0),
                                .status = (enum status)db_int(stmt, 1),
                                .attempt = (int)db_int(stmt, 2),
                                .rank = db_int(stmt, 4),
                                .flags = (unsigned)db_int(stmt, 5),
                                .first_at = db_int(stmt, FIRST_AT)};
        err = keep_first(tx, stmt, found->flags, out);
    }
    db_reset(stmt);
    return err;
}

/* --- further keys ---------------------------------------------------------------------- */

static enum err keep_key(struct tx *tx, const struct submission *s)
{
    if (!s->key.p)
        return OK;
    return DB_EXECUTE(tx->db,
                      "INSERT INTO further_keys (key_owner, key, key_digest, id, number) "
                      "SELECT $1, $2, $3, $4, COALESCE(MAX(number), 0) + 1 FROM further_keys WHERE id = $4 "
                      "ON CONFLICT (key_owner, key) DO UPDATE SET key_digest = excluded.key_digest, "
                      "id = excluded.id, number = excluded.number",
                      v_text(key_owner(s->key_owner)), v_text(s->key),
                      v_blob((struct span){(const char *)s->key_digest, sizeof s->key_digest}), v_int(s->id));
}

static bool is_digest(struct span stored, const uint8_t digest[32])
{
    return stored.len == 32 && memcmp(stored.p, digest, 32) == 0;
}

static enum err answered_before(struct tx *tx, struct submission *s)
{
    struct found found;
    struct unique_first *first = &s->particulars->first;
    enum err err = read_first(
        tx, DB_QUERY(tx->db, "SELECT " FIRST_COLUMNS ", 0 FROM invocations i WHERE i.id = $1", v_int(s->id)),
        &found, first);
    first->returned = err == OK;
    return err;
}

enum err further_key_find(struct tx *tx, struct submission *s)
{
    struct db_stmt *stmt = DB_QUERY(tx->db,
                                    "SELECT k.id, i.status, k.key_digest FROM further_keys k "
                                    "JOIN invocations i ON i.id = k.id WHERE k.key_owner = $1 AND k.key = $2",
                                    v_text(key_owner(s->key_owner)), v_text(s->key));
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    if (err == OK) {
        s->id = db_int(stmt, 0);
        s->status = (enum status)db_int(stmt, 1);
        s->replayed = true;
        if (!is_digest(db_span(stmt, 2), s->key_digest))
            err = ERR_MISMATCH;
    }
    db_reset(stmt);
    return err == OK && s->particulars ? answered_before(tx, s) : err;
}

/* --- who has it ------------------------------------------------------------------------ */

/* The delay starts anew, for so long in all. A time of its own that is later stays. */
static int64_t debounced(const struct tx *tx, const struct submission *s, int64_t first_at)
{
    const struct unique_place *place = &s->particulars->unique;
    int64_t at = tx->now + place->debounce_ms;
    if (place->max_wait_ms && at > first_at + place->max_wait_ms)
        at = first_at + place->max_wait_ms;
    return s->run_at > at ? s->run_at : at;
}

static enum err replace(struct tx *tx, struct submission *s, const struct found *found)
{
    struct unique_first *first = &s->particulars->first;
    int64_t run_at = s->particulars->unique.debounce_ms ? debounced(tx, s, found->first_at) : s->run_at;
    enum status to = run_at > tx->now ? STATUS_SCHEDULED : STATUS_QUEUED;
    if (found->attempt > 0 ||
        (found->status != STATUS_SCHEDULED && found->status != STATUS_QUEUED && found->status != STATUS_HELD))
        return ERR_BUSY;
    s->id = found->id;
    s->status = found->status == STATUS_HELD ? STATUS_HELD : to;
    s->run_at = run_at;
    enum err err = transition_replace(tx, &(struct move_replace){.submission = s,
                                                                 .from = found->status,
                                                                 .flags = found->flags,
                                                                 .old_priority = first->priority,
                                                                 .old_rank = found->rank});
    first->replaced = err == OK;
    return err == ERR_CONFLICT ? ERR_BUSY : err;
}

static enum err answer(struct tx *tx, struct submission *s, const struct found *found)
{
    enum err err = OK;
    s->id = found->id;
    s->status = found->status;
    switch (s->particulars->unique.on_conflict) {
    case UNIQUE_RETURN: s->particulars->first.returned = true; break;
    case UNIQUE_REJECT: err = ERR_BUSY; break;
    case UNIQUE_REPLACE: err = replace(tx, s, found); break;
    }
    s->not_unique = err == ERR_BUSY;
    s->replayed = err == OK;
    return err == OK ? keep_key(tx, s) : err;
}

static enum err meet_first(struct tx *tx, struct submission *s)
{
    struct found found;
    enum err err = read_first(tx,
                              DB_QUERY(tx->db,
                                       "SELECT " FIRST_COLUMNS ", u.first_at FROM uniques u JOIN invocations i "
                                       "ON i.id = u.id WHERE u.task = $1 AND u.key = $2 AND u.taken = 1",
                                       v_int(s->task), v_blob(place_key(&s->particulars->unique))),
                              &found, &s->particulars->first);
    return err == OK ? answer(tx, s, &found) : err;
}

/* --- the place --------------------------------------------------------------------------- */

/* Nobody's any longer, by its time. */
static enum err free_in_time(struct tx *tx, int task, struct span key)
{
    return DB_EXECUTE(tx->db,
                      "UPDATE uniques SET taken = 0 WHERE task = $1 AND key = $2 AND taken = 1 AND until_at <= $3",
                      v_int(task), v_blob(key), v_int(tx->now));
}

enum err unique_take(struct tx *tx, struct submission *s)
{
    const struct unique_place *place = &s->particulars->unique;
    int64_t until_at = place->scope == UNIQUE_TIMED ? tx->now + place->for_ms : 0;
    s->particulars->first.returned = s->particulars->first.replaced = false;
    enum err err = free_in_time(tx, s->task, place_key(place));
    if (err == OK)
        err = DB_EXECUTE(tx->db,
                         "INSERT INTO uniques (id, task, key, scope, until_at, first_at, taken) "
                         "VALUES ($1, $2, $3, $4, $5, $6, 1) ON CONFLICT (task, key) WHERE taken = 1 DO NOTHING",
                         v_int(s->id), v_int(s->task), v_blob(place_key(place)), v_int(place->scope),
                         v_time(until_at), v_int(tx->now));
    if (err == OK && db_changes(tx->db) == 0)
        return meet_first(tx, s);
    if (err == OK && place->debounce_ms) {
        s->run_at = debounced(tx, s, tx->now);
        s->status = STATUS_SCHEDULED;
    }
    return err;
}

enum err unique_untake(struct tx *tx, int64_t id)
{
    return DB_EXECUTE(tx->db, "DELETE FROM uniques WHERE id = $1", v_int(id));
}

enum err unique_started(struct tx *tx, int64_t id)
{
    return DB_EXECUTE(tx->db,
                      "UPDATE uniques SET taken = 0 WHERE id = $1 AND taken = 1 AND scope = " SQL_UNIQUE_QUEUED,
                      v_int(id));
}

enum err unique_ended(struct tx *tx, int64_t id)
{
    return DB_EXECUTE(tx->db,
                      "UPDATE uniques SET taken = 0 WHERE id = $1 AND taken = 1 AND scope <> " SQL_UNIQUE_TIMED,
                      v_int(id));
}

/* --- a retry ------------------------------------------------------------------------------ */

struct place {
    int task;
    uint8_t key[PARTICULAR_KEY_BYTES];
    bool is_over; /* its time */
};

static enum err read_place(struct tx *tx, int64_t id, struct place *out)
{
    struct db_stmt *stmt = DB_QUERY(tx->db, "SELECT task, key, until_at FROM uniques WHERE id = $1", v_int(id));
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    if (err == OK) {
        struct span key = db_span(stmt, 1);
        *out = (struct place){.task = (int)db_int(stmt, 0),
                              .is_over = !db_is_null(stmt, 2) && db_int(stmt, 2) <= tx->now};
        memcpy(out->key, key.p, key.len < sizeof out->key ? key.len : sizeof out->key);
    }
    db_reset(stmt);
    return err;
}

enum err unique_retake(struct tx *tx, int64_t id)
{
    struct place place;
    enum err err = read_place(tx, id, &place);
    if (err != OK)
        return err == ERR_NOT_FOUND ? OK : err;
    struct span key = {(const char *)place.key, sizeof place.key};
    int64_t others = 0;
    err = free_in_time(tx, place.task, key);
    if (err == OK)
        err = DB_NUMBER(tx->db, &others, 0,
                        "SELECT 1 FROM uniques WHERE task = $1 AND key = $2 AND taken = 1 AND id <> $3",
                        v_int(place.task), v_blob(key), v_int(id));
    if (err == OK && others)
        return ERR_BUSY;
    return err == OK && !place.is_over
               ? DB_EXECUTE(tx->db, "UPDATE uniques SET taken = 1 WHERE id = $1", v_int(id))
               : err;
}
