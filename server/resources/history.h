/* GET /invocations/{id}/history */
#pragma once

#include "server/http/request.h"

enum next history_get(struct request *rq);
