/* Tasks that workers elsewhere run: they ask for them, and report, over HTTP.
 * Here nothing of one is ever started. */
#include "workers/kinds/kind.h"

static const struct key remote_keys[] = {{0}};

const struct kind remote_kind = {.name = "remote", .elsewhere = true, .keys = remote_keys, .definition_bytes = 1};
