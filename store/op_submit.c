/* Submitting: one insert, and a few more where there are labels, large
 * arguments or an idempotency key. */
#include "store/internal.h"

#include "base/json.h"

enum err insert_payload(struct tx *tx, int64_t id, int kind, struct span data)
{
    struct db_stmt *stmt = db_cached(tx->db, "INSERT INTO payloads (id, kind, data) VALUES ($1, $2, $3) "
                                             "ON CONFLICT (id, kind) DO UPDATE SET data = excluded.data");
    if (!stmt)
        return ERR_DB;
    db_bind_int(stmt, 1, id);
    db_bind_int(stmt, 2, kind);
    db_bind_text(stmt, 3, data);
    return db_run(stmt);
}

static enum err insert_labels(struct tx *tx, int64_t id, struct span labels)
{
    struct json_iter it = json_iter(labels);
    struct span key, value;
    struct buf name = {0}, text = {0};
    enum err err = OK;
    struct db_stmt *stmt = db_cached(tx->db, "INSERT INTO labels (name, value, id) VALUES ($1, $2, $3)");
    if (!stmt)
        return ERR_DB;
    while (err == OK && json_member(&it, &key, &value)) {
        name.len = text.len = 0;
        json_unescape(key, &name);
        json_unescape(value, &text);
        db_bind_text(stmt, 1, buf_span(&name));
        db_bind_text(stmt, 2, buf_span(&text));
        db_bind_int(stmt, 3, id);
        err = db_run(stmt);
    }
    buf_release(&name);
    buf_release(&text);
    return err;
}

/* The key was taken: by the same submission, or by another? */
static enum err replay(struct tx *tx, struct submission *s)
{
    struct db_stmt *stmt = db_cached(
        tx->db,
        "SELECT id, status, key_digest FROM invocations WHERE key_owner = $1 AND key = $2 AND key IS NOT NULL");
    if (!stmt)
        return ERR_DB;
    bool row;
    db_bind_text(stmt, 1, key_owner(s->key_owner));
    db_bind_text(stmt, 2, s->key);
    enum err err = db_step(stmt, &row);
    if (err == OK && row) {
        struct span digest = db_span(stmt, 2);
        s->id = db_int(stmt, 0);
        s->status = (enum status)db_int(stmt, 1);
        s->replayed = true;
        if (digest.len != sizeof s->key_digest || memcmp(digest.p, s->key_digest, digest.len) != 0)
            err = ERR_MISMATCH;
    } else if (err == OK) {
        err = ERR_NOT_FOUND;
    }
    db_reset(stmt);
    return err;
}

#define INSERT_COLUMNS                                                                                 \
    "INSERT INTO invocations (id, task, status, priority, attempt, max_retries, retention_ms, flags, " \
    "timeout_ms, run_at, expires_at, args, labels"

/* Two texts, because a key costs every submission that has none. */
static struct db_stmt *insert_statement(struct tx *tx, const struct submission *s)
{
    if (!s->key.p)
        return db_cached(tx->db, INSERT_COLUMNS ") VALUES ($1, $2, $3, $4, 0, $5, $6, $7, $8, $9, $10, $11, $12)");
    struct db_stmt *stmt = db_cached(
        tx->db, INSERT_COLUMNS ", key_owner, key, key_digest) "
                               "VALUES ($1, $2, $3, $4, 0, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) "
                               "ON CONFLICT (key_owner, key) WHERE key IS NOT NULL DO NOTHING");
    if (stmt) {
        db_bind_text(stmt, 13, key_owner(s->key_owner));
        db_bind_text(stmt, 14, s->key);
        db_bind_blob(stmt, 15, (struct span){(const char *)s->key_digest, sizeof s->key_digest});
    }
    return stmt;
}

static void note(struct tx *tx, const struct submission *s)
{
    struct change *change = tx_change(tx, s->id, s->task, 0, s->status);
    change->expires_at = s->expires_at;
    if (s->status == STATUS_SCHEDULED) {
        change->due_at = s->run_at;
        return;
    }
    change->ready = (struct ready){
        .id = s->id,
        .task = s->task,
        .priority = s->priority,
        .max_retries = s->max_retries,
        .timeout_ms = s->timeout_ms,
        .retention_ms = s->retention_ms,
        .expires_at = s->expires_at,
        .args = s->args.len > INLINE_MAX ? (struct span){NULL, 0}
                : s->args.p              ? s->args
                                         : SPAN(""),
    };
}

static enum err submit_one(struct tx *tx, struct submission *s)
{
    static const struct span none = {NULL, 0};
    bool outside = s->args.len > INLINE_MAX;
    s->replayed = false;
    if (s->max_queued && tx_waiting(tx, s->task) >= s->max_queued) {
        /* A full queue refuses new work; what was accepted before is still found. */
        enum err err = s->key.p ? replay(tx, s) : ERR_NOT_FOUND;
        return err == ERR_NOT_FOUND ? ERR_LIMIT : err;
    }
    s->id = id_next(&tx->store->ids, tx->now);
    s->status = s->run_at > tx->now ? STATUS_SCHEDULED : STATUS_QUEUED;

    struct db_stmt *stmt = insert_statement(tx, s);
    if (!stmt)
        return ERR_DB;
    db_bind_int(stmt, 1, s->id);
    db_bind_int(stmt, 2, s->task);
    db_bind_int(stmt, 3, s->status);
    db_bind_int(stmt, 4, s->priority);
    db_bind_int(stmt, 5, s->max_retries);
    db_bind_int(stmt, 6, s->retention_ms);
    db_bind_int(stmt, 7, outside ? FLAG_ARGS_OUTSIDE : 0);
    db_bind_time(stmt, 8, s->timeout_ms);
    db_bind_time(stmt, 9, s->run_at);
    db_bind_time(stmt, 10, s->expires_at);
    db_bind_text(stmt, 11, outside ? none : s->args);
    db_bind_text(stmt, 12, s->labels);
    enum err err = db_run(stmt);
    if (err != OK)
        return err;
    if (s->key.p && db_changes(tx->db) == 0)
        return replay(tx, s);
    if (outside)
        err = insert_payload(tx, s->id, PAYLOAD_ARGS, s->args);
    if (err == OK && s->labels.p)
        err = insert_labels(tx, s->id, s->labels);
    if (err == OK)
        note(tx, s);
    return err;
}

static enum err apply_submit(struct tx *tx, struct op *base)
{
    struct op_submit *op = (struct op_submit *)base;
    for (int i = 0; i < op->count; i++) {
        struct submission *s = &op->items[i];
        s->err = submit_one(tx, s);
        if (s->err == ERR_DB || s->err == ERR_CONFLICT || s->err == ERR_UNAVAILABLE)
            return s->err == ERR_CONFLICT ? ERR_DB : s->err;
    }
    return OK;
}

static bool several_submits(const struct op *base)
{
    const struct op_submit *op = (const struct op_submit *)base;
    const struct submission *s = op->items;
    return op->count > 1 || (op->count == 1 && (s->labels.p || s->args.len > INLINE_MAX));
}

void op_submit_init(struct op_submit *op, struct submission *items, int count)
{
    static const struct op_class class = {.name = "submit", .apply = apply_submit, .several = several_submits};
    *op = (struct op_submit){.items = items, .count = count};
    op_init(&op->op, &class);
}
