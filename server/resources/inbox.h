/* POST /invocations/{id}/inbox: a message to an invocation that is not final. */
#pragma once

#include "server/http/request.h"

handler_fn inbox_post;
handler_fn inbox_post_loop; /* POST /loops/{id}/inbox: whichever iteration is current reads it */
