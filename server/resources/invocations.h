/* GET /invocations: pages of them. GET /invocations/{id}/children: of one's children. */
#pragma once

#include "server/http/request.h"

handler_fn invocations_list;
handler_fn invocations_children;
