/* Arguments that a task has an index of (`index`), to find invocations by them.
 *
 * An argument is a term, made of its path and its text; a text above ARGUMENT_TEXT_MAX
 * bytes stands there as its SHA-256. Written with the row, and gone with it. */
#pragma once

#include "store/submit.h"
#include "store/tx.h"

enum { ARGUMENT_TEXT_MAX = 255 };

/* Appends the term of an argument: no two arguments have the same. */
void argument_add_term(struct buf *out, struct span path, struct span text);

/* Of a row that was just inserted; or that has got others. */
MUST_USE enum err arguments_note(struct tx *tx, const struct submission *s);
MUST_USE enum err arguments_note_anew(struct tx *tx, const struct submission *s);
