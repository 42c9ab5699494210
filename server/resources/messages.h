/* GET /messages, GET /invocations/{id}/messages: what bodies have sent, and what
 * was sent to them, the oldest first; as a list, or as an event stream
 * (message_stream.h). */
#pragma once

#include "server/http/request.h"

handler_fn messages_list;
handler_fn messages_of_invocation;
