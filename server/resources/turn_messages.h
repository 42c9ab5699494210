/* What a turn sends, and what it is sent: POST /leases/{token}/messages, and GET
 * /leases/{token}/inbox, which may wait until there is some. */
#pragma once

#include "server/http/request.h"

handler_fn turn_messages_post;
handler_fn turn_messages_inbox;
