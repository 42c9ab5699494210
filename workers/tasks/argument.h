/* An argument as a text, to look for it.
 *
 * Pure. Threads: no shared state. */
#pragma once

#include "base/buf.h"

enum { ARGUMENT_PATHS_MAX = 16, ARGUMENT_PATH_MAX = 255 };

/* A path such as user.id: 1 to ARGUMENT_PATH_MAX characters without NUL. (Names of more bytes than that are
 * found by nothing.) */
bool argument_path_is_good(struct span path);

/* Appends the text of the scalar that stands there in the bound arguments: a string's own, without
 * its quotes, else its JSON. False (and nothing) if none stands there, or no scalar. */
bool argument_text(struct span bound, const char *path, struct buf *out);
