/* Inside the store: who comes after whom. */
#pragma once

#include "store/holds.h"

/* Of those that one comes after: how many are not final, how many did not succeed, and the
 * last of these. */
struct met {
    int unmet, bad;
    int64_t last;
};

/* Notes them. */
MUST_USE enum err dependencies_note(struct tx *tx, const struct submission *s, struct met *met);

/* Decides, by what `holds` says: it goes on, it is cancelled on account of `predecessor`
 * (0: nobody's in particular), or it waits on. */
MUST_USE enum err dependent_judge(struct tx *tx, int64_t id, int64_t predecessor);
