#include "store/arguments.h"

#include "base/digest.h"
#include "store/internal.h"

void argument_add_term(struct buf *out, struct span path, struct span text)
{
    uint8_t digest[SHA256_BYTES];
    buf_add_int(out, (int64_t)path.len);
    buf_addc(out, ':');
    buf_add_span(out, path);
    buf_addc(out, text.len > ARGUMENT_TEXT_MAX ? '#' : '=');
    if (text.len <= ARGUMENT_TEXT_MAX) {
        buf_add_span(out, text);
        return;
    }
    sha256(text, digest);
    hex_add(out, digest, sizeof digest);
}

enum err arguments_note(struct tx *tx, const struct submission *s)
{
    struct buf term = {0};
    enum err err = OK;
    for (int i = 0; i < s->particulars->argument_count && err == OK; i++) {
        const struct argument *argument = &s->particulars->arguments[i];
        const char *text = s->particulars->argument_text.data;
        term.len = 0;
        argument_add_term(&term, (struct span){text + argument->path, argument->path_len},
                          (struct span){text + argument->value, argument->value_len});
        err = DB_EXECUTE(tx->db,
                         "INSERT INTO arguments (task, term, id) VALUES ($1, $2, $3) "
                         "ON CONFLICT (task, term, id) DO NOTHING",
                         v_int(s->task), v_text(buf_span(&term)), v_int(s->id));
    }
    buf_release(&term);
    return err;
}

enum err arguments_note_anew(struct tx *tx, const struct submission *s)
{
    enum err err = DB_EXECUTE(tx->db, "DELETE FROM arguments WHERE id = $1", v_int(s->id));
    return err == OK ? arguments_note(tx, s) : err;
}
