/* GET /groups/{id}/results: the ends of its members, a page as one document, or as lines
 * (application/x-ndjson) while they come, until the group is final.
 *
 * In the order of submission, where a page has those that are not final as well and the lines wait
 * for the first of them; or in that of completion. Each line says the `cursor` behind it, with which
 * who was cut off goes on. */
#pragma once

#include "server/http/request.h"

handler_fn group_results_get;
