#include "store/cached.h"

#include "store/follow_up.h"
#include "store/internal.h"
#include "store/reader.h"
#include "store/transition.h"

enum { COPIED_BYTES = 64 << 20 /* of kept results, in one commit */ };

static struct span cache_key(const struct submission *s)
{
    return (struct span){(const char *)s->particulars->cached.key, sizeof s->particulars->cached.key};
}

enum err cached_find(struct tx *tx, struct submission *s)
{
    struct cached *cached = &s->particulars->cached;
    cached->source = 0;
    buf_release(&cached->result);
    struct db_stmt *stmt = DB_QUERY(
        tx->db, "SELECT source, result FROM cached_results WHERE task = $1 AND key = $2 AND until_at > $3",
        v_int(s->task), v_blob(cache_key(s)), v_int(tx->now));
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    if (err == OK && tx->cached_bytes + (int64_t)db_span(stmt, 1).len > COPIED_BYTES)
        err = ERR_NOT_FOUND; /* its body runs: a line of a few bytes would write millions */
    if (err == OK) {
        tx->cached_bytes += (int64_t)db_span(stmt, 1).len;
        cached->source = db_int(stmt, 0);
        cached->has_result = !db_is_null(stmt, 1);
        buf_add_span(&cached->result, db_span(stmt, 1));
        s->status = STATUS_SUCCEEDED;
    }
    db_reset(stmt);
    return err == ERR_NOT_FOUND ? OK : err;
}

static enum err note_hit(struct tx *tx, const struct submission *s)
{
    enum err err = DB_EXECUTE(tx->db, "INSERT INTO cached_from (id, source) VALUES ($1, $2)", v_int(s->id),
                              v_int(s->particulars->cached.source));
    return err == OK ? DB_EXECUTE(tx->db,
                                  "INSERT INTO cache_hits (task, n) VALUES ($1, 1) "
                                  "ON CONFLICT (task) DO UPDATE SET n = cache_hits.n + 1",
                                  v_int(s->task))
                     : err;
}

enum err cached_note(struct tx *tx, const struct submission *s)
{
    const struct cached *cached = &s->particulars->cached;
    if (cached->source)
        return note_hit(tx, s);
    return DB_EXECUTE(tx->db,
                      "INSERT INTO cache_keys (id, key, for_ms) VALUES ($1, $2, $3) "
                      "ON CONFLICT (id) DO UPDATE SET key = excluded.key, for_ms = excluded.for_ms",
                      v_int(s->id), v_blob(cache_key(s)), v_int(cached->for_ms));
}

enum err cached_keep(struct tx *tx, int64_t id, int64_t *until_at)
{
    enum err err = DB_EXECUTE(
        tx->db,
        "INSERT INTO cached_results (task, key, source, until_at, result) "
        "SELECT i.task, k.key, i.id, $2 + k.for_ms, COALESCE(i.result, p.data) FROM cache_keys k "
        "JOIN invocations i ON i.id = k.id LEFT JOIN payloads p ON p.id = i.id AND p.kind = $3 WHERE k.id = $1 "
        "ON CONFLICT (task, key) DO UPDATE SET source = excluded.source, until_at = excluded.until_at, "
        "result = excluded.result",
        v_int(id), v_int(tx->now), v_int(PAYLOAD_RESULT));
    return err == OK ? DB_NUMBER(tx->db, until_at, 0, "SELECT for_ms + $2 FROM cache_keys WHERE id = $1",
                                 v_int(id), v_int(tx->now))
                     : err;
}

enum err cached_forget(struct tx *tx, int64_t id)
{
    return DB_EXECUTE(tx->db,
                      "DELETE FROM cached_results WHERE task = (SELECT task FROM invocations WHERE id = $1) "
                      "AND key = (SELECT key FROM cache_keys WHERE id = $1) AND source = $1",
                      v_int(id));
}

/* --- upkeep --------------------------------------------------------------------------- */

struct over {
    int task;
    uint8_t key[PARTICULAR_KEY_BYTES];
    int64_t bytes;
};

static enum err first_over(struct tx *tx, struct over *out)
{
    struct db_stmt *stmt = DB_QUERY(tx->db,
                                    "SELECT task, key, COALESCE(LENGTH(result), 0) FROM cached_results "
                                    "WHERE until_at <= $1 ORDER BY until_at LIMIT 1",
                                    v_int(tx->now));
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    if (err == OK) {
        struct span key = db_span(stmt, 1);
        *out = (struct over){.task = (int)db_int(stmt, 0), .bytes = db_int(stmt, 2)};
        memcpy(out->key, key.p, key.len < sizeof out->key ? key.len : sizeof out->key);
    }
    db_reset(stmt);
    return err;
}

enum err cached_tidy(struct tx *tx, struct op_upkeep *op)
{
    struct follow_up_room room = {.rows = FOLLOW_UP_ROWS, .bytes = FOLLOW_UP_BYTES};
    struct over over;
    enum err err = OK;
    while (room.rows > 0 && room.bytes > 0 && (err = first_over(tx, &over)) == OK) {
        err = DB_EXECUTE(tx->db, "DELETE FROM cached_results WHERE task = $1 AND key = $2 AND until_at <= $3",
                         v_int(over.task), v_blob((struct span){(const char *)over.key, sizeof over.key}),
                         v_int(tx->now));
        if (err != OK)
            return err;
        room.rows--;
        room.bytes -= over.bytes;
    }
    if (err != OK && err != ERR_NOT_FOUND)
        return err;
    op->more = err == OK;
    return DB_NUMBER(tx->db, &op->next_at, 0,
                     "SELECT until_at FROM cached_results WHERE until_at > 0 ORDER BY until_at LIMIT 1");
}

enum err reader_cache_hits(struct reader *reader, int task, int64_t *hits)
{
    return DB_NUMBER(reader->db, hits, 0, "SELECT n FROM cache_hits WHERE task = $1", v_int(task));
}
