/* POST /invocations/{id}/inbox: a message to an invocation that is not final. */
#pragma once

#include "server/http/request.h"

handler_fn inbox_post;
