/* POST /groups, and POST /leases/{token}/groups: a turn's own.
 *
 * The body is read in slices on a reader thread. Up to GROUP_AT_ONCE_MAX members come in one
 * operation; more in several, and if one of those fails, or the client leaves, what is there of the
 * group goes. */
#pragma once

#include "server/http/request.h"

handler_fn groups_post;
handler_fn groups_post_child;
