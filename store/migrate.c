/* Numbered migrations, compiled in from store/sql, each in a transaction. */
#include "store/internal.h"

#include "base/log.h"
#include "store/migrations.h"

static enum err read_version(struct db *db, int64_t *version)
{
    return DB_NUMBER(db, version, 0, "SELECT MAX(version) FROM schema_version");
}

static enum err current_version(struct db *db, int64_t *version)
{
    enum err err = db_exec(db, "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)");
    if (err != OK)
        return err;
    return read_version(db, version);
}

/* Another server may have been faster. */
static enum err apply_migration(struct db *db, int version, const char *sql)
{
    int64_t there = 0;
    enum err err = db_begin(db);
    if (err == OK)
        err = read_version(db, &there);
    if (err == OK && there < version)
        err = db_exec(db, sql);
    if (err == OK && there < version)
        err = DB_EXECUTE(db, "INSERT INTO schema_version (version) VALUES ($1)", v_int(version));
    if (err == OK)
        err = db_commit(db);
    if (err != OK)
        db_rollback(db);
    return err;
}

enum err migrate(struct db *db, struct reason *why)
{
    int64_t version;
    enum err err = current_version(db, &version);
    if (err != OK) {
        reason_set(why, "the database cannot be read or written (see the log)");
        return err;
    }
    if (version > migrations_count) {
        reason_set(why, "the database has schema version %lld, this program knows up to %d; use a newer program",
                   (long long)version, migrations_count);
        return ERR_CONFLICT;
    }
    for (int next = (int)version + 1; next <= migrations_count; next++) {
        err = apply_migration(db, next, migrations[next - 1]);
        if (err != OK) {
            reason_set(why, "migration %d failed (see the log)", next);
            return err;
        }
        log_debug("migrated", LOG_INT("version", next));
    }
    return OK;
}
