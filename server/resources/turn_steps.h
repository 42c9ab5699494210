/* Steps: values that a body records by name, once. PUT /leases/{token}/steps/{name}
 * records one; GET /leases/{token}/steps and /invocations/{id}/steps show them. */
#pragma once

#include "server/http/request.h"

handler_fn turn_steps_put;
handler_fn turn_steps_list;
handler_fn turn_steps_of_invocation;
