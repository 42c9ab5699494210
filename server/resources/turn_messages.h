/* POST /leases/{token}/messages: a turn sends a message. */
#pragma once

#include "server/http/request.h"

handler_fn turn_messages_post;
