/* GET /sets, /sets/{name}, and what is asked of all loops of one; GET /slots: who holds
 * which slot, the server's own and those of the sets. */
#pragma once

#include "server/http/request.h"

handler_fn sets_list;
handler_fn sets_get;
handler_fn sets_patch;
handler_fn sets_pause;
handler_fn sets_resume;
handler_fn sets_stop;
handler_fn sets_cancel;
handler_fn sets_slots;
